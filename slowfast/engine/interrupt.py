"""SIGTERM: finish the update at hand, save, leave."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import torch
from torch.utils.data import DataLoader

from slowfast.utils.distributed import any_process
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)


class TrainingInterrupted(Exception):
    """Training stopped on request after its state was saved; the message names the file."""


class StopRequest:
    """Notes a SIGTERM while it is entered; `requested` says whether one came."""

    def __init__(self) -> None:
        self.requested = False
        self._former: Any = None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._former is not None:
            signal.signal(signal.SIGTERM, self._former)
            self._former = None

    def agreed(self, device: torch.device) -> bool:
        """Whether any process was asked to stop; all processes have to ask at the same point."""
        return any_process(self.requested, device)

    def _note(self, _signum: int, _frame: Any) -> None:
        self.requested = True


def shield_workers(loader: DataLoader) -> None:
    """Keep a signal sent to the whole process group, as by Ctrl-C or `timeout`, from the loader's worker processes.

    A worker that died of it would stop the main process in the middle of whatever it does.
    """
    loader.worker_init_fn = _OwnGroup(loader.worker_init_fn)


class _OwnGroup:
    """Starts a worker in a process group of its own; a class because workers may have to unpickle it."""

    def __init__(self, inner: Any):
        self.inner = inner

    def __call__(self, worker_id: int) -> None:
        os.setpgid(0, 0)
        if self.inner is not None:
            self.inner(worker_id)
