"""Test how RandAugment samples its operations: number, magnitude, the same for all frames, from the generator alone."""

import collections

import cv2
import numpy as np
import pytest
import torch

from slowfast.datasets.transforms import rand_augment as augment_ops
from slowfast.datasets.transforms import rand_augment as augment_random
from slowfast.datasets.transforms.rand_augment import INTERPOLATIONS, RandAugment, Recipe

NAMES = [
    "auto_contrast", "equalize", "invert", "rotate", "posterize", "solarize", "solarize_add", "color", "contrast",
    "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y",
]  # fmt: skip
FRAMES = np.zeros((2, 4, 4, 3), np.uint8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def calls(monkeypatch):
    """(name, argument, interpolation) of every operation that is applied; none changes anything."""
    found = []

    def recorder(name):
        def operation(frames, *arguments):
            found.append((name, *arguments))
            return frames

        return operation

    for name in NAMES:
        monkeypatch.setattr(augment_ops, name, recorder(name))
    monkeypatch.setattr(augment_random, "_PLAIN", augment_random._operations(False))
    monkeypatch.setattr(augment_random, "_INCREASING", augment_random._operations(True))
    return found


def applied(calls, recipe, interpolation="bilinear", clips=3000):
    augment, g, numbers = RandAugment(recipe, interpolation), generator(), []
    for _ in range(clips):
        before = len(calls)
        augment(FRAMES, g)
        numbers.append(len(calls) - before)
    arguments = collections.defaultdict(list)
    for name, *values in calls:
        arguments[name].append(values)
    return arguments, np.array(numbers)


def test_every_operation_comes_as_often_and_half_of_those_drawn_is_applied(calls):
    arguments, numbers = applied(calls, Recipe(number=4))
    assert set(arguments) == set(NAMES)
    shares = np.array([len(arguments[name]) for name in NAMES]) / len(calls)
    assert shares == pytest.approx([1 / 15] * 15, abs=0.012)
    # Of four independent draws each is applied in half of the cases.
    assert np.bincount(numbers) / len(numbers) == pytest.approx(np.array([1, 4, 6, 4, 1]) / 16, abs=0.025)


def test_magnitudes_of_the_published_recipe(calls):
    """rand-m7...-inc1 without spread: the strongest turn is 7/10 of 30 degrees, and so on."""
    arguments, _ = applied(calls, Recipe.parse("rand-m7-n4-inc1"))
    first = {name: {round(values[0], 6) for values in arguments[name]} for name in NAMES[3:]}
    assert first == {
        "rotate": {-21.0, 21.0},
        "posterize": {2},
        "solarize": {77},
        "solarize_add": {77},
        **{name: {0.37, 1.63} for name in ("color", "contrast", "brightness", "sharpness")},
        **{name: {-0.21, 0.21} for name in ("shear_x", "shear_y")},
        **{name: {-0.315, 0.315} for name in ("translate_x", "translate_y")},
    }
    turned = [values[0] for values in arguments["rotate"]]
    assert np.mean(np.array(turned) > 0) == pytest.approx(0.5, abs=0.1)


def test_magnitudes_that_do_not_increase(calls):
    arguments, _ = applied(calls, Recipe.parse("rand-m5-n2"))
    found = {name: {round(values[0], 6) for values in arguments[name]} for name in NAMES[3:]}
    assert found["posterize"] == {2} and found["solarize"] == {128}
    assert found["color"] == found["brightness"] == {1.0}
    assert found["rotate"] == {-15.0, 15.0}


def test_spread_of_magnitudes(calls):
    arguments, _ = applied(calls, Recipe.parse("rand-m9-mstd0.5-inc1"), clips=6000)
    turns = np.abs([values[0] for values in arguments["rotate"]]) / 3
    assert turns.max() <= 10
    assert np.median(turns) == pytest.approx(9, abs=0.12)
    assert turns.std() == pytest.approx(0.5, abs=0.08)


def test_weights_draw_mild_operations_and_none_twice(calls):
    arguments, _ = applied(calls, Recipe.parse("rand-n3-w0"))
    assert not {"invert", "posterize"} & set(arguments)
    assert len(arguments["rotate"]) > 4 * len(arguments["color"]) > 0
    augment, g = RandAugment(Recipe.parse("rand-n13-w0"), "bilinear"), generator()
    for _ in range(20):
        calls.clear()
        augment(FRAMES, g)
        names = [name for name, *_ in calls]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("name", [*INTERPOLATIONS, "random"])
def test_interpolation(name, calls):
    arguments, _ = applied(calls, Recipe(), name, clips=400)
    found = {values[-1] for key in ("rotate", "shear_x", "translate_y") for values in arguments[key]}
    assert found == ({cv2.INTER_LINEAR, cv2.INTER_CUBIC} if name == "random" else {INTERPOLATIONS[name]})


def test_all_frames_alike_and_by_the_generator_alone():
    frames = np.random.default_rng(0).integers(0, 256, (1, 32, 40, 3), np.uint8).repeat(3, axis=0)
    augment = RandAugment(Recipe.parse("rand-m9-n4-mstd0.5-inc1"), "bicubic")
    found = [augment(frames, generator(seed)) for seed in range(40)]
    for seed, out in enumerate(found):
        assert (out == out[:1]).all()
        torch.manual_seed(seed + 1)
        np.random.seed(seed)
        assert np.array_equal(augment(frames, generator(seed)), out)
    assert len({out.tobytes() for out in found}) > 30
