"""Launch a run in the processes and on the hosts that the config asks for."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import datetime
import gc
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

# Imported when there is a group, as DistributedDataParallel does, its default arguments would keep the group for good.
import torch.distributed.nn.functional  # noqa: F401
from torch.distributed.elastic.multiprocessing.errors import ErrorHandler, record

from slowfast.runtime.device import check_device_count, select_device
from slowfast.runtime.distributed import norm_group
from slowfast.runtime.elastic import LostContactError, run_agent
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

_PR_SET_PDEATHSIG = 1  # of prctl(2)
# Backends often raise a plain RuntimeError; these patterns recognize it, and a timeout, by the text.
# Gloo closes a pair of processes on a timeout, and a second wait gives that error without its name.
_BACKEND = re.compile(r"gloo|nccl|TCPStore|pair closure", re.IGNORECASE)
# Raised by PyTorch, also inside a backward pass, whose pending collectives would keep the end of the group waiting.
_AMID_COLLECTIVES = (RuntimeError, torch.OutOfMemoryError)
_HEAD_START_S = 1.0
_SILENCE = re.compile(r"timed? ?out|application timeout", re.IGNORECASE)


def launch(main: Callable[[Any], Any], cfg: Any, num_procs: int | None = None, init_method: str = "") -> Any:
    """Call `main(cfg)` in each process of the run.

    A single process calls `main` here, and returns its result. For several, PyTorch's elastic agent starts this program
    again in each process; this process waits for their end and returns None. Started processes, also those of
    `torchrun`, join the process group here and call `main`. So call this function under `if __name__ == "__main__"`,
    and do nothing before it that must not be repeated.

    Args:
        main: function of the config, with `NUM_GPUS`, `NUM_SHARDS` and `SHARD_ID` as resolved at launch.
        cfg: config. `NUM_GPUS` processes on this host use `DIST_BACKEND`; with 0, CPU processes use gloo.
        num_procs: number of CPU processes; None for one.
        init_method: tcp://HOST:PORT of host 0, where `NUM_SHARDS` hosts meet.

    Raises:
        ValueError: too few GPUs, or contradictory numbers of processes or hosts.
        ProcessFailedError, RunStopped, ConnectionError: see `run_agent`.
        LostContactError: in one of several processes: another process does not answer, or has ended.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return _join(main, cfg, num_procs)
    check_device_count(cfg.NUM_GPUS)
    processes = max(1, cfg.NUM_GPUS) if num_procs is None else num_procs
    if processes < 1:
        raise ValueError(f"at least one process is needed, not {processes}")
    if cfg.NUM_GPUS > 0 and processes != cfg.NUM_GPUS:
        raise ValueError(f"{processes} processes were asked for with NUM_GPUS {cfg.NUM_GPUS}; each GPU has one process")
    endpoint = _endpoint(cfg, init_method)
    if processes == 1 and not endpoint:
        return main(cfg)
    return run_agent(cfg, processes, endpoint)


def _endpoint(cfg: Any, init_method: str) -> str:
    """Return HOST:PORT where hosts meet; "" for one host."""
    if cfg.NUM_SHARDS == 1:
        return ""
    match = re.fullmatch(r"tcp://(.+:\d+)", init_method)
    if not match:
        raise ValueError(
            f"NUM_SHARDS is {cfg.NUM_SHARDS} and --init_method {init_method!r}: start every host with --init_method "
            "tcp://HOST:PORT, an address of host 0 that the others reach, and its own --shard_id; or use torchrun"
        )
    if cfg.DIST.MAX_RESTARTS:
        raise ValueError(
            f"DIST.MAX_RESTARTS {cfg.DIST.MAX_RESTARTS} with NUM_SHARDS {cfg.NUM_SHARDS}: hosts that meet by "
            "--init_method cannot restart together; use torchrun --max-restarts with --rdzv-backend c10d"
        )
    return match[1]


def _join(main: Callable[[Any], Any], cfg: Any, num_procs: int | None) -> Any:
    """Join the run as the process that the environment describes."""
    cfg = _as_started(cfg, num_procs)
    backend = cfg.DIST_BACKEND if cfg.NUM_GPUS > 0 else "gloo"
    if cfg.NUM_GPUS > 0:
        select_device(int(os.environ["LOCAL_RANK"]))
    _end_with_parent()
    _warn_of_restarts(cfg)
    return record(_in_group, _Report())(main, cfg, backend)


class _Report(ErrorHandler):
    """Writer of the file from which the agent reads the exception that ends this process."""

    def record_exception(self, e: BaseException) -> None:
        """Write the file, or none if there is no room; the exception itself is printed by this process."""
        try:
            super().record_exception(e)
        except OSError:
            # The agent would read half a file as a failure of its own.
            with contextlib.suppress(OSError):
                os.remove(os.environ["TORCHELASTIC_ERROR_FILE"])


