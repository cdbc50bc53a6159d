"""Report of `demo/data.py`: a table, `results.json`, and a plot."""

from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from data_plan import LEAD, METHODS, DataSet
from sweep_report import describe_machine

from slowfast.apps.plot.style import GRAY, SKY, SMALL, WIDTHS, add_legend, new_figure, save, set_title, styled
from slowfast.evaluation.predictions import ClassificationPredictions, load
from slowfast.utils.tables import format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADER = ("set", "measure", "PGT", "clip model", "chance", "target", "", "updates", "train s")


def chance(predictions: Path, data_set: DataSet, draws: int) -> float:
    """Return the score of random predictions for the videos or boxes of a test, the mean of `draws` draws."""
    tested = load(predictions)
    rng = np.random.default_rng(0)
    without = {"variants": {}} | ({"steps": None} if isinstance(tested, ClassificationPredictions) else {})
    scores = [
        dataclasses.replace(tested, scores=rng.random(tested.scores.shape), **without).metrics()[data_set.metric]
        for _ in range(draws)
    ]
    return float(np.mean(scores)) / data_set.unit


def write(
    output: Path, chosen: list[DataSet], runs: list[dict], chances: dict[str, float], seconds: dict, judged: bool
) -> bool:
    """Print and save the report; return True if no target is missed.

    Args:
        runs: set, method, seed, score, updates and seconds of every training.
        chances: score of chance by set.
        seconds: seconds of making and checking each set ("data"), and of everything ("all").
        judged: compare the scores with the targets.
    """
    rows = [summarize(data_set, runs, chances[data_set.name], judged) for data_set in chosen]
    table = format_rows(rows)
    note = f"{seconds['all'] / 60:.1f} minutes in all"
    print(f"\n{table}\n\n{note}", flush=True)
    (output / "table.txt").write_text(f"{table}\n\n{note}\n")
    results = {**describe_machine(), "seconds": seconds, "rows": rows, "runs": runs}
    (output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    save(draw_scores(rows), output / "scores.png")
    return all(row["verdict"] != "MISSED" for row in rows)


def summarize(data_set: DataSet, runs: list[dict], by_chance: float, judged: bool) -> dict:
    """Summarize a set: means over seeds, and the standard deviation of the scores."""
    mine = {method: _of(runs, data_set, method) for method in METHODS}
    scores = {method: [run["score"] for run in mine[method]] for method in METHODS}
    return {
        "set": data_set.title,
        "measure": data_set.measure,
        **{method: statistics.mean(scores[method]) for method in METHODS},
        "spread": {method: statistics.stdev(of) if len(of) > 1 else None for method, of in scores.items()},
        "seeds": [run["seed"] for run in mine["pgt"]],
        "scores": scores,
        "chance": by_chance,
        "verdict": verdict(scores["pgt"], scores["clip"]) if judged else "",
        **{
            key: {method: statistics.mean(run[key] for run in mine[method]) for method in METHODS}
            for key in ("updates", "train_seconds")
        },
    }


def _of(runs: list[dict], data_set: DataSet, method: str) -> list[dict]:
    """Return the runs of a method on a set, sorted by seed."""
    mine = [run for run in runs if (run["set"], run["method"]) == (data_set.name, method)]
    return sorted(mine, key=lambda run: run["seed"])


def verdict(pgt: list[float], clip: list[float]) -> str:
    """Return "met" if PGT leads the clip model by `LEAD` with every seed, else "MISSED"."""
    # The mean would hide a seed whose model does not learn to remember.
    return "met" if all(mine - others >= LEAD for mine, others in zip(pgt, clip, strict=True)) else "MISSED"


def format_rows(rows: list[dict]) -> str:
    """Format the table as text; updates and seconds are those of PGT and the clip model, means over seeds."""
    lines = []
    for row in rows:
        scores = [*(_score(row, method) for method in METHODS), f"{row['chance']:.3f}"]
        costs = [" / ".join(f"{row[key][method]:.0f}" for method in METHODS) for key in ("updates", "train_seconds")]
        lines.append((row["set"], row["measure"], *scores, f"clip + {LEAD}", row["verdict"], *costs))
    return format_table(HEADER, lines, left=range(len(HEADER)))


def _score(row: dict, method: str) -> str:
    spread = row["spread"][method]
    return f"{row[method]:.3f}" + ("" if spread is None else f" +- {spread:.3f}")


@styled
def draw_scores(rows: list[dict]) -> Figure:
    """Draw bars of PGT, clip model and chance on each set, and the targets."""
    figure, panels = new_figure(WIDTHS["text"], 2.8)
    axes, places = panels[0, 0], np.arange(len(rows))
    bars = (("pgt", "PGT", SKY, ""), ("clip", "clip model", GRAY, ""), ("chance", "chance", "white", "////"))
    for shift, (key, label, color, hatch) in zip((-0.27, 0, 0.27), bars, strict=True):
        spreads = [row["spread"].get(key) or 0 for row in rows]
        whiskers = {"yerr": spreads, "error_kw": {"elinewidth": 0.8, "capsize": 2}} if any(spreads) else {}
        look = {"color": color, "hatch": hatch, "edgecolor": "black", "linewidth": 0.6}
        drawn = axes.bar(places + shift, [row[key] for row in rows], 0.25, label=label, **look, **whiskers)
        axes.bar_label(drawn, fmt="%.2f", fontsize=SMALL, padding=1)
    for place, row in zip(places, rows, strict=True):
        # Over the bar of PGT, whose target it is.
        (target,) = axes.plot([place - 0.42, place - 0.12], [row["clip"] + LEAD] * 2, color="black", linestyle="--")
    target.set_label(f"target of PGT: clip model + {LEAD}")
    axes.set_xticks(places, [f"{row['set']}\n{row['measure']}" for row in rows])
    axes.set(ylim=(0, 1.12), xlim=(-0.6, len(rows) - 0.4))
    axes.grid(False, axis="x")
    add_legend(axes)
    set_title(figure, "PGT and a clip model on small sets in published formats")
    return figure
