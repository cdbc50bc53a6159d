"""Base class of data sets whose samples are clips of whole videos; readers of CSV lists `path label`."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from torch import Generator, Tensor

from slowfast.datasets.base import ClipDataset, check_split
from slowfast.datasets.clips.clip_maker import Clip, ClipMaker
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.temporal_sampling import SpanSampling, TemporalSampling
from slowfast.datasets.loading.batch import Sample
from slowfast.datasets.loading.sampler import ClipShape, SampleKey
from slowfast.datasets.transforms.masking import build_masking
from slowfast.datasets.video.cache import VideoCache
from slowfast.datasets.video.open import VideoReader, video_opener
from slowfast.datasets.video.reader import VideoError
from slowfast.datasets.video.timing import Timeline
from slowfast.evaluation.classification import NO_LABEL
from slowfast.runtime.logging import get_logger
from slowfast.runtime.seed import seeded_generator
from slowfast.utils.errors import quote, record

logger = get_logger(__name__)

# The end of a line that has a label, though perhaps after another separator than the list's.
_LABEL_AT_END = re.compile(r"[\s,;|]\d+$")


class VideoDataset(ClipDataset):
    """Clips of a list of videos.

    train: a clip at a random time and place. val: one clip, the middle of the video cropped at the center (published
    code draws a random one); with `TRAIN.FULL_TIME_EVAL` NUM_ENSEMBLE_VIEWS such clips, spread over the video. test:
    NUM_ENSEMBLE_VIEWS x NUM_SPATIAL_CROPS clips per video.

    A subclass `__init__(cfg, split)` reads its lists and passes paths and labels on. It overrides `sample_of` where
    labels depend on the clip's frames.

    Args:
        cfg, split, class_names, source: see `ClipDataset`.
        paths: path of each video, as `open_video` takes it; also its name in messages and results.
        labels: label of each video, a class number or a tensor (classes,) of 0 and 1; see `ClipDataset`.
        open_video: path -> `VideoReader`; by default as `DATA.DECODING_BACKEND` says.

    Attributes:
        sampling: which frames of a video make a clip; of the class, since it does not depend on the lists. By default
            frames are spread evenly over a span of time, as published for Kinetics.
        maker: class of `clips`.
        paths: see above.
        clips: maker of the clips.
        draw_mask: draws the mask of a training clip; None without (`AUG.GEN_MASK_LOADER`).

    Raises:
        ValueError: `split` does not exist, or `DATA.DECODING_BACKEND` is unknown.
        UnreadableError: `DATA.CACHE_VIDEOS` found more unreadable files than `DATA.MAX_UNREADABLE_FRACTION`
            allows.
    """

    sampling: ClassVar[TemporalSampling] = SpanSampling()
    maker: ClassVar[type[ClipMaker]] = ClipMaker

    def __init__(
        self,
        cfg: Any,
        split: str,
        paths: Sequence[str],
        labels: Sequence[int | Tensor],
        open_video: Callable[[str], VideoReader] | None = None,
        *,
        class_names: Mapping[int, str] | None = None,
        source: str = "",
    ) -> None:
        settings = self.clip_settings(cfg, check_split(split)).for_loader(cfg)
        open_video = open_video or video_opener(cfg)
        super().__init__(
            cfg, split, paths, open_video, num_views=settings.num_views, class_names=class_names, source=source
        )
        self.paths, self.labels = paths, labels
        self.draw_mask = build_masking(cfg) if split == "train" else None
        if cfg.DATA.CACHE_VIDEOS:
            cache = VideoCache(paths, open_video)
            self.unreadable.update_from(cache.unreadable.items())
            self.unreadable.check()
            self.open_video = cache.open
        self.clips = self.maker(settings, self.open_video, self.sampling)

    @staticmethod
    def clip_settings(cfg: Any, split: str) -> ClipSettings:
        """Read the settings of the clips of a split."""
        return ClipSettings.from_config(cfg, split)

    def reshaped(self, cfg: Any) -> VideoDataset:
        """Return the same videos, and the same count of unreadable ones, as clips of another shape."""
        other = copy.copy(self)
        other.draw_mask = build_masking(cfg) if self.split == "train" else None
        settings = self.clip_settings(cfg, self.split).for_loader(cfg)
        other.clips = self.maker(settings, self.open_video, self.sampling)
        return other

    @property
    def view_plan(self) -> str:
        """Description of the views of a video, for the log."""
        s = self.clips.settings
        return f"{s.temporal_views} temporal x {s.spatial_views} spatial views"

    def sample_of(self, video: int, view: int, clip: Clip) -> Sample:
        """Return the sample of a clip, with its label."""
        return Sample(clip.inputs, self.labels[video], video, view, normalization=self.clips.settings.normalization)

    def training_sample(self, video: int, generator: Generator, shape: ClipShape | None) -> Sample | list[Sample]:
        """Make the training clips of a video: one, or `DATA.TRAIN_CROP_NUM_*` and `AUG.NUM_SAMPLE` of it."""
        clips = self.clips.training_clips(self.paths[video], generator, shape)
        samples = [self.sample_of(video, number, clip) for number, clip in enumerate(clips)]
        if self.draw_mask is not None:
            samples = [replace(sample, mask=self.draw_mask(generator)) for sample in samples]
        return samples if len(samples) > 1 else samples[0]

    def training_steps(
        self, key: SampleKey, steps: Sequence[Sequence[Sequence[int]]], most_bytes: int
    ) -> Iterator[list[Sample]]:
        """Yield the clips of `self[key]` step by step, each with the inputs of a step.

        A file that breaks off behind the first step has been trained on. Its last frame is shown to the end, and the
        sample of the step where that begins names the file under `replaced`.

        Args:
            key: of the sample.
            steps, most_bytes: see `ClipMaker.training_steps`.

        Raises:
            UnreadableError: see `first_readable`.
        """
        index, epoch, shape = key
        generator = seeded_generator(self.seed, self.split, epoch, index)

        def begin(video: int) -> tuple[int, Iterator[list[Clip]], list[Clip]]:
            reader = self.clips.training_steps(self.paths[video], generator, shape, steps, most_bytes)
            return video, reader, next(reader)

        (video, reader, clips), replaced = self.first_readable(index, generator, begin)
        samples = [self.sample_of(video, number, clip) for number, clip in enumerate(clips)]
        samples[0].replaced = replaced
        yield samples
        broken = False
        for step in steps[1:]:
            lost: list[tuple[str, str]] = []
            try:
                clips = clips if broken else next(reader)
            except VideoError as error:
                broken, lost = True, [(error.path, error.cause)]
            parts = [_last_repeated(clip.inputs, step) if broken else clip.inputs for clip in clips]
            changes = [{"inputs": inputs, "frame_labels": None, "replaced": []} for inputs in parts]
            samples = [replace(sample, **change) for sample, change in zip(samples, changes, strict=True)]
            samples[0].replaced = lost
            yield samples

    def evaluation_sample(self, video: int, view: int) -> Sample:
        """Make a view of a video, or the only one of val, its middle."""
        path = self.paths[video]
        clip = self.clips.center_clip(path) if self._takes_middle else self.clips.view_clip(path, view)
        return self.sample_of(video, view, clip)

    @property
    def _takes_middle(self) -> bool:
        return self.split == "val" and self.num_views == 1

    def evaluation_steps(
        self, video: int, views: Sequence[int], steps: Sequence[Sequence[Sequence[int]]], most_bytes: int
    ) -> Iterator[list[Sample]]:
        """Yield views of a video of val or test step by step, each with the inputs of a step.

        Args:
            views: their numbers; they show the same frames in different crops.
            steps: for each step and pathway, positions among the frames of a clip.
            most_bytes: of frames that are decoded at a time.

        Raises:
            VideoError: it cannot be read.
        """
        clips, s = self.clips, self.clips.settings
        with self.open_video(self.paths[video]) as reader:
            timeline = Timeline.of(reader)
            grid = timeline.grid(clips.sampling.grid_fps(s))
            if self._takes_middle:
                frames = clips.sampling.center(grid.num_frames, grid.fps, s)
            else:
                frames = clips.sampling.view(grid.num_frames, grid.fps, s, views[0] // s.spatial_views)
            frames = grid.frames(frames)
            clip = Clip([], frames, reader.num_frames, reader.fps, timeline)
            samples = [self.sample_of(video, view, clip) for view in views]
            step_bytes = 12 * s.short_sides[0] ** 2 * max(len(step[-1]) for step in steps)
            at_once = max(1, most_bytes // step_bytes)
            for first in range(0, len(steps), at_once):
                part = steps[first : first + at_once]
                windows = [[[frames[i] for i in pathway] for pathway in step] for step in part]
                for crops in clips.window_crops(reader, windows, [view % s.spatial_views for view in views]):
                    yield [replace(sample, inputs=inputs) for sample, inputs in zip(samples, crops, strict=True)]


def _last_repeated(inputs: Sequence[Tensor], step: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return the last frame of each pathway (3, T, H, W), for all frames of a step."""
    return [clip[:, -1:].expand(-1, len(frames), -1, -1) for clip, frames in zip(inputs, step, strict=True)]


