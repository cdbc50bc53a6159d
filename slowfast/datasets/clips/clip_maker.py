"""Make clips: decode a video, sample frames, transform them and pack them into pathways."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Generator, Tensor

from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.temporal_sampling import TemporalSampling, slow_indices
from slowfast.datasets.clips.view_decoder import MAX_VIEW_BYTES, Resizing, TemporalView, ViewDecoder
from slowfast.datasets.loading.sampler import ClipShape
from slowfast.datasets.transforms import pixels as transforms
from slowfast.datasets.transforms.augmentation import frame_differences
from slowfast.datasets.transforms.crops import (
    CENTER,
    Crop,
    random_short_side,
    size_by_short_side,
    transform_boxes,
)
from slowfast.datasets.video.cache import ArrayVideo
from slowfast.datasets.video.reader import VideoError, VideoReader
from slowfast.datasets.video.timing import Timeline
from slowfast.runtime.seed import bernoulli

_AT_ONCE = 16  # frames that are resized at a time, to float32, which may take more memory than the clip


@dataclass
class Clip:
    """Inputs of a model, and which frames they show.

    Attributes:
        inputs: (3, T, H, W) float32 normalized, or uint8 as they are (`ClipSettings.as_bytes`), one per pathway.
        frames: index in the video of every frame of the clip (of its fast pathway).
        num_frames, fps: of the video.
        timeline: seconds of the video's frames; None of a clip with boxes, whose frames were given.
        boxes: the boxes that were passed, (n, 4) float32 in pixels of the clip and clipped to it, in the same rows; a
            box outside the clip has no area.
    """

    inputs: list[Tensor]
    frames: list[int]
    num_frames: int
    fps: float
    timeline: Timeline | None
    boxes: list[np.ndarray] = field(default_factory=list)


class ClipMaker:
    """Make the clips of one split.

    Args:
        settings: sizes and rates.
        open_video: path -> `VideoReader`; its VideoError is passed on.
        sampling: which frames of a video make a clip.
    """

    def __init__(
        self, settings: ClipSettings, open_video: Callable[[str], VideoReader], sampling: TemporalSampling
    ) -> None:
        self.settings, self.sampling = settings, sampling
        self._open = open_video
        self._decoder = ViewDecoder(settings, open_video, sampling)
        # The temporal view that was resized last: its spatial crops are asked for one after the other.
        self._resized: tuple[TemporalView | None, np.ndarray | None] = (None, None)

    def training_clips(self, path: str, generator: Generator, shape: ClipShape | None = None) -> list[Clip]:
        """Make the training clips of a video: `augmentation.copies` of each of `temporal_clips`, in order of time.

        Copies show the same frames. Each is augmented independently.

        Args:
            generator: source of all randomness.
            shape: frames and crop, in place of those of the settings.
        """
        s = self.settings.shaped(shape)
        with self._open(path) as video:
            timeline = Timeline.of(video)
            grid = timeline.grid(self.sampling.grid_fps(s))
            chosen = [*map(grid.frames, self.sampling.training_clips(grid.num_frames, grid.fps, s, generator))]
            source, places = _decoded_once(video, chosen)
            clips = [
                (clip, indices)
                for indices, place in zip(chosen, places, strict=True)
                for clip, _ in _training_pixels(source, place, s, generator, copies=s.augmentation.copies)
            ]
        return [Clip(self._pathways(clip), indices, video.num_frames, video.fps, timeline) for clip, indices in clips]

    def training_steps(
        self,
        path: str,
        generator: Generator,
        shape: ClipShape | None,
        steps: Sequence[Sequence[Sequence[int]]],
        most_bytes: int,
    ) -> Iterator[list[Clip]]:
        """Yield for each step its part of the clips of `training_clips`, of which there is one in time.

        For every part the augmentation is drawn anew from one state of the generator, so that it is the same. That
        holds where the draws do not depend on the number of frames.

        Args:
            path, generator, shape: see `training_clips`.
            steps: for each step and pathway, positions among the frames of a clip.
            most_bytes: of frames that are decoded at a time, as float32, with the whole frames where augmentation reads
                them. The first step is decoded alone.
        """
        s = self.settings.shaped(shape)
        copies = s.augmentation.copies
        with self._open(path) as video:
            timeline = Timeline.of(video)
            grid = timeline.grid(self.sampling.grid_fps(s))
            (indices,) = map(grid.frames, self.sampling.training_clips(grid.num_frames, grid.fps, s, generator))
            drawn = generator.get_state()
            frames_at_once = most_bytes // _frame_bytes(video, s)
            at_once = max(1, frames_at_once // max(len(step[-1]) for step in steps))
            starts = [0, *range(1, len(steps), at_once), len(steps)]
            for first, stop in itertools.pairwise(starts):
                positions = sorted({position for step in steps[first:stop] for frames in step for position in frames})
                generator.set_state(drawn)
                made = _training_pixels(video, [indices[i] for i in positions], s, generator, copies=copies)
                for step in steps[first:stop]:
                    places = [np.searchsorted(positions, frames) for frames in step]
                    yield [
                        Clip([clip[:, place] for place in places], indices, video.num_frames, video.fps, timeline)
                        for clip, _ in made
                    ]

    def training_clip_with_boxes(
        self,
        path: str,
        indices: Sequence[int],
        boxes: Sequence[np.ndarray],
        generator: Generator,
        shape: ClipShape | None = None,
    ) -> Clip:
        """Make a training clip of given frames, with boxes.

        Args:
            indices: of the frames, in the video.
            boxes: arrays (n, 4) of x1, y1, x2, y2 relative to the frame, 0 to 1.
            generator, shape: see `training_clips`.
        """
        with self._open(path) as video:
            ((clip, moved),) = _training_pixels(video, indices, self.settings.shaped(shape), generator, boxes)
        return Clip(self._pathways(clip), list(indices), video.num_frames, video.fps, None, moved)

    def evaluation_clip_with_boxes(self, path: str, indices: Sequence[int], boxes: Sequence[np.ndarray]) -> Clip:
        """Make a clip of given frames for val (center crop) or test (whole frames), with boxes."""
        resized = self._resizing()
        with self._open(path) as video:
            frames = video.fitted(indices, resized)
        size, crop = self._size_and_crop(resized.full, CENTER)
        clip = self._cut(frames, crop)
        moved = [transform_boxes(each, resized.full, size, crop, self.settings.flip) for each in boxes]
        return Clip(self._pathways(clip), list(indices), video.num_frames, video.fps, None, moved)

    def center_clip(self, path: str) -> Clip:
        """Make the validation clip: the middle of the video, cropped at the center."""
        with self._open(path) as video:
            timeline = Timeline.of(video)
            grid = timeline.grid(self.sampling.grid_fps(self.settings))
            indices = grid.frames(self.sampling.center(grid.num_frames, grid.fps, self.settings))
            resized = self._resizing()
            frames = video.fitted(indices, resized)
        clip = self._cut(frames, self._size_and_crop(resized.full, CENTER)[1])
        return Clip(self._pathways(clip), indices, video.num_frames, video.fps, timeline)

    def view_clip(self, path: str, view: int) -> Clip:
        """Make a test view, view = temporal * `spatial_views` + spatial.

        Views that are asked for one after the other share work: those of a video its decoding, the spatial crops of a
        temporal view its resizing.
        """
        temporal, spatial = divmod(view, self.settings.spatial_views)
        decoded = self._decoder.view(path, temporal)
        size, crop = self._size_and_crop(decoded.full, spatial if self.settings.spatial_views > 1 else CENTER)
        if self.settings.spatial_views == 1:
            clip = self._resize_and_cut(decoded.pixels, size, crop)
        else:
            if self._resized[0] is not decoded:
                self._resized = decoded, transforms.resize_exactly(decoded.pixels, *size)
            clip = self._cut(self._resized[1], crop)
        return Clip(self._pathways(clip), decoded.frames, decoded.num_frames, decoded.fps, decoded.timeline)

    def window_crops(
        self, video: VideoReader, windows: Sequence[Sequence[Sequence[int]]], views: Sequence[int] | None = None
    ) -> Iterator[list[list[Tensor]]]:
        """Yield for each window, and for each of its spatial views, the clips of the pathways.

        Args:
            windows: of each the frame indices of each pathway; all are decoded together.
            views: numbers of the spatial views; None for all.
        """
        indices = sorted({index for window in windows for pathway in window for index in pathway})
        resized, count = self._resizing(), self.settings.spatial_views
        frames = video.fitted(indices, resized)
        places = [view if count > 1 else CENTER for view in (range(count) if views is None else views)]
        crops = [self._size_and_crop(resized.full, place)[1] for place in places]
        for window in windows:
            own = sorted(set().union(*window))
            part = frames if len(windows) == 1 else frames[np.searchsorted(indices, own)]
            clips = [self._cut(part, crop) for crop in crops]
            yield [[clip[:, np.searchsorted(own, pathway)] for pathway in window] for clip in clips]

    def _resizing(self) -> Resizing:
        return Resizing(self.settings.short_sides[0])

    def _size_and_crop(self, full: tuple[int, int], position: int) -> tuple[tuple[int, int], Crop]:
        """Return (height, width) to resize val or test frames of size `full` to, and the crop at `position`."""
        size = size_by_short_side(*full, self.settings.short_sides[0])
        crop = self.settings.crop
        return size, Crop.square_at(*size, crop, position) if crop else Crop(0, 0, *size)

    def _resize_and_cut(self, frames: np.ndarray, size: tuple[int, int], crop: Crop) -> Tensor:
        """Resize frames some at a time, and make a clip of their crops."""
        if frames.shape[1:3] == size:
            return self._cut(frames, crop)
        clip = torch.empty(3, len(frames), crop.height, crop.width)
        for start in range(0, len(frames), _AT_ONCE):
            part = frames[start : start + _AT_ONCE]
            clip[:, start : start + len(part)] = self._cut(transforms.resize_exactly(part, *size), crop)
        return clip

    def _cut(self, resized: np.ndarray, crop: Crop) -> Tensor:
        s, pixels = self.settings, crop.of(resized)
        if s.as_bytes and pixels.dtype == np.uint8:
            return transforms.to_bytes(pixels, s.flip)
        return transforms.to_clip(pixels, transforms.normalization(s.mean, s.std, s.reverse_channels), s.flip)

    def _pathways(self, clip: Tensor) -> list[Tensor]:
        s = self.settings
        if not s.alpha:
            return [clip]
        return [clip[:, slow_indices(clip.shape[1], s.alpha, s.slow_indices)], clip]


class _Cutting:
    """Fit of training frames: resize and crop each in the same way, drawn when the first one comes.

    Args:
        settings: sizes and augmentation.
        generator: source of all randomness.

    Attributes:
        full, size, crop: (height, width) of the frames before and after resizing, and the crop of the resized frames,
            for boxes.
    """

    def __init__(self, settings: ClipSettings, generator: Generator) -> None:
        self._settings, self._generator = settings, generator
        self.full: tuple[int, int] | None = None

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        s, a = self._settings, self._settings.augmentation
        if self.full is None:
            self._draw(*frames.shape[1:3])
        if not a.areas:
            return self.crop.of(transforms.resize(frames, *self.size))
        parts = self._areas[0].of(frames)
        if a.moving:
            places = self._areas[0].moving_to(self._areas[1], len(frames))
            parts = [crop.of(frame) for crop, frame in zip(places, frames, strict=True)]
        return transforms.resize(parts, s.crop, s.crop)

    def _draw(self, height: int, width: int) -> None:
        s, a, self.full = self._settings, self._settings.augmentation, (height, width)
        if a.areas:
            self.size, self.crop = self.full, Crop(0, 0, height, width)
            areas = range(2 if a.moving else 1)
            self._areas = [Crop.random_resized(height, width, a.areas, a.aspects, self._generator) for _ in areas]
        else:
            self.size = size_by_short_side(
                height, width, random_short_side(*s.short_sides, s.inverse_uniform, self._generator)
            )
            self.crop = Crop.random_square(*self.size, s.crop, self._generator)


def _decoded_once(video: VideoReader, clips: list[list[int]]) -> tuple[VideoReader, list[list[int]]]:
    """Decode the frames of several clips in one pass, if they take at most `MAX_VIEW_BYTES`.

    Returns:
        The video to read the clips from, and their frame indices in it.
    """
    union = sorted(set().union(*clips))
    # The first frame is a key frame, so decoding it is cheap.
    if len(clips) == 1 or video.frames([0]).nbytes * len(union) > MAX_VIEW_BYTES:
        return video, clips
    return ArrayVideo(video.frames(union), video.fps), [np.searchsorted(union, clip).tolist() for clip in clips]


def _frame_bytes(video: VideoReader, settings: ClipSettings) -> int:
    """Return the bytes that a frame takes at most while `_training_pixels` makes one of each copy of it, as float32."""
    a = settings.augmentation
    size = 12 * settings.crop**2 * a.copies
    if a.rand_augment is not None or a.copies > 1:  # which read frames at full size
        size += video.frames([0]).nbytes * (1 if a.rand_augment is None else 2)
    return size


def _training_pixels(
    video: VideoReader,
    indices: Sequence[int],
    settings: ClipSettings,
    generator: Generator,
    boxes: Sequence[np.ndarray] = (),
    copies: int = 1,
) -> list[tuple[Tensor, list[np.ndarray]]]:
    """Decode frames and augment them: RandAugment, resize, crop, flip, color jitter, differences, random erasing.

    Frames are resized as they are decoded, unless all are needed at full size: by RandAugment, by a crop that moves
    through the clip, and by several clips. Pixels stay uint8 until the one pass that flips, colors and transposes them.

    Args:
        indices: of the frames, in the video.
        settings: sizes and augmentation.
        generator: source of all randomness.
        boxes: arrays (n, 4) relative to the frame.
        copies: number of clips, each augmented independently.

    Returns:
        Of each clip (3, T, H, W) float32, and the boxes in its pixels, clipped to it; a box outside has no area.
    """
    a = settings.augmentation
    if a.rand_augment is None and not a.moving and copies == 1:
        cutting, before = _Cutting(settings, generator), generator.get_state()
        try:
            picture = video.fitted(indices, cutting)
        except VideoError:
            # The clip of another file, which replaces this one, does not depend on where this one broke off.
            generator.set_state(before)
            raise
        return [_finished(picture, cutting, settings, generator, boxes, 0)]
    frames, made = video.frames(indices), []
    for copy in range(copies):
        altered = frames if a.rand_augment is None else a.rand_augment(frames, generator)
        cutting = _Cutting(settings, generator)
        made.append(_finished(cutting(altered), cutting, settings, generator, boxes, copy))
    return made


def _finished(
    picture: np.ndarray,
    place: _Cutting,
    settings: ClipSettings,
    generator: Generator,
    boxes: Sequence[np.ndarray],
    copy: int,
) -> tuple[Tensor, list[np.ndarray]]:
    """Flip, color and erase cut frames (T, H, W, 3) uint8 of copy number `copy`, and move the boxes along."""
    s, a = settings, settings.augmentation
    flip = s.flip and bernoulli(generator, 0.5)
    if a.view_color is not None:
        picture = a.view_color(picture, generator)
    moved = [transform_boxes(each, place.full, place.size, place.crop, flip) for each in boxes]
    if s.as_bytes:
        return transforms.to_bytes(picture, flip), moved
    normalize = transforms.normalization(s.mean, s.std, s.reverse_channels)
    colors = transforms.compose(a.color_jitter.sample(picture, generator), normalize)
    clip = transforms.to_clip(picture, colors, flip)
    if a.time_differences and bernoulli(generator, a.time_differences):
        clip = frame_differences(clip)
    if a.erasing is not None and (not a.erase_second_half or copy >= a.copies // 2):
        a.erasing(clip, generator)
    return clip, moved
