"""How good a segmentation is: measures of overlap between a reference and what is judged."""