def list_path(cfg: Any, name: str) -> str:
    """Return the path of a list in `DATA.PATH_TO_DATA_DIR`."""
    return os.path.join(cfg.DATA.PATH_TO_DATA_DIR, name)


def read_video_list(
    csv_path: str,
    num_classes: int,
    separator: str = " ",
    prefix: str = "",
    skip_rows: int = 0,
    errors: list[str] | None = None,
    labels_optional: bool = False,
) -> tuple[list[str], list[int]]:
    """Read paths and labels from a list of videos, one `path<separator>label` per line.

    The label follows the last separator, so paths may contain separators (and spaces). Blank lines are skipped.

    Args:
        csv_path: the list (UTF-8; other bytes in paths are kept as they are).
        num_classes: labels are 0 to this, exclusive.
        separator: text between path and label.
        prefix: folder that relative paths start from.
        skip_rows: number of header lines to skip.
        errors: takes the messages about wrong lines, which are then skipped; None raises the first.
        labels_optional: the list may also have a path alone in every line; each label is then `NO_LABEL`.

    Raises:
        FileNotFoundError: no such list.
        ValueError: a line that does not parse, a label outside the classes, or no video in the list.
    """
    if not os.path.isfile(csv_path):
        raise FileNotFoundError(f"{csv_path} does not exist; DATA.PATH_TO_DATA_DIR must be the folder that holds it")
    lines = _lines(csv_path, skip_rows)
    if labels_optional and all(_is_path(line.strip(), separator, prefix) for _, line in lines):
        return [os.path.join(prefix, line.strip()) for _, line in lines], [NO_LABEL] * len(lines)
    paths, labels = [], []
    for number, line in lines:
        try:
            path, label = _parse(line, f"{csv_path}, line {number}", num_classes, separator)
        except ValueError as error:
            record(error, errors)
            continue
        paths.append(os.path.join(prefix, path))
        labels.append(label)
    return paths, labels


