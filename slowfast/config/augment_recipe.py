"""Parse AUG.AA_TYPE: a RandAugment recipe in timm's form."""

from __future__ import annotations

import re
from dataclasses import dataclass

GREATEST_MAGNITUDE = 10
_FORM = "rand-mMAGNITUDE-nNUMBER-mstdSTD-incORDER-wWEIGHTS, such as rand-m7-n4-mstd0.5-inc1; only rand is required"


@dataclass(frozen=True)
class Recipe:
    """RandAugment recipe, as timm writes it.

    Attributes:
        magnitude: mean magnitude of an operation, 0 to 10.
        spread: standard deviation of the magnitude.
        number: number of operations drawn; each is applied with probability 0.5.
        increasing: use the operations whose effect increases with the magnitude.
        weighted: draw by weights that favor mild operations, without replacement.

    Source: Cubuk et al., RandAugment: Practical automated data augmentation with a reduced search space.
    """

    magnitude: int = GREATEST_MAGNITUDE
    spread: float = 0.0
    number: int = 2
    increasing: bool = False
    weighted: bool = False


def parse_recipe(text: str) -> Recipe:
    """Parse a value of AUG.AA_TYPE.

    Raises:
        ValueError: not of this form; names the wrong part.
    """
    kind, *parts = text.split("-")
    if kind != "rand":
        raise ValueError(f"AUG.AA_TYPE is {text!r}; it is {_FORM}, or '' for none")
    values: dict[str, float] = {}
    for part in parts:
        found = re.fullmatch(r"(mstd|inc|m|n|w)(\d+(?:\.\d+)?)", part)
        whole = found and (found[1] == "mstd" or float(found[2]).is_integer())
        if not whole or found[1] in values:
            raise ValueError(f"AUG.AA_TYPE {text!r} has an unknown or repeated part {part!r}; it is {_FORM}")
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
