"""Names close to a misspelt one, for error messages."""

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


def _plain(name: str) -> str:
    return name.upper().strip("_")
