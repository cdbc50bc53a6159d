"""Report of the demo: a table, `results.json` and two plots."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

import av
import torch
from sweep_plan import CHANCE, END_TO_END, FULL_GRADIENT, MEMORY_OFF, ORDER_BLIND, PROGRESSIVE, ROWS, Row

from slowfast.apps.plot.cost import draw_cost, read_cost
from slowfast.apps.plot.style import GRAY, ORANGE, SKY, WIDTHS, new_figure, save, set_title, styled
from slowfast.runtime.device import processor
from slowfast.utils.tables import format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# (method, frames) of the measured training memory of each experiment.
MEMORY_OF = {
    "clip": (END_TO_END, 8),
    "pgt": (PROGRESSIVE, 36),
    "memory_off": (MEMORY_OFF, 36),
    "full_gradient": (FULL_GRADIENT, 36),
}
# Colors of bars by experiment; others are variants of PGT.
COLOR_OF = {"clip": GRAY, "memory_off": ORANGE}


def write(output: Path, runs: list[dict], memory: list[dict], seconds: dict[str, float], judged: bool) -> None:
    """Print and save the report.

    Args:
        runs: name, seed, accuracy, updates, seconds and memory of every training.
        memory: `method`, `frames` and `peak_mib` of the measured points.
        seconds: seconds of the data set ("data") and of everything ("all").
        judged: compare the scores with the targets.
    """
    rows = summarize(runs, memory, judged)
    table = format_rows(rows, judged)
    notes = format_notes(runs, memory, seconds)
    print(f"\n{table}\n\n{notes}", flush=True)
    (output / "table.txt").write_text(f"{table}\n\n{notes}\n")
    results = {**describe_machine(), "seconds": seconds, "rows": rows, "runs": runs, "memory": memory}
    (output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    save(draw_accuracy(rows), output / "accuracy.png")
    measured = read_cost([("the demo", [str(output / "results.json")])])
    save(draw_cost(measured, WIDTHS["column"]), output / "memory.png")


def describe_machine() -> dict:
    """Describe the date, the machine and the versions."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": {
            "processor": processor()[0],
            "cores": len(os.sched_getaffinity(0)),
            "system": platform.platform(terse=True),
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "av": av.__version__},
    }


def summarize(runs: list[dict], memory: list[dict], judged: bool) -> list[dict]:
    """Compute the rows of the table, means over seeds, for the experiments that were run."""
    peaks = {(point["method"], point["frames"]): point["peak_mib"] for point in memory}
    rows = []
    for row in ROWS:
        mine = [run for run in runs if run["name"] == row.experiment]
        if mine:
            rows.append(_summarize_row(row, mine, peaks.get(MEMORY_OF.get(row.experiment)), judged))
    return rows


def _summarize_row(row: Row, runs: list[dict], peak_mib: float | None, judged: bool) -> dict:
    values = [run["accuracy"][row.metric] for run in runs]
    mean = statistics.mean(values)
    return {
        "title": row.title,
        "experiment": row.experiment,
        "metric": row.metric,
        "accuracy": mean,
        "spread": statistics.stdev(values) if len(values) > 1 else None,
        "target": row.target,
        "verdict": row.verdict(mean) if judged else "",
        "updates": runs[0]["updates"],
        "train_seconds": statistics.mean(run["train_seconds"] for run in runs),
        "peak_mib": peak_mib,
    }


def format_rows(rows: list[dict], judged: bool) -> str:
    """Format the table as text. A line without training costs is of the same model as the line above."""
    lines, before = [], None
    for row in rows:
        spread = "" if row["spread"] is None else f" +- {row['spread']:.1f}"
        target = row["target"] if judged else ""
        cells = (row["title"], f"{row['accuracy']:.1f}{spread}", target, row["verdict"])
        peak = "" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"
        costs = (str(row["updates"]), f"{row['train_seconds']:.0f}", peak)
        lines.append(cells + (costs if row["experiment"] != before else ("", "", "")))
        before = row["experiment"]
    head = ("", "accuracy %", "target", "", "updates", "train s", "peak MiB")
    first, *text = format_table(head, lines, left=(0, 3)).splitlines()
    return "\n".join([first, "-" * len(first), *text])


