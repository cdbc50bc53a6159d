"""Paths of a video's frames, kept as what changes from one to the next."""

from __future__ import annotations

import bisect
import itertools
import operator
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# A video of at most so many runs, or of runs that long on average, is kept as runs.
_FEW_RUNS, _LONG_RUN = 16, 4


class PathRun(NamedTuple):
    """Paths that count up: `head`, `number` of the first with at least `width` digits, `tail`; width 0: no number."""

    head: str
    number: int
    width: int
    tail: str

    def path(self, step: int = 0) -> str:
        """The path so many after the first."""
        digits = f"{self.number + step:0{self.width}d}" if self.width else ""
        return f"{self.head}{digits}{self.tail}"


class FramePaths(Sequence[str]):
    """The paths, each made when it is asked for.

    Args:
        prefix: folder in front of every path that is not absolute.
        runs: one after the other, none without a path.
        counts: paths of each.
    """

    def __init__(self, prefix: str, runs: Sequence[PathRun], counts: Sequence[int]) -> None:
        self._prefix, self._runs = prefix, tuple(runs)
        self._starts = (0, *itertools.accumulate(counts))
        self._names: np.ndarray | None = None
        if len(self._runs) > max(_FEW_RUNS, len(self) / _LONG_RUN):
            # Names without a rule: as bytes of equal length, a fraction of what strings take.
            self._names = np.array([os.fsencode(self._name(i)) for i in range(len(self))])
            self._runs, self._starts = (), (0, len(self))

    @staticmethod
    def joined(prefix: str, runs: Sequence[PathRun], counts: Sequence[int]) -> FramePaths:
        """The paths of runs of which neighbours may be parts of one."""
        whole: list[PathRun] = []
        lengths: list[int] = []
        for run, count in zip(runs, counts, strict=True):
            if whole and run.width and whole[-1].path(lengths[-1]) == run.path() and whole[-1].head == run.head:
                lengths[-1] += count
            else:
                whole.append(run)
                lengths.append(count)
        return FramePaths(prefix, whole, lengths)

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = operator.index(index)
        number += len(self) if number < 0 else 0
        if not 0 <= number < len(self):
            raise IndexError(f"path {index} of {len(self)}")
        return os.path.join(self._prefix, self._name(number))

    def _name(self, number: int) -> str:
        if self._names is not None:
            return os.fsdecode(self._names[number])
        run = bisect.bisect_right(self._starts, number) - 1
        return self._runs[run].path(number - self._starts[run])
