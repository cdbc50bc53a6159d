"""Text of other programs' files (names of files and classes) in places where it could act: terminals, tables, pictures.

Every rule keeps the text readable. That of spreadsheets can be undone: drop one leading apostrophe.
"""

from __future__ import annotations

import io
import re
from typing import TextIO

# Control characters but line feed and tab, those that turn the direction of writing or end a line in some programs, and
# surrogates, which stand for bytes of a file name that are no text.
_ACTING = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Beginnings that spreadsheets take for a formula, and the apostrophe, so that the rule can be undone.
_FORMULA = re.compile("['=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")


def printable(text: str) -> str:
    r"""Return the text with a backslash escape, such as \x1b, for each character that acts on a terminal."""
    return _ACTING.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def one_line(text: str) -> str:
    """Return the text as `printable` does, with line feeds and tabs escaped too."""
    return printable(text).replace("\n", r"\n").replace("\t", r"\t")


def spreadsheet_cell(text: str) -> str:
    """Return the text of a cell of a CSV file for people, which no spreadsheet takes for a formula.

    Text that begins with = + - @, their full-width forms, a tab, a line end or an apostrophe gets an apostrophe in
    front. Numbers stay. A program gets the text back by dropping one leading apostrophe.
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def plot_label(text: str) -> str:
    """Return the text for matplotlib, which would read what stands between two dollar signs as TeX."""
    return one_line(text).replace("$", r"\$")


class PrintableStream(io.TextIOBase):
    """Stream that writes to another one what `printable` returns."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(printable(text))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:
        return self._stream.encoding
