"""Starting a run in as many processes on this host as the config asks for."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch.distributed as dist
import torch.multiprocessing as mp

from slowfast.utils.device import check_device_count, select_device

# What the other processes get to finish by themselves once one has failed.
_GRACE_S = 10.0


def launch(main: Callable[[Any], Any], cfg: Any, num_procs: int | None = None) -> Any:
    """Call `main(cfg)` in each process of the run.

    `NUM_GPUS` 0 or 1 runs here and returns what `main` returns. More GPUs start one process each (NCCL), and None
    is returned.
    `num_procs` overrides the count: with `NUM_GPUS` 0 it starts that many CPU processes joined by gloo.
    A SIGTERM sent to this process is passed on to those it started.

    Raises:
        ValueError: fewer GPUs than `NUM_GPUS`, a `num_procs` that contradicts it, or more than one host.
        Exception: what the first process that failed raised.
    """
    check_device_count(cfg.NUM_GPUS)
    processes = max(1, cfg.NUM_GPUS) if num_procs is None else num_procs
    if cfg.NUM_SHARDS != 1:
        raise ValueError(
            f"NUM_SHARDS is {cfg.NUM_SHARDS}, but runs on several hosts are not built yet; set NUM_SHARDS 1"
        )
    if processes < 1:
        raise ValueError(f"at least one process is needed, not {processes}")
    if cfg.NUM_GPUS > 0 and processes != cfg.NUM_GPUS:
        raise ValueError(f"{processes} processes were asked for with NUM_GPUS {cfg.NUM_GPUS}; each GPU has one process")
    if processes == 1:
        return main(cfg)
    address = f"tcp://127.0.0.1:{_free_port()}"
    failures = mp.get_context("spawn").SimpleQueue()
    context = mp.spawn(_run_rank, (processes, address, main, cfg, failures), nprocs=processes, join=False)
    with _forwarded_sigterm(context.pids()):
        _join(context, failures)
    return None


def _join(context: mp.ProcessContext, failures: Any) -> None:
    try:
        while not context.join(grace_period=_GRACE_S):
            pass
    except mp.ProcessRaisedException as error:
        if not failures.empty():
            raise failures.get() from error
        raise


def _run_rank(rank: int, processes: int, address: str, main: Callable[[Any], Any], cfg: Any, failures: Any) -> None:
    # Spawned processes would spawn theirs as well; a loader's workers start in the platform's own, faster way.
    multiprocessing.set_start_method(None, force=True)
    backend = cfg.DIST_BACKEND if cfg.NUM_GPUS > 0 else "gloo"
    if cfg.NUM_GPUS > 0:
        select_device(rank)
    dist.init_process_group(backend, init_method=address, rank=rank, world_size=processes)
    try:
        main(cfg)
    except Exception as error:
        # Exceptions that cannot be pickled still reach the launcher, as text.
        with contextlib.suppress(Exception):
            failures.put(error)
        raise
    dist.destroy_process_group()


@contextlib.contextmanager
def _forwarded_sigterm(pids: list[int]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def forward(signum: int, _frame: Any) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)

    former = signal.signal(signal.SIGTERM, forward)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
