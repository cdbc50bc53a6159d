"""Scores that are NaN or infinite: no metric is computed from them, because it would look like any other number."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import numpy as np

_NAMED = 5


def check_finite(scores: np.ndarray, unit: str, name: Callable[[int], str]) -> None:
    """Check that all scores are finite numbers.

    Args:
        scores: (N, ...), a row for each of N samples.
        unit: what a row is, in the plural, for the message.
        name: row -> name of its sample.

    Raises:
        ValueError: scores are NaN or infinite; see `refusal`.
    """
    finite = np.isfinite(scores).all(axis=tuple(range(1, np.ndim(scores))))
    if not finite.all():
        rows = np.flatnonzero(~finite).tolist()
        raise refusal(len(rows), len(scores), unit, map(name, rows))


def refusal(count: int, total: int, unit: str, names: Iterable[str]) -> ValueError:
    """Return the error about samples whose scores are NaN or infinite: their number, and the names of the first.

    Args:
        count, total: number of such samples, and of all.
        unit: what a sample is, in the plural.
        names: of such samples; one may come several times.
    """
    named = list(dict.fromkeys(itertools.islice(names, 100 * _NAMED)))[:_NAMED]
    return ValueError(
        f"scores of {count} of {total} {unit} are NaN or infinite, so nothing is measured; the first: "
        f"{', '.join(named)}. Check the weights and these samples, or compute in full precision (TRAIN.MIXED_PRECISION "
        "False)"
    )
