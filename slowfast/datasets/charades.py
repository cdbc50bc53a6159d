"""Charades: videos of half a minute with several, overlapping actions.

Label spans are (n, 3) int32: class, first and last frame, from 0, both included.
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slowfast.datasets.annotations.frame_list import FrameList, read_frame_list
from slowfast.datasets.base import check_split
from slowfast.datasets.clips.clip_maker import Clip
from slowfast.datasets.clips.temporal_sampling import StrideSampling
from slowfast.datasets.loading.batch import Sample
from slowfast.datasets.video.find import ListedFrames, VideoOpener, find_videos
from slowfast.datasets.video.reader import VideoReader
from slowfast.datasets.video_dataset import VideoDataset, list_path, read_class_list
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import line_of, naming_keys, quote, record

logger = get_logger(__name__)

FRAME_RATE = 24  # of the images that the authors publish
# Files of each split: a list of frames, or else the authors' annotations.
_LISTS = {"train": "train.csv", "val": "val.csv", "test": "val.csv"}
_CLASSES = "Charades_v1_classes.txt"
_ANNOTATIONS = {split: f"Charades_v1_{'train' if split == 'train' else 'test'}.csv" for split in _LISTS}

_LONGEST = 86_400  # seconds; labels are made for every frame
_COLUMNS = ("id", "actions", "length")
_ACTION = re.compile(r"c([0-9]{1,6}) ([0-9]+(?:\.[0-9]+)?) ([0-9]+(?:\.[0-9]+)?)")


@dataclass(frozen=True)
class AnnotatedVideo:
    """A video and its actions.

    Attributes:
        name: id of the video, the name of its file or folder.
        actions: (n, 3) float64: class, start and end in seconds.
        length: in seconds.
    """

    name: str
    actions: np.ndarray
    length: float

    def spans(self, times: np.ndarray) -> np.ndarray:
        """Return (n, 3) int32: class, first and last frame of each action.

        A frame shows every action whose start is not later, and whose end is not earlier, than the frame's time.
        Actions between two frames are dropped.

        Args:
            times: seconds of the frames, increasing.
        """
        classes, start, end = self.actions.T
        first, last = np.searchsorted(times, start), np.searchsorted(times, end, side="right") - 1
        return np.stack([classes, first, last], axis=1).astype(np.int32)[first <= last]


def read_annotations(path: str, num_classes: int, errors: list[str] | None = None) -> list[AnnotatedVideo]:
    """Read the videos of an annotation file, whose first line names its columns.

    `id` is the video, `actions` holds `c092 11.90 21.20;c147 0.00 12.60` (class, start, end), `length` seconds.

    Args:
        path: the file (UTF-8).
        num_classes: classes are 0 to this, exclusive.
        errors: takes the messages about wrong lines, which are then skipped; None raises the first.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a column is missing, a line does not parse, a class does not exist, a video comes twice (with
            file, line number and line), or there is no video.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no annotation file {path}")
    videos: dict[str, AnnotatedVideo] = {}
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        rows = csv.reader(stream, strict=True)
        columns = _columns(path, rows)
        for line, row in _numbered(path, rows, errors):
            where = f"{path}, line {line}: {quote(','.join(row))}"
            try:
                video = _parse(row, columns, num_classes, where)
                if video.name in videos:
                    raise ValueError(f"{where} has video {video.name}, which an earlier line has too")
                videos[video.name] = video
            except ValueError as error:
                record(error, errors)
    if not videos:
        raise ValueError(f"{path} lists no video")
    return list(videos.values())


def _columns(path: str, rows: Iterator[list[str]]) -> dict[str, int]:
    try:
        header = next(rows, [])
    except csv.Error as error:
        raise ValueError(f"{path}, line 1: {quote(line_of(path, 1))} does not parse: {error}") from None
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise ValueError(f"{path}, line 1: {quote(','.join(header))} names no column {', '.join(missing)}")
    return {name: header.index(name) for name in _COLUMNS}


