"""Writing files of results."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from slowfast.runtime.distributed import is_main_process


def write_whole(path: str, fill: Callable[[Any], object]) -> None:
    """Let the main process write a file, through a temporary one, so that no half-written one is left.

    Args:
        fill: gets the binary stream to write to.

    Raises:
        OSError: the file cannot be written; what was there before is as it was.
    """
    if is_main_process():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        replace_whole(path, fill)


def replace_whole(path: str, fill: Callable[[Any], object]) -> None:
    """Write a file from this process, whichever it is; otherwise as `write_whole`, in a folder that is there."""
    with open(path + ".tmp", "wb") as stream:
        fill(stream)
    os.replace(path + ".tmp", path)
