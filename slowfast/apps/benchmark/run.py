"""Benchmarks of a config as tables on standard output and values for JSON: models, single points, and data loading.

Memory is measured in processes of their own, where memory of earlier work cannot count.
"""

from __future__ import annotations

import multiprocessing
import shlex
import signal
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from fvcore.common.config import CfgNode

from slowfast.apps.benchmark.compare import (
    BASELINE,
    WORKS,
    Variant,
    compare,
    make_variant,
    measure_alone,
)
from slowfast.apps.benchmark.data import SPLITS, measure_data, soak, time_epochs
from slowfast.apps.benchmark.report import (
    as_rows,
    format_data,
    format_epochs,
    format_points,
    format_soak,
    format_steps,
    format_work,
    machine,
)
from slowfast.config import load_config
from slowfast.engine.task import build_task, task_class
from slowfast.models.complexity import complexity
from slowfast.runtime.device import device_of

MEASURES = ("size", "time", "memory", "steps")


def measure_model(
    source: ConfigSource,
    variants: Sequence[str] = ("fp32", "bf16"),
    measures: Sequence[str] = MEASURES,
    works: Sequence[str] = WORKS,
    baseline: bool = True,
    rounds: int = 5,
    repeats: int = 3,
    step_counts: Sequence[int] = (),
) -> dict[str, Any]:
    """Measure size, speed and memory of a config's model in several variants.

    Args:
        measures: of `MEASURES`.
        works: of `WORKS`; those in steps are left out for a task without steps.
        baseline: measure the baseline too.
        rounds: turns of every variant against the clock.
        repeats: processes of each measurement of memory; the median counts.
        step_counts: numbers of steps for "steps"; () for 1, the config's, and twice as many.

    Raises:
        ValueError: an unknown variant or work, or settings that do not fit.
    """
    cfg = source.load()
    in_steps = build_task(cfg).stream_steps(1) is not None
    names = [BASELINE, *variants] if baseline else list(variants)
    works = [work for work in works if in_steps or not work.endswith("_steps")]
    for work in works:  # a mistake shows before the first measurement
        for name in names:
            make_variant(source.load, work, name)
    clips = {"batch": cfg.TRAIN.BATCH_SIZE, "frames": cfg.DATA.NUM_FRAMES, "crop": cfg.DATA.TRAIN_CROP_SIZE}
    result = _heading(source, device_of(cfg)) | {"clips": clips, "rounds": rounds, "repeats": repeats}
    print(", ".join(f"{key} {value}" for key, value in clips.items()))
    if "size" in measures:
        size = complexity(cfg)
        print(size, flush=True)
        result |= {"parameters": size.parameters, "gflops": size.multiply_adds / 1e9}
    result["works"] = {work: _measure_work(source, work, names, measures, rounds, repeats) for work in works}
    if "steps" in measures and in_steps:
        result["memory_by_steps"] = _memory_by_steps(source, cfg, names, step_counts, repeats)
    return result


def compare_points(
    source: ConfigSource, points: Sequence[str], iterations: int = 5, repeats: int = 3
) -> list[dict[str, Any]]:
    """Measure time and memory of a training iteration at points, each in processes of its own.

    Args:
        points: overrides `KEY VALUE ...` of each point, as a shell would quote them.
        iterations: timed iterations of a process.
        repeats: processes of each point; points take turns, and the median counts.

    Raises:
        ValueError: a setting is wrong, or memory ran out at a point.
    """
    runs: dict[str, list[dict[str, float]]] = {point: [] for point in points}
    for _ in range(repeats):
        for point in points:
            own = ConfigSource(source.file, [*source.overrides, *shlex.split(point)])
            measured = in_fresh_process(_measure_alone, own, "train_steps", "config", None, iterations)
            if measured is None:
                raise ValueError(f"memory ran out at --point {point!r}")
            runs[point].append(measured)
    rows = [{"point": point, **medians(results)} for point, results in runs.items()]
    print(format_points(rows))
    return rows


