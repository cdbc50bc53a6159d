"""Checkpoint files: names, atomic writing, reading that runs no code.

A file is `OUTPUT_DIR/checkpoints/checkpoint_epoch_00005.pyth` after five epochs, and
`checkpoint_epoch_00005_iteration_00000012.pyth` after twelve iterations of the sixth.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import warnings
from typing import Any, NamedTuple

import torch

from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

_NAME = re.compile(r"checkpoint_epoch_(\d+)(?:_iteration_(\d+))?\.pyth")
_TEMPORARY = ".tmp"


class CheckpointFile(NamedTuple):
    """A checkpoint on disk; files compare by progress."""

    epoch: int  # epochs completed
    iteration: int  # iterations completed in the epoch that follows
    path: str


def checkpoint_dir(output_dir: str) -> str:
    """The folder of a run's checkpoints."""
    return os.path.join(output_dir, "checkpoints")


def checkpoint_path(output_dir: str, epoch: int, iteration: int = 0) -> str:
    """The file for `epoch` completed epochs and `iteration` iterations of the next."""
    within = f"_iteration_{iteration:08d}" if iteration else ""
    return os.path.join(checkpoint_dir(output_dir), f"checkpoint_epoch_{epoch:05d}{within}.pyth")


def find_checkpoints(output_dir: str) -> list[CheckpointFile]:
    """The checkpoints of a run, oldest progress first; files half written are not among them."""
    folder = checkpoint_dir(output_dir)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    matches = [(_NAME.fullmatch(name), name) for name in names]
    return sorted(CheckpointFile(int(m[1]), int(m[2] or 0), os.path.join(folder, name)) for m, name in matches if m)


def save_checkpoint(state: dict[str, Any], path: str) -> None:
    """Write `state` so that `path` holds either all of it or what it held before, even through a power cut.

    Raises:
        OSError: the disk is full or cannot be written; `path` and all other checkpoints are as before.
    """
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    temporary = path + _TEMPORARY
    try:
        with open(temporary, "wb") as stream:
            _write(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _sync_folder(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise OSError(error.errno, f"the checkpoint could not be written ({error.strerror or error})", path) from error


def load_checkpoint(path: str) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, without executing anything the file may hold.

    Files that hold nothing but a state dict come back as `{"model_state": ...}`.

    Raises:
        FileNotFoundError: no such file.
        PermissionError: it may not be read.
        ValueError: the file is truncated, is no checkpoint, or holds pickled code.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with warnings.catch_warnings():
            # PyTorch remarks on the pickle protocol of foreign files; the error below is what counts.
            warnings.simplefilter("ignore", UserWarning)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise  # it may be whole, so it must not be taken for damaged and passed over
    except pickle.UnpicklingError as error:
        # PyTorch's own words advise to load the file with code execution allowed, so they are not passed on.
        raise ValueError(
            f"{path} is no checkpoint of weights: it is damaged, or holds pickled code, of which nothing was executed. "
            "Give a file that holds tensors and plain values alone"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        raise ValueError(
            f"{path}, {os.path.getsize(path)} bytes, is truncated or is no checkpoint "
            f"({type(error).__name__}: {_first_line(error)})"
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} is no checkpoint: it holds a {type(state).__name__}")
    if _is_weights(state.get("model_state")):
        return state
    if state and _is_weights(state):
        return {"model_state": state}
    raise ValueError(
        f"{path} has no model_state of names and tensors, and is no such dict itself; it holds "
        f"{sorted(map(str, state))[:10]}"
    )


def load_last_checkpoint(output_dir: str) -> tuple[dict[str, Any], str] | None:
    """The furthest checkpoint of a run that can be read, and its path; None where there is none.

    Raises:
        ValueError: there are checkpoints, and not one can be read.
    """
    files = find_checkpoints(output_dir)
    for file in reversed(files):
        try:
            return load_checkpoint(file.path), file.path
        except ValueError as error:
            logger.warning("skipping a checkpoint: %s", error)
    if files:
        raise ValueError(
            f"none of the {len(files)} checkpoints in {checkpoint_dir(output_dir)} can be read; "
            "remove them to start anew"
        )
    return None


def remove_superseded(output_dir: str) -> None:
    """Remove files of unfinished epochs and of broken-off writes that a later checkpoint has made useless."""
    files = find_checkpoints(output_dir)
    stale = [file.path for file in files[:-1] if file.iteration]
    folder = checkpoint_dir(output_dir)
    stale += [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".pyth" + _TEMPORARY)]
    for path in stale:
        with contextlib.suppress(OSError):
            os.remove(path)


def _is_weights(item: Any) -> bool:
    """Whether it is a dict of names and tensors."""
    return isinstance(item, dict) and all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in item.items()
    )


def _write(state: dict[str, Any], stream: Any) -> None:
    try:
        torch.save(state, stream)
    except RuntimeError as error:
        # The archive writer reports a failed write of the stream as a RuntimeError of its own.
        cause = error.__context__
        raise cause if isinstance(cause, OSError) else OSError(0, _first_line(error)) from error


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
