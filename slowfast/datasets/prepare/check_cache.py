"""What earlier checks found out about files, so that a check that was stopped, or is made again, goes on from there."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from slowfast.datasets.prepare.json_log import add_to_log, open_log, read_log
from slowfast.datasets.prepare.probe import Facts


class ProbeCache:
    """Facts of videos by their path, in a file of a JSON line each; they count while the video has not changed.

    A file counts as unchanged by its size and time; of images, the number listed and the time of the folder do.

    Args:
        path: of the file; "" keeps nothing.
        how: what else the facts depend on.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: str, how: str) -> None:
        self._how, self._known = how, _read(path)
        self._file = open_log(path) if path else None

    def get(self, path: str, images: Sequence[str] = ()) -> Facts | None:
        """What is known of a video as it is now; `images` are its files where it is made of such."""
        stamp, facts = self._known.get(path, (None, None))
        return Facts(**facts) if stamp is not None and stamp == self._stamp(path, images) else None

    def put(self, path: str, images: Sequence[str], facts: Facts) -> None:
        """Keep what was found out."""
        stamp = self._stamp(path, images)
        if stamp is None:
            return
        self._known[path] = (stamp, dataclasses.asdict(facts))
        if self._file is not None:
            add_to_log(self._file, [path, *self._known[path]])

    def __enter__(self) -> ProbeCache:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()

    def _stamp(self, path: str, images: Sequence[str]) -> list | None:
        try:
            facts = os.stat(os.path.dirname(images[0]) or os.curdir if images else path)
        except OSError:
            return None
        return [self._how, len(images), 0 if images else facts.st_size, facts.st_mtime_ns]


def _read(path: str) -> dict[str, tuple[Any, dict]]:
    """Path -> stamp and facts; lines of another version are passed over."""
    names = {field.name for field in dataclasses.fields(Facts)}
    lines = (line for line in read_log(path) if len(line) == 3 and isinstance(line[0], str))
    return {video: (stamp, facts) for video, stamp, facts in lines if isinstance(facts, dict) and facts.keys() == names}
