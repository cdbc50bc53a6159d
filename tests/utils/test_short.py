"""Values of foreign files in messages: one line of a bounded length, in little time, whatever the value is."""

import pytest
import torch

from slowfast.utils.errors import short


def nested(levels: int) -> list:
    item: list = []
    for _ in range(levels):
        item = [item] * 20
    return item


VALUES = [
    *("", "a" * 10**7, "two\nlines\tand more", ["a" * 10**6] * 100, {"a": nested(90)}, nested(900)),
    *(10**5000, [10**5000], float("nan"), None, object(), torch.zeros(1000, 1000), {1, 2}, b"\0" * 10**6),
    *(ValueError("a\nb"), ValueError("b" * 10**6), KeyError(), dict.fromkeys(range(10**5))),
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_one_line(value):
    for longest in (20, 100):
        text = short(value, longest)
        assert len(text) <= longest
        assert len(text.splitlines()) <= 1


def test_what_is_short_is_shown_whole():
    assert [short(value) for value in ("abc", 12, [1, 2.5], None, ValueError("no"), KeyError("x"))] == [
        *("abc", "12", "[1, 2.5]", "None", "no", "'x'")
    ]
