"""Checkpoint files: names and writing of those of a run, reading of any kind; safetensors files.

A file is `OUTPUT_DIR/checkpoints/checkpoint_epoch_00005.pyth` after five epochs, and
`checkpoint_epoch_00005_iteration_00000012.pyth` after twelve iterations of the sixth. Those of pretraining without
labels (TASK ssl) begin with `ssl_`, as published, so that pretraining and what follows it can share a folder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file

from slowfast.checkpoint.formats.foreign_names import rename_foreign, weights_of_blobs
from slowfast.checkpoint.formats.plain_pickle import RefusedPickleError, read_plain_pickle
from slowfast.checkpoint.formats.torch_file import check_torch_file
from slowfast.checkpoint.weights import is_weights, plain_weights
from slowfast.checkpoint.zoo.entries import PREFIX, local_path
from slowfast.runtime.loader_workers import tells_of_dead_worker
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import first_line, short
from slowfast.utils.files import TEMPORARY, atomic_write_local, no_room_explained, replacing

logger = get_logger(__name__)

_PRETRAINING = "ssl_"  # start of the names of pretraining's checkpoints
_NAME = re.compile(rf"({_PRETRAINING})?checkpoint_epoch_(\d+)(?:_iteration_(\d+))?\.pyth")

# Keys under which other programs save weights.
_CONTAINERS = ("model_state", "state_dict", "model")
# First bytes of files of PyTorch before 1.6: a pickle of its magic number.
_OLD_TORCH = (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",)
_PICKLES = (b"\x80", b"(", b"}")
# Keys of the metadata of a safetensors file.
_EPOCH, _CFG, _CLASSES, _CHECKSUM = "epoch", "cfg", "class_names", "sha256"


class _CheckpointFile(NamedTuple):
    """A checkpoint on disk; files compare by progress."""

    epoch: int  # epochs completed
    iteration: int  # iterations completed in the epoch that follows
    path: str


def checkpoint_dir(output_dir: str) -> str:
    """Return the folder of a run's checkpoints."""
    return os.path.join(output_dir, "checkpoints")


def checkpoint_path(output_dir: str, epoch: int, iteration: int = 0, pretraining: bool = False) -> str:
    """Return the file for `epoch` completed epochs and `iteration` iterations of the next.

    Args:
        pretraining: of a run that pretrains without labels.
    """
    within = f"_iteration_{iteration:08d}" if iteration else ""
    return _in_folder(output_dir, f"epoch_{epoch:05d}{within}", pretraining)


def best_path(output_dir: str, pretraining: bool = False) -> str:
    """Return the file of the best checkpoint (`TRAIN.BEST_METRIC`); `pretraining` as for `checkpoint_path`."""
    return _in_folder(output_dir, "best", pretraining)


def _in_folder(output_dir: str, name: str, pretraining: bool) -> str:
    prefix = _PRETRAINING if pretraining else ""
    return os.path.join(checkpoint_dir(output_dir), f"{prefix}checkpoint_{name}.pyth")


def find_checkpoints(output_dir: str, pretraining: bool = False) -> list[_CheckpointFile]:
    """Return the checkpoints of a run, least progress first.

    Incomplete files are left out, and so is what is no file: folders, named pipes, links to nothing.

    Args:
        pretraining: those of a run that pretrains without labels, not those of the run that follows it.
    """
    return [file for file in _named_as_checkpoints(output_dir, pretraining) if os.path.isfile(file.path)]


def _named_as_checkpoints(output_dir: str, pretraining: bool) -> list[_CheckpointFile]:
    folder = checkpoint_dir(output_dir)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    matches = [match for name in names if (match := _NAME.fullmatch(name)) and bool(match[1]) == pretraining]
    return sorted(_CheckpointFile(int(m[2]), int(m[3] or 0), os.path.join(folder, m[0])) for m in matches)


def epochs_completed(path: str) -> int:
    """Return the number of epochs that the name of a checkpoint tells; 0 for another name."""
    match = _NAME.fullmatch(os.path.basename(path))
    return int(match[2]) if match else 0


