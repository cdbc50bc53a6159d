"""Events by thresholds with hysteresis, and the picture of answers over time."""

import cv2
import numpy as np
import pytest

from slowfast.apps.predict.events import Event, EventFinder, EventRule
from slowfast.apps.predict.scorer import Answer
from slowfast.apps.predict.timeline import Timeline


def answers(*scores):
    """One answer a second, of the scores of two classes."""
    for second, row in enumerate(scores):
        values = np.array(row, dtype=np.float32)
        yield Answer(second, second + 1, values, ["a", "b"], values)


def found_in(rule, scores):
    finder = EventFinder(rule, ["a", "b"])
    return [*(event for answer in answers(*scores) for event in finder.push(answer)), *finder.finish()]


def test_an_event_begins_at_one_threshold_and_ends_below_another():
    rows = [(0.4, 0), (0.5, 0), (0.9, 0.6), (0.3, 0.2), (0.29, 0), (0.45, 0), (0.6, 0.5)]
    assert found_in(EventRule(0.5, 0.3), rows) == [
        Event("b", 2, 3, pytest.approx(0.6)),
        Event("a", 1, 4, pytest.approx(0.9)),
        Event("a", 6, 7, pytest.approx(0.6)),
        Event("b", 6, 7, pytest.approx(0.5)),
    ]
    assert found_in(EventRule(0.95, 0.9), rows) == []


def test_smoothing_keeps_a_share_of_the_past():
    # 0, then 0.5, 0.75, then 0.375: a single high score does not begin an event at 0.6, and a single low one ends none.
    rows = [(0, 0), (1, 0), (1, 0), (0, 0), (0, 0)]
    assert found_in(EventRule(0.6, 0.3, smooth=0.5), rows) == [Event("a", 2, 4, pytest.approx(0.75))]


@pytest.mark.parametrize(
    "values", [(0.3, 0.5, 0), (0.5, 0, 0), (0.5, 0.3, 1), (0.5, 0.3, -0.1), (float("nan"), 0.3, 0)]
)
def test_rules_that_are_impossible(values):
    with pytest.raises(ValueError, match="impossible"):
        EventRule(*values)


@pytest.mark.parametrize("length", [4, 5000])
def test_the_picture_is_dark_where_scores_are_high(tmp_path, length):
    pytest.importorskip("matplotlib")
    timeline = Timeline()
    half = length // 2
    for answer in answers(*([(0.0, 1.0)] * half + [(1.0, 0.0)] * (length - half))):
        timeline.add(answer)
    timeline.draw(str(tmp_path / "picture.png"), "$name\x1b", ["first", "second"])
    # Red is low in the darkest blue of the scale. The upper band is of the class that came first.
    red = cv2.imread(str(tmp_path / "picture.png"))[..., 2]
    height, width = red.shape
    red = red[int(0.16 * height) : int(0.66 * height), int(0.07 * width) : int(0.86 * width)]  # the bands
    height, width = red.shape
    dark = red < 20
    upper, lower = dark[: height // 2], dark[height // 2 :]
    assert upper[:, : width // 2].mean() > 0.5 > 0.25 > upper[:, width // 2 :].mean()
    assert lower[:, width // 2 :].mean() > 0.5 > 0.25 > lower[:, : width // 2].mean()
