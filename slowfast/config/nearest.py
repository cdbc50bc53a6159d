"""Names close to a misspelt one, and numbers close to one that does not fit, for error messages."""

from collections.abc import Iterable
from difflib import SequenceMatcher


def nearest_keys(name: str, known: Iterable[str], count: int = 1) -> list[str]:
    """The `count` entries of `known` that look most like `name`, best first.

    Case and surrounding underscores do not count. A dotted key whose last part is spelt right but stands in
    another section (`TRAIN.BASE_LR` for `SOLVER.BASE_LR`) comes before keys that merely look alike.
    """
    wanted = _plain(name)
    leaf = wanted.rpartition(".")[2]

    def likeness(candidate: str) -> tuple[bool, float]:
        plain = _plain(candidate)
        moved = "." in plain and plain.rpartition(".")[2] == leaf
        return moved, SequenceMatcher(None, wanted, plain).ratio()

    return sorted(sorted(known), key=likeness, reverse=True)[:count]


def nearest_multiples(number: int, divisor: int) -> str:
    """The multiples of `divisor` over 0 on either side of `number`, which is none: "16 or 20"."""
    below = number - number % divisor
    return " or ".join(str(multiple) for multiple in (below, below + divisor) if multiple)


def _plain(name: str) -> str:
    return name.upper().strip("_")