def save_checkpoint(state: dict[str, Any], path: str) -> None:
    """Write a checkpoint atomically: `path` holds the new or the former file, even after a power cut.

    A folder with the name of the checkpoint is renamed first, since it is nothing of this program's.

    Raises:
        OSError: the disk is full or cannot be written; `path` and all other checkpoints are as before.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.isdir(path) and not os.path.islink(path):
        _move_aside(path)
    try:
        atomic_write_local(path, lambda stream: _write(state, stream), durable=True)
    except OSError as error:
        raise OSError(error.errno, f"the checkpoint could not be written ({error.strerror or error})", path) from error


def _move_aside(folder: str) -> None:
    """Rename a folder to its name with `.moved` and, if that is taken, a number."""
    numbers = itertools.chain([""], itertools.count(2))
    aside = next(name for name in (f"{folder}.moved{number}" for number in numbers) if not os.path.lexists(name))
    os.rename(folder, aside)
    logger.warning("%s was a folder in the place of a checkpoint; it is %s now", folder, aside)


def write_tensor_file(
    weights: dict[str, torch.Tensor],
    path: str,
    cfg: str = "",
    epoch: int = -1,
    class_names: Mapping[int, str] | None = None,
) -> None:
    """Write weights, through a temporary file, so that no half-written one is left.

    Args:
        weights: state-dict key -> tensor.
        cfg: config of the model as YAML text; "" for none.
        epoch: the last completed epoch, from 0; -1 for none.
        class_names: class number, from 0, -> name; None for none.

    Raises:
        OSError: the file cannot be written; what was there before is as it was.
    """
    metadata = {"format": "pt", **({_CFG: cfg} if cfg else {}), **({_EPOCH: str(epoch)} if epoch >= 0 else {})}
    if class_names:
        metadata[_CLASSES] = json.dumps({str(number): name for number, name in class_names.items()})
    # The format stores each tensor separately; those that share memory or are not contiguous are copied.
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    metadata[_CHECKSUM] = _checksum(whole, metadata)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    try:
        with no_room_explained(path, lambda stream: stream.write(save(whole, metadata))), replacing(path) as temporary:
            save_file(whole, temporary, metadata)
    except SafetensorError as error:
        raise OSError(0, f"the file could not be written ({error})", path) from error


def _checksum(weights: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    """Return the SHA-256, in hex digits, of the content of a safetensors file.

    The bytes are a line of JSON, the metadata without this checksum and [name, dtype, shape] of each tensor in the
    order of names, and then the values of the tensors in that order.
    """
    tensors = sorted(weights.items())
    head = [
        {key: text for key, text in metadata.items() if key != _CHECKSUM},
        [[name, str(value.dtype), list(value.shape)] for name, value in tensors],
    ]
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode() + b"\n")
    for _, value in tensors:
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


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
    state, found = _read_checkpoint(local_path(path))
    if kind and not path.startswith(PREFIX):
        _check_kind(path, found, kind, key)
    return state


def list_class_names(saved: dict[str, Any], num_classes: int) -> list[str]:
    """Return a name for each class of a checkpoint's content: its number where the checkpoint has none."""
    names = saved.get(_CLASSES)
    names = names if isinstance(names, dict) else {}
    texts = {number: name for number, name in names.items() if isinstance(name, str)}
    return [texts.get(number, str(number)) for number in range(num_classes)]


def load_last_checkpoint(
    output_dir: str, epoch: int = -1, pretraining: bool = False
) -> tuple[dict[str, Any], str] | None:
    """Read the last checkpoint of a run that can be read; return it and its path, or None if there is none.

    Args:
        epoch: epoch of the checkpoint, counted from 0 (`CHECKPOINT_FILE_EPOCH`); -1 for the last.
        pretraining: see `find_checkpoints`.

    Raises:
        ValueError: there are checkpoints, but none can be read or none is of `epoch`.
    """
    files = find_checkpoints(output_dir, pretraining)
    for other in set(_named_as_checkpoints(output_dir, pretraining)).difference(files):
        logger.warning("skipping %s: it has the name of a checkpoint, and is no file", other.path)
    if epoch >= 0 and files:
        path = checkpoint_path(output_dir, epoch + 1, pretraining=pretraining)
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
        except FileNotFoundError:
            # A training that goes on in the folder has replaced it by a newer one.
            return load_last_checkpoint(output_dir, epoch, pretraining)
        except ValueError as error:
            logger.warning("skipping a checkpoint: %s", error)
    if files:
        raise ValueError(
            f"none of the {len(files)} checkpoints in {checkpoint_dir(output_dir)} can be read; "
            "remove them to start a new run"
        )
    return None


def remove_superseded(output_dir: str, pretraining: bool = False) -> None:
    """Remove a run's checkpoints inside epochs that a later one supersedes, and unfinished files.

    Args:
        pretraining: see `find_checkpoints`.
    """
    files = find_checkpoints(output_dir, pretraining)
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
        # PyTorch raises it if writing to the stream fails, and also, at any moment, if a loader worker dies.
        if tells_of_dead_worker(error):
            raise
        cause = error.__context__
        raise cause if isinstance(cause, OSError) else OSError(0, first_line(error)) from error


