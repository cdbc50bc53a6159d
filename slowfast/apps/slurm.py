"""Training as a job of a SLURM cluster, which may stop the job and start it again; run by submitit, one task a host.

The process of a task imports nothing heavy. It starts the training as a child, and passes on what the cluster asks.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

# Exit statuses of a training that was asked to stop: with its state saved, or before it had a state.
_STOPPED = (128 + signal.SIGTERM, -signal.SIGTERM)
# Below the ports that systems assign by themselves.
_FIRST_PORT, _NUM_PORTS = 20000, 10000
_TICK_S = 0.1
# Time between the cluster's request to stop and its end of the job, beyond the time that the training gets for it.
_MARGIN_S = 30
_TAIL_LINES = 15


@dataclass(frozen=True)
class JobOptions:
    """Options of a job.

    Attributes:
        cfg: YAML file.
        overrides: KEY VALUE settings.
        num_shards: number of hosts.
        job_dir: folder of the job, and OUTPUT_DIR unless overridden.
        cluster: "slurm", or "local" and "debug" for a job of this machine.
        stop_seconds: time that a training gets to save its state and end.
        max_timeouts: how often the time limit may queue the job again.
        port: port on the first host where hosts meet; None derives it from the job's number.
        gpus: GPUs of a host; None for NUM_GPUS of the config.
        cpus, mem, time: CPU cores, GB and minutes of a host; None for the cluster's default.
        slurm: options that submitit knows as `slurm_NAME`, such as partition; None is left out.
        sbatch: other options of sbatch, KEY=VALUE.
    """

    cfg: Path
    overrides: Sequence[str] = ()
    num_shards: int = 1
    job_dir: Path = Path("runs/jobs")
    cluster: str = "slurm"
    stop_seconds: int = 90
    max_timeouts: int = 20
    port: int | None = None
    gpus: int | None = None
    cpus: int | None = None
    mem: float | None = None
    time: int = 1440
    slurm: Mapping[str, str | None] = field(default_factory=dict)
    sbatch: Sequence[str] = ()


def submit(options: JobOptions, tool: Path) -> Any:
    """Submit a training; return submitit's job.

    Args:
        tool: script that trains with `--cfg FILE KEY VALUE ...`.

    Raises:
        ValueError: submitit is missing, or the job could not run, or not resume, with these settings.
        OSError, RuntimeError: the cluster refused the job.
    """
    try:
        import submitit
    except ModuleNotFoundError:
        raise ValueError("submitit is not installed; pip install -e '.[slurm]'") from None
    gpus = _check(options)
    settings = ["OUTPUT_DIR", str(options.job_dir), *options.overrides, "NUM_GPUS", str(gpus)]
    command = [sys.executable, "-u", str(tool), "--cfg", str(options.cfg.resolve()), *settings]
    task = TrainingJob(command, str(Path.cwd()), options.num_shards, options.stop_seconds, options.port)
    return _executor(submitit, options, gpus).submit(task)


def wait_for(job: Any) -> str:
    """Wait for a job of this machine; return "" on success, else the end of its log and a line that says so."""
    try:
        job.wait()
    except RuntimeError as error:  # of the task, from the debug cluster, after its debugger
        return f"error: {error}"
    if job.exception() is None:
        return ""
    log = Path(job.paths.stdout)
    # Submitit's own report follows in the log.
    text = log.read_text(errors="replace").partition("submitit ERROR")[0]
    tail = "\n".join(text.splitlines()[-_TAIL_LINES:])
    return f"{tail}\nerror: job {job.job_id} failed; above is the end of {log}"


def _check(options: JobOptions) -> int:
    """Load the config, so that mistakes show before the job waits in a queue; return the GPUs of a host."""
    from slowfast.config import load_config  # late: a task's process imports nothing heavy

    cfg = load_config(str(options.cfg), list(options.overrides))
    if not cfg.TRAIN.AUTO_RESUME:
        raise ValueError("TRAIN.AUTO_RESUME is False, so a job that is queued again would start anew; set it to True")
    if options.num_shards < 1:
        raise ValueError(f"--num_shards is {options.num_shards}; a job takes at least 1 host")
    if options.num_shards > 1 and options.cluster != "slurm":
        raise ValueError(f"--cluster {options.cluster} is this one host; --num_shards {options.num_shards} needs slurm")
    if options.cluster == "slurm" and shutil.which("srun") is None:
        raise ValueError("no srun is found, so this is no SLURM cluster; --cluster local runs the job on this machine")
    if any("=" not in option for option in options.sbatch):
        raise ValueError(f"--sbatch takes KEY=VALUE, not {' '.join(options.sbatch)}")
    return cfg.NUM_GPUS if options.gpus is None else options.gpus


def _executor(submitit: Any, options: JobOptions, gpus: int) -> Any:
    limits = {f"{cluster}_max_num_timeout": options.max_timeouts for cluster in ("slurm", "local")}
    executor = submitit.AutoExecutor(options.job_dir / "submitit", cluster=options.cluster, **limits)
    executor.update_parameters(
        name=options.cfg.stem,
        nodes=options.num_shards,
        tasks_per_node=1,
        gpus_per_node=gpus or None,
        cpus_per_task=options.cpus,
        mem_gb=options.mem,
        timeout_min=options.time,
        stderr_to_stdout=True,
        slurm_signal_delay_s=options.stop_seconds + _MARGIN_S,
        slurm_additional_parameters={"requeue": True, **dict(option.split("=", 1) for option in options.sbatch)},
        **{f"slurm_{name}": value for name, value in options.slurm.items()},
    )
    return executor


@dataclass
class TrainingJob:
    """The callable that submitit runs in each task of a job.

    The training is a child process. When the cluster stops the job, the training is asked to save and end (see
    `runtime/signals.py`) and the job is queued again; it then resumes from the checkpoint in OUTPUT_DIR.

    Args:
        command: command line of the training, without the options of a host.
        folder: working directory.
        num_shards: number of hosts.
        stop_seconds: time that a training gets to save its state and end.
        port: port on host 0 where hosts meet; None derives it from the job's number.
    """

    command: list[str]
    folder: str
    num_shards: int = 1
    stop_seconds: float = 90.0
    port: int | None = None
    _child: subprocess.Popen | None = field(default=None, init=False, repr=False)

    def __call__(self) -> None:
        """Train to the end; RuntimeError if the training fails."""
        from submitit import JobEnvironment

        environment = JobEnvironment()
        # A cluster signals every process of a job. This signal is for submitit here, and would end a training.
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
                    return  # the first task queues the job again
                # The cluster is about to signal this process, or to end the job; to end before would be a failure.
                time.sleep(2 * self.stop_seconds)
        finally:
            self._child.kill()
            self._child.wait()
        if status in _STOPPED:
            raise RuntimeError("the training was asked to stop, but the job was neither ended nor queued again")
        if status:
            raise RuntimeError(f"the training ended with status {status}; the cause is in the job's log")

    def checkpoint(self) -> Any:
        """Stop the training, which saves its state first; return the job to queue in place of this one."""
        from submitit.helpers import DelayedSubmission

        if self._child is not None:
            _terminate(self._child, self.stop_seconds)
        return DelayedSubmission(replace(self))

    def host_arguments(self, environment: Any) -> list[str]:
        """Return the options that tell the training its host number and where hosts meet; [] for one host.

        Args:
            environment: submitit's JobEnvironment.
        """
        if self.num_shards == 1:
            return []
        port = self.port or _FIRST_PORT + zlib.crc32(environment.job_id.encode()) % _NUM_PORTS
        numbers = ["--num_shards", str(self.num_shards), "--shard_id", str(environment.node)]
        return [*numbers, "--init_method", f"tcp://{environment.hostnames[0]}:{port}"]


def _exit_status(child: subprocess.Popen, options: int = 0) -> int | None:
    """Wait for the exit status of `child`, negative for a signal; with `os.WNOHANG` None while it runs.

    The child is not reaped. Unlike methods of Popen, this may be interrupted by a signal handler that does the same.
    """
    ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | options)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _terminate(child: subprocess.Popen, seconds: float) -> None:
    """Ask `child` to end, and wait for at most `seconds`."""
    os.kill(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while _exit_status(child, os.WNOHANG) is None and time.monotonic() < deadline:
        time.sleep(_TICK_S)
