"""Scores that are NaN or infinite: no metric is computed from them, because it would look like any other number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_NAMED = 5


def check_finite(scores: np.ndarray, unit: str, name: Callable[[int], str]) -> None:
    """Check that all scores are finite numbers.

    Args:
        scores: (N, ...), a row for each of N samples.
        unit: what a row is, in the plural, for the message.
        name: row -> name of its sample.

    Raises:
        ValueError: scores are NaN or infinite; with the number of such rows and the names of the first samples.
    """
    finite = np.isfinite(scores).all(axis=tuple(range(1, np.ndim(scores))))
    if finite.all():
        return
    rows = np.flatnonzero(~finite)
    named = list(dict.fromkeys(map(name, rows[: 100 * _NAMED].tolist())))[:_NAMED]
    raise ValueError(
        f"scores of {len(rows)} of {len(scores)} {unit} are NaN or infinite, so nothing is measured; the first: "
        f"{', '.join(named)}. Check the weights and these samples, or compute in full precision (TRAIN.MIXED_PRECISION "
        "False)"
    )
