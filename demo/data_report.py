"""Report of `demo/data.py`: a table, `results.json`, and a plot."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from data_plan import METHODS, DataSet
from sweep_report import BLUE, GRAY, PALE_BLUE, describe_machine, pyplot

from slowfast.evaluation.predictions import load

HEADER = ("set", "measure", "PGT", "clip model", "chance", "target", "", "updates", "train s")


def chance(predictions: Path, data_set: DataSet, draws: int) -> float:
    """Return the score of random predictions for the videos or boxes of a test, the mean of `draws` draws."""
    tested = load(predictions)
    rng = np.random.default_rng(0)
    without = {"variants": {}} | ({"steps": None} if hasattr(tested, "steps") else {})
    scores = [
        dataclasses.replace(tested, scores=rng.random(tested.scores.shape), **without).metrics()[data_set.metric]
        for _ in range(draws)
    ]
    return float(np.mean(scores)) / data_set.unit


def write(
    output: Path, chosen: list[DataSet], runs: list[dict], chances: dict[str, float], seconds: dict, judged: bool
) -> bool:
    """Print and save everything; whether every target is met, if they count.

    Args:
        runs: of every training its set, method, score, updates and seconds.
        chances: score of chance by set.
        seconds: of making and checking each set, and of all.
        judged: whether targets mean something at this scale.
    """
    rows = [summarize(data_set, runs, chances[data_set.name], judged) for data_set in chosen]
    table = format_table(rows)
    note = f"{seconds['all'] / 60:.1f} minutes in all"
    print(f"\n{table}\n\n{note}", flush=True)
    (output / "table.txt").write_text(f"{table}\n\n{note}\n")
    results = {**describe_machine(), "seconds": seconds, "rows": rows, "runs": runs}
    (output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    plot(output / "scores.png", rows)
    return all(row["verdict"] != "MISSED" for row in rows)


def summarize(data_set: DataSet, runs: list[dict], by_chance: float, judged: bool) -> dict:
    """A line of the table as figures."""
    mine = {run["method"]: run for run in runs if run["set"] == data_set.name}
    return {
        "set": data_set.title,
        "measure": data_set.measure,
        **{method: mine[method]["score"] for method in METHODS},
        "chance": by_chance,
        "target": data_set.target,
        "verdict": verdict(mine["pgt"]["score"], data_set.target) if judged else "",
        "updates": {method: mine[method]["updates"] for method in METHODS},
        "train_seconds": {method: mine[method]["train_seconds"] for method in METHODS},
    }


def verdict(score: float, target: float | None) -> str:
    """ "met" or "MISSED"; "" without a target."""
    return "" if target is None else "met" if score >= target else "MISSED"


def format_table(rows: list[dict]) -> str:
    """The table in plain text; updates and seconds are PGT's and the clip model's."""
    lines = [HEADER]
    for row in rows:
        scores = [f"{row[key]:.3f}" for key in (*METHODS, "chance")]
        target = "" if row["target"] is None else f">= {row['target']}"
        costs = [" / ".join(f"{row[key][method]:.0f}" for method in METHODS) for key in ("updates", "train_seconds")]
        lines.append((row["set"], row["measure"], *scores, target, row["verdict"], *costs))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def plot(path: Path, rows: list[dict]) -> None:
    """Bars: PGT, clip model and chance on each set, and the targets."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(8, 4))
    places = np.arange(len(rows))
    bars = (("pgt", "PGT", BLUE), ("clip", "clip model", PALE_BLUE), ("chance", "chance", GRAY))
    for shift, (key, label, color) in zip((-0.27, 0, 0.27), bars, strict=True):
        drawn = axes.bar(places + shift, [row[key] for row in rows], 0.25, label=label, color=color)
        axes.bar_label(drawn, fmt="%.2f", fontsize=8)
    for place, row in zip(places, rows, strict=True):
        if row["target"] is not None:
            # Over the bar of PGT, whose target it is.
            axes.hlines(row["target"], place - 0.42, place - 0.13, color="black", linestyle="--", linewidth=1)
    axes.set_xticks(places, [f"{row['set']}\n{row['measure']}" for row in rows])
    axes.set_ylim(0, 1.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", ncols=3, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
