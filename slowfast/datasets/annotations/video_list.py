"""Read lists of videos, `path label` per line, as used for Kinetics."""

from __future__ import annotations

import os

from slowfast.utils.line_errors import record


def read_video_list(
    csv_path: str,
    num_classes: int,
    separator: str = " ",
    prefix: str = "",
    skip_rows: int = 0,
    errors: list[str] | None = None,
) -> tuple[list[str], list[int]]:
    """Read paths and labels from a list of videos, one `path<separator>label` per line.

    The label follows the last separator, so paths may contain separators (and spaces). Blank lines are skipped.

    Args:
        csv_path: the list (UTF-8; other bytes in paths are kept as they are).
        num_classes: labels are 0 to this, exclusive.
        separator: `DATA.PATH_LABEL_SEPARATOR`.
        prefix: folder that relative paths start from (`DATA.PATH_PREFIX`).
        skip_rows: number of header lines to skip (`DATA.SKIP_ROWS`).
        errors: takes the messages about wrong lines, which are then skipped; None raises the first.

    Raises:
        FileNotFoundError: no such list.
        ValueError: a line that does not parse, a label outside the classes, or no video in the list.
    """
    if not os.path.isfile(csv_path):
        raise FileNotFoundError(f"{csv_path} does not exist; DATA.PATH_TO_DATA_DIR must be the folder that holds it")
    paths, labels = [], []
    for number, line in _lines(csv_path, skip_rows):
        try:
            path, label = _parse(line, f"{csv_path}, line {number}", num_classes, separator)
        except ValueError as error:
            record(error, errors)
            continue
        paths.append(os.path.join(prefix, path))
        labels.append(label)
    return paths, labels


def read_paths(
    csv_path: str, separator: str = " ", prefix: str = "", skip_rows: int = 0
) -> tuple[list[str], list[int | None]]:
    """Read paths, and labels if there are any, from a list of videos.

    If every line ends in a separator and an integer, these are the labels. Otherwise every line is a path.

    Raises:
        FileNotFoundError: no such list.
        ValueError: no video in the list.
    """
    if not os.path.isfile(csv_path):
        raise FileNotFoundError(f"there is no list of videos {csv_path}")
    lines = [line.strip() for _, line in _lines(csv_path, skip_rows)]
    parts = [line.rpartition(separator) for line in lines]
    if all(path.strip() and label.strip().isdecimal() for path, _, label in parts):
        return [os.path.join(prefix, path.strip()) for path, _, _ in parts], [int(label) for _, _, label in parts]
    return [os.path.join(prefix, line) for line in lines], [None] * len(lines)


def _lines(csv_path: str, skip_rows: int) -> list[tuple[int, str]]:
    """Return the lines that are not blank, with their numbers from 1."""
    with open(csv_path, encoding="utf-8-sig", errors="surrogateescape") as stream:
        numbered = [(number, line.rstrip("\r\n")) for number, line in enumerate(stream, start=1) if line.strip()]
    lines = [(number, line) for number, line in numbered if number > skip_rows]
    if not lines:
        raise ValueError(f"{csv_path} lists no video (after {skip_rows} skipped lines)")
    return lines


def _parse(line: str, place: str, num_classes: int, separator: str) -> tuple[str, int]:
    path, found, text = line.strip().rpartition(separator)
    if not found or not path.strip():
        raise ValueError(f"{place}: {line!r} is not 'path{separator}label'; DATA.PATH_LABEL_SEPARATOR is {separator!r}")
    try:
        label = int(text)
    except ValueError:
        raise ValueError(
            f"{place}: {line!r} ends in {text!r}, which is not a whole number for a label; "
            f"DATA.PATH_LABEL_SEPARATOR is {separator!r}, and DATA.SKIP_ROWS skips header lines"
        ) from None
    if not 0 <= label < num_classes:
        raise ValueError(f"{place}: {line!r} has label {label}, outside 0 to {num_classes - 1} (MODEL.NUM_CLASSES)")
    return path.strip(), label
