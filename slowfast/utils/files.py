"""Writing files of results."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from slowfast.runtime.distributed import is_main_process


def atomic_write(path: str, fill: Callable[[Any], object]) -> None:
    """Let the main process write a file, through a temporary one, so that no half-written one is left.

    Args:
        fill: gets the binary stream to write to.

    Raises:
        OSError: the file cannot be written; what was there before is as it was.
    """
    if is_main_process():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        atomic_write_local(path, fill)


def atomic_write_local(path: str, fill: Callable[[Any], object]) -> None:
    """Write a file from this process, whichever it is; otherwise as `atomic_write`, in a folder that is there."""
    with open(path + ".tmp", "wb") as stream:
        fill(stream)
    os.replace(path + ".tmp", path)
