"""Benchmark of data loading: clips per second, time by stage, and the memory of a loader worker."""

from __future__ import annotations

import contextlib
import itertools
import math
import multiprocessing
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch.utils.data import DataLoader

from slowfast.apps.benchmark.bare_decoding import bare_ms, recorded_requests
from slowfast.apps.benchmark.report import spread
from slowfast.datasets.build import build_loader
from slowfast.datasets.loading.sampler import EpochBatchSampler, SampleKey
from slowfast.datasets.transforms import pixels as transforms
from slowfast.datasets.transforms.crops import Crop
from slowfast.datasets.video.pyav import PyAVReader
from slowfast.datasets.video.reader import VideoReader

SPLITS = ("train", "test")
# Stages of making a clip; sampling, augmentation and the rest of Python are "other".
STAGES = ("open", "seek", "decode", "resize", "crop", "normalize", "collate", "other")
# Growth of a worker between the second and the last quarter of a soak, in MiB, that counts as none.
_FLAT_MIB = 16.0
_SOAK_POINTS = 40
_FIGURES = "clips_per_second", "cpu_ms", "bare_ms", "bare_ratio"

Load = Callable[[Sequence[Any]], CfgNode]


class StageClock:
    """Clock of the seconds spent in each stage; a nested stage does not count for the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside for a stage."""
        self._switch()
        self._stack.append(name)
        try:
            yield
        finally:
            self._switch()
            self._stack.pop()

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Count the functions that do the work of the stages, whichever data set calls them."""
        readers = _kinds_of(VideoReader)
        places = [
            (kind, name, stage)
            for kind in readers
            for name, stage in (("__init__", "open"), ("frames", "decode"), ("fitted", "decode"))
        ]
        places += [(transforms, "resize", "resize"), (transforms, "resize_exactly", "resize"), (Crop, "of", "crop")]
        places += [(transforms, "to_clip", "normalize"), (PyAVReader, "_packets_from", "seek")]
        with contextlib.ExitStack() as undo:
            for owner, name, stage in places:
                if name in vars(owner):
                    original = vars(owner)[name]
                    wrapped = self._first_counted(original) if stage == "seek" else self._counted(original, stage)
                    setattr(owner, name, wrapped)
                    undo.callback(setattr, owner, name, original)
            yield

    def _counted(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.stage(stage):
                return function(*args, **kwargs)

        return call

    def _first_counted(self, function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """Count the time until the first item of an iterator, which is seeking."""

        def call(*args: Any) -> Iterator[Any]:
            with self.stage("seek"):
                items = function(*args)
                first = next(items, None)
            if first is not None:
                yield first
                yield from items

        return call


def _kinds_of(kind: type) -> list[type]:
    return [kind, *(below for own in kind.__subclasses__() for below in _kinds_of(own))]


def _measure_stages(load: Load, split: str, clips: int, rounds: int) -> dict[str, Any]:
    """Measure making clips in this process, on one thread as in a loader worker.

    The first round is reported on its own, because it opens files for the first time.

    Args:
        load: overrides -> config.
        clips: least number of clips of a round; whole batches are made.

    Returns:
        `clips` of a round; `views` of a video; `first` and `median` of the later rounds (of the first if there is only
        one): `clips_per_second`, `ms` (stage -> milliseconds per clip), `cpu_ms`, the processor time per clip, and for
        files whose frames are found by seeking `bare_ms`, that of a bare loop over FFmpeg's decoder for the same
        frames, and `bare_ratio`, of the clips per second to those of the bare loop;
        `spread` of the clips per second of the later rounds.

    Raises:
        ValueError: no clip could be made.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        loader = build_loader(load(["DATA_LOADER.NUM_WORKERS", 0]), split)
        batches = _endless(loader.batch_sampler)
        turns = [_round(loader, batches, clips) for _ in range(rounds)]
    finally:
        torch.set_num_threads(threads)
    later = turns[1:] or turns
    return {
        "clips": turns[0]["clips"],
        "views": loader.dataset.num_views,
        "first": turns[0],
        "median": {
            **{key: statistics.median(turn[key] for turn in later) for key in _FIGURES if key in turns[0]},
            "ms": {stage: statistics.median(turn["ms"][stage] for turn in later) for stage in STAGES},
        },
        "spread": spread([turn["clips_per_second"] for turn in later]),
    }


def _round(loader: DataLoader, batches: Iterator[list[SampleKey]], clips: int) -> dict[str, Any]:
    clock, done = StageClock(), 0
    start, cpu = time.perf_counter(), time.process_time()
    with clock.watching(), recorded_requests() as requests:
        while done < clips:
            with clock.stage("other"):
                samples = [loader.dataset[key] for key in next(batches)]
                with clock.stage("collate"):
                    batch = loader.collate_fn(samples)
            if not batch.size:
                raise ValueError(f"no clip can be made; first cause: {batch.unreadable[0]}")
            done += batch.size
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    stages = {stage: 1000 * clock.seconds[stage] / done for stage in STAGES}
    figures = {"clips": done, "clips_per_second": done / seconds, "cpu_ms": 1000 * cpu / done, "ms": stages}
    if requests:
        bare = bare_ms(requests) / done
        figures |= {"bare_ms": bare, "bare_ratio": bare / figures["cpu_ms"]}
    return figures


