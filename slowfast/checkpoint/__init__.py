"""Checkpoints: files that survive a crash, weights that report every key, training that goes on exactly."""

from slowfast.checkpoint.io import find_checkpoints, load_checkpoint, save_checkpoint
from slowfast.checkpoint.weights import load_weights

__all__ = ["find_checkpoints", "load_checkpoint", "load_weights", "save_checkpoint"]
