"""Answers drawn into pictures: which pixels change, and to which colors."""

import av
import numpy as np
import pytest

from slowfast.apps.predict import painter
from slowfast.apps.predict.painter import Box, Caption, Painter

pytest.importorskip("matplotlib")
GRAY = 100


def gray(height=240, width=320):
    return np.full((height, width, 3), GRAY, np.uint8)


def changed(picture):
    return (picture != GRAY).any(axis=-1)


def drawn(*boxes, height=240, width=320):
    """What changes in a gray picture by boxes, and the picture."""
    picture = gray(height, width)
    Painter(height, width).draw(picture, Caption(0.0, boxes=boxes))
    return changed(picture), picture


def span(mask):
    """First and last of the rows and of the columns where there is something, as (top, bottom, left, right)."""
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def ring(top, bottom, left, right, thick=2, height=240, width=320):
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    mask[top + thick : bottom - thick, left + thick : right - thick] = False
    return mask


def test_nothing_to_draw_changes_nothing():
    picture, one = gray(), Painter(240, 320)
    one.draw(picture, None)
    one.draw(picture, Caption(0.0))
    assert not changed(picture).any()


@pytest.mark.parametrize(
    ("box", "edges"),
    [
        (Box(0.25, 0.25, 0.75, 0.75), (60, 180, 80, 240)),
        (Box(0.0, 0.0, 1.0, 1.0), (0, 240, 0, 320)),
        (Box(-0.5, 0.5, 0.5, 1.5), (120, 240, 0, 160)),
    ],
    ids=["within", "whole", "partly outside"],
)
def test_edges_lie_inside_the_box(box, edges):
    mask, picture = drawn(box)
    np.testing.assert_array_equal(mask, ring(*edges))
    assert len(np.unique(picture[mask], axis=0)) == 1


def test_edges_grow_with_the_picture():
    mask, _ = drawn(Box(0.25, 0.25, 0.75, 0.75), height=2160, width=3840)
    np.testing.assert_array_equal(mask, ring(540, 1620, 960, 2880, 8, 2160, 3840))


def test_a_number_has_a_color():
    colors = []
    for number in (0, 1, 2, 3, 4, 5, 1):
        mask, picture = drawn(Box(0.25, 0.25, 0.75, 0.75, color_number=number))
        colors.append(picture[mask][0].astype(int))
    assert (colors[1] == colors[-1]).all()
    apart = [np.abs(a - b).max() for i, a in enumerate(colors[:-1]) for b in colors[:i]]
    assert min(apart) > 40


def label(*boxes, **size):
    """Where there is more than the edges of a box: what changes by its lines."""
    with_lines, _ = drawn(*boxes, **size)
    bare, _ = drawn(*(Box(box.x1, box.y1, box.x2, box.y2, (), box.color_number) for box in boxes), **size)
    return span(with_lines & ~bare)


def test_labels_stand_on_the_box_or_inside_at_the_top():
    top, bottom, left, right = label(Box(0.25, 0.5, 0.75, 0.9, ["walk 0.93"]))
    assert (bottom, left) == (120, 80)
    assert 12 < bottom - top < 24 and 60 < right - left < 120
    row = bottom - top
    assert label(Box(0.25, 0.5, 0.75, 0.9, ["walk 0.93", "talk"])) == (120 - 2 * row, 120, 80, right)
    # No room above: from the edge on.
    assert label(Box(0.25, 0.05, 0.75, 0.9, ["walk 0.93"]))[:2] == (14, 12 + row)
    # At the right it is moved, and not cut off.
    assert label(Box(0.9, 0.5, 1.0, 0.9, ["walk 0.93"])) == (top, bottom, 320 - (right - left), 320)


def test_text_of_a_label_is_read_on_its_color():
    for number in range(12):
        _, picture = drawn(Box(0.1, 0.5, 0.9, 0.9, ["walk 0.93"], number))
        inside = picture[104:120, 32:100].astype(float) @ [0.299, 0.587, 0.114]
        assert np.ptp(inside) > 90


def test_long_labels_and_many_lines_stay_in_the_picture():
    _, _, left, right = label(Box(0.5, 0.5, 0.9, 0.9, ["very long " * 50]))
    assert right == 320 and left < 20
    assert label(Box(0.5, 0.5, 0.9, 0.9, ["line"] * 100))[:2] == (122, 240)


def test_a_bar_is_as_long_as_its_score():
    picture = gray()
    Painter(240, 320).draw(picture, Caption(0.0, ["a", "b", "c"], [1.0, 0.5, 0.0]))
    top, bottom, left, right = span(changed(picture))
    assert (top, left) == (6, 6)
    row = (bottom - top) // 3
    blue = picture[..., 2].astype(int) > picture[..., 0].astype(int) + 60
    ends = [np.nonzero(blue[top + n * row + row // 2])[0].max(initial=left - 1) + 1 - left for n in range(3)]
    assert ends == pytest.approx([right - left, (right - left) / 2, 0], abs=1)


def test_the_time_is_at_the_bottom():
    pictures, one = [], Painter(240, 320)
    for seconds in (1.0, 2.0, 1.0):
        pictures.append(gray())
        one.draw(pictures[-1], None, seconds)
    top, bottom, left, right = span(changed(pictures[0]))
    assert (left, bottom) == (6, 234) and bottom - top < 24 and right < 80
    assert (pictures[0] != pictures[1]).any()
    np.testing.assert_array_equal(pictures[0], pictures[2])


def test_planes_get_the_colors_of_rgb():
    caption = Caption(0.0, ["walk", "run"], [0.9, 0.2], [Box(0.5, 0.4, 0.8, 0.9, ["one 0.5"], n) for n in range(3)])
    picture, one = gray(), Painter(240, 320)
    one.draw(picture, caption, 1.0)
    planes = [np.full(shape, value, np.uint8) for shape, value in [((240, 320), 102), ((120, 160), 128)]]
    planes.append(planes[1].copy())
    Painter(240, 320).draw_planes(planes, caption, 1.0)
    frame = av.VideoFrame.from_ndarray(np.concatenate([p.reshape(-1) for p in planes]).reshape(360, 320), "yuv420p")
    frame.colorspace, frame.color_range = 1, 1  # BT.709, limited
    shown = frame.to_ndarray(format="rgb24").astype(int)
    difference = np.abs(shown - picture)
    # Color has half the sides in the planes, so only areas of one color are the same.
    assert difference.mean() < 1
    assert np.percentile(difference[6:20, 6:200], 80) < 6
    assert difference[100:200, 160:162].max() < 6
    assert difference[~changed(picture)].mean() < 1


@pytest.mark.parametrize(("height", "width"), [(16, 16), (48, 1920), (1920, 48), (241, 321)])
def test_any_size(height, width):
    names = ["a very long name of a class " * 20, "漢字\n\x1b[31m$", ""] * 4
    picture, boxes = gray(height, width), [Box(0.1, 0.1, 0.9, 0.9, names, 1), Box(0.5, 0.5, 0.5, 0.5, ["x"])]
    Painter(height, width).draw(picture, Caption(0.0, names, [1.5, -0.5, 0.5] * 4, boxes), 10_000.0)
    assert changed(picture).any()


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0:00.00"), (59.999, "1:00.00"), (63.456, "1:03.46"), (3723.5, "1:02:03.50")]
)
def test_clock(seconds, told):
    assert painter._clock(seconds) == told
