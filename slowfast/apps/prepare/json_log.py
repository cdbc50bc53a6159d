"""A file of JSON values, one a line, to which a program that may be killed adds.

What earlier checks found out about files, so that a check that was stopped, or is made again, goes on from there.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any, TextIO

from slowfast.apps.prepare.probe import Facts


def read_log(path: str) -> list[list]:
    """The lists in a log; lines that were cut off, or hold something else, are passed over; nothing without a file."""
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
    """The log, to be added to; a last line that was cut off is ended first.

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
    """Add a value, and have it in the file before going on."""
    log.write(json.dumps(value) + "\n")
    log.flush()


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
