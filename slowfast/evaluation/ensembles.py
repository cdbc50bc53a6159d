"""Scores of many things, each joined from those of its parts: a video's views, a box's clips.

Shapes: scores are (rows, ...), any shape behind the first dimension.


Gathering the scores of boxes at key frames from clips and processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


_MAIN = ""


class BoxResults:
    """Joins the scores of a box from all clips and steps that saw it, and keeps account of what came.

    Boxes may come a different number of times, so "sum" here gives the mean of what came.

    Args:
        key_frames: (video, second) of each key frame, for messages.
        boxes_per_key_frame: how many boxes each has.
        method: "sum" or "max" (`DATA.ENSEMBLE_METHOD`).

    Attributes:
        skipped: numbers of the key frames left out.

    Raises:
        ValueError: another method, or not one number of boxes for every key frame.
    """

    def __init__(self, key_frames: Sequence[tuple[str, int]], boxes_per_key_frame: Sequence[int], method: str) -> None:
        if len(key_frames) != len(boxes_per_key_frame):
            raise ValueError(f"{len(key_frames)} key frames have {len(boxes_per_key_frame)} numbers of boxes")
        self.key_frames = list(key_frames)
        self.sizes = torch.tensor(list(boxes_per_key_frame), dtype=torch.int64)
        self.first = self.sizes.cumsum(0) - self.sizes
        boxes = int(self.sizes.sum())
        self.joined = JoinedScores(boxes, method)
        self.times = torch.zeros(boxes, dtype=torch.int64)
        self.skipped: set[int] = set()

    def add(
        self,
        key_frame: torch.Tensor,
        number: torch.Tensor,
        scores: torch.Tensor,
        others: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Take in M boxes: the numbers of their key frames and in them (M,), and scores (M, classes).

        Boxes of key frame -1 are passed over. `others` are further scores, (M, ...) by name, the same names always.

        Raises:
            ValueError: a box that its key frame does not have.
        """
        key_frame, number = key_frame.cpu(), number.cpu()
        named = {_MAIN: scores.cpu(), **{name: part.cpu() for name, part in (others or {}).items()}}
        own = key_frame >= 0
        key_frame, number = key_frame[own], number[own]
        wrong = (number < 0) | (number >= self.sizes[key_frame])
        if wrong.any():
            k, n = int(key_frame[wrong][0]), int(number[wrong][0])
            raise ValueError(f"there is no box {n} in key frame {self.key_frames[k]}, which has {int(self.sizes[k])}")
        row = self.first[key_frame] + number
        self.joined.add(row, {name: part[own] for name, part in named.items()})
        self.times.index_add_(0, row, torch.ones_like(row))

    def skip(self, key_frame: int) -> None:
        """Leave a key frame, which cannot be read, out of the result."""
        self.skipped.add(key_frame)

    def merge(self, other: BoxResults) -> None:
        """Take in what another process has gathered."""
        self.skipped |= other.skipped
        self.joined.merge(other.joined)
        self.times += other.times

    def result(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Scores (N, classes), key frame and number in it (N,) of the N boxes of key frames that were not skipped.

        Raises:
            ValueError: a box never came, with key frames named; or no box is left.
        """
        kept, key_frame = self._kept(), self._key_frame_of_boxes()
        missing = kept & (self.times == 0)
        if missing.any():
            raise ValueError(f"boxes without scores: {self._describe(missing)}")
        if not kept.any():
            raise ValueError(f"there are no scores of boxes in any of the {len(self.key_frames)} key frames")
        number = torch.arange(len(key_frame)) - self.first[key_frame]
        return self._scores(_MAIN)[kept], key_frame[kept], number[kept]

    def result_others(self) -> dict[str, torch.Tensor]:
        """The joined `others` by name, (N, ...) of the N boxes of `result`, which says if any is missing."""
        return {name: self._scores(name)[self._kept()] for name in self.joined.values if name != _MAIN}

    def _scores(self, name: str) -> torch.Tensor:
        scores = self.joined.values[name]
        if self.joined.method == "max":
            return scores
        return scores / self.times.clamp(min=1).view(-1, *[1] * (scores.dim() - 1))

    def _key_frame_of_boxes(self) -> torch.Tensor:
        return torch.repeat_interleave(torch.arange(len(self.sizes)), self.sizes)

    def _kept(self) -> torch.Tensor:
        """(boxes,) whether a box's key frame is not skipped."""
        kept = torch.tensor([number not in self.skipped for number in range(len(self.sizes))], dtype=torch.bool)
        return kept[self._key_frame_of_boxes()]

    def _describe(self, missing: torch.Tensor, limit: int = 5) -> str:
        key_frame = self._key_frame_of_boxes()[missing]
        frames, counts = key_frame.unique(return_counts=True)
        named = [
            f"{self.key_frames[frame][0]}, second {self.key_frames[frame][1]} ({count} of {self.sizes[frame]})"
            for frame, count in list(zip(frames.tolist(), counts.tolist(), strict=True))[:limit]
        ]
        more = f" and {len(frames) - limit} more key frames" if len(frames) > limit else ""
        return "; ".join(named) + more
