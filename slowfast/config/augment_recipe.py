"""The recipe of random operations that AUG.AA_TYPE holds."""

from __future__ import annotations

import re
from dataclasses import dataclass

GREATEST_MAGNITUDE = 10
_FORM = "rand-mMAGNITUDE-nNUMBER-mstdSPREAD-incORDER-wWEIGHTS, as rand-m7-n4-mstd0.5-inc1; all parts but rand may lack"


@dataclass(frozen=True)
class Recipe:
    """How random operations are drawn for a clip, in the form that timm has given to RandAugment.

    Attributes:
        magnitude: of an operation, 0 to 10, on average.
        spread: standard deviation of the magnitude.
        number: of operations drawn; each of them is applied in half of the cases.
        increasing: a greater magnitude changes more in every operation, rather than in most.
        weighted: mild operations are drawn more often, and none twice.

    Source: Cubuk et al., RandAugment: Practical automated data augmentation with a reduced search space.
    """

    magnitude: int = GREATEST_MAGNITUDE
    spread: float = 0.0
    number: int = 2
    increasing: bool = False
    weighted: bool = False


def parse_recipe(text: str) -> Recipe:
    """The recipe that a value of AUG.AA_TYPE stands for.

    Raises:
        ValueError: it is none; names the part that is wrong.
    """
    kind, *parts = text.split("-")
    if kind != "rand":
        raise ValueError(f"AUG.AA_TYPE is {text!r}; it is {_FORM}, or '' for none")
    values: dict[str, float] = {}
    for part in parts:
        found = re.fullmatch(r"(mstd|inc|m|n|w)(\d+(?:\.\d+)?)", part)
        whole = found and (found[1] == "mstd" or float(found[2]).is_integer())
        if not whole or found[1] in values:
            raise ValueError(f"AUG.AA_TYPE {text!r} has a part {part!r} that is none, or comes twice; it is {_FORM}")
        values[found[1]] = float(found[2])
    _check_ranges(text, values)
    return Recipe(
        magnitude=int(values.get("m", GREATEST_MAGNITUDE)),
        spread=values.get("mstd", 0.0),
        number=int(values.get("n", 2)),
        increasing=bool(values.get("inc", 0)),
        weighted="w" in values,
    )


def _check_ranges(text: str, values: dict[str, float]) -> None:
    if values.get("m", 0) > GREATEST_MAGNITUDE:
        raise ValueError(f"AUG.AA_TYPE {text!r}: the magnitude m is 0 to {GREATEST_MAGNITUDE}")
    if values.get("n", 1) < 1:
        raise ValueError(f"AUG.AA_TYPE {text!r}: the number n of operations is at least 1; '' is for none")
    if values.get("w", 0) != 0:
        raise ValueError(f"AUG.AA_TYPE {text!r}: there is one set of weights, w0")
    if "w" in values and values.get("n", 2) > 13:
        raise ValueError(f"AUG.AA_TYPE {text!r}: w0 draws each of 13 operations at most once, so n is up to 13")
