"""Which frames of a video make a clip: pure index arithmetic, as published for PySlowFast.

A window is (start, end): positions of the clip's first and last frame, both counted, not always whole
numbers. It may reach past the end of a short video; its indices are clamped, so that the last frame repeats.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch

Window = tuple[float, float]


def clip_span(num_frames: int, sampling_rate: int, fps: float, target_fps: float) -> float:
    """Frames of the video that one clip covers: `num_frames` x `sampling_rate` frames at `target_fps`."""
    return num_frames * sampling_rate * fps / target_fps


def view_window(video_frames: int, span: float, view: int, num_views: int, use_offset: bool = False) -> Window:
    """Window of one of `num_views` evenly spread test views.

    Without `use_offset` the views divide the room into `num_views` parts and the last one ends before the
    video does; with it, whole-frame steps reach (nearly) the end, and a single view lies in the middle.

    Raises:
        ValueError: `view` is not one of `num_views`.
    """
    if not 0 <= view < num_views:
        raise ValueError(f"view {view} of {num_views} does not exist")
    room = max(video_frames - span, 0)
    if not use_offset:
        start = room * view / num_views
    elif num_views == 1:
        start = math.floor(room / 2)
    else:
        start = math.floor(room / (num_views - 1)) * view
    return start, start + span - 1


def random_window(video_frames: int, span: float, draw: float) -> Window:
    """Window of a training clip; `draw` in [0, 1) is the random number that places it."""
    start = draw * max(video_frames - span, 0)
    return start, start + span - 1


def centre_window(video_frames: int, span: float) -> Window:
    """Window in the middle of the video."""
    return random_window(video_frames, span, 0.5)


def window_indices(window: Window, num_frames: int, video_frames: int) -> list[int]:
    """`num_frames` indices spread evenly over a window, cut down to whole frames and clamped to the video."""
    spread = torch.linspace(*window, num_frames)  # float32 as published: it decides what is cut to which frame
    return spread.clamp(0, video_frames - 1).long().tolist()


def strided_indices(start: int, stride: int, num_frames: int, video_frames: int) -> list[int]:
    """`num_frames` indices from `start` on, each `stride` after the one before, clamped to the video."""
    return [max(min(start + i * stride, video_frames - 1), 0) for i in range(num_frames)]


def segments(video_frames: int, num_frames: int) -> list[tuple[int, int]]:
    """First and last frame, both counted, of equal segments of a video, one for each frame of a clip.

    Neighbours share a frame, and in a video shorter than the clip a frame is in several.
    """
    edges = np.round((video_frames - 1) / num_frames * np.arange(num_frames + 1)).astype(int).tolist()
    return list(itertools.pairwise(edges))


def slow_indices(num_frames: int, alpha: int, chosen: Sequence[int] = ()) -> list[int]:
    """Frames of the fast clip that form the slow pathway of SlowFast.

    Args:
        num_frames: frames of the fast clip.
        alpha: frame-rate ratio of the pathways (`SLOWFAST.ALPHA`).
        chosen: the frames themselves (`SLOWFAST.SLOW_INDICES`), in place of evenly spread ones; where they are for
            longer clips too, the first `num_frames // alpha`.

    Raises:
        ValueError: no frame would be left, or a chosen one lies outside the clip.
    """
    if not 1 <= alpha <= num_frames:
        raise ValueError(
            f"SLOWFAST.ALPHA {alpha} leaves no slow frame of a clip of {num_frames}; use 1 to {num_frames}"
        )
    chosen = list(chosen[: num_frames // alpha])
    outside = [i for i in chosen if not 0 <= i < num_frames]
    if outside:
        raise ValueError(f"SLOWFAST.SLOW_INDICES {outside} lie outside a clip of {num_frames} frames")
    return chosen or torch.linspace(0, num_frames - 1, num_frames // alpha).long().tolist()
