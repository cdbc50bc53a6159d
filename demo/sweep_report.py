"""Report of the demo: a table, `results.json` and two plots."""

import datetime
import json
import os
import platform
import statistics
from pathlib import Path
from types import ModuleType

import av
import torch
from sweep_plan import CHANCE, END_TO_END, FULL_GRADIENT, MEMORY_OFF, ORDER_BLIND, PROGRESSIVE, ROWS, Row

from slowfast.apps.benchmark.report import processor_name
from slowfast.utils.tables import format_table

# (method, frames) of the measured training memory of each experiment.
MEMORY_OF = {
    "clip": (END_TO_END, 8),
    "pgt": (PROGRESSIVE, 36),
    "memory_off": (MEMORY_OFF, 36),
    "full_gradient": (FULL_GRADIENT, 36),
}
BLUE, PALE_BLUE, GRAY, ORANGE = "#2a6fbb", "#a9c8ea", "#9a9a9a", "#d9772b"


def pyplot() -> ModuleType:
    """Import matplotlib, which is an extra, to draw files."""
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise ImportError("the demo draws with matplotlib: pip install matplotlib (the extra `plot`)") from error
    matplotlib.use("Agg")  # before pyplot: there may be no display
    import matplotlib.pyplot

    return matplotlib.pyplot


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
    plot_accuracy(output / "accuracy.png", rows)
    plot_memory(output / "memory.png", memory)


def describe_machine() -> dict:
    """Describe the date, the machine and the versions."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": {
            "processor": processor_name(),
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


def plot_accuracy(path: Path, rows: list[dict]) -> None:
    """Plot accuracy by method, with lines for chance and for guessing the order."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(rows) + 1.6), layout="constrained")
    places = range(len(rows))[::-1]
    values = [row["accuracy"] for row in rows]
    spreads = [row["spread"] or 0 for row in rows]
    axes.barh(
        places,
        values,
        xerr=spreads if any(spreads) else None,
        height=0.7,
        color=[_color(row) for row in rows],
    )
    for place, value in zip(places, values, strict=True):
        axes.text(value + 1.5, place, f"{value:.1f}", va="center", bbox={"color": "white", "pad": 1})
    for value, words in ((CHANCE, "chance"), (ORDER_BLIND, "both events seen, order guessed")):
        axes.axvline(value, color="black", linewidth=1, linestyle="--")
        axes.text(value + 0.7, len(rows) - 0.4, words, fontsize="small")
    axes.set(
        yticks=places,
        yticklabels=[row["title"] for row in rows],
        xlim=(0, 110),
        ylim=(-0.6, len(rows)),
        xlabel="accuracy on the test videos, %",
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _color(row: dict) -> str:
    if row["metric"] in ("last_wiped", "last_swapped"):
        return PALE_BLUE
    return {"clip": GRAY, "memory_off": ORANGE}.get(row["experiment"], BLUE)


def plot_memory(path: Path, memory: list[dict]) -> None:
    """Plot peak training memory by length of the video."""
    frames, progressive, whole = zip(*_by_length(memory), strict=True)
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(6.5, 4), layout="constrained")
    axes.plot(frames, whole, "s-", color=ORANGE, label="end to end, all frames at once")
    axes.plot(frames, progressive, "o-", color=BLUE, label="PGT, in steps of 8 frames")
    for point in memory:
        if point["method"] == FULL_GRADIENT:
            axes.plot(point["frames"], point["peak_mib"], "x", color="black", label="PGT with full gradient")
    axes.set(xlabel="frames of a training video", ylabel="peak memory of training, MiB", ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
