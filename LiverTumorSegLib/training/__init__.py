"""Training networks on synthetic scans: patches, losses, the trainer, and the bundle that comes of it."""
