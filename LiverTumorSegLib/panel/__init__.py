"""What the Slicer panel is made of; none of it imports slicer, and Qt only where a file says so."""
