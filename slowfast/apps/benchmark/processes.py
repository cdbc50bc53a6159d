"""Measurements in processes of their own, where memory of earlier work cannot count."""

from __future__ import annotations

import multiprocessing
import signal
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from fvcore.common.config import CfgNode

from slowfast.config import load_config


@dataclass(frozen=True)
class ConfigSource:
    """A YAML file and overrides KEY, VALUE, ..., which another process can load too."""

    file: str | None
    overrides: Sequence[Any] = ()

    def load(self, overrides: Sequence[Any] = ()) -> CfgNode:
        """Load the config with further overrides."""
        return load_config(self.file, [*self.overrides, *overrides])


def in_fresh_process(function: Callable[..., Any], *args: Any) -> Any:
    """Return `function(*args)` from a new interpreter; None if memory ran out there.

    Args:
        function: of a module that can be imported, so not of one that runs as `__main__`. The function, its arguments
            and its result have to be picklable.

    Raises:
        ValueError, OSError: raised by the function.
        ChildProcessError: the process ended without a result.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(sender, function, args))
    process.start()
    sender.close()
    try:
        result, error = receiver.recv()
    except EOFError:
        result, error = None, None
    process.join()
    if error is not None:
        raise error
    if process.exitcode not in (0, -signal.SIGKILL):
        raise ChildProcessError(f"a measuring process ended with exit status {process.exitcode}; its message is above")
    return result


def medians(results: Sequence[dict[str, float] | None]) -> dict[str, float] | None:
    """Return the median of every key; None if a result is None."""
    if None in results:
        return None
    return {key: statistics.median(result[key] for result in results) for key in results[0]}


def _call(sender: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        sender.send((function(*args), None))
    except torch.OutOfMemoryError:
        sender.send((None, None))
    except (ValueError, OSError) as error:
        sender.send((None, error))
