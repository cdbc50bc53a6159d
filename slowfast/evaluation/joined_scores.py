"""Scores of several views, clips or processes, joined row by row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

METHODS = ("sum", "max")


class JoinedScores:
    """Named scores (rows, ...), joined row by row by their sum or their maximum, in any order.

    Args:
        rows: number of rows.
        method: one of `METHODS`.

    Attributes:
        values: the joined scores by name; a row without scores is 0 ("sum") or minus infinity ("max"), and a score
            that was NaN or infinite once is NaN.

    Raises:
        ValueError: another method.
    """

    def __init__(self, rows: int, method: str) -> None:
        if method not in METHODS:
            raise ValueError(f"scores of views are joined by {' or '.join(METHODS)}, not by {method!r}")
        self.rows, self.method = rows, method
        self.values: dict[str, Tensor] = {}

    def add(self, row: Tensor, scores: Mapping[str, Tensor]) -> None:
        """Take in scores (B, ...) by name for the rows `row` (B,); a row may occur several times.

        Raises:
            ValueError: other names than those that came before.
        """
        if self.values and set(scores) != set(self.values):
            raise ValueError(f"scores {sorted(scores)} came after scores {sorted(self.values)}")
        for name, part in scores.items():
            # A NaN stays in sums and maxima, an infinity does not: neither may vanish behind the other scores.
            part = part.float().where(part.isfinite(), torch.nan)
            joined = self._named(name, part)
            if self.method == "sum":
                joined.index_add_(0, row, part)
            else:
                index = row.view(-1, *[1] * (part.dim() - 1)).expand_as(part)
                joined.scatter_reduce_(0, index, part, "amax")

    def merge(self, other: JoinedScores) -> None:
        """Take in what another process has joined."""
        for name, part in other.values.items():
            joined = self._named(name, part)
            self.values[name] = joined + part if self.method == "sum" else torch.maximum(joined, part)

    def _named(self, name: str, part: Tensor) -> Tensor:
        if name not in self.values:
            fill = 0.0 if self.method == "sum" else -torch.inf
            self.values[name] = torch.full((self.rows, *part.shape[1:]), fill)
        return self.values[name]
