"""Training networks on synthetic or measured scans: patches, losses, the trainer, and the bundle that comes of it."""
