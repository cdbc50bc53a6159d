"""Tables and figure of how far memory reaches, made from the results of `memory_reach.py`.

python demo/reach_report.py                                    prints the tables as Markdown
python demo/reach_report.py --figure docs/memory_reach.png     draws the figure too
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from reach_plan import PANELS, VARIANTS
from sweep_plan import CHANCE, ORDER_BLIND, ROOT

from slowfast.apps.plot.style import WIDTHS, Line, Part, add_legend, draw_lines, join_parts, save, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RESULTS = ROOT / "demo/memory_reach.json"
GAPS, HOUR, LENGTHS, SUMS = "gaps", "hour", "lengths", "sums"
_PANEL_HEIGHT = 1.9  # inches


def curves(runs: Sequence[dict], kind: str) -> dict[str, tuple[list[float], np.ndarray]]:
    """Return the accuracies by the name of a variant, for those that have them: places, and values (seeds, places).

    Args:
        kind: `GAPS`, places are gaps in steps; `HOUR`, gaps in minutes; or `LENGTHS` (answer of the last step) and
            `SUMS` (sum over steps), places are steps of the videos.
    """
    found = {}
    for variant in VARIANTS:
        rows = [_row(run, kind) for run in runs if run["variant"] == variant.name]
        rows = [row for row in rows if row]
        if rows:
            found[variant.name] = (list(rows[0]), np.array([list(row.values()) for row in rows]))
    return found


def _row(run: dict, kind: str) -> dict[float, float]:
    """Return the accuracies of one run by place; empty where they are not measured."""
    if kind in (GAPS, HOUR):
        place = "gap" if kind == GAPS else "minutes"
        return {row[place]: row["both"] for row in run.get(kind, {}).get("gaps", [])}
    measure = "last" if kind == LENGTHS else "sum"
    return {int(name.removeprefix("steps_")): result[measure] for name, result in run.get("lengths", {}).items()}


def table(runs: Sequence[dict], kind: str) -> str:
    """Return the accuracies of a kind as a table in Markdown, the mean over seeds and their standard deviation."""
    titles = {variant.name: variant.title for variant in VARIANTS}
    found = curves(runs, kind)
    places = next(iter(found.values()))[0] if found else []
    lines = [
        [titles[name], str(len(values)), *(_cell(column) for column in values.T)] for name, (_, values) in found.items()
    ]
    head = ["", "seeds", *(f"{place:.0f}" if kind != HOUR or place >= 1 else f"{place:.2f}" for place in places)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))


def _cell(values: np.ndarray) -> str:
    spread = f" ± {values.std(ddof=1):.0f}" if len(values) > 1 else ""
    return f"{values.mean():.0f}{spread}"


def format_results(runs: Sequence[dict]) -> str:
    """Return all tables, with a line above each."""
    titles = {
        GAPS: "Right answers of the last step, %, by gap in steps",
        LENGTHS: "Right answers of the last step, %, by steps of a video with any gap",
        SUMS: "Right answers of the sum over steps, %, by steps of a video with any gap",
        HOUR: "Right answers of streams, %, by gap in minutes",
    }
    return "\n\n".join(f"{title}:\n\n{table(runs, kind)}" for kind, title in titles.items())


@styled
def draw(runs: Sequence[dict]) -> Figure:
    """Draw the curves, a panel for each group of variants in `PANELS` of which some are measured."""
    parts = []
    for title, kind, names in PANELS:
        known = curves(runs, kind)
        lines = [
            Line.of_seeds(label, np.array(known[name][0]), known[name][1])
            for name, label in names.items()
            if name in known
        ]
        if lines:
            parts.append(Part(_PANEL_HEIGHT, title, partial(_draw, lines=lines, kind=kind)))
    return join_parts([parts[first : first + 2] for first in range(0, len(parts), 2)], WIDTHS["text"])


def _draw(axes: Axes, lines: list[Line], kind: str) -> None:
    draw_lines(axes, lines)
    for value, words, aside in ((CHANCE, "chance", -6), (ORDER_BLIND, "second event known alone", 1)):
        axes.axhline(value, color="black", linewidth=0.6, linestyle=":")
        axes.annotate(words, (0.99, value + aside), xycoords=("axes fraction", "data"), ha="right", fontsize="x-small")
    places = lines[0].x
    names = {GAPS: "gap, steps", HOUR: "gap, minutes"}
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [f"{place:.2g}" if place < 10 else f"{place:.0f}" for place in places])
    axes.minorticks_off()
    axes.set(xlabel=names.get(kind, "steps of a video"), ylabel="right answers, %", ylim=(0, 104))
    add_legend(axes)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file of the results")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="picture to draw")
    arguments = parser.parse_args(argv)
    runs = json.loads(arguments.results.read_text())["runs"]
    print(format_results(runs))
    if arguments.figure:
        save(draw(runs), arguments.figure)


if __name__ == "__main__":
    main()
