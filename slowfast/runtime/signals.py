"""SIGTERM and Ctrl-C: stop training after the current update, with its state saved."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import torch

from slowfast.runtime.distributed import LateVote, any_process, is_main_process

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# One Ctrl-C may arrive twice: from the terminal, and passed on by a launcher.
_SAME_S = 1.0


class TrainingInterrupted(Exception):
    """Training was stopped on request and its state saved; the message names the file.

    Attributes:
        signum: signal that stopped it; SIGTERM if another process got the signal.
    """

    def __init__(self, message: str, signum: int = signal.SIGTERM):
        super().__init__(message)
        self.signum = signum


class StopRequest:
    """Context manager that records a SIGTERM or SIGINT in place of ending the process.

    A second Ctrl-C raises KeyboardInterrupt, to stop before the end of the update.

    Attributes:
        requested: True after a signal.
        signum: the signal.
    """

    def __init__(self) -> None:
        self.requested = False
        self.signum = int(signal.SIGTERM)
        self._came = 0.0
        self._former: dict[int, Any] = {}
        self._vote = LateVote()

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in _STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._former = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}

    def agreed(self, device: torch.device) -> bool:
        """Return True if any rank was asked to stop; all ranks have to call at the same point."""
        return any_process(self.requested, device)

    def agreed_late(self, device: torch.device) -> bool:
        """Return what `agreed` does, on several GPUs that of the call before: for every update, without waiting."""
        return self._vote(self.requested, device)

    def _note(self, signum: int, _frame: Any) -> None:
        if not self.requested:
            self.requested, self.signum, self._came = True, signum, time.monotonic()
            if signum == signal.SIGINT and is_main_process():
                # Not logged, because this may have interrupted a log call.
                os.write(2, b"\nstopping after this update, and saving; Ctrl-C again stops at once\n")
        elif signum == signal.SIGINT and time.monotonic() - self._came > _SAME_S:
            raise KeyboardInterrupt
