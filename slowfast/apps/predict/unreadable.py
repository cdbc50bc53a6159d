"""Parts of a video that cannot be read, with their times: what is told of them, and kept beside the answers."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from slowfast.datasets.video.find import VideoOpener
from slowfast.datasets.video.reader import VideoError
from slowfast.utils.files import atomic_write_local
from slowfast.utils.json_file import read_json

_ENDING = ".unreadable.json"


@dataclass(frozen=True)
class UnreadablePart:
    """A part of a video that cannot be read.

    Attributes:
        start_s: second of the video from which on it cannot be read.
        end_s: its end; None if it lasts to the end of the video, whose second is not known.
        cause: why, in words.
    """

    start_s: float
    end_s: float | None
    cause: str

    def __str__(self) -> str:
        end = "its end" if self.end_s is None else clock(self.end_s)
        return f"unreadable from {clock(self.start_s)} to {end}: {self.cause}"


def clock(seconds: float) -> str:
    """Return a time as HH:MM:SS.mmm."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds / 1000:06.3f}"


def unreadable_parts(video: str, opener: VideoOpener, fault: tuple[float, str] | None = None) -> list[UnreadablePart]:
    """Return the parts of a video that cannot be read, as far as it was read before in this process.

    Args:
        video: path of a file or of a folder of images.
        opener: opens it, as it was opened before.
        fault: up to which second it could be read, and why no further; None if it was read to its end.
    """
    try:
        with opener(video) as reader:
            spans, end = reader.unreadable, reader.duration
    except VideoError:
        spans, end = (), None
    until, cause = fault or (math.inf, "")
    cut = "frames are missing, or do not decode"
    parts = [UnreadablePart(round(a, 6), round(b, 6), cut) for a, b in spans if a < until]
    if fault:
        parts.append(UnreadablePart(round(until, 6), round(end, 6) if end and end > until else None, cause))
    return parts


def keep_parts(stem: str, video: str, parts: Sequence[UnreadablePart]) -> None:
    """Write the parts beside a video's answers at `stem`, with its size and time; remove the file if there are none."""
    path = stem + _ENDING
    if parts:
        about = {"video": video, **_version(video), "parts": [asdict(part) for part in parts]}
        atomic_write_local(path, json.dumps(about, indent=2) + "\n")
    elif os.path.exists(path):
        os.remove(path)


def kept_parts(stem: str, video: str) -> list[UnreadablePart] | None:
    """Read the parts that `keep_parts` wrote: [] if there are none, None if the video has changed since."""
    path = stem + _ENDING
    if not os.path.isfile(path):
        return []
    about = read_json(path, dict, "the description of unreadable parts that a run writes; remove it")
    if os.path.exists(video) and any(about.get(name) != value for name, value in _version(video).items()):
        return None
    return [UnreadablePart(**part) for part in about["parts"]]


def _version(video: str) -> dict[str, int]:
    status = os.stat(video)
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
