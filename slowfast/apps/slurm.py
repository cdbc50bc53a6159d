"""Training as a job of a cluster that may stop it and start it again, run by submitit: one task a host.

Imports nothing heavy: a task's own process only starts the training, and passes on what the cluster wants of it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

# How a training ends that was asked to stop: with its state saved, or before it had any.
_STOPPED = (128 + signal.SIGTERM, -signal.SIGTERM)
# Below the ports that systems hand out by themselves.
_FIRST_PORT, _NUM_PORTS = 20000, 10000
_TICK_S = 0.1


@dataclass
class TrainingJob:
    """What submitit calls in each task of a job and, when the job is stopped, asks for what to queue in its place.

    The training is a child process. When the job is stopped, the training is asked to save and end (see
    `runtime/signals.py`), and the job is queued again; then it goes on from the checkpoint in OUTPUT_DIR.

    Args:
        command: the training's command line, without what is particular to a host.
        folder: where to run it.
        num_shards: hosts.
        stop_seconds: what a training gets to save and end in.
        port: where hosts meet, on host 0; None for one that follows from the job's number.
    """

    command: list[str]
    folder: str
    num_shards: int = 1
    stop_seconds: float = 90.0
    port: int | None = None
    _child: subprocess.Popen | None = field(default=None, init=False, repr=False)

    def __call__(self) -> None:
        """Train to the end.

        Raises:
            RuntimeError: the training failed.
        """
        from submitit import JobEnvironment

        environment = JobEnvironment()
        # A cluster signals every process of a job. This one is for submitit, here, and would end a training.
        ignored = signal.Signals[f"SIG{environment.USR_SIG}"]
        self._child = subprocess.Popen(
            [*self.command, *self.host_arguments(environment)],
            cwd=self.folder,
            preexec_fn=lambda: signal.signal(ignored, signal.SIG_IGN),
        )
        try:
            status = _exit_status(self._child)
            if status in _STOPPED:
                if environment.global_rank:
                    return  # the first task sees to it that the job is queued again
                # It is about to be told to, or the job to be ended; to end before would be to fail.
                time.sleep(2 * self.stop_seconds)
        finally:
            self._child.kill()
            self._child.wait()
        if status in _STOPPED:
            raise RuntimeError("the training was asked to stop, but the job was neither ended nor queued again")
        if status:
            raise RuntimeError(f"the training ended with status {status}; its last words are in the job's log")

    def checkpoint(self) -> Any:
        """Stop the training, which saves its state first.

        Returns:
            The job to queue in the place of this one, as submitit wants it.
        """
        from submitit.helpers import DelayedSubmission

        if self._child is not None:
            _terminate(self._child, self.stop_seconds)
        return DelayedSubmission(replace(self))

    def host_arguments(self, environment: Any) -> list[str]:
        """The options that tell the training which host of how many this is, and where they meet; none for one host.

        Args:
            environment: submitit's JobEnvironment.
        """
        if self.num_shards == 1:
            return []
        port = self.port or _FIRST_PORT + zlib.crc32(environment.job_id.encode()) % _NUM_PORTS
        numbers = ["--num_shards", str(self.num_shards), "--shard_id", str(environment.node)]
        return [*numbers, "--init_method", f"tcp://{environment.hostnames[0]}:{port}"]


def _exit_status(child: subprocess.Popen, options: int = 0) -> int | None:
    """The exit status of `child`, negative for a signal, when it has ended; with `os.WNOHANG` None before.

    The child stays to be waited for. Unlike the methods of Popen this may be interrupted by a signal's handler that
    does the same.
    """
    ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | options)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _terminate(child: subprocess.Popen, seconds: float) -> None:
    """Ask `child` to end and wait until it has, or time is up."""
    os.kill(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while _exit_status(child, os.WNOHANG) is None and time.monotonic() < deadline:
        time.sleep(_TICK_S)
