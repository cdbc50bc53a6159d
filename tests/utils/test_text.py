"""Text that could act on terminals, spreadsheets and pictures."""

import io
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slowfast.utils.text import PrintableStream, one_line, plot_label, printable, spreadsheet_cell

ALWAYS = settings(derandomize=True, database=None, deadline=None, max_examples=300)
TEXTS = st.text(st.characters(codec=None), max_size=12) | st.text("=+-@'\t\r\n019.eE", max_size=6)


@ALWAYS
@given(TEXTS)
def test_no_character_acts(text):
    found = printable(text)
    # Controls and surrogates by Unicode's own table, and characters that turn the direction of writing.
    assert not [c for c in found if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c not in "\n\t"]
    assert not [c for c in found if unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI")]
    found.encode()
    assert printable(found) == found
    assert not set(one_line(text)) & set("\n\r\t\x1b")


def test_what_is_escaped():
    assert printable("a\x1b[31mb\r\x07\x9b\u202e\udcff") == r"a\x1b[31mb\r\x07\x9b\u202e\udcff"
    assert printable("plain text, Straße, 跳, 👍\n\tC:\\x") == "plain text, Straße, 跳, 👍\n\tC:\\x"


@ALWAYS
@given(TEXTS)
def test_a_cell_is_no_formula_and_reads_back(text):
    cell = spreadsheet_cell(text)
    assert cell.removeprefix("'") == text
    if cell and cell[0] in "=+-@\t\r\n＝＋－＠":  # noqa: RUF001
        assert re.fullmatch(r"[0-9.eE+-]+", cell)
        float(cell)


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "@SUM(1+1)", "+1+1", "-2+3", "\t=1", "'quoted", "-1.5.2", "-"])
def test_an_apostrophe_in_front(text):
    assert spreadsheet_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-1.5", "+3", "-2e-05", "run", "", "a=b", "1+1"])
def test_cells_that_stay(text):
    assert spreadsheet_cell(text) == text


def test_a_stream_escapes_what_is_written():
    inner = io.StringIO()
    print("a\x1b[0m", 3, file=PrintableStream(inner), flush=True)
    assert inner.getvalue() == "a\\x1b[0m 3\n"


@pytest.mark.parametrize("text", ["a$\\frac$b", "$", r"\$x$", "$x", "a_{b}^c", "$$"])
def test_matplotlib_shows_the_text_as_it_is(text):
    cbook = pytest.importorskip("matplotlib.cbook")
    label = plot_label(text)
    assert not cbook.is_math_text(label)
    assert label.replace(r"\$", "$") == text
