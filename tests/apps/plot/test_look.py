"""Sizes, fonts and colors of pictures: what a publisher and a reader need."""

import itertools
import re
import zlib

import av
import numpy as np
import pytest

from slowfast.apps.plot.classes import draw_classes, values_of
from slowfast.apps.plot.confusion import draw_confusion
from slowfast.apps.plot.cost import MEMORY, SECONDS, draw_cost
from slowfast.apps.plot.curves import draw_curves
from slowfast.apps.plot.report import draw_report
from slowfast.apps.plot.steps import draw_steps
from slowfast.apps.plot.style import COLORS, WIDTHS, Line, line_style, save
from slowfast.evaluation.report import Report


@pytest.fixture
def curves():
    """A picture of ten lines."""
    lines = [Line(f"run {n} of a long name", np.arange(50.0), np.arange(50.0) * n) for n in range(10)]
    return draw_curves(lines, "loss", WIDTHS["column"])


def luminance(color):
    """Return the relative luminance of #rrggbb (WCAG 2.1)."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("color", COLORS)
def test_lines_have_a_contrast_of_three_to_one(color):
    okabe_ito = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"]
    assert color in okabe_ito
    assert (luminance("#ffffff") + 0.05) / (luminance(color) + 0.05) >= 3


def test_lines_differ_in_more_than_color_and_the_later_are_thinner():
    looks = [line_style(number, 12, 5) for number in range(12)]
    for first, second in itertools.combinations(looks, 2):
        assert (first["color"], first["linestyle"]) != (second["color"], second["linestyle"])
        assert first["linewidth"] > second["linewidth"] and first["zorder"] < second["zorder"]
    assert all(a["linestyle"] != b["linestyle"] and a["marker"] != b["marker"] for a, b in itertools.pairwise(looks))


def test_two_equal_curves_are_both_seen(tmp_path):
    """Pixels of both colors are there, of the thinner line on top and of the thicker one beside it and in its gaps."""
    same = [Line(name, np.arange(40.0), np.arange(40.0)) for name in ("below", "above")]
    save(draw_curves(same, "loss", 3.25, title=""), tmp_path / "p.png")
    with av.open(str(tmp_path / "p.png")) as image:
        pixels = next(image.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    plot = pixels[: int(0.75 * len(pixels))]  # without the legend
    for color in COLORS[:2]:
        rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(plot - rgb).max(axis=2) < 8).sum() > 1000


@pytest.mark.parametrize("width", [*WIDTHS.values(), 5.0])
def test_files_have_the_stated_width(width, tmp_path):
    figure = draw_curves([Line("a", np.arange(3.0), np.ones(3))], "loss", width)
    for form in ("png", "svg", "pdf"):
        save(figure, tmp_path / f"p.{form}")
    with av.open(str(tmp_path / "p.png")) as image:
        assert image.streams.video[0].width == pytest.approx(300 * width, abs=1)
    svg = (tmp_path / "p.svg").read_text()
    assert float(re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)[1]) == pytest.approx(72 * width, abs=0.01)
    page = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", (tmp_path / "p.pdf").read_bytes())
    assert float(page[1]) == pytest.approx(72 * width, abs=0.01)


def test_fonts_are_embedded_and_bytes_are_the_same(curves, tmp_path):
    for form in ("pdf", "svg"):
        save(curves, tmp_path / f"a.{form}")
        save(curves, tmp_path / f"b.{form}")
        assert (tmp_path / f"a.{form}").read_bytes() == (tmp_path / f"b.{form}").read_bytes()
    pdf = (tmp_path / "a.pdf").read_bytes()
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    text = pdf + b"".join(zlib.decompressobj().decompress(part) for part in streams if part[:1] == b"x")
    assert b"/FontFile2" in text and b"/CIDFontType2" in text  # Type 42: TrueType
    assert b"/Type3" not in text
    svg = (tmp_path / "a.svg").read_text()
    assert "<text" not in svg and "font-family" not in svg  # outlines


def overlaps(first, second):
    """Return True if two boxes share more than a hair."""
    return (
        min(first.x1, second.x1) - max(first.x0, second.x0) > 0.5
        and min(first.y1, second.y1) - max(first.y0, second.y0) > 0.5
    )


def check_readable(figure, text_boxes):
    found = text_boxes(figure)
    page = figure.bbox
    assert found
    for text, size, box in found:
        assert size >= 5, text
        assert box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1, text
        assert box.y0 >= page.y0 - 1 and box.y1 <= page.y1 + 1, text
    clashes = [(a[0], b[0]) for a, b in itertools.combinations(found, 2) if overlaps(a[2], b[2])]
    assert clashes == []


@pytest.mark.parametrize("width", WIDTHS.values())
@pytest.mark.parametrize("classes", [3, 20, 400])
def test_confusion_is_readable(classes, width, predictions, text_boxes):
    made = predictions(classes=classes, videos=2 * classes, steps=1)
    figure = draw_confusion(made.class_names, made.confusion(), width)
    check_readable(figure, text_boxes)
    assert figure.get_figwidth() == width and figure.get_figheight() < 11  # a page


@pytest.mark.parametrize("methods", [1, 2])
def test_classes_are_readable(methods, text_boxes):
    rng = np.random.default_rng(0)
    rows = [[(f"throwing the {number} ball with friends", 20, rng.random()) for number in range(400)] for _ in "ab"]
    made = [values_of(name, values, "AP", name) for name, values in zip("ab", rows, strict=True)]
    check_readable(draw_classes(made[:methods], WIDTHS["column"]), text_boxes)


def test_curves_are_readable(curves, text_boxes):
    check_readable(curves, text_boxes)


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("draw", [draw_curves, draw_steps])
def test_long_names_are_readable(draw, count, text_boxes):
    x, spread = np.arange(1.0, 7.0), np.full(6, 0.1)
    lines = [Line(f"{'a long name ' * 9}{n}", x, x / (n + 1), spread) for n in range(count)]
    check_readable(draw(lines, "a_long_key_of_the_statistics", 3.25), text_boxes)


def test_cost_is_readable(text_boxes):
    x = np.array([8.0, 9.0, 36.0, 64.0])
    lines = [Line(f"variant {n}", x, 1000 * x * (n + 1)) for n in range(5)]
    check_readable(draw_cost({MEMORY: lines, SECONDS: lines[:1]}, 3.25), text_boxes)


@pytest.mark.parametrize(("classes", "several"), [(5, False), (90, False), (5, True), (120, True)])
def test_reports_are_readable(classes, several, predictions, text_boxes):
    report = Report.from_predictions(predictions(classes=classes, videos=3 * classes, several=several))
    check_readable(draw_report(report), text_boxes)
