"""What all tools answer to a user's mistake and to Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Callable


def exit_status(work: Callable[[], int | None], debug: bool | None = None, resumes: str = "") -> int:
    """The exit status of a tool that does `work`: what that returns (None: 0), 2 for a user's mistake, 130 for Ctrl-C.

    Args:
        work: its ValueError and OSError are a user's mistakes, and are said in one line.
        debug: `--debug`, which lets them through; None for a tool without it.
        resumes: what the same command does after Ctrl-C, in words; "" for nothing, and Ctrl-C passes through.
    """
    try:
        return work() or 0
    except (ValueError, OSError) as error:
        if debug:
            raise
        print(f"error: {error}{'' if debug is None else ' (--debug shows where)'}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if not resumes:
            raise
        print(f"\nstopped; {resumes}", file=sys.stderr)
        return 130
