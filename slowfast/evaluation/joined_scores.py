"""Scores of many things, each joined from those of its parts: a video's views, a box's clips.

Shapes: scores are (rows, ...), any shape behind the first dimension.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

METHODS = ("sum", "max")


class JoinedScores:
    """Named scores, joined row by row by their sum or their maximum, in whatever order they come.

    Args:
        rows: how many things there are.
        method: "sum" or "max" (`DATA.ENSEMBLE_METHOD`).

    Attributes:
        values: the joined scores by name; a row that nothing came for is 0 ("sum") or minus infinity ("max").

    Raises:
        ValueError: another method.
    """

    def __init__(self, rows: int, method: str) -> None:
        if method not in METHODS:
            raise ValueError(f"DATA.ENSEMBLE_METHOD {method!r} is not one of {', '.join(METHODS)}")
        self.rows, self.method = rows, method
        self.values: dict[str, torch.Tensor] = {}

    def add(self, row: torch.Tensor, scores: Mapping[str, torch.Tensor]) -> None:
        """Take in scores (B, ...) by name, for the rows with the numbers `row` (B,); a row may stand there repeatedly.

        Raises:
            ValueError: other names than those that came before.
        """
        if self.values and set(scores) != set(self.values):
            raise ValueError(f"scores {sorted(scores)} came after scores {sorted(self.values)}")
        for name, part in scores.items():
            part = part.float().cpu()
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

    def _named(self, name: str, part: torch.Tensor) -> torch.Tensor:
        if name not in self.values:
            fill = 0.0 if self.method == "sum" else -torch.inf
            self.values[name] = torch.full((self.rows, *part.shape[1:]), fill)
        return self.values[name]
