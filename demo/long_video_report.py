"""Report of the long-video benchmark: tables in Markdown and plots of accuracy against cost, from the results."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from long_video_plan import METHODS, SETS

from slowfast.apps.plot.style import (
    BLUE,
    GRAY,
    VERMILLION,
    WIDTHS,
    add_legend,
    new_figure,
    save,
    set_title,
    styled,
)
from slowfast.utils.files import atomic_write_local

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TABLE = "table.md"
LAST_CLIP = "last clip"  # kind of test, see `long_video_last.py`
MOST_SLIDES = 3  # more of them count as this number
COSTS = "costs"  # folder of the costs of an iteration, in that of a set
MARKS = ("<!-- results -->", "<!-- end of results -->")
# Goals of the comparison: points over the best clip model, and share of the memory of end-to-end training.
GOAL_POINTS, GOAL_MEMORY = 30.0, 1 / 3
JUDGED = "small"  # the set that the goals are about
_HEAD = "| backbone | method | {} % | seeds | epochs | CPU s | peak MiB | GFLOPs/s of video |"
_RULE = "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
_COSTS = {
    "cpu_seconds": "seconds of training",
    "peak_mib": "its peak memory, MiB",
    "gflops_per_s": "GFLOPs a second of video",
}


@dataclass(frozen=True)
class Row:
    """A tested method, over its seeds; `test` is the kind of test.

    `accuracy` (the mAP of a set with several labels a video), `spread` (None for one seed) and `val_accuracy` are in
    percent. The last one is that of the validation videos, None for a method that chooses nothing there.
    """

    backbone: str
    method: str
    test: str
    title: str
    accuracy: float
    spread: float | None
    val_accuracy: float | None
    seeds: int
    epochs: float
    cpu_seconds: float
    peak_mib: float
    gflops_per_s: float

    @property
    def is_pgt(self) -> bool:
        """Return True for PGT with memory; a gradient through several steps is not its method."""
        return self.title.startswith("PGT") and self.method not in ("memory_off", "full_gradient", "gradient_2")

    def cells(self) -> str:
        """Format the row in Markdown."""
        spread = "" if self.spread is None else f" ± {self.spread:.1f}"
        seen = f"{self.accuracy:.1f}{spread} | {self.seeds} | {self.epochs:.3g}"
        costs = f"{self.cpu_seconds:.0f} | {self.peak_mib:.0f} | {self.gflops_per_s:.3f}"
        return f"| {self.backbone} | {self.title} | {seen} | {costs} |"


@dataclass(frozen=True)
class Results:
    """Results on a set with some seconds of training: complete runs, and costs of an iteration."""

    runs: list[dict]
    costs: list[dict]


def read_results(folder: Path) -> dict[str, Results]:
    """Read the results below a folder: name of a set and its seconds -> results."""

    def read(part: Path) -> list[dict]:
        return [json.loads(path.read_text()) for path in sorted(part.glob("*.json"))]

    found = {part.name: Results(read(part), read(part / COSTS)) for part in sorted(folder.glob("*")) if part.is_dir()}
    return {name: results for name, results in found.items() if results.runs or results.costs}


def rows_of(runs: Sequence[dict]) -> list[Row]:
    """Summarize the runs of a set: one row for each backbone, method and kind of test."""
    rows = []
    for backbone in sorted({run["backbone"] for run in runs}):
        for method in METHODS:
            mine = [run for run in runs if (run["backbone"], run["method"]) == (backbone, method.name)]
            for test in mine[0]["tests"] if mine else ():
                title = method.title if test == "whole video" else f"{method.title}, {test}"
                rows.append(_row(backbone, method.name, title, mine, test))
    return rows


def _row(backbone: str, method: str, title: str, runs: Sequence[dict], test: str) -> Row:
    values = [run["tests"][test]["accuracy"] for run in runs]
    chosen = [run["tests"][test].get("val_accuracy") for run in runs]
    return Row(
        backbone,
        method,
        test,
        title,
        accuracy=statistics.mean(values),
        spread=statistics.stdev(values) if len(values) > 1 else None,
        val_accuracy=None if None in chosen else statistics.mean(chosen),
        seeds=len(values),
        epochs=statistics.mean(run["epochs"] for run in runs),
        cpu_seconds=statistics.mean(run["train_cpu_seconds"] for run in runs),
        peak_mib=runs[0]["peak_mib"],
        gflops_per_s=runs[0]["tests"][test]["gflops_per_s"],
    )


def format_set(name: str, results: Results) -> str:
    """Format the tables of a set, with what the goals say and where it was measured."""
    measured = [*results.runs, *results.costs]
    first = SETS[measured[0]["set"]]
    days = sorted({part["date"][:10] for part in measured})
    processors = sorted({part["machine"]["processor"] for part in measured})  # every part has one thread
    where = f"Measured on a core of {' or '.join(processors)}, torch {measured[0]['versions']['torch']}, "
    where += f"{' to '.join(dict.fromkeys([days[0], days[-1]]))}."
    if first.costs_of:
        where += f" Seconds, peak memory and GFLOPs are those of `{first.costs_of}`."
    if all(part["joules"] is None for part in measured):
        where += " No counter of energy was readable: no joules."
    lines = [f"### `{name}`", ""]
    if results.runs:
        rows, budget = rows_of(results.runs), results.runs[0]["budget"]
        about = f"{budget:g} CPU seconds a training; chance is {first.chance:.1f} %."
        if first.blind:
            about = f"{about} {first.blind}"
        lines += [about, "", _HEAD.format(first.measure), _RULE, *(row.cells() for row in rows), ""]
        for backbone in sorted({row.backbone for row in rows}):
            lines += format_goals(backbone, [row for row in rows if row.backbone == backbone], first.name == JUDGED)
        plot = f"long_video_{name}.png"
        lines += [f"![Plot of {first.measure} against seconds, memory and work, with the Pareto front]({plot})", ""]
        lines += format_slides(results.runs)
        lines += format_order(results.runs)
    if results.costs:
        lines += ["Cost of an iteration of a training:", "", *format_costs(results.costs), ""]
    return "\n".join([*lines, where])


def format_slides(runs: Sequence[dict]) -> list[str]:
    """Format accuracies by how often the object slid, unseen, after it was seen last; nothing without such facts."""
    lines = []
    for row in rows_of(runs):
        found = _facts(runs, row, "by_slides")
        if not found[0]:
            continue
        if not lines:
            names = [
                f"{count}{'+' if int(count) == MOST_SLIDES else ''} ({n} videos)" for count, (n, _) in found[0].items()
            ]
            lines = ["Right, %, by how often the object slid, unseen, after it was seen last:", ""]
            lines += [f"| backbone | method | {' | '.join(names)} |", f"| --- | --- |{' ---: |' * len(names)}"]
        means = [statistics.mean(groups[count][1] for groups in found) for count in found[0]]
        lines.append(f"| {row.backbone} | {row.title} | {' | '.join(f'{mean:.0f}' for mean in means)} |")
    return [*lines, ""] if lines else []


def format_order(runs: Sequence[dict]) -> list[str]:
    """Format how often the order of two actions is told right; nothing for a set without such pairs."""
    lines = []
    for row in rows_of(runs):
        found = _facts(runs, row, "order")
        if found[0] is not None:
            lines.append(f"| {row.backbone} | {row.title} | {statistics.mean(found):.1f} |")
    head = ["| backbone | method | pairs in the right order % |", "| --- | --- | ---: |"]
    return [*head, *lines, ""] if lines else []


def _facts(runs: Sequence[dict], row: Row, name: str) -> list:
    """Return a fact of the tests of a row, one a seed; None where a test has none."""
    mine = [run for run in runs if (run["backbone"], run["method"]) == (row.backbone, row.method)]
    return [run["tests"][row.test].get(name) for run in mine]


def format_costs(costs: Sequence[dict]) -> list[str]:
    """Format the costs of a training iteration of a set, with memory as a share of that of end-to-end training.

    Joules have a column where a counter of energy was read.
    """
    energy = any(cost["joules"] is not None for cost in costs)
    lines = ["| backbone | method | CPU s | peak MiB | of end to end |", "| --- | --- | ---: | ---: | ---: |"]
    if energy:
        lines = [f"{lines[0]} joules |", f"{lines[1]} ---: |"]
    cost_of = {(cost["backbone"], cost["method"]): cost for cost in costs}
    for backbone in sorted({backbone for backbone, _ in cost_of}):
        whole = cost_of.get((backbone, "end_to_end"))
        for method in METHODS:
            if cost := cost_of.get((backbone, method.name)):
                share = f"{cost['peak_mib'] / whole['peak_mib']:.2f}" if whole else ""
                line = f"| {backbone} | {method.title} | {cost['seconds']:.2f} | {cost['peak_mib']:.0f} | {share} |"
                joules = "" if cost["joules"] is None else f"{cost['joules']:.1f}"
                lines.append(f"{line} {joules} |" if energy else line)
    return lines


def format_goals(backbone: str, rows: Sequence[Row], judged: bool) -> list[str]:
    """Compare PGT with what the goals name, for one backbone; nothing where one of these methods was not run.

    Args:
        rows: of the backbone.
        judged: the goals are set for these runs, so say whether they are met.
    """
    methods = [row for row in rows if row.is_pgt]
    most = max((row.seeds for row in methods), default=0)  # one good seed is not compared with means
    pgt = max((row for row in methods if row.seeds == most), key=lambda row: row.val_accuracy, default=None)
    clips = [row for row in rows if row.method == "clip"]
    last = next((row for row in clips if row.test == LAST_CLIP), None)
    clip = max((row for row in clips if row is not last), key=lambda row: row.accuracy, default=None)
    whole = next((row for row in rows if row.method == "end_to_end"), None)
    lines = []
    if pgt and clip:
        gain = pgt.accuracy - clip.accuracy
        verdict = f"; goal {GOAL_POINTS:g}: {'met' if gain >= GOAL_POINTS else 'missed'}" if judged else ""
        text = (
            f"{backbone}: the PGT that is best on the validation videos ({pgt.title}) is {gain:+.1f} points from the "
        )
        text += f"clip model with 10 or 30 views{verdict}."
        if last:
            text += f" It is {pgt.accuracy - last.accuracy:+.1f} points from the clip model's last clip."
        lines += [text, ""]
    if pgt and whole:
        share = pgt.peak_mib / whole.peak_mib
        met = share <= GOAL_MEMORY and pgt.accuracy >= whole.accuracy
        text = f"{backbone}: it takes {share:.2f} of end-to-end training's memory at {pgt.accuracy:.1f} to "
        verdict = f"; goal a third or less, at no lower accuracy: {'met' if met else 'missed'}" if judged else ""
        text += f"{whole.accuracy:.1f} %{verdict}."
        lines += [text, ""]
    return lines


def write_report(found: dict[str, Results], folder: Path, document: Path | None = None) -> str:
    """Write the tables and a plot of each set; return the tables.

    Args:
        found: of `read_results`.
        folder: for `table.md` and the plots.
        document: page whose part between `MARKS` becomes the tables, with the plots beside it; None for `folder`.

    Raises:
        ValueError: there are no results, or the page has no marks.
    """
    if not found:
        raise ValueError("there are no results yet; run the benchmark without --report first")
    text = "\n\n".join(format_set(name, mine) for name, mine in found.items()) + "\n"
    plots = folder
    if document is None:
        atomic_write_local(folder / TABLE, text)
    else:
        plots = document.parent
        before, mark, rest = document.read_text().partition(MARKS[0])
        _, end, after = rest.partition(MARKS[1])
        if not (mark and end):
            raise ValueError(f"{document} has no lines {MARKS[0]} and {MARKS[1]}, between which the tables go")
        atomic_write_local(document, f"{before}{mark}\n\n{text}\n{end}{after}")
    for name, mine in found.items():
        if mine.runs:
            save(draw(name, rows_of(mine.runs), SETS[mine.runs[0]["set"]].measure), plots / f"long_video_{name}.png")
    return text


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points (cost, accuracy) that no other point beats in one and equals in the other, by cost."""
    best, chosen = float("-inf"), []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if accuracy > best:
            best = accuracy
            chosen.append((cost, accuracy))
    return chosen


