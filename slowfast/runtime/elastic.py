"""Start the processes of a run on this host with PyTorch's elastic agent (as `torchrun`), and report why they ended.

The agent starts this program again with the same arguments in every process. Each process reads its rank from the
environment (see `slowfast.runtime.launch`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous.api import RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

# Exit codes after SIGTERM: by itself after saving, or killed by the signal.
_TOLD_TO_END = (128 + signal.SIGTERM, -signal.SIGTERM)
# Failures within this time count as simultaneous: clocks do not tell cause from consequence.
_SIMULTANEOUS_S = 2
_USUAL_REASON = {
    signal.SIGKILL: "out of memory is the usual reason",
    signal.SIGABRT: "the message above says why; NCCL does this where one waits longer than DIST.TIMEOUT for another",
}


class ProcessFailedError(RuntimeError):
    """A process of the run failed; the message names the process and the cause.

    Attributes:
        exitcode: exit code of the process; negative for the signal that killed it.
    """

    def __init__(self, message: str, exitcode: int):
        super().__init__(message)
        self.exitcode = exitcode


class RunStopped(Exception):
    """Signal `signum` stopped the run, and its processes have ended."""

    def __init__(self, signum: int):
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class LostContactError(RuntimeError):
    """Another process of the run does not answer, or has ended."""


def run_agent(cfg: Any, processes: int, endpoint: str) -> None:
    """Run this program in `processes` processes of this host, and wait for their end.

    Args:
        cfg: config with `NUM_SHARDS`, `SHARD_ID` and the timeouts in `DIST`.
        processes: number of processes of this host.
        endpoint: HOST:PORT of host 0, where hosts meet; "" for a single host.

    Raises:
        ProcessFailedError: a process failed after `DIST.MAX_RESTARTS` restarts.
        RunStopped: a signal ended the run.
        ConnectionError: the hosts did not meet within `DIST.START_TIMEOUT`.
        ValueError: the program cannot be started again, for instance in an interactive session.
    """
    command = _own_command()
    config = _launch_config(cfg, processes, endpoint)
    try:
        with _environment(processes, endpoint):
            elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as error:
        if all(failure.exitcode in _TOLD_TO_END for failure in error.failures.values()):
            raise RunStopped(signal.SIGTERM) from None
        raise first_cause(error.failures) from None
    except SignalException as stop:
        raise RunStopped(stop.sigval) from None
    except (RendezvousError, TimeoutError) as error:
        raise _not_met(cfg, endpoint, error) from error
    except RuntimeError as error:
        # The rendezvous store raises subclasses of RuntimeError.
        if not endpoint:
            raise
        raise _not_met(cfg, endpoint, error) from error


def first_cause(failures: Mapping[int, ProcessFailure]) -> ProcessFailedError:
    """Return the failure that caused the others, as an error.

    When a process dies, the others lose contact or are terminated. Among simultaneous failures, one that is neither
    comes first.

    Args:
        failures: rank -> failure, as the agent reports them.
    """
    start = min(failure.timestamp for failure in failures.values())
    together = [item for item in failures.items() if item[1].timestamp <= start + _SIMULTANEOUS_S]
    rank, first = min(together, key=lambda item: (_consequence(item[1]), item[1].timestamp, item[0]))
    text = f"process {rank} {_describe(first)}"
    silent = [r for r, f in failures.items() if f.exitcode == -signal.SIGKILL and f.timestamp > start + _SIMULTANEOUS_S]
    if _consequence(first) and silent:
        text = (
            f"process {', '.join(map(str, silent))} hung: it did not answer the others or end on SIGTERM, and was "
            f"killed. First failure: {text}"
        )
    return ProcessFailedError(text, first.exitcode)


def _describe(failure: ProcessFailure) -> str:
    message = failure.error_file_data["message"]
    if isinstance(message, Mapping):
        return f"failed: {message['message']}"
    if failure.exitcode < 0:
        reason = _USUAL_REASON.get(-failure.exitcode)
        return f"(pid {failure.pid}) was killed by {failure.signal_name()}" + (f"; {reason}" if reason else "")
    return f"(pid {failure.pid}) ended with exit status {failure.exitcode}; its message is above"


def _consequence(failure: ProcessFailure) -> int:
    """Rate how likely a failure is the consequence of another: 0 no, 1 maybe, 2 certainly."""
    message = failure.error_file_data["message"]
    if failure.exitcode in _TOLD_TO_END:
        return 2
    if isinstance(message, Mapping) and message["message"].startswith(LostContactError.__name__):
        return 2
    return int(failure.exitcode == -signal.SIGABRT)


def _own_command() -> list[str]:
    """Return the arguments that started this program, without the interpreter."""
    arguments = sys.orig_argv[1:]
    if hasattr(sys, "ps1") or not arguments or sys.argv[0] == "":
        raise ValueError(
            "every process starts this program again, which is impossible in an interactive session; write the program "
            "to a file, or set NUM_GPUS to 0 or 1"
        )
    return arguments


def _launch_config(cfg: Any, processes: int, endpoint: str) -> LaunchConfig:
    meeting: dict[str, Any] = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "local_addr": "localhost"}
    timeout = int(cfg.DIST.START_TIMEOUT)
    configs: dict[str, Any] = {"timeout": timeout, "join_timeout": timeout}
    if endpoint:
        meeting = {"rdzv_backend": "static", "rdzv_endpoint": endpoint}
        configs = {"timeout": timeout, "rank": cfg.SHARD_ID}
    options = {
        "min_nodes": cfg.NUM_SHARDS,
        "max_nodes": cfg.NUM_SHARDS,
        "nproc_per_node": processes,
        # All hosts need the same run id.
        "run_id": "run" if endpoint else uuid.uuid4().hex,
        "rdzv_configs": configs,
        "max_restarts": cfg.DIST.MAX_RESTARTS,
        "shutdown_timeout": int(cfg.DIST.STOP_TIMEOUT),
        **meeting,
    }
    # Older PyTorch has no shutdown_timeout.
    known = {field.name for field in dataclasses.fields(LaunchConfig)}
    return LaunchConfig(**{name: value for name, value in options.items() if name in known})


@contextlib.contextmanager
def _environment(processes: int, endpoint: str) -> Iterator[None]:
    """Set what the processes inherit, unless it is set: their share of the cores, and gloo's interface on one host.

    By itself gloo looks up the name of the host, which takes minutes where the name server does not answer.
    """
    wanted = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
    if not endpoint and sys.platform == "linux":
        wanted["GLOO_SOCKET_IFNAME"] = "lo"
    added = wanted.keys() - os.environ.keys()
    os.environ.update({name: wanted[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _not_met(cfg: Any, endpoint: str, error: Exception) -> ConnectionError:
    where = (
        f"{cfg.NUM_SHARDS} hosts did not meet at {endpoint}" if endpoint else "the processes did not find each other"
    )
    return ConnectionError(
        f"{where} within DIST.START_TIMEOUT {cfg.DIST.START_TIMEOUT:g} s (this is host {cfg.SHARD_ID}): "
        f"{(str(error) or type(error).__name__).splitlines()[0].rstrip('.')}. Check that every host was started with "
        "the same --init_method and --num_shards and a --shard_id of its own, and that the port is open"
    )
