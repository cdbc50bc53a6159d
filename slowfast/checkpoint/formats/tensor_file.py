"""safetensors files: weights, with epoch and config as metadata."""

from __future__ import annotations

import os
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from slowfast.utils.files import replacing

_EPOCH = "epoch"
_CFG = "cfg"


def is_tensor_file(path: str, start: bytes) -> bool:
    """Return True for a safetensors file, by its name or first bytes: length of the header, and a JSON object."""
    if path.endswith(".safetensors"):
        return True
    header = int.from_bytes(start[:8], "little")
    return len(start) > 8 and start[8:9] == b"{" and header <= os.path.getsize(path) - 8


def read_tensor_file(path: str) -> dict[str, Any]:
    """Read `model_state` and, if present, `epoch` (the last completed one, from 0) and `cfg` (YAML text).

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            metadata = file.metadata() or {}
        state: dict[str, Any] = {"model_state": weights}
        if _EPOCH in metadata:
            state[_EPOCH] = int(metadata[_EPOCH])
        if _CFG in metadata:
            state[_CFG] = metadata[_CFG]
        return state
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path}, {os.path.getsize(path)} bytes, is a damaged safetensors file ({error})") from error


def write_tensor_file(weights: dict[str, torch.Tensor], path: str, cfg: str = "", epoch: int = -1) -> None:
    """Write weights, through a temporary file, so that no half-written one is left.

    Args:
        weights: state-dict key -> tensor.
        cfg: config of the model as YAML text; "" for none.
        epoch: the last completed epoch, from 0; -1 for none.

    Raises:
        OSError: the file cannot be written; what was there before is as it was.
    """
    metadata = {"format": "pt", **({_CFG: cfg} if cfg else {}), **({_EPOCH: str(epoch)} if epoch >= 0 else {})}
    # The format stores each tensor separately; those that share memory or are not contiguous are copied.
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    try:
        with replacing(path) as temporary:
            save_file(whole, temporary, metadata)
    except SafetensorError as error:
        raise OSError(0, f"the file could not be written ({error})", path) from error