def _endless(sampler: EpochBatchSampler) -> Iterator[list[SampleKey]]:
    """Yield batches of keys, epoch after epoch."""
    for epoch in itertools.count():
        sampler.set_epoch(epoch)
        yield from sampler


def _measure_workers(load: Load, split: str, workers: int, clips: int) -> float:
    """Return clips per second of a loader with `workers` workers, over at least two passes of about `clips` clips.

    A short pass before starts the workers, and is not counted.
    """
    loader = build_loader(load(["DATA_LOADER.NUM_WORKERS", workers]), split)
    sampler = loader.batch_sampler
    batches = min(len(sampler), math.ceil(clips / sampler.batch_size))
    sampler.set_epoch(0, len(sampler) - min(max(workers, 1), batches))
    for _ in loader:
        pass
    done, start = 0, time.perf_counter()
    for epoch in itertools.count(1):
        sampler.set_epoch(epoch, len(sampler) - batches)
        done += sum(batch.size for batch in loader)
        if not done:
            raise ValueError(f"no clip of {split} can be made")
        if epoch > 1 and done >= clips:
            break
    return done / (time.perf_counter() - start)


def measure_data(load: Load, splits: Sequence[str], workers: Sequence[int], clips: int, rounds: int) -> dict[str, Any]:
    """Return for each split `stages` (see `_measure_stages`), and `workers`: number -> clips per second."""
    measured = {}
    for split in splits:
        stages = _measure_stages(load, split, clips, rounds)
        measured[split] = {"stages": stages, "workers": {n: _measure_workers(load, split, n, clips) for n in workers}}
    return measured


def time_epochs(load: Load) -> list[dict[str, float]]:
    """Load BENCHMARK.NUM_EPOCHS epochs of training clips, in random order, or without BENCHMARK.SHUFFLE the list's.

    Returns:
        For every BENCHMARK.LOG_PERIOD iterations, and for those left at the end of an epoch: `epoch` and `iteration`,
        counted from 1, that end them; `ms` of an iteration; `clips_per_second`.

    Raises:
        ValueError: BENCHMARK.NUM_EPOCHS or LOG_PERIOD is below 1; and what `build_loader` raises.
    """
    cfg = load([])
    options = cfg.BENCHMARK
    if min(options.NUM_EPOCHS, options.LOG_PERIOD) < 1:
        raise ValueError(
            f"BENCHMARK.NUM_EPOCHS is {options.NUM_EPOCHS} and LOG_PERIOD {options.LOG_PERIOD}; both are at least 1"
        )
    loader = build_loader(cfg, "train")
    sampler, rows = loader.batch_sampler, []
    if not options.SHUFFLE:
        size = sampler.batch_size
        starts = range(0, len(loader.dataset) - size + 1, size)
        loader = DataLoader(
            loader.dataset,
            batch_sampler=[[SampleKey(index) for index in range(start, start + size)] for start in starts],
            collate_fn=loader.collate_fn,
            num_workers=loader.num_workers,
            persistent_workers=loader.persistent_workers,
            prefetch_factor=loader.prefetch_factor,
            worker_init_fn=loader.worker_init_fn,
        )
    for epoch in range(options.NUM_EPOCHS):
        sampler.set_epoch(epoch)
        clips, first, start = 0, 0, time.perf_counter()
        for iteration, batch in enumerate(loader, 1):
            clips += batch.size
            if iteration % options.LOG_PERIOD == 0 or iteration == len(loader):
                seconds = time.perf_counter() - start
                row = {"epoch": epoch + 1, "iteration": iteration, "ms": 1000 * seconds / (iteration - first)}
                rows.append({**row, "clips_per_second": clips / seconds})
                clips, first, start = 0, iteration, time.perf_counter()
    return rows


def soak(load: Load, clips: int) -> dict[str, Any]:
    """Measure the memory of one loader worker while it makes training clips.

    Returns:
        `clips` made; `points`, pairs of (clips, resident MiB of the worker); `growth_mib` between the medians of the
        second and the last quarter; `flat`, True if that is at most 16 MiB.

    Raises:
        ValueError: `clips` is below 1, or the system does not tell the memory of a process.
    """
    if clips < 1:
        raise ValueError(f"a soak over {clips} clips is impossible; use at least 1")
    if not Path("/proc/self/statm").exists():
        raise ValueError("the memory of a worker is read from /proc, which this system does not have")
    loader = build_loader(load(["DATA_LOADER.NUM_WORKERS", 1]), "train")
    done, epoch, points = 0, 0, []
    others = {child.pid for child in multiprocessing.active_children()}
    while done < clips:
        loader.batch_sampler.set_epoch(epoch)
        for batch in loader:
            done += batch.size
            if done >= clips * len(points) / _SOAK_POINTS:
                (worker,) = [child for child in multiprocessing.active_children() if child.pid not in others]
                points.append((done, resident_mib(worker.pid)))
            if done >= clips:
                break
        epoch += 1
    quarter = max(1, len(points) // 4)
    early, late = points[quarter : 2 * quarter] or points, points[-quarter:]
    growth = statistics.median(mib for _, mib in late) - statistics.median(mib for _, mib in early)
    return {"clips": done, "points": points, "growth_mib": growth, "flat": growth <= _FLAT_MIB}


def resident_mib(process: int) -> float:
    """Return the resident memory of a process in MiB, shared libraries included."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
