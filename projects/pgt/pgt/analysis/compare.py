"""Compare the truncated with the full gradient: measurements of `truncation.py` as tables, plain values and a plot."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pgt.analysis.truncation import RANDOM, Gap, gap_of_weights, gradient_memory, step_task
from slowfast.apps.benchmark.run import ConfigSource, in_fresh_process, medians
from slowfast.apps.plot.style import (
    WIDTHS,
    Line,
    add_legend,
    check_ending,
    draw_lines,
    new_figure,
    require_matplotlib,
    save,
    set_title,
    styled,
)
from slowfast.utils.text import plot_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Parts of a parameter's name (s3.pathway0_res1.branch2.a.weight) that make a row.
DEPTHS = {"stage": 1, "block": 2, "parameter": None}


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
        plot: picture to draw, .png, .svg or .pdf.

    Raises:
        ValueError, FileNotFoundError: as `gap_of_weights`; or the picture has another ending.
    """
    if plot:
        check_ending(plot)
        require_matplotlib()
    cfg = source.load()
    weights = checkpoints or [cfg.TRAIN.CHECKPOINT_FILE_PATH or RANDOM]
    _, steps = step_task(cfg, step_counts)
    print(f"{num_batches} batches of {cfg.TRAIN.BATCH_SIZE} clips; train mode, full precision", flush=True)
    results = []
    for name, gaps in gap_of_weights(cfg, steps, num_batches, weights):
        results.append(_as_values(name, steps, gaps, by))
        print(f"\n{_format_gap(results[-1])}", flush=True)
    memory = []
    for count in steps:
        runs = {
            kind: medians([in_fresh_process(_memory, source, count, kind == "truncated") for _ in range(repeats)])
            for kind in ("truncated", "full")
        }
        memory.append({"steps": count, **{kind: found["peak_mib"] for kind, found in runs.items()}})
    print(f"\npeak memory of one gradient, over the idle process\n{_format_memory(memory)}")
    if plot:
        save(draw_gap(results, memory), plot)
    return {"batches": num_batches, "batch_size": cfg.TRAIN.BATCH_SIZE, "gap": results, "memory_mib": memory}


def _memory(source: ConfigSource, steps: int, truncated: bool) -> dict[str, float]:
    return gradient_memory(source.load(), steps, truncated)


def _as_values(weights: str, steps: list[int], gaps: list[Gap], by: str) -> dict[str, Any]:
    """Return the gap at one state of the weights as plain values; `by` is a key of `DEPTHS`."""
    rows = [
        {"steps": count, **dataclasses.asdict(row)}
        for count, gap in zip(steps, gaps, strict=True)
        for row in gap.rows(DEPTHS[by])
    ]
    return {"weights": weights, "rows": rows}


def _format_gap(result: dict[str, Any]) -> str:
    """Format the result of `_as_values` as a table, a line for each number of steps and layer."""
    width = max(len(row["name"]) for row in result["rows"])
    head = f"{'steps':>5}  {'layer':<{width}}  {'cosine':>15}  {'norm ratio':>15}  {'bias':>7}  {'noise':>6}"
    lines = [f"weights: {result['weights']}", head]
    for row in result["rows"]:
        cosine, ratio = (_with_std(row[key], row[f"{key}_std"]) for key in ("cosine", "norm_ratio"))
        line = f"{row['steps']:5}  {row['name']:<{width}}  {cosine:>15}  {ratio:>15}"
        lines.append(f"{line}  {_bias(row):>7}  {_number(row['noise']):>6}")
    return "\n".join(lines)


def _format_memory(points: list[dict[str, Any]]) -> str:
    """Format `steps`, `truncated` and `full` memory, in MiB over the idle process, as a table."""
    lines = [f"{'steps':>5}  {'truncated, MiB':>14}  {'full, MiB':>9}"]
    lines += [f"{point['steps']:5}  {point['truncated']:14.1f}  {point['full']:9.1f}" for point in points]
    return "\n".join(lines)


def _with_std(value: float | None, std: float | None) -> str:
    return _number(value) if std is None else f"{_number(value)} +- {std:.3f}"


def _bias(row: dict[str, Any]) -> str:
    if row["bias"] is not None and row["bias"] < row["bias_floor"] >= 0.001:
        return f"< {row['bias_floor']:.3f}"
    return _number(row["bias"])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


@styled
def draw_gap(results: list[dict[str, Any]], memory: list[dict[str, Any]]) -> Figure:
    """Draw cosine, norm ratio and memory by number of steps.

    There is a column for each state of the weights and a line for each layer; error bars are deviations over batches.
    """
    from matplotlib.ticker import FixedLocator

    steps, names = sorted({point["steps"] for point in memory}), ("cosine", "norm ratio |t| / |f|")
    figure, panels = new_figure(WIDTHS["text"], 4.0, 2, len(results) + 1, sharex=True)
    for row, (key, label) in enumerate(zip(("cosine", "norm_ratio"), names, strict=True)):
        for panel, result in zip(panels[row], results, strict=False):
            panel.axhline(1.0, color="black", linewidth=0.4)
            draw_lines(panel, _layer_lines(result["rows"], key), bars=True)
            panel.set_title("" if row else plot_label(Path(result["weights"]).stem))
        lowest = min(panel.get_ylim()[0] for panel in panels[row, :-1])
        for panel in panels[row, :-1]:
            panel.set_ylim(lowest, 1.05)
            panel.label_outer()
        panels[row, 0].set_ylabel(label)
    for panel in panels[:, -1]:
        panel.remove()
    tall = figure.add_subplot(panels[0, -1].get_gridspec()[:, -1])
    kinds = {kind: np.array([point[kind] for point in memory], dtype=float) for kind in ("truncated", "full")}
    lines = [Line(kind, np.array([point["steps"] for point in memory]), values) for kind, values in kinds.items()]
    draw_lines(tall, lines)
    tall.set(ylim=(0, None), title="memory of a gradient, MiB")
    tall.legend(loc="upper left")
    for panel in [*panels[1, :-1], tall]:
        panel.set_xlabel("steps")
        panel.xaxis.set_major_locator(FixedLocator(steps))
    add_legend(panels[0, 0])
    set_title(figure, "Truncated (t) and full (f) gradients by stage: mean ± std over batches")
    return figure


def _layer_lines(rows: list[dict[str, Any]], key: str) -> list[Line]:
    """Return a line of the values of `key` for each layer, that of the whole gradient first."""
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        points = [row for row in rows if row["name"] == name and row[key] is not None]
        columns = [np.array([float(point[k] or 0.0) for point in points]) for k in ("steps", key, f"{key}_std")]
        lines.append(Line(name, *columns))
    return lines
