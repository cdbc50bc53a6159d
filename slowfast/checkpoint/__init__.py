"""Checkpoints: writing and reading files, loading weights, the zoo."""

from slowfast.checkpoint.io import find_checkpoints, load_checkpoint, save_checkpoint, write_tensor_file
from slowfast.checkpoint.weights import LoadReport, load_weights
from slowfast.checkpoint.zoo.entries import local_path, register_entries

__all__ = [
    "LoadReport",
    "find_checkpoints",
    "load_checkpoint",
    "load_weights",
    "local_path",
    "register_entries",
    "save_checkpoint",
    "write_tensor_file",
]
