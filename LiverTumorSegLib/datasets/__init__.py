"""Data sets as they lie on disk: their cases, what is wrong with them, their fingerprint and their splits."""
