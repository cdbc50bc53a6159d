"""Zoo of checkpoints."""