def read_class_list(path: str, num_classes: int, numbered: bool = False) -> dict[int, str] | None:
    """Read class names from a text file, the name of class i in line i, from 0.

    Args:
        path: the file (UTF-8).
        num_classes: outputs of the model.
        numbered: a line is `c012 name` and names class 12, as in the authors' file of Charades.

    Returns:
        Class number -> name. None if there is no such file, or if it names other classes, which is logged.
    """
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as stream:
        lines = [line.strip() for line in stream.read().rstrip().split("\n")]
    if numbered:
        named = (line.partition(" ") for line in lines)
        names = {int(number[1:]): name for number, _, name in named if re.fullmatch(r"c[0-9]{1,6}", number)}
    else:
        names = dict(enumerate(lines))
    if names.keys() != set(range(num_classes)):
        logger.warning(
            "%s is not used: it names %d classes, and MODEL.NUM_CLASSES is %d", path, len(names), num_classes
        )
        return None
    return names


def read_paths(
    csv_path: str, separator: str = " ", prefix: str = "", skip_rows: int = 0
) -> tuple[list[str], list[int | None], list[int]]:
    """Read paths, and labels if there are any, from a list of videos; also return the line number of each.

    If every line ends in a separator and a whole number of at most 18 digits, these are the labels. Otherwise every
    line is a path.

    Raises:
        FileNotFoundError: no such list.
        ValueError: no video in the list.
    """
    if not os.path.isfile(csv_path):
        raise FileNotFoundError(f"there is no list of videos {csv_path}")
    numbers, lines = zip(*_lines(csv_path, skip_rows), strict=True)
    lines = [line.strip() for line in lines]
    parts = [line.rpartition(separator) for line in lines]
    if all(path.strip() and re.fullmatch(r"\d{1,18}", label.strip()) for path, _, label in parts):
        paths, labels = [path.strip() for path, _, _ in parts], [int(label) for _, _, label in parts]
    else:
        paths, labels = lines, [None] * len(lines)
    return [os.path.join(prefix, path) for path in paths], labels, list(numbers)


def _lines(csv_path: str, skip_rows: int) -> list[tuple[int, str]]:
    """Return the lines that are not blank, with their numbers from 1."""
    with open(csv_path, encoding="utf-8-sig", errors="surrogateescape") as stream:
        numbered = [(number, line.rstrip("\r\n")) for number, line in enumerate(stream, start=1) if line.strip()]
    lines = [(number, line) for number, line in numbered if number > skip_rows]
    if not lines:
        raise ValueError(f"{csv_path} lists no video (after {skip_rows} skipped lines)")
    return lines


def _is_path(line: str, separator: str, prefix: str) -> bool:
    """Return True for a line without a label: one that names a file, or has neither separator nor number at its end."""
    bare = separator not in line and not _LABEL_AT_END.search(line)
    return bare or os.path.exists(os.path.join(prefix, line))


def _parse(line: str, place: str, num_classes: int, separator: str) -> tuple[str, int]:
    path, found, text = line.strip().rpartition(separator)
    if not found or not path.strip():
        raise ValueError(
            f"{place}: {quote(line)} is not 'path{separator}label'; labels may be left out in test.csv alone, and "
            "there in every line"
        )
    try:
        label = int(text)
    except ValueError:
        raise ValueError(
            f"{place}: {quote(line)} ends in {quote(text)} after the separator {separator!r}, which is not a whole "
            "number for a label; header lines can be skipped"
        ) from None
    if not 0 <= label < num_classes:
        raise ValueError(f"{place}: {quote(line)} has label {label}, outside 0 to {num_classes - 1}")
    return path.strip(), label
