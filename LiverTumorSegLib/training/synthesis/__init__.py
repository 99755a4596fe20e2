"""Synthetic scans with known livers and tumours: anatomy, lesions, and how CT and MR show them."""
