"""Read checkpoint files of all kinds without executing anything in them.

The kind is recognized from the first bytes of a file and the names of its weights, not from the file's ending.
"""

from __future__ import annotations

import os
import pickle
import warnings
from typing import Any

import torch

from slowfast.checkpoint.formats.foreign_names import rename_foreign, weights_of_blobs
from slowfast.checkpoint.formats.plain_pickle import RefusedPickleError, read_plain_pickle
from slowfast.checkpoint.formats.tensor_file import is_tensor_file, read_tensor_file
from slowfast.utils.errors import first_line

# Keys under which other programs save weights.
_CONTAINERS = ("model_state", "state_dict", "model")
_ZIP = b"PK\x03\x04"
# First bytes of files of PyTorch before 1.6: a pickle of its magic number.
_OLD_TORCH = (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",)
_PICKLES = (b"\x80", b"(", b"}")


def read_checkpoint(path: str) -> tuple[dict[str, Any], str]:
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
    if is_tensor_file(path, start):
        state = read_tensor_file(path)
    elif start.startswith(_PICKLES) and not start.startswith(_OLD_TORCH):
        return _read_blobs(path), "caffe2"
    else:
        state = _with_weights(_read_torch(path), path)
    weights, kind = rename_foreign(state["model_state"])
    return {**state, "model_state": weights}, kind


def check_kind(path: str, found: str, wanted: str, key: str) -> None:
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
    try:
        with warnings.catch_warnings():
            # PyTorch warns of the pickle protocol of foreign files; the errors below are clearer.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise  # the file may be complete, so it must not be skipped as damaged
    except pickle.UnpicklingError as error:
        # PyTorch's message advises to allow code execution, so it is not shown.
        raise ValueError(
            f"{path} is no checkpoint of weights: it is damaged, or holds pickled code, of which nothing was executed. "
            "Give a file of tensors and plain values only"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        raise ValueError(
            f"{path}, {os.path.getsize(path)} bytes, is truncated or is no checkpoint "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error


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
        if state.get(name) and _is_weights(state[name]):
            rest = {key: value for key, value in state.items() if key != name}
            return {**rest, "model_state": dict(state[name])}
    if "model_state" in state and _is_weights(state["model_state"]):
        return state
    if state and _is_weights(state):
        return {"model_state": dict(state)}
    raise ValueError(
        f"{path} has no model_state of names and tensors, and is no such dict itself; it holds "
        f"{sorted(map(str, state))[:10]}"
    )


def _is_weights(item: Any) -> bool:
    """Return True for a dict of names and tensors."""
    return isinstance(item, dict) and all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in item.items()
    )