@styled
def draw(name: str, rows: Sequence[Row], measure: str = "accuracy") -> Figure:
    """Draw accuracy against seconds and memory of training and the work of a test, each with the Pareto front.

    A backbone has a row of panels. `measure` names what is drawn: accuracy, or mAP.
    """
    backbones = list(dict.fromkeys(row.backbone for row in rows))
    numbered = [(str(number), row) for number, row in enumerate(rows, 1)]
    figure, panels = new_figure(
        WIDTHS["text"], 0.4 + 2.6 * len(backbones), len(backbones), len(_COSTS), sharex="col", sharey="row"
    )
    for backbone, line in zip(backbones, panels, strict=True):
        mine = [(number, row) for number, row in numbered if row.backbone == backbone]
        for axes, cost in zip(line, _COSTS, strict=True):
            _draw_panel(axes, mine, cost)
        line[0].set_ylabel(f"{measure} of {backbone}, %")
    for axes, words in zip(panels[-1], _COSTS.values(), strict=True):
        axes.set_xlabel(words)
    for number, row in numbered:
        panels[0, 0].plot([], [], linestyle="", label=f"{number}: {row.title} ({row.backbone})", **_marker(row))
    add_legend(panels[0, 0])
    set_title(figure, f"{name}: {measure} on the test videos against cost")
    return figure


def _draw_panel(axes: Axes, rows: Sequence[tuple[str, Row]], cost: str) -> None:
    """Draw the accuracy of numbered rows against one cost, an attribute of `Row`."""
    from matplotlib.ticker import LogLocator, NullLocator  # Matplotlib is an extra

    points = [(getattr(row, cost), row.accuracy) for _, row in rows]
    axes.step(*zip(*front(points), strict=True), where="post", color=GRAY, linewidth=1.0, label="Pareto front")
    for place, ((number, row), point) in enumerate(zip(rows, points, strict=True)):
        axes.errorbar(*point, yerr=row.spread, **_marker(row))
        # On either side, since methods next to each other are often as good.
        side, offset = ("right", (-3, 3)) if place % 2 else ("left", (3, 3))
        axes.annotate(number, point, xytext=offset, textcoords="offset points", fontsize="small", ha=side)
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def _marker(row: Row) -> dict[str, Any]:
    return {"color": BLUE if row.is_pgt else VERMILLION, "marker": "o" if row.is_pgt else "s", "markersize": 4}
