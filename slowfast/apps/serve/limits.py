"""What viewers may ask of the server, and how it refuses."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from slowfast.apps.serve.decoder import DecodingLimits


@dataclass(frozen=True)
class ServeLimits:
    """Limits on viewers.

    Attributes:
        upload_bytes: of one video.
        seconds: greatest length of a video.
        videos: number of uploads that are kept.
        sessions: number of streams at a time.
        idle_s: seconds for which the answers of an ended stream and an unused upload are kept, and for which a stream
            waits for a camera's next frame, and an upload for its next part.

    Raises:
        ValueError: one of them is not above 0, or not finite.
    """

    upload_bytes: int = 200 * 2**20
    seconds: float = 600.0
    videos: int = 100
    sessions: int = 64
    idle_s: float = 300.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < math.inf:
                raise ValueError(f"the limit {field.name} is {value:g}; it must be a number above 0")

    @property
    def decoding(self) -> DecodingLimits:
        """Limits on the decoding of a file."""
        return DecodingLimits(seconds=self.seconds)


class RefusedError(Exception):
    """A request is refused.

    Attributes:
        status: of HTTP.
        message: one line for the viewer, without paths of the server.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message
