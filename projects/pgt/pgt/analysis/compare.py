"""Compare the truncated with the full gradient: measurements of `truncation.py` as tables, plain values and a plot."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pgt.analysis.truncation import ALL, RANDOM, Gap, gap_of_weights, gradient_memory, step_task
from slowfast.apps.benchmark.run import ConfigSource, in_fresh_process, medians
from slowfast.utils.text import plot_label

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
        _plot_gap(plot, results, memory)
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


def _plot_gap(path: Path, results: list[dict[str, Any]], memory: list[dict[str, Any]]) -> None:
    """Draw cosine, norm ratio and memory by number of steps as a PNG.

    There is a column for each state of the weights and a line for each layer; whiskers are deviations over batches.

    Raises:
        ImportError: matplotlib is missing.
    """
    import matplotlib

    matplotlib.use("Agg")  # before pyplot: there may be no display
    import matplotlib.pyplot as plt

    columns = len(results) + 1
    figure, axes = plt.subplots(2, columns, figsize=(2.9 * columns, 5.0), squeeze=False, layout="constrained")
    for panels, key, label in zip(axes, ("cosine", "norm_ratio"), ("cosine", "norm ratio |t| / |f|"), strict=True):
        for panel, result in zip(panels, results, strict=False):
            _plot_layers(panel, result["rows"], key)
            panel.set_title(f"{label}, {plot_label(Path(result['weights']).stem)}", fontsize=8)
        lowest = min(panel.get_ylim()[0] for panel in panels[:-1])
        for panel in panels[:-1]:
            panel.set_ylim(lowest, 1.05)
    _plot_memory(axes[0][-1], memory)
    axes[1][-1].axis("off")
    axes[1][-1].legend(*axes[0][0].get_legend_handles_labels(), fontsize=7, loc="upper left")
    for panel in axes.flat:
        panel.tick_params(labelsize=7)
        panel.set_xticks(sorted({point["steps"] for point in memory}))
        panel.set_xlabel("steps", fontsize=7)
    figure.savefig(path, dpi=80, pil_kwargs={"optimize": True})
    plt.close(figure)


def _plot_memory(panel: Any, memory: list[dict[str, Any]]) -> None:
    steps = [point["steps"] for point in memory]
    for kind, color in (("truncated", "#2a6fbb"), ("full", "#d9772b")):
        panel.plot(steps, [point[kind] for point in memory], ".-", color=color, label=kind)
    panel.set_ylim(bottom=0)
    panel.legend(fontsize=7)
    panel.set_title("memory of a gradient, MiB", fontsize=8)


def _plot_layers(panel: Any, rows: list[dict[str, Any]], key: str) -> None:
    """Draw a line for each layer; that of the whole gradient is thick and black."""
    for name in dict.fromkeys(row["name"] for row in rows):
        points = [row for row in rows if row["name"] == name and row[key] is not None]
        style = {"color": "black", "linewidth": 2.2} if name == ALL else {"linewidth": 1.0}
        panel.errorbar(
            [point["steps"] for point in points],
            [point[key] for point in points],
            [point[f"{key}_std"] or 0.0 for point in points],
            label=name,
            marker=".",
            capsize=2,
            **style,
        )
    panel.axhline(1.0, color="#9a9a9a", linewidth=0.6)
