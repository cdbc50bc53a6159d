"""Tables of answers and events: files of JSON lines joined, and as CSV."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from slowfast.apps.predict import people_files
from slowfast.runtime.logging import get_logger
from slowfast.utils.files import no_room_explained, replacing
from slowfast.utils.text import printable, spreadsheet_cell

logger = get_logger(__name__)

COLUMNS = {
    "answers": ("video", "start_s", "end_s", "rank", "name", "score"),
    "events": ("video", "start_s", "end_s", "name", "score"),
}
PEOPLE_COLUMNS = {"answers": people_files.COLUMNS, "events": people_files.EVENT_COLUMNS}


def join_files(target: str, paths: Iterable[str]) -> None:
    """Write the files that exist one after the other into one, atomically."""
    with no_room_explained(target), replacing(target) as temporary, open(temporary, "wb") as joined:
        for path in filter(os.path.isfile, paths):
            with open(path, "rb") as part:
                shutil.copyfileobj(part, joined)


def write_csv(path: str, columns: Sequence[str]) -> None:
    """Write beside a file of JSON lines a CSV file with the rows of each line.

    A line that is not whole, as of a power cut, is left out with a warning.
    """
    target = f"{path.removesuffix('.jsonl')}.csv"
    with (
        no_room_explained(target),
        replacing(target) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as table,
        open(path, encoding="utf-8") as lines,
    ):
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(columns)
        for number, line in enumerate(lines, start=1):
            try:
                value = json.loads(line)
            except ValueError:
                logger.warning("line %d of %s is not whole; %s goes without", number, path, target)
                continue
            started = [value["started"]] if "started" in value else []
            writer.writerows([*row, *started] for row in _rows(value))


def _rows(value: dict[str, Any]) -> Iterator[list[Any]]:
    """Yield the rows of the table for an answer or an event."""
    if "persons" in value:
        yield from people_files.rows_of(value)
        return
    person = [value["person"]] if "person" in value else []
    span = [spreadsheet_cell(printable(value["video"])), *person, value["start_s"], value["end_s"]]
    if "names" not in value:
        yield [*span, spreadsheet_cell(printable(value["name"])), value["score"]]
        return
    for rank, (name, score) in enumerate(zip(value["names"], value["scores"], strict=True), start=1):
        yield [*span, rank, spreadsheet_cell(printable(name)), score]
