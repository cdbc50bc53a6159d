"""JSON Lines files that are appended to, so that work that was killed continues; and the cache of probed videos."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any, TextIO

from slowfast.apps.prepare.probe import Facts


def read_log(path: str) -> list[list]:
    """Read the lists in a log, [] without a file; lines that are cut off or hold other values are skipped."""
    values = []
    if path and os.path.isfile(path):
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            for line in stream:
                try:
                    value = json.loads(line)
                except ValueError:
                    continue
                if isinstance(value, list):
                    values.append(value)
    return values


def open_log(path: str) -> TextIO:
    """Open a log to append to; end a last line that was cut off.

    Raises:
        OSError: the file cannot be written.
    """
    os.makedirs(os.path.dirname(path) or os.curdir, exist_ok=True)
    whole = True
    if os.path.isfile(path) and os.path.getsize(path):
        with open(path, "rb") as stream:
            stream.seek(-1, os.SEEK_END)
            whole = stream.read() == b"\n"
    log = open(path, "a", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115 (the caller closes it)
    if not whole:
        log.write("\n")
    return log


def add_to_log(log: TextIO, value: list[Any]) -> None:
    """Append a value, and flush it."""
    log.write(json.dumps(value) + "\n")
    log.flush()


class ProbeCache:
    """Cache of facts about videos by path, as a JSON Lines file; valid while the video is unchanged.

    A video file is unchanged by size and modification time; images by their number and the time of their folder.

    Args:
        path: path of the cache; "" for none.
        how: text of what else the facts depend on.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: str, how: str) -> None:
        self._how, self._known = how, _read(path)
        self._file = open_log(path) if path else None

    def get(self, path: str, images: Sequence[str] = ()) -> Facts | None:
        """Return the facts of an unchanged video, or None; `images` are the files of a video made of images."""
        stamp, facts = self._known.get(path, (None, None))
        return Facts(**facts) if stamp is not None and stamp == self._stamp(path, images) else None

    def put(self, path: str, images: Sequence[str], facts: Facts) -> None:
        """Store the facts of a video."""
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
    """Read path -> (stamp, facts); lines of another version are skipped."""
    names = {field.name for field in dataclasses.fields(Facts)}
    lines = (line for line in read_log(path) if len(line) == 3 and isinstance(line[0], str))
    return {video: (stamp, facts) for video, stamp, facts in lines if isinstance(facts, dict) and facts.keys() == names}
