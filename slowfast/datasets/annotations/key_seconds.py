"""Which rows of AVA's annotation files can be used: those whose second has a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slowfast.datasets.annotations.ava_boxes import BoxTable
from slowfast.datasets.annotations.wrong_lines import Wrong, note
from slowfast.datasets.key_frames import Clock
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)


@dataclass(frozen=True)
class KeySeconds:
    """Which seconds can be key frames.

    Attributes:
        clock: seconds and frames.
        lengths: frames of each video, by its name; of a video whose length is not known, None.
        bounds: first and last second that count, or () for all that have a frame.
    """

    clock: Clock
    lengths: Mapping[str, int | None]
    bounds: Sequence[int] = ()

    def of(self, table: BoxTable, wrong: Wrong | None = None) -> BoxTable:
        """The rows that can be used. The log says which ones are left out.

        Raises:
            ValueError: as `existing`.
        """
        missing = [name for name in table.names if not self._there(name)]
        if missing:
            logger.warning(
                "%s: %d of %d videos have no frames, such as %s; their boxes are left out",
                table.path, len(missing), len(table.names), missing[0],
            )  # fmt: skip
        outside = np.flatnonzero(~self._within(table))
        if len(outside):
            logger.warning(
                "%d of %d boxes lie outside AVA.KEY_SECONDS %s and are left out, the first is %s; for data of your "
                "own set that key to their first and last second, or to [] for all that have a frame",
                len(outside), len(table), list(self.bounds), table.places(outside[:1])[0],
            )  # fmt: skip
        return self.existing(table.rows(self.usable(table)), wrong)

    def usable(self, table: BoxTable) -> np.ndarray:
        """(N,) bool: rows of videos that are there, within the bounds."""
        there = np.array([self._there(name) for name in table.names], bool)
        return self._within(table) & there[table.videos] if len(table) else np.zeros(0, bool)

    def existing(self, table: BoxTable, wrong: Wrong | None = None) -> BoxTable:
        """The rows whose second has a frame; of a video that is not there, all.

        Raises:
            ValueError: a row within the bounds whose second has none, unless `wrong` takes the message; with file, line
                number and line.
        """
        unbounded = np.iinfo(np.int64).max
        limits = np.array([self.lengths.get(name) or unbounded for name in table.names] or [0], np.int64)[table.videos]
        frames = np.rint((table.seconds.astype(np.float64) - self.clock.first_second) * self.clock.fps)
        lost = ~((frames >= 0) & (frames < limits)) & self._within(table)
        rows = np.flatnonzero(lost)
        if len(rows) and wrong is None:
            more = f" (and {len(rows) - 1} rows more)" if len(rows) > 1 else ""
            raise ValueError(self._no_frame(table, rows[:1])[0] + more)
        for message in self._no_frame(table, rows):
            note(ValueError(message), wrong)
        return table.rows(~lost)

    def _no_frame(self, table: BoxTable, rows: np.ndarray) -> list[str]:
        messages: list[str] = []
        if not len(rows):
            return messages
        for row, place in zip(rows, table.places(rows), strict=True):
            second, name, clock = int(table.seconds[row]), table.names[table.videos[row]], self.clock
            messages.append(
                f"{place}: second {second} is frame {clock.frame_of(second)} (AVA.FPS {clock.fps:g}, AVA.FIRST_SECOND "
                f"{clock.first_second}), but {name} has frames 0 to {self._last(name)}"
            )
        return messages

    def _last(self, name: str) -> str:
        length = self.lengths.get(name)
        return str(length - 1) if length else "its end"

    def _there(self, name: str) -> bool:
        return self.lengths.get(name, 0) != 0

    def _within(self, table: BoxTable) -> np.ndarray:
        if not self.bounds:
            return np.ones(len(table), bool)
        return (table.seconds >= self.bounds[0]) & (table.seconds <= self.bounds[1])
