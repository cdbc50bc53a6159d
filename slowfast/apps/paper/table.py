"""Tables of published figures beside measured ones: Markdown, CSV, LaTeX, and those of the documents."""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from slowfast.apps.paper.measured import Match, Result, matches, row_settings
from slowfast.apps.paper.rows import Metric, Paper, Row
from slowfast.apps.plot.runs import number
from slowfast.runtime.logging import get_logger
from slowfast.utils.tables import markdown_table

logger = get_logger(__name__)

FORMATS = ("markdown", "csv", "latex")
NOT_RUN = "not run"


@dataclasses.dataclass(frozen=True)
class Line:
    """A row of a table with the results that have its settings.

    Attributes:
        row: the row.
        differs: settings of these results that differ from the row's, in words.
        results: one for each seed; [] if the row was not run.
    """

    row: Row
    differs: tuple[str, ...] = ()
    results: Sequence[Result] = ()

    def percent(self, metrics: Mapping[str, Metric]) -> dict[str, list[float]]:
        """Return the values of each metric in percent, one for each result that has it."""
        found = {name: [number(result.metrics.get(name)) for result in self.results] for name in metrics}
        return {
            name: [value * metrics[name].unit for value in values if value is not None]
            for name, values in found.items()
        }


def pair(rows: Mapping[str, Row], results: Sequence[Result]) -> tuple[list[Line], list[tuple[Result, Match]]]:
    """Pair rows with results by their settings.

    Results with the same differences from a row are its seeds. Of two results of the same seed the newer one counts.

    Returns:
        lines, one or more for each row, and the results that belong to no row, each with the nearest row.
    """
    settings = row_settings(rows.values()) if results else {}
    found: dict[str, dict[tuple[str, ...], dict[int, Result]]] = {name: {} for name in rows}
    others = []
    for result in sorted(results, key=lambda result: result.written):
        for match in matches(result, rows, settings):
            if match.other:
                others.append((result, match))
                continue
            seeds = found[match.row.name].setdefault(match.near, {})
            if result.seed in seeds:
                logger.warning("%s counts in place of %s, an older test of the same settings and seed",
                               result.folder, seeds[result.seed].folder)  # fmt: skip
            seeds[result.seed] = result
    lines = []
    for name, row in rows.items():
        groups = sorted(found[name].items(), key=lambda group: len(group[0]))
        lines += [Line(row, differs, [seeds[seed] for seed in sorted(seeds)]) for differs, seeds in groups]
        lines += [] if groups else [Line(row)]
    return lines, others


def number_frame(lines: Iterable[Line], paper: Paper) -> pd.DataFrame:
    """Return the numbers, in percent, one row for each line and metric.

    `deviation` is the standard deviation over seeds, of the sample; NaN for one seed.
    """
    rows = []
    for line in lines:
        data_set = paper.data_set(line.row.data_set)
        for name, values in line.percent(data_set.metrics).items():
            published, mean = line.row.published.get(name), statistics.fmean(values) if values else None
            rows.append(
                {
                    "table": line.row.table,
                    "row": line.row.name,
                    "data": data_set.title,
                    "model": line.row.model,
                    "frames": line.row.frames,
                    "metric": data_set.metrics[name].title,
                    "published": published,
                    "source": paper.sources.get(line.row.source, ""),
                    "measured": mean,
                    "deviation": statistics.stdev(values) if len(values) > 1 else None,
                    "seeds": " ".join(str(result.seed) for result in line.results),
                    "difference": None if mean is None or published is None else mean - published,
                    "differs in": "; ".join(line.differs),
                    "folders": " ".join(result.folder for result in line.results),
                }
            )
    return pd.DataFrame(rows)


def text_frame(lines: Iterable[Line], paper: Paper, link: Callable[[Row], str] | None = None) -> pd.DataFrame:
    """Return the table as text for people, one row for each line; columns without any text are left out.

    Args:
        link: function that makes a row's last column, `file`, of the row; None for the row's name as first column.
    """
    rows = []
    for line in lines:
        data_set = paper.data_set(line.row.data_set)
        metrics = data_set.metrics
        published = {name: line.row.published[name] for name in metrics if name in line.row.published}
        measured = {name: values for name, values in line.percent(metrics).items() if values}
        differences = {
            name: statistics.fmean(measured[name]) - published[name] for name in measured if name in published
        }
        rows.append(
            {
                **({} if link else {"row": line.row.name}),
                "data": data_set.title,
                "model": line.row.model,
                "frames": line.row.frames,
                "metric": " / ".join(metric.title for metric in metrics.values()),
                "published": " / ".join(f"{figure:.1f}" for figure in published.values()),
                "gain the source states": line.row.gain,
                "measured": " / ".join(map(_spread, measured.values())) or NOT_RUN,
                "seeds": str(len(line.results) or ""),
                "difference": " / ".join(f"{difference:+.1f}" for difference in differences.values()),
                "settings that differ": "; ".join(line.differs),
                **({"file": link(line.row)} if link else {}),
            }
        )
    frame = pd.DataFrame(rows)
    return frame.loc[:, [column for column in frame if column == "published" or frame[column].any()]]


def _spread(values: Sequence[float]) -> str:
    """Return a mean, with the deviation of several seeds."""
    mean = f"{statistics.fmean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def render(lines: Sequence[Line], paper: Paper, form: str) -> str:
    """Return the lines as `markdown`, `csv` (numbers) or `latex` (booktabs)."""
    if form == "csv":
        return number_frame(lines, paper).to_csv(index=False)
    frame = text_frame(lines, paper)
    if form == "latex":
        return frame.replace({"±": "@pm@"}, regex=True).to_latex(index=False, escape=True).replace("@pm@", r"$\pm$")
    return markdown_table(list(frame), frame.to_numpy().tolist())


def describe_others(others: Sequence[tuple[Result, Match]]) -> str:
    """Describe the results that no row has the settings of, a line each."""
    lines = []
    for result, match in others:
        more = f"; and {len(match.near)} that make no other row: {'; '.join(match.near)}" if match.near else ""
        lines.append(f"{result.folder}: no row has its settings. Nearest: {match.row.name}, but "
                     f"{'; '.join(match.other)}{more}\n")  # fmt: skip
    return "".join(lines)


def document_table(paper: Paper, tables: Sequence[str], page: Path) -> str:
    """Return the Markdown table of `tables` for a document, without results; links are relative to the document."""
    lines = [Line(row) for row in paper.rows.values() if row.table in tables]
    frame = text_frame(lines, paper, lambda row: _link(row, page))
    return markdown_table(list(frame), frame.to_numpy().tolist())


def ablation_table(paper: Paper, page: Path) -> str:
    """Return the Markdown table of rows that vary another one, for a document: what each changes."""
    cells = []
    for row in paper.rows.values():
        if row.table == "ablations":
            changes = ", ".join(f"`{key} {value}`" for key, value in row.changes.items())
            weights = "those of the base" if row.weights_of_base else "own"
            cells.append([f"`{row.name}`", changes, weights, "", NOT_RUN, _link(row, page)])
    return markdown_table(["row", "changes", "weights", "published", "measured", "file"], cells)


def _link(row: Row, page: Path) -> str:
    return f"[{row.config.stem}]({Path(os.path.relpath(row.config, page.parent)).as_posix()})"