def measure_loading(
    source: ConfigSource,
    splits: Sequence[str] = SPLITS,
    workers: Sequence[int] = (0,),
    clips: int = 60,
    rounds: int = 5,
) -> dict[str, Any]:
    """Measure clips per second of the configured data set: by stage in this process, and by number of loader workers.

    Args:
        clips: number of clips of a round, or of a loader.

    Raises:
        ValueError: an argument is below 1, or no clip can be made.
    """
    if min(clips, rounds) < 1:
        raise ValueError(f"{clips} clips in {rounds} rounds cannot be measured; both have to be at least 1")
    result = _loading_heading(source)
    result["data"] = measure_data(source.load, splits, workers, clips, rounds)
    print("\n" + "\n\n".join(format_data(split, figures) for split, figures in result["data"].items()))
    return result


def measure_epochs(source: ConfigSource) -> dict[str, Any]:
    """Measure the loading of whole epochs, as the section BENCHMARK says; ValueError as of `time_epochs`."""
    result = _loading_heading(source)
    result["epochs"] = time_epochs(source.load)
    print(format_epochs(result["epochs"]))
    return result


def watch_worker(source: ConfigSource, clips: int) -> dict[str, Any]:
    """Measure the memory of a loader worker while it makes training clips; ValueError as of `soak`."""
    result = _loading_heading(source)
    result["soak"] = soak(source.load, clips)
    print(format_soak(result["soak"]))
    return result


def _heading(source: ConfigSource, device: torch.device) -> dict[str, Any]:
    """Print and return the config and the machine."""
    where = machine(device)
    print(f"{source.file} {shlex.join(map(str, source.overrides))}")
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    return {"cfg": source.file, "overrides": list(source.overrides), "machine": where}


def _loading_heading(source: ConfigSource) -> dict[str, Any]:
    data = source.load().DATA
    heading = _heading(source, torch.device("cpu"))
    return heading | {"frames": data.NUM_FRAMES, "sampling_rate": data.SAMPLING_RATE}


def _measure_work(
    source: ConfigSource, work: str, names: Sequence[str], measures: Sequence[str], rounds: int, repeats: int
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"name": name} for name in names]
    if "time" in measures:
        variants: list[Variant] = [make_variant(source.load, work, name) for name in names]
        times = compare(variants, work.startswith("train"), rounds)
        rows = as_rows(times, variants[0].cfg.TRAIN.BATCH_SIZE)
    if "memory" in measures:
        for row in rows:
            memory = _memory(source, work, row["name"], None, repeats) or {}
            row |= {key: memory.get(key) for key in ("peak_mib", "process_mib")}
    if len(rows[0]) > 1:
        print(f"\n{format_work(work, rows)}", flush=True)
    return rows


def _memory_by_steps(
    source: ConfigSource, cfg: CfgNode, names: Sequence[str], step_counts: Sequence[int], repeats: int
) -> list[dict[str, Any]]:
    own = build_task(cfg).num_steps
    points = []
    for steps in step_counts or sorted({1, own, 2 * own}):
        memory = {name: _memory(source, "train_steps", name, steps, repeats) for name in names}
        frames = task_class(cfg).steps_config(cfg, steps).DATA.NUM_FRAMES
        peaks = {name: value and value["peak_mib"] for name, value in memory.items()}
        points.append({"steps": steps, "frames": frames, "peak_mib": peaks})
    print(f"\n{format_steps(points)}", flush=True)
    return points


def _memory(source: ConfigSource, work: str, name: str, steps: int | None, repeats: int) -> dict[str, float] | None:
    return medians([in_fresh_process(_measure_alone, source, work, name, steps, 0) for _ in range(repeats)])


def _measure_alone(source: ConfigSource, work: str, name: str, steps: int | None, iterations: int) -> dict[str, float]:
    return measure_alone(make_variant(source.load, work, name, steps), work.startswith("train"), iterations)


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
        ValueError, OSError, FloatingPointError: raised by the function.
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
    except (ValueError, OSError, FloatingPointError) as error:
        sender.send((None, error))
