"""Checkpoint files of this and of other programs."""
