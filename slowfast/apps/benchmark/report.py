"""Benchmark results: medians and spreads, and tables of text."""

from __future__ import annotations

import datetime
import platform
import statistics
from collections.abc import Sequence
from typing import Any

import torch

from slowfast.apps.benchmark.compare import BASELINE
from slowfast.runtime.device import device_name, processor
from slowfast.utils.tables import format_table

TITLES = {
    "forward": "forward, whole clips, eval mode",
    "train": "training iteration, whole clips",
    "forward_steps": "prediction by the config's own task, eval mode",
    "train_steps": "training iteration in steps",
}


def machine(device: torch.device) -> dict[str, Any]:
    """Describe the machine, the versions and the date of a measurement."""
    return {
        "device": processor()[0] if device.type == "cpu" else device_name(device),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return `median`, `min` and `max`."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def as_rows(times: Sequence[dict[str, Any]], clips: int) -> list[dict[str, Any]]:
    """Summarize the times of variants, one row a variant.

    Args:
        times: result of `compare`.
        clips: number of clips of a batch.

    Returns:
        Rows of `name`, `first_seconds`, spread of `ms`, `clips_per_second`; with a baseline also `of_baseline`, the
        spread of the ratios of times to those of the baseline in the same round.
    """
    base = next((time["seconds"] for time in times if time["name"] == BASELINE), None)
    rows = []
    for time in times:
        seconds = time["seconds"]
        row = {
            "name": time["name"],
            "first_seconds": time["first"],
            "ms": spread([1000 * value for value in seconds]),
            "clips_per_second": clips / statistics.median(seconds),
        }
        if base:
            row["of_baseline"] = spread([a / b for a, b in zip(seconds, base, strict=True)])
        rows.append(row)
    return rows


def format_work(work: str, rows: Sequence[dict[str, Any]]) -> str:
    """Format one work as a table, one line a variant."""
    head = [
        "",
        "ms (least - most)",
        "clips/s",
        "of baseline (least - most)",
        "times faster",
        "first, s",
        "MiB over idle",
    ]
    names = {BASELINE: f"{BASELINE}, end to end" if work == "train_steps" else BASELINE}
    lines = []
    for row in rows:
        ratio = row.get("of_baseline")
        lines.append(
            [
                names.get(row["name"], row["name"]),
                _with_spread(row["ms"], ".1f"),
                f"{row['clips_per_second']:.2f}",
                _with_spread(ratio, ".3f") if ratio else "-",
                f"{1 / ratio['median']:.2f}" if ratio else "-",
                f"{row['first_seconds']:.1f}",
                _mib(row.get("peak_mib")),
            ]
        )
    return f"{TITLES[work]}\n{format_table(head, lines)}"


def format_points(points: Sequence[dict[str, Any]]) -> str:
    """Format points as a table: time, memory over idle and of the process, and both relative to the first point."""
    head = ["point", "s / iteration", "MiB over idle", "of first", "MiB", "of first"]
    lines = []
    for point in points:
        memory = []
        for key in ("peak_mib", "process_mib"):
            memory += [f"{point[key]:.0f}", f"{point[key] / points[0][key]:.2f}"]
        lines.append([point["point"], f"{point['seconds']:.3f}", *memory])
    return format_table(head, lines)


def format_steps(points: Sequence[dict[str, Any]]) -> str:
    """Format memory over idle by number of steps, one column a variant, relative to the first line in brackets."""
    names = list(points[0]["peak_mib"])
    head = ["steps", "frames", *(f"{'end to end, ' if name == BASELINE else ''}{name}" for name in names)]
    lines = []
    for point in points:
        cells = []
        for name in names:
            value, first = point["peak_mib"][name], points[0]["peak_mib"][name]
            cells.append(f"{_mib(value)} ({value / first:.2f})" if value and first else _mib(value))
        lines.append([str(point["steps"]), str(point["frames"]), *cells])
    title = "training iteration in steps: peak MiB over idle (of the first line), a process each"
    return f"{title}\n{format_table(head, lines)}"


def format_data(split: str, figures: dict[str, Any]) -> str:
    """Format the result of `measure_data` of a split: milliseconds per clip by stage, clips per second by workers."""
    stages, views = figures["stages"], figures["stages"]["views"]
    title = f"{split}: {'clips' if views == 1 else f'views, {views} a video'}; {stages['clips']} a round, one process"
    head = ["ms a clip", *stages["first"]["ms"], "all", "of it CPU", "clips/s"] + ([] if views == 1 else ["s / video"])
    lines = []
    for name, key in (("first round", "first"), ("median of later", "median")):
        ms, rate = stages[key]["ms"], stages[key]["clips_per_second"]
        line = [name, *(f"{value:.2f}" for value in ms.values()), f"{1000 / rate:.2f}"]
        line += [f"{stages[key]['cpu_ms']:.2f}", f"{rate:.2f}"]
        lines.append(line + ([] if views == 1 else [f"{views / rate:.3f}"]))
    text = f"{title}\n{format_table(head, lines)}\nclips/s of later rounds: {_with_spread(stages['spread'], '.2f')}"
    if "bare_ms" in stages["median"]:
        median = stages["median"]
        text += (
            f"\na bare loop over FFmpeg's decoder: {median['bare_ms']:.2f} ms of CPU a clip; clips are made at "
            f"{median['bare_ratio']:.2f} of its rate"
        )
    if figures["workers"]:
        rates = [[str(number), f"{rate:.2f}"] for number, rate in figures["workers"].items()]
        text += f"\n{format_table(['workers', 'clips/s'], rates)}"
    return text


def format_epochs(rows: Sequence[dict[str, float]]) -> str:
    """Format the times of loading, a line for each row of `time_epochs`."""
    head = ["epoch", "iteration", "ms an iteration", "clips a second"]
    cells = [
        [str(row["epoch"]), str(row["iteration"]), f"{row['ms']:.1f}", f"{row['clips_per_second']:.1f}"] for row in rows
    ]
    return format_table(head, cells)


def format_soak(result: dict[str, Any]) -> str:
    """Format the memory of a worker by clips made in about ten lines, and the verdict."""
    points = result["points"][:: max(1, len(result["points"]) // 10)]
    table = format_table(["clips", "MiB of the worker"], [[str(clips), f"{mib:.1f}"] for clips, mib in points])
    verdict = "flat" if result["flat"] else "NOT flat"
    return f"{table}\n{verdict}: {result['growth_mib']:+.1f} MiB from the second to the last quarter"


def _with_spread(values: dict[str, float], form: str) -> str:
    return f"{values['median']:{form}} ({values['min']:{form}} - {values['max']:{form}})"


def _mib(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
