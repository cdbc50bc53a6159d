"""Which frames make the clip of an annotated second: pure index arithmetic, as published for AVA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """Seconds of annotations and numbers of frames; the frame of a second is its key frame.

    Attributes:
        fps: frames a second (`AVA.FPS`).
        first_second: that of the first frame (`AVA.FIRST_SECOND`).
    """

    fps: float = 30.0
    first_second: int = 900

    def frame_of(self, second: int) -> int:
        """The key frame of a second; under 0 for one before the first."""
        return round((second - self.first_second) * self.fps)

    def second_of(self, frame: int) -> int:
        """The second whose key frame is nearest; the even one of two as near."""
        return round(frame / self.fps) + self.first_second


def clip_frames(key: int, num_frames: int, rate: int, length: int, after: int = -1) -> list[int]:
    """Numbers of a clip's frames, clamped to the video: its first and last frame repeat.

    Args:
        key: number of the key frame.
        num_frames: of the clip.
        rate: distance of neighbouring frames.
        length: frames of the video.
        after: frames of the clip from the key frame on, that one included (more than `num_frames` count as so many);
            -1 puts the key frame in the middle as published: the clip starts half its span, rounded down, before it.
    """
    start = key - (num_frames * rate // 2 if after < 0 else (num_frames - min(after, num_frames)) * rate)
    return [min(max(start + i * rate, 0), length - 1) for i in range(num_frames)]


def moments_of(frames: Sequence[int], positions: Sequence[int], own: int, clock: Clock, after: int = -1) -> list[int]:
    """The seconds whose boxes a clip needs, in order.

    Args:
        frames: numbers of the clip's frames.
        positions: of the frames in the clip to whose nearest seconds the boxes belong; those past the clip's key frame,
            as of longer clips, do not count. The last that does stands for the clip's own second, as does an empty
            list.
        own: second of the clip's key frame.
        clock: of the video.
        after: as of `clip_frames`; with -1 those past the clip's end do not count.
    """
    last = len(frames) - (1 if after < 0 else after)
    inside = [position for position in positions if position <= last]
    return [clock.second_of(frames[position]) for position in inside[:-1]] + [own]
