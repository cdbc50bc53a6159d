"""Comparison of truncated and full gradients, as tables on standard output and values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pgt.analysis.report import as_values, format_gap, format_memory, plot_gap
from pgt.analysis.truncation import RANDOM, gap_of_weights, gradient_memory, step_task
from slowfast.apps.benchmark.run import ConfigSource, in_fresh_process, medians


def compare_gradients(
    source: ConfigSource,
    step_counts: Sequence[int] = (),
    num_batches: int = 8,
    checkpoints: Sequence[str] | None = None,
    by: str = "stage",
    repeats: int = 3,
    plot: Path | None = None,
) -> dict[str, Any]:
    """Measure the gap of the truncated gradient and the memory of both; print tables, and draw the plot.

    Args:
        step_counts: numbers of steps; () for 1 to all.
        num_batches: training batches to average over.
        checkpoints: weights, files or `RANDOM`; None for TRAIN.CHECKPOINT_FILE_PATH, or random weights.
        by: key of `DEPTHS`, the parameters of a row.
        repeats: processes of each measurement of memory; the median counts.
        plot: PNG to draw.

    Raises:
        ValueError, FileNotFoundError: as `gap_of_weights`.
    """
    cfg = source.load()
    weights = checkpoints or [cfg.TRAIN.CHECKPOINT_FILE_PATH or RANDOM]
    _, steps = step_task(cfg, step_counts)
    print(f"{num_batches} batches of {cfg.TRAIN.BATCH_SIZE} clips; train mode, full precision", flush=True)
    results = []
    for name, gaps in gap_of_weights(cfg, steps, num_batches, weights):
        results.append(as_values(name, steps, gaps, by))
        print(f"\n{format_gap(results[-1])}", flush=True)
    memory = []
    for count in steps:
        runs = {
            kind: medians([in_fresh_process(_memory, source, count, kind == "truncated") for _ in range(repeats)])
            for kind in ("truncated", "full")
        }
        memory.append({"steps": count, **{kind: found["peak_mib"] for kind, found in runs.items()}})
    print(f"\npeak memory of one gradient, over the idle process\n{format_memory(memory)}")
    if plot:
        plot_gap(plot, results, memory)
    return {"batches": num_batches, "batch_size": cfg.TRAIN.BATCH_SIZE, "gap": results, "memory_mib": memory}


def _memory(source: ConfigSource, steps: int, truncated: bool) -> dict[str, float]:
    return gradient_memory(source.load(), steps, truncated)
