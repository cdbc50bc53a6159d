"""Letters that matplotlib's own font lacks, drawn by a font that is made here."""

import logging

import numpy as np
import pytest

pytest.importorskip("matplotlib")
import matplotlib.font_manager
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from slowfast.apps.plot import style
from slowfast.apps.predict.painter import Caption, Painter
from slowfast.utils import fonts

LETTER, NOWHERE = "\ue900", "\ue901"  # of the area for private use, so that no installed font has them


@pytest.fixture
def font(tmp_path, monkeypatch):
    """A font whose one letter is a full square, which matplotlib knows; returns its name."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(LETTER): "square"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (700, 0), "square": (700, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Square", "styleName": "Regular", "psName": "Square"})
    builder.setupOS2()
    builder.setupPost()
    path = tmp_path / "square.ttf"
    builder.save(path)
    manager = matplotlib.font_manager.fontManager
    monkeypatch.setattr(manager, "ttflist", list(manager.ttflist))
    manager.addfont(path)
    fonts._fonts_of.cache_clear()
    yield "Square"
    fonts._fonts_of.cache_clear()


def test_a_font_is_found_only_for_what_the_own_one_lacks(font):
    assert [entry.name for entry in fonts.fonts_beside(f"wave {LETTER}")] == [font]
    assert fonts.fonts_beside("wave") == fonts.fonts_beside("wäve, Ж") == []


def test_letters_that_no_font_has_are_one_line(font, caplog):
    with caplog.at_level(logging.WARNING):
        assert [entry.name for entry in fonts.fonts_beside(LETTER + NOWHERE)] == [font]
    assert [record.getMessage().count(NOWHERE) for record in caplog.records] == [1]
    assert LETTER not in caplog.text and "\n" not in caplog.records[0].getMessage()


def test_plots_take_it(font, tmp_path):
    @style.styled
    def draw():
        figure, axes = style.new_figure(2, 1)
        axes[0, 0].set_yticks([0], [LETTER])
        return figure

    style.save(draw(), tmp_path / "plot.pdf")
    assert b"Square" in (tmp_path / "plot.pdf").read_bytes()


def test_pictures_take_it(font):
    picture = np.zeros((120, 360, 3), np.uint8)
    Painter(120, 360).draw(picture, Caption(0.0, [LETTER * 3], [0.0]))
    # Three squares of 0.7 x 12 pixels a side beside each other: full rows of white.
    white = (picture.min(axis=2) > 200).sum(axis=1)
    assert (white[white > 20] >= 3 * 7).sum() >= 7