def format_notes(runs: list[dict], memory: list[dict], seconds: dict[str, float]) -> str:
    """Format notes on the table."""
    says_donor = statistics.mean(run["accuracy"]["swapped_says_donor"] for run in runs if run["name"] == "pgt")
    lines = [
        f"Accuracy on the test videos; chance is {CHANCE:.1f}. A model that sees both events, but not their order, "
        f"gets about {ORDER_BLIND:.0f}.",
        f"With the memory of another video, {says_donor:.0f} % of the answers are that video's label.",
        format_fairness(runs),
        "Peak MiB: the most memory one training iteration takes, over the idle process.",
        "By length of the video (frames: PGT / end to end): "
        + ", ".join(f"{frames}: {progressive:.0f} / {whole:.0f}" for frames, progressive, whole in _by_length(memory))
        + " MiB.",
        f"All of this took {seconds['all'] / 60:.1f} minutes, the videos {seconds['data']:.0f} s of it.",
    ]
    return "\n".join(lines)


def format_fairness(runs: list[dict]) -> str:
    """Format a note on whether the baselines got as many updates and seconds as PGT."""
    spent = {
        name: [statistics.mean(run[key] for run in runs if run["name"] == name) for key in ("updates", "train_seconds")]
        for name in ("pgt", "clip", "memory_off")
    }
    short = [
        f"{name} only {mine:.0f} {what} to PGT's {others:.0f}"
        for name in ("clip", "memory_off")
        for mine, others, what in zip(spent[name], spent["pgt"], ("updates", "seconds"), strict=True)
        if mine < others
    ]
    return f"UNFAIR: {', '.join(short)}." if short else "Both baselines got more updates and more seconds than PGT."


def _by_length(memory: list[dict]) -> list[tuple[int, float, float]]:
    peaks = {(point["method"], point["frames"]): point["peak_mib"] for point in memory}
    frames = sorted(point["frames"] for point in memory if point["method"] == END_TO_END)
    return [(count, peaks[PROGRESSIVE, count], peaks[END_TO_END, count]) for count in frames]


@styled
def draw_accuracy(rows: list[dict]) -> Figure:
    """Draw accuracy by method, with lines for chance and for guessing the order; bars of one model have one color."""
    figure, panels = new_figure(WIDTHS["text"], 0.24 * len(rows) + 0.9)
    axes, places = panels[0, 0], range(len(rows))[::-1]
    spreads = [row["spread"] or 0 for row in rows]
    whiskers = {"xerr": spreads, "error_kw": {"elinewidth": 0.8, "capsize": 2}} if any(spreads) else {}
    drawn = axes.barh(places, [row["accuracy"] for row in rows], height=0.72, linewidth=0.6, **whiskers)
    for bar, row, place in zip(drawn, rows, places, strict=True):
        foreign = row["metric"] in ("last_wiped", "last_swapped")
        bar.set(facecolor=COLOR_OF.get(row["experiment"], SKY), edgecolor="black", hatch="////" if foreign else "")
        spread = "" if row["spread"] is None else f" ± {row['spread']:.1f}"
        axes.text(104, place, f"{row['accuracy']:.1f}{spread}", va="center")
    for value, words in ((CHANCE, "chance"), (ORDER_BLIND, "both events seen, order guessed")):
        axes.axvline(value, color="black", linewidth=0.8, linestyle="--")
        axes.text(value + 0.7, len(rows) - 0.45, words, fontsize="small")
    axes.set(
        yticks=places,
        yticklabels=[row["title"] for row in rows],
        xlim=(0, 118),
        ylim=(-0.6, len(rows)),
        xticks=range(0, 101, 20),
        xlabel="accuracy on the test videos, %",
    )
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    set_title(figure, "The order of two events that no clip holds both")
    return figure