def _in_group(main: Callable[[Any], Any], cfg: Any, backend: str) -> Any:
    try:
        _join_group(backend, datetime.timedelta(seconds=cfg.DIST.TIMEOUT))
        result = main(cfg)
    except Exception as error:
        reason = _lost_contact(error, cfg.DIST.TIMEOUT) if isinstance(error, RuntimeError) else None
        if reason is not None:
            # The cause is in the process that ended first, and the agent takes the first end that it sees. A process
            # closes its connections a moment before its end.
            time.sleep(_HEAD_START_S)
            raise LostContactError(reason) from error
        if dist.is_initialized() and type(error) not in _AMID_COLLECTIVES:
            # Closed before the exit, the group would make the others fail first, and hide the cause.
            atexit.register(_leave_group)
        raise
    _leave_group()
    return result


def _join_group(backend: str, timeout: datetime.timedelta) -> None:
    """Join the process group that the environment describes.

    PyTorch 2.13 leaves the addresses of ended processes in the agent's store. On a single host every restart gets its
    own part of the store, so that no process waits for an ended one.
    """
    store, rank, world_size = next(dist.rendezvous("env://", timeout=timeout))
    if int(os.environ.get("GROUP_WORLD_SIZE", 1)) == 1:
        store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)


def _leave_group() -> None:
    """Close the process group and end the threads of gloo.

    Threads that live on while the interpreter is taken down abort about one process in forty. They end with the last
    reference to the group. Models refer to it in cycles, and an error that nobody handled refers to models.
    """
    dist.destroy_process_group()
    norm_group.cache_clear()
    for name in ("last_exc", "last_value", "last_traceback"):
        sys.__dict__.pop(name, None)
    gc.collect()


def _as_started(cfg: Any, num_procs: int | None) -> Any:
    """Return the config with the numbers of GPUs and hosts with which this process was started."""
    missing = [name for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR") if name not in os.environ]
    if missing:
        raise ValueError(
            f"RANK and WORLD_SIZE are set in the environment but not {', '.join(missing)}: start with torchrun, which "
            "sets them all, or unset them"
        )
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    hosts, host = int(os.environ.get("GROUP_WORLD_SIZE", 1)), int(os.environ.get("GROUP_RANK", 0))
    if num_procs is not None and num_procs != local:
        raise ValueError(f"--num_procs is {num_procs}, but {local} processes were started on this host; leave it out")
    if cfg.NUM_SHARDS not in (1, hosts):
        raise ValueError(f"NUM_SHARDS is {cfg.NUM_SHARDS}, but torchrun started {hosts} host(s); leave it out")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.NUM_SHARDS, cfg.SHARD_ID = hosts, host
    if cfg.NUM_GPUS > 0:
        check_device_count(local)
        cfg.NUM_GPUS = local
    cfg.freeze()
    return cfg


def _end_with_parent() -> None:
    """Ask the kernel for a SIGTERM when the parent dies, so that no process stays behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def _warn_of_restarts(cfg: Any) -> None:
    """Log a restart, and warn about restarts on several hosts that share the agent's store.

    Each host counts restarts alone. Entries of a shared store are numbered by them, so a process may read, and wait
    for, addresses of ended processes.
    """
    if os.environ["RANK"] != "0":
        return
    restarts, most = (int(os.environ.get(f"TORCHELASTIC_{name}", 0)) for name in ("RESTART_COUNT", "MAX_RESTARTS"))
    if restarts:
        logger.warning("a process failed (see above), so all start again: restart %d of at most %d", restarts, most)
    if cfg.NUM_SHARDS > 1 and most and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        logger.warning(
            "%d restarts on %d hosts: set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun on every host; without it "
            "restarted processes can miss each other",
            most,
            cfg.NUM_SHARDS,
        )


def _lost_contact(error: RuntimeError, timeout: float) -> str | None:
    """Return a message if a collective failed because of another process; None for any other error."""
    text = str(error)
    if not isinstance(error, dist.DistError) and not _BACKEND.search(text):
        return None
    if _SILENCE.search(text):
        return (
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} had no answer from another for DIST.TIMEOUT "
            f"{timeout:g} s ({_gist(text)}). `kill -USR1 PID` prints the stack of a process that hangs; if it only "
            "needs longer, raise DIST.TIMEOUT"
        )
    return (
        f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} lost contact with another, which ended or cannot "
        f"be reached ({_gist(text)})"
    )


def _gist(text: str) -> str:
    """Return the first sentence without the leading source location of the backend."""
    return re.sub(r"^\[[^\]]*\]\s*", "", text.strip()).partition("\n")[0].partition(". ")[0]
