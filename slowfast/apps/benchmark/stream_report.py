"""Results of benchmarks of streams as tables of Markdown, to be copied into documents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from slowfast.apps.benchmark.report import spread

_KIB, _FLAT = 1024, 0.02  # share by which memory may differ between the first and the last hour


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format cells of text as a table of Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])


def format_hours(points: Sequence[dict[str, float]]) -> str:
    """Format the hours of a stream in at most about eight lines, the first and the last among them, and a verdict."""
    shown = [*points[:: max(1, len(points) // 6)]]
    shown += [points[-1]] if shown[-1] is not points[-1] else []
    rows = [
        [
            str(point["hour"]),
            f"{point['mib']:.1f}",
            *([f"{point['state_bytes'] / _KIB:.0f}"] if "state_bytes" in point else []),
            str(point["answers"]),
            f"{point['hour'] * 3600 / point['seconds']:.0f}",
        ]
        for point in shown
    ]
    state = ["state, KiB"] if "state_bytes" in points[0] else []
    table = markdown_table(["hour", "resident MiB", *state, "answers", "x real time"], rows)
    first, last = points[0]["mib"], points[-1]["mib"]
    within = "within" if abs(last / first - 1) <= _FLAT else "NOT within"
    hours, cpu = points[-1]["hour"], points[-1]["cpu_seconds"]
    return (
        f"{table}\n\nHour {hours} has {last / first:.4f} of the memory of hour 1, {within} {_FLAT:.0%}. "
        f"{cpu / 60:.1f} minutes of CPU time, {1000 * cpu / (hours * 3600):.2f} ms per second of video."
    )


def format_pool(result: dict[str, Any]) -> str:
    """Format answers per second of streams one after the other and at once, and what a stream takes."""
    rows = []
    for name, label in (("alone", "one after the other"), ("pool", f"{result['streams']} in a pool")):
        rows.append([label, *(_range(result[name][clock], ".0f") for clock in ("cpu", "wall"))])
    rows.append(["times faster", *(_range(result["ratio"][clock], ".2f") for clock in ("cpu", "wall"))])
    table = markdown_table(["", "answers per CPU second", "answers per second"], rows)
    return (
        f"{table}\n\n{result['answers']} answers a round; scores differ by at most {result['difference']:.1e}. The "
        f"state of a stream has {result['state_bytes'] / _KIB:.0f} KiB. {result['streams']} streams that are open and "
        f"have answered add {result['mib']:.1f} MiB to the process, {result['mib'] / result['streams']:.2f} a stream."
    )


def format_speed(rows: Sequence[dict[str, Any]]) -> str:
    """Format speed and delay, one line a model, way of reading, and precision."""
    head = ["model", "reads", "answers every", "GFLOPs per s", "", "CPU ms per s", "ms per s"]
    head += ["x real time", "delay, CPU ms: median, 95 %", "delay, ms"]
    lines = []
    for row in rows:
        cells = [row["model"], row["reads"], f"{row['every_s']:.2f} s", f"{row['gflops_per_s']:.3g}", row["variant"]]
        cells += [_range(row[clock], ".0f" if row[clock]["median"] >= 100 else ".1f") for clock in ("cpu_ms", "ms")]
        delays = [", ".join(f"{x:.0f}" for x in row[clock]) for clock in ("delay_cpu_ms", "delay_ms")]
        lines.append([*cells, f"{1000 / row['ms']['median']:.1f}", *delays])
    return markdown_table(head, lines)


def format_persons(result: dict[str, Any]) -> str:
    """Format milliseconds per frame of a detector and a tracker."""
    names = {"detector": "{} at {} x {}".format(result["family"], *result["input"]), "tracker": "tracker, 10 persons"}
    rows = [
        [name, *(_range(spread(result[key][clock]), ".2f") for clock in ("cpu_ms", "ms"))]
        for key, name in names.items()
    ]
    return markdown_table(["", "CPU ms per frame", "ms per frame"], rows)


def format_viewers(result: dict[str, Any]) -> str:
    """Format what viewers of a server saw, its memory over time, and the first of its errors."""
    delays = [[f"{result[key].get(name, math.nan):.3f}" for name in ("median", "p95")] for key in ("delay_s", "late_s")]
    rows = [
        ["from a step's last frame to its answer", *delays[0]],
        ["behind the earliest answer about the video", *delays[1]],
    ]
    start, middle, end = ("{server:.0f} + {decoders:.0f}".format(**point) for point in result["memory"])
    lines = [
        markdown_table([f"{result['viewers']} viewers, {result['seconds']} s", "median, s", "95 %, s"], rows),
        f"\n{result['answers']} answers, {result['answers_per_s']:.1f} a second, on {result['cpu']:.2f} cores. Of "
        f"{result['sent']} frames of cameras {result['dropped']} were dropped. MiB of the server + its decoders: "
        f"{start} at the start, {middle} in the middle, {end} at the end. {len(result['errors'])} errors; status "
        f"{result['status']}.",
    ]
    return "\n".join(lines + [f"error: {error}" for error in result["errors"][:10]])


def _range(values: dict[str, float], form: str) -> str:
    return f"{values['median']:{form}} ({values['min']:{form}} - {values['max']:{form}})"
