"""Checkpoint files of a run: names, writing, reading.

A file is `OUTPUT_DIR/checkpoints/checkpoint_epoch_00005.pyth` after five epochs, and
`checkpoint_epoch_00005_iteration_00000012.pyth` after twelve iterations of the sixth.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any, NamedTuple

import torch

from slowfast.checkpoint.formats.reading import check_kind, read_checkpoint
from slowfast.checkpoint.zoo.entries import PREFIX, local_path
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import first_line
from slowfast.utils.files import TEMPORARY, atomic_write_local

logger = get_logger(__name__)

_NAME = re.compile(r"checkpoint_epoch_(\d+)(?:_iteration_(\d+))?\.pyth")


class CheckpointFile(NamedTuple):
    """A checkpoint on disk; files compare by progress."""

    epoch: int  # epochs completed
    iteration: int  # iterations completed in the epoch that follows
    path: str


def checkpoint_dir(output_dir: str) -> str:
    """Return the folder of a run's checkpoints."""
    return os.path.join(output_dir, "checkpoints")


def checkpoint_path(output_dir: str, epoch: int, iteration: int = 0) -> str:
    """Return the file for `epoch` completed epochs and `iteration` iterations of the next."""
    within = f"_iteration_{iteration:08d}" if iteration else ""
    return os.path.join(checkpoint_dir(output_dir), f"checkpoint_epoch_{epoch:05d}{within}.pyth")


def find_checkpoints(output_dir: str) -> list[CheckpointFile]:
    """Return the checkpoints of a run, least progress first; incomplete files are left out."""
    folder = checkpoint_dir(output_dir)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    matches = [(_NAME.fullmatch(name), name) for name in names]
    return sorted(CheckpointFile(int(m[1]), int(m[2] or 0), os.path.join(folder, name)) for m, name in matches if m)


def save_checkpoint(state: dict[str, Any], path: str) -> None:
    """Write a checkpoint atomically: `path` holds the new or the former file, even after a power cut.

    Raises:
        OSError: the disk is full or cannot be written; `path` and all other checkpoints are as before.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        atomic_write_local(path, lambda stream: _write(state, stream), durable=True)
    except OSError as error:
        raise OSError(error.errno, f"the checkpoint could not be written ({error.strerror or error})", path) from error


def load_checkpoint(path: str, kind: str = "", key: str = "CHECKPOINT_TYPE") -> dict[str, Any]:
    """Read a checkpoint onto the CPU, without executing anything in it.

    Args:
        path: a file, or `zoo://NAME`.
        kind: required CHECKPOINT_TYPE: pytorch (also safetensors), caffe2 or aia; "" for any. Not used for the zoo.
        key: full name of that setting, for the message.

    Returns:
        `model_state` (the weights by our state-dict keys), and what else the file holds, such as `cfg` and `epoch`.

    Raises:
        FileNotFoundError: no such file.
        PermissionError: the file may not be read.
        ValueError: the file is truncated, is no checkpoint, holds pickled code, or is of another type.
        DownloadError: a file of the zoo cannot be downloaded.
    """
    state, found = read_checkpoint(local_path(path))
    if kind and not path.startswith(PREFIX):
        check_kind(path, found, kind, key)
    return state


def load_last_checkpoint(output_dir: str, epoch: int = -1) -> tuple[dict[str, Any], str] | None:
    """Read the last checkpoint of a run that can be read; return it and its path, or None if there is none.

    Args:
        epoch: epoch of the checkpoint, counted from 0 (`CHECKPOINT_FILE_EPOCH`); -1 for the last.

    Raises:
        ValueError: there are checkpoints, but none can be read or none is of `epoch`.
    """
    files = find_checkpoints(output_dir)
    if epoch >= 0 and files:
        path = checkpoint_path(output_dir, epoch + 1)
        if not os.path.isfile(path):
            whole = sorted(file.epoch - 1 for file in files if not file.iteration)
            raise ValueError(
                f"CHECKPOINT_FILE_EPOCH is {epoch} and there is no {path}; epochs, from 0, that have a checkpoint: "
                f"{', '.join(map(str, whole)) or 'none'}. -1 takes the newest"
            )
        return load_checkpoint(path), path
    for file in reversed(files):
        try:
            return load_checkpoint(file.path), file.path
        except ValueError as error:
            logger.warning("skipping a checkpoint: %s", error)
    if files:
        raise ValueError(
            f"none of the {len(files)} checkpoints in {checkpoint_dir(output_dir)} can be read; "
            "remove them to start a new run"
        )
    return None


def remove_superseded(output_dir: str) -> None:
    """Remove checkpoints inside epochs that a later one supersedes, and files of interrupted writes."""
    files = find_checkpoints(output_dir)
    stale = [file.path for file in files[:-1] if file.iteration]
    folder = checkpoint_dir(output_dir)
    stale += [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".pyth" + TEMPORARY)]
    for path in stale:
        with contextlib.suppress(OSError):
            os.remove(path)


def _write(state: dict[str, Any], stream: Any) -> None:
    try:
        torch.save(state, stream)
    except RuntimeError as error:
        # PyTorch raises a RuntimeError if writing to the stream fails.
        cause = error.__context__
        raise cause if isinstance(cause, OSError) else OSError(0, first_line(error)) from error