def _read_checkpoint(path: str) -> tuple[dict[str, Any], str]:
    """Return the content of a file on the CPU, and its CHECKPOINT_TYPE.

    `model_state` holds the weights by our state-dict keys. The type is "pytorch" (also for safetensors, and for 2-D
    weights under torchvision's names), "caffe2" or "aia".

    Raises:
        FileNotFoundError: no such file.
        PermissionError: it may not be read.
        ValueError: the file is truncated, is no checkpoint, or holds pickled code.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no checkpoint at {path}")
    with open(path, "rb") as stream:
        start = stream.read(16)
    if _is_tensor_file(path, start):
        state = _read_tensor_file(path)
    elif start.startswith(_PICKLES) and not start.startswith(_OLD_TORCH):
        return _read_blobs(path), "caffe2"
    else:
        state = _with_weights(_read_torch(path), path)
    weights, kind = rename_foreign(plain_weights(state["model_state"], path))
    return {**state, "model_state": weights}, kind


def _check_kind(path: str, found: str, wanted: str, key: str) -> None:
    """Raise ValueError, with the value to set, if a file is not of the type in the config.

    Args:
        found, wanted: values of CHECKPOINT_TYPE.
        key: full name of the setting, such as TRAIN.CHECKPOINT_TYPE.
    """
    if found != wanted:
        signs = {
            "caffe2": "a pickle of Caffe2 blobs",
            "aia": "a PyTorch file under AlphAction's names (slow.res_nl1.res_0...)",
            "pytorch": "a PyTorch or safetensors file",
        }
        raise ValueError(f"{path} is {signs[found]}, and {key} is {wanted}; set {key} {found}")


def _read_torch(path: str) -> Any:
    size = os.path.getsize(path)
    try:
        with open(path, "rb") as stream, warnings.catch_warnings():
            check_torch_file(stream)
            stream.seek(0)
            # PyTorch warns of the pickle protocol of foreign files; the errors below are clearer.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(stream, map_location="cpu", weights_only=True)
    except PermissionError:
        raise  # the file may be complete, so it must not be skipped as damaged
    except MemoryError as error:
        raise _too_large(path) from error
    except pickle.UnpicklingError as error:
        # PyTorch's message advises to allow code execution, so it is not shown.
        raise ValueError(
            f"{path} is no checkpoint of weights: it is damaged, or holds pickled code, of which nothing was executed. "
            "Give a file of tensors and plain values only"
        ) from error
    except Exception as error:  # PyTorch raises many types for damaged and crafted files
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(
            f"{path}, {size} bytes, is damaged, cut off or no checkpoint ({kind}{short(error)})"
        ) from error


def _too_large(path: str) -> OSError:
    """Return the error for a file that may be whole, and so must not be skipped as damaged."""
    return OSError(errno.ENOMEM, f"its {os.path.getsize(path)} bytes need more memory than there is", path)


def _read_blobs(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as stream:
            content = read_plain_pickle(stream)
        blobs = content.get("blobs", content) if isinstance(content, dict) else None
        if not isinstance(blobs, dict) or not all(isinstance(name, str) for name in blobs):
            raise RefusedPickleError("it holds no dict of blobs under the key blobs")
        return {"model_state": weights_of_blobs(blobs)}
    except ValueError as error:
        size = os.path.getsize(path)
        raise ValueError(f"{path} is a pickle of {size} bytes, but no checkpoint of Caffe2: {error}") from error


def _with_weights(state: Any, path: str) -> dict[str, Any]:
    """Return the content of a PyTorch file with its weights under `model_state`."""
    if not isinstance(state, dict):
        raise ValueError(f"{path} is no checkpoint: it holds a {type(state).__name__}")
    for name in _CONTAINERS:
        if is_weights(state.get(name)) and state[name]:
            rest = {key: value for key, value in state.items() if key != name}
            return {**rest, "model_state": dict(state[name])}
    if "model_state" in state and is_weights(state["model_state"]):
        return state
    if state and is_weights(state):
        return {"model_state": dict(state)}
    raise ValueError(
        f"{path} has no model_state of names and tensors, and is no such dict itself; it holds "
        f"{', '.join(sorted(map(short, itertools.islice(state, 10))))}"
    )


def _is_tensor_file(path: str, start: bytes) -> bool:
    """Return True for a safetensors file, by its name or first bytes: length of the header, and a JSON object."""
    if path.endswith(".safetensors"):
        return True
    header = int.from_bytes(start[:8], "little")
    return len(start) > 8 and start[8:9] == b"{" and header <= os.path.getsize(path) - 8


def _read_tensor_file(path: str) -> dict[str, Any]:
    """Read `model_state` and, if present, `epoch` (the last completed one, from 0), `cfg` (YAML text), `class_names`.

    Files of other programs, and our older ones, have no checksum.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            metadata = file.metadata() or {}
        if _CHECKSUM in metadata and metadata[_CHECKSUM] != _checksum(weights, metadata):
            raise ValueError("its content does not have the checksum that it names")
        strange = metadata.keys() - {"format", _EPOCH, _CFG, _CLASSES, _CHECKSUM}
        if _CFG in metadata and _CHECKSUM not in metadata and strange:  # damage can hide the checksum's own name
            raise ValueError(f"it is a file of ours without a checksum, and has the entry {short(min(strange))}")
        state: dict[str, Any] = {"model_state": weights}
        if _EPOCH in metadata:
            state[_EPOCH] = int(metadata[_EPOCH])
        if _CFG in metadata:
            state[_CFG] = metadata[_CFG]
        if _CLASSES in metadata:
            state[_CLASSES] = {int(number): str(name) for number, name in json.loads(metadata[_CLASSES]).items()}
        return state
    except PermissionError:
        raise
    except MemoryError as error:
        raise _too_large(path) from error
    except Exception as error:  # the reader raises many types for damaged files and dtypes that PyTorch lacks
        raise ValueError(
            f"{path}, {os.path.getsize(path)} bytes, is a damaged safetensors file ({short(error)})"
        ) from error