def _numbered(path: str, rows: Any, errors: list[str] | None) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, with the number of their first line."""
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            record(ValueError(f"{path}, line {line}: {line_of(path, line)!r} does not parse: {error}"), errors)
            continue
        if row:
            yield line, row


def _parse(row: list[str], columns: dict[str, int], num_classes: int, where: str) -> AnnotatedVideo:
    if len(row) <= max(columns.values()):
        raise ValueError(f"{where} has {len(row)} fields, too few for the columns of line 1")
    name, actions, length = (row[columns[column]].strip() for column in _COLUMNS)
    if not name or "/" in name or "\0" in name:
        raise ValueError(f"{where} has id {quote(name)}, which names no video")
    seconds = _number(length)
    if not 0 < seconds <= _LONGEST:
        raise ValueError(
            f"{where} has length {quote(length)}, which is not a number of seconds over 0, up to {_LONGEST}"
        )
    table = [_parse_action(text.strip(), num_classes, where) for text in actions.split(";") if text.strip()]
    return AnnotatedVideo(name, np.array(table, np.float64).reshape(-1, 3), seconds)


def _parse_action(text: str, num_classes: int, where: str) -> tuple[int, float, float]:
    match = _ACTION.fullmatch(text)
    if match is None:
        raise ValueError(f"{where} has action {quote(text)}, which is not like 'c092 11.90 21.20'")
    number, start, end = int(match[1]), float(match[2]), float(match[3])
    if number >= num_classes:
        raise ValueError(f"{where} has class {number}, outside 0 to {num_classes - 1}")
    if end < start:
        raise ValueError(f"{where} has action {quote(text)}, which ends before it starts")
    return number, start, end


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


class Charades(VideoDataset):
    """Clips with several labels.

    Videos are listed in `DATA.PATH_TO_DATA_DIR`/train.csv or val.csv (for val and test), see `read_frame_list`. Without
    that file they are listed in the authors' Charades_v1_train.csv or Charades_v1_test.csv, see `read_annotations`.
    `DATA.PATH_PREFIX` then holds for each video a folder of frames at 24 per second (ID/ID-000001.jpg), or ID.mp4.

    The label of a training clip is the union over all frames from its first to its last, including skipped ones. In val
    and test it is the union over the whole video. Training samples have `frame_labels`.

    `Charades_v1_classes.txt` in `DATA.PATH_TO_DATA_DIR`, lines `c000 name`, names the classes if it is there.

    A test whose videos all have no actions measures nothing. An empty `actions` also marks a video without any action.

    Attributes:
        annotated_seconds: length of each video by the list or the annotations.

    Raises:
        FileNotFoundError: neither list nor annotations, or no video.
        ValueError: a wrong line; an unknown `DATA.DECODING_BACKEND`.
        UnreadableError: as `VideoDataset`.
    """

    label_kind = "multi"
    sampling = StrideSampling(FRAME_RATE)

    def __init__(self, cfg: Any, split: str) -> None:
        frames_list = list_path(cfg, _LISTS[check_split(split)])
        source = _listed(cfg, frames_list) if os.path.isfile(frames_list) else _annotated(cfg, split)
        self._spans, self._num_classes = source.spans, cfg.MODEL.NUM_CLASSES
        self.annotated_seconds = [length / FRAME_RATE for length in source.lengths]
        labels = [
            labels_between(source.spans(video, _times(length)), 0, length - 1, cfg.MODEL.NUM_CLASSES)
            for video, length in enumerate(source.lengths)
        ]
        labels = torch.stack(labels).float()
        if split != "test" and not labels.any():
            raise ValueError(f"{source.name} names no action of any video; only a test can do without")
        names = read_class_list(list_path(cfg, _CLASSES), cfg.MODEL.NUM_CLASSES, numbered=True)
        super().__init__(cfg, split, source.paths, labels, source.open_video, class_names=names, source=source.name)

    def sample_of(self, video: int, view: int, clip: Clip) -> Sample:
        spans = self._spans(video, clip.timeline.times)
        frames, last = (clip.frames, clip.frames[-1]) if self.split == "train" else ([0], clip.num_frames - 1)
        label = labels_between(spans, frames[0], last, self._num_classes).float()
        sample = Sample(clip.inputs, label, video, view, normalization=self.clips.settings.normalization)
        if self.split == "train":
            sample.frame_labels = labels_of_clip(spans, frames, self._num_classes)
        return sample


@dataclass(frozen=True)
class _Source:
    """Videos and their labels, from a list of frames or from annotations.

    Attributes:
        name: the file, for the log.
        paths, open_video: see `VideoDataset`.
        lengths: number of frames of each video at 24 per second.
        spans: (number of the video, seconds of its frames) -> label spans.
    """

    name: str
    paths: Sequence[str]
    open_video: Callable[[str], VideoReader]
    lengths: Sequence[int]
    spans: Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class _ListedSpans:
    frames: FrameList

    def __call__(self, video: int, times: np.ndarray) -> np.ndarray:
        return self.frames.spans(video)


@dataclass(frozen=True)
class _AnnotatedSpans:
    videos: list[AnnotatedVideo]

    def __call__(self, video: int, times: np.ndarray) -> np.ndarray:
        return self.videos[video].spans(times)


def _listed(cfg: Any, path: str) -> _Source:
    with naming_keys(cfg, "MODEL.NUM_CLASSES"):
        frames = read_frame_list(path, cfg.DATA.PATH_PREFIX, cfg.MODEL.NUM_CLASSES)
    broken = [name for video, name in enumerate(frames.videos) if frames.gaps(video)]
    if broken:
        logger.warning("%s lacks frames of %d videos, such as %s", path, len(broken), broken[0])
    lengths = [len(frames.paths(video)) for video in range(len(frames))]
    opener = ListedFrames.from_config(cfg, frames.paths_by_name(), FRAME_RATE)
    return _Source(path, frames.videos, opener, lengths, _ListedSpans(frames))


def _annotated(cfg: Any, split: str) -> _Source:
    path = list_path(cfg, _ANNOTATIONS[split])
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"DATA.PATH_TO_DATA_DIR {cfg.DATA.PATH_TO_DATA_DIR!r} must be the folder that holds {_LISTS[split]} (a "
            f"list of frames) or {_ANNOTATIONS[split]} (the annotations of Charades' authors), but it holds neither"
        )
    with naming_keys(cfg, "MODEL.NUM_CLASSES"):
        videos = read_annotations(path, cfg.MODEL.NUM_CLASSES)
    paths = find_videos(cfg.DATA.PATH_PREFIX, [video.name for video in videos])
    opener = VideoOpener.from_config(cfg, FRAME_RATE)
    lengths = [max(1, round(video.length * FRAME_RATE)) for video in videos]
    return _Source(path, paths, opener, lengths, _AnnotatedSpans(videos))


def _times(num_frames: int) -> np.ndarray:
    """Return the seconds of the images of a video that is extracted as published."""
    return np.arange(num_frames) / FRAME_RATE


def labels_between(spans: np.ndarray, first: int, last: int, num_classes: int) -> Tensor:
    """Return the multi-hot union (classes,) uint8 of the labels of frames `first` to `last`, both included."""
    return _union(spans, np.array([[first, last]]), num_classes)[0]


def labels_of_clip(spans: np.ndarray, frames: Sequence[int], num_classes: int) -> Tensor:
    """Return the labels of a clip's frames and of the frames between them, see `Sample.frame_labels`.

    Args:
        spans: label spans of the video.
        frames: indices of the N frames, in ascending order.
        num_classes: number of classes.

    Returns:
        (2 N - 1, classes) uint8 of 0 and 1.
    """
    ranges = np.empty((2 * len(frames) - 1, 2), np.int64)
    ranges[::2] = np.asarray(frames)[:, None]
    ranges[1::2, 0] = ranges[:-1:2, 1] + 1
    ranges[1::2, 1] = ranges[2::2, 0] - 1
    return _union(spans, ranges, num_classes)


def _union(spans: np.ndarray, ranges: np.ndarray, num_classes: int) -> Tensor:
    """Return the multi-hot union of the labels of each (first, last) range, (ranges, classes) uint8."""
    first, last = ranges[:, :1], ranges[:, 1:]
    shown = (spans[:, 1] <= last) & (spans[:, 2] >= first) & (first <= last)
    row, span = np.nonzero(shown)
    labels = torch.zeros(len(ranges), num_classes, dtype=torch.uint8)
    labels[torch.from_numpy(row), torch.from_numpy(spans[span, 0].astype(np.int64))] = 1
    return labels
