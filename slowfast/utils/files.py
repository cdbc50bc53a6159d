"""Writing files of results."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from slowfast.utils.distributed import is_main_process


def write_whole(path: str, fill: Callable[[Any], object]) -> None:
    """Let the main process write a file, through a temporary one, so that no half-written one is left.

    Args:
        fill: gets the binary stream to write to.

    Raises:
        OSError: the file cannot be written; what was there before is as it was.
    """
    if not is_main_process():
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".tmp", "wb") as stream:
        fill(stream)
    os.replace(path + ".tmp", path)
