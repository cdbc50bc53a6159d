"""Rows of papers' tables, with their settings and published figures, and the data sets that they need.

A project keeps them in `paper_rows.json`. That file is the one place of the figures; tables are made from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slowfast.utils.errors import nearest_keys
from slowfast.utils.json_file import read_json

ROWS_FILE = "paper_rows.json"
_FORM = '{"sources": {...}, "data_sets": {...}, "rows": [{"name": ..., "config": ...}]}'


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric of a test: its name in tables, and what it is multiplied by to be in percent as the papers give it."""

    title: str
    unit: float


@dataclasses.dataclass(frozen=True)
class Need:
    """A file or folder that has to be in the data folder, and what it is."""

    path: str
    what: str


@dataclasses.dataclass(frozen=True)
class Storage:
    """Disk space of one part of a data set, GiB, and where that number comes from."""

    what: str
    gib: float
    source: str


@dataclasses.dataclass(frozen=True)
class Preparation:
    """A command that prepares a data set.

    Attributes:
        title: what it makes.
        command: arguments of Python; `{data}` stands for the data folder.
        makes: files in the data folder that are there when it is done.
    """

    title: str
    command: Sequence[str]
    makes: Sequence[str]


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set of the tables.

    Attributes:
        title: its name in tables.
        metrics: by their name in `test_results.json`, in the order of the tables.
        samples: clips or key frames of each split.
        samples_source: where these numbers come from.
        disk, needs, prepare: what it takes, what a user has to bring, and what is made of it.
        settings: overrides that say where its files are; `{data}` stands for the data folder.
    """

    title: str
    metrics: Mapping[str, Metric]
    samples: Mapping[str, int]
    samples_source: str
    disk: Sequence[Storage]
    needs: Sequence[Need]
    prepare: Sequence[Preparation]
    settings: Sequence[str]

    def placed(self, words: Sequence[str], data: str) -> list[str]:
        """Return `words` with the path of the data folder in place of `{data}`."""
        return [word.replace("{data}", data) for word in words]


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: unique name.
        table: the table that it belongs to.
        data_set: key of its data set.
        model, frames: as the table gives them.
        config: path of its YAML file.
        published: metric -> published figure in percent; {} if none is known to us.
        source: key of the source of the figures; "" without figures.
        gain: gain that the source states, in words.
        base: name of the row that it varies; "".
        changes: settings in which it differs from `base`.
        weights_of_base: it tests the weights of `base` in another way, and trains none.
    """

    name: str
    table: str
    data_set: str
    model: str
    frames: str
    config: Path
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    source: str = ""
    gain: str = ""
    base: str = ""
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights_of_base: bool = False


@dataclasses.dataclass(frozen=True)
class Paper:
    """Rows by name, data sets by key, and sources by key."""

    rows: Mapping[str, Row]
    data_sets: Mapping[str, DataSet]
    sources: Mapping[str, str]

    def row(self, name: str) -> Row:
        """Return a row; ValueError, with similar names, if there is none."""
        if name not in self.rows:
            near = ", ".join(nearest_keys(name, self.rows, 3))
            raise ValueError(f"there is no row {name!r}; similar names: {near}. tools/reproduce.py --list shows all")
        return self.rows[name]

    def data_set(self, key: str) -> DataSet:
        """Return a data set; ValueError, with all keys, if there is none."""
        if key not in self.data_sets:
            raise ValueError(f"there is no data set {key!r}; there are {', '.join(self.data_sets)}")
        return self.data_sets[key]


def read_paper(root: Path) -> Paper:
    """Read the rows of all projects in the checkout `root`.

    Raises:
        ValueError: a file is damaged, a name is taken twice, or a row names what is not there.
    """
    rows: dict[str, Row] = {}
    data_sets: dict[str, DataSet] = {}
    sources: dict[str, str] = {}
    for file in sorted(root.glob(f"projects/*/{ROWS_FILE}")):
        content = read_json(file, dict, _FORM)
        try:
            read = [_row(values, file.parent) for values in content["rows"]]
            data_sets |= {key: _data_set(values) for key, values in content["data_sets"].items()}
            sources |= content["sources"]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} is not like {_FORM}: {error}") from None
        for row in read:
            if row.name in rows:
                raise ValueError(f"{file}: there are two rows {row.name}")
            rows[row.name] = row
    paper = Paper(rows, data_sets, sources)
    for row in rows.values():
        _check(row, paper)
    return paper


def _row(values: Mapping[str, Any], folder: Path) -> Row:
    return Row(**{**values, "config": (folder / values["config"]).resolve()})


def _data_set(values: Mapping[str, Any]) -> DataSet:
    return DataSet(
        **{
            **values,
            "metrics": {name: Metric(**metric) for name, metric in values["metrics"].items()},
            "disk": [Storage(**storage) for storage in values["disk"]],
            "needs": [Need(**need) for need in values["needs"]],
            "prepare": [Preparation(**preparation) for preparation in values["prepare"]],
        }
    )


def _check(row: Row, paper: Paper) -> None:
    """Raise ValueError if a row names a file, data set, metric, source or base that is not there."""
    if not row.config.is_file():
        raise ValueError(f"row {row.name}: there is no file {row.config}")
    strange = set(row.published) - set(paper.data_set(row.data_set).metrics)
    if strange:
        raise ValueError(f"row {row.name}: {row.data_set} has no metric {', '.join(sorted(strange))}")
    if row.published and row.source not in paper.sources:
        raise ValueError(f"row {row.name} has figures, and its source is {row.source!r}, which is none of the sources")
    if row.base and row.base not in paper.rows:
        raise ValueError(f"row {row.name} varies {row.base!r}, which is no row")
    if (row.changes or row.weights_of_base) and not row.base:
        raise ValueError(f"row {row.name} has changes, and no row that it varies (base)")
