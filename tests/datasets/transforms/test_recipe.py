"""RandAugment recipes, and the keys that errors name."""

import pytest

from slowfast.config import load_config
from slowfast.datasets.transforms.augmentation import Augmentation
from slowfast.datasets.transforms.rand_augment import Recipe


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rand-m7-n4-mstd0.5-inc1", Recipe(7, 0.5, 4, increasing=True)),
        ("rand-m9-mstd0.5-inc1", Recipe(9, 0.5, 2, increasing=True)),
        ("rand-mstd1-w0", Recipe(10, 1.0, 2, weighted=True)),
        ("rand-inc0-m0-n1", Recipe(0, 0.0, 1, increasing=True)),  # any value of inc counts as on
        ("rand-m9-n6-mstd0.5-inc1", Recipe(9, 0.5, 6, increasing=True)),
        ("rand-m6-n5-mstd0.5-inc1", Recipe(6, 0.5, 5, increasing=True)),
        ("rand-m7-mstd0.5-inc1", Recipe(7, 0.5, 2, increasing=True)),
        ("rand", Recipe(10, 0.0, 2)),
    ],
)
def test_recipes(text, expected):
    assert Recipe.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("augmix-m5", "'augmix-m5' is not of the form rand-mMAGNITUDE"),
        ("rand-m7-x3", "part 'x3'"),
        ("rand-m7-m8", "repeated part 'm8'"),
        ("rand-m7.5", "part 'm7.5'"),
        ("rand-m-7", "part 'm'"),
        ("rand-m11", "magnitude m is 0 to 10"),
        ("rand-n0", "number n of operations is at least 1"),
        ("rand-w1", "one set of weights, w0"),
        ("rand-n14-w0", "n is up to 13"),
        ("", "recipe ''"),
    ],
)
def test_what_is_no_recipe(text, message):
    with pytest.raises(ValueError, match=message):
        Recipe.parse(text)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (["AUG.AA_TYPE", "rand-m12"], r"AUG\.AA_TYPE 'rand-m12'.*0 to 10"),
        (["AUG.RE_COUNT", 0], r"AUG\.RE_COUNT 0.*at least 1"),
    ],
)
def test_the_builder_names_the_key(setting, message):
    cfg = load_config(None, ["NUM_GPUS", 0, "AUG.ENABLE", True, *setting])
    with pytest.raises(ValueError, match=message):
        Augmentation.from_config(cfg)
