"""Something-Something V2: short videos with one of 174 actions each, which differ in their temporal order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from slowfast.datasets.annotations.frame_list import read_frame_list
from slowfast.datasets.annotations.ssv2 import LabeledVideo, read_labels, read_videos
from slowfast.datasets.base import check_split
from slowfast.datasets.clips.temporal_sampling import SegmentSampling
from slowfast.datasets.video.find import ListedFrames, VideoOpener, find_videos
from slowfast.datasets.video_dataset import VideoDataset, list_path
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

FRAME_RATE = 30  # of the published lists of frames; sampling does not depend on it
# Names of the authors' files, in the first release and in the present one.
LABELS = ("something-something-v2-labels.json", "labels/labels.json", "labels.json")
VIDEOS = {
    "train": ("something-something-v2-train.json", "labels/train.json", "train.json"),
    "val": ("something-something-v2-validation.json", "labels/validation.json", "validation.json"),
}
LISTS = {"train": "train.csv", "val": "val.csv"}


class SSv2(VideoDataset):
    """Clips with one frame of each of NUM_FRAMES equal segments of the video.

    `DATA.PATH_TO_DATA_DIR` holds the authors' JSON files, see `read_labels` and `read_videos`. It may hold lists of
    frames train.csv and val.csv, see `read_frame_list`. Then videos in both the list and the JSON files are used, and
    the log counts the others. Without a list, `DATA.PATH_PREFIX` holds each video as a file (ID.webm, ID.mp4) or a
    folder of frames. test uses the videos of val.

    All temporal views of a video are the same frames, so `TEST.NUM_ENSEMBLE_VIEWS` over 1 only costs time, and there is
    nothing to loop (`TEST.CYCLIC_LOAD`). Left and right are part of the classes, so `DATA.RANDOM_FLIP` should be False.

    Raises:
        FileNotFoundError: a file of the authors is missing, or there is no video.
        ValueError: a wrong line or entry; no video is in both; an unknown `DATA.DECODING_BACKEND`; `TEST.CYCLIC_LOAD`.
        UnreadableError: as `VideoDataset`.
    """

    def __init__(self, cfg: Any, split: str) -> None:
        part = "train" if check_split(split) == "train" else "val"
        templates = read_labels(_annotation_path(cfg, LABELS), cfg.MODEL.NUM_CLASSES)
        annotations = _annotation_path(cfg, VIDEOS[part])
        videos = read_videos(annotations, templates)
        frames_list = list_path(cfg, LISTS[part])
        if os.path.isfile(frames_list):
            videos, paths, open_video = _listed(cfg, frames_list, videos, annotations)
        else:
            paths = find_videos(cfg.DATA.PATH_PREFIX, [video.name for video in videos])
            open_video = VideoOpener.from_config(cfg, FRAME_RATE)
        labels = [video.label for video in videos]
        super().__init__(cfg, split, paths, labels, open_video, SegmentSampling(), source=annotations)
        if self.clips.settings.cyclic:
            raise ValueError(
                "TEST.CYCLIC_LOAD True loops videos that are shorter than a clip, but here every clip shows a whole "
                "video, however short; set it to False"
            )
        if self.clips.settings.temporal_views > 1:
            logger.warning(
                "TEST.NUM_ENSEMBLE_VIEWS is %d, but all temporal views of a video are the same frames here: set it to "
                "1%s for the same result in a fraction of the time",
                self.clips.settings.temporal_views,
                " (and TRAIN.FULL_TIME_EVAL to False)" if split == "val" else "",
            )
        if split == "train" and cfg.DATA.RANDOM_FLIP:
            logger.warning("DATA.RANDOM_FLIP is True, but classes here tell left from right: set it to False")


def _listed(
    cfg: Any, path: str, videos: list[LabeledVideo], annotations: str
) -> tuple[list[LabeledVideo], list[str], ListedFrames]:
    """Keep the videos that are also in a list of frames, and build their opener."""
    frames = read_frame_list(path, cfg.DATA.PATH_PREFIX)
    listed, labeled = set(frames.videos), {video.name for video in videos}
    both = [video for video in videos if video.name in listed]
    if not both:
        raise ValueError(
            f"no video is both in {annotations}, which begins with {videos[0].name}, and in {path}, which begins with "
            f"{frames.videos[0]}"
        )
    for source, names, other in ((annotations, labeled - listed, path), (path, listed - labeled, annotations)):
        if names:
            logger.warning(
                "%d videos of %s are not in %s and left out: %d are in both", len(names), source, other, len(both)
            )
    return both, [video.name for video in both], ListedFrames.from_config(cfg, frames, FRAME_RATE)


def _annotation_path(cfg: Any, names: Sequence[str]) -> str:
    """Return the path of the first of the names that is in `DATA.PATH_TO_DATA_DIR`."""
    for name in names:
        if os.path.isfile(list_path(cfg, name)):
            return list_path(cfg, name)
    raise FileNotFoundError(
        f"DATA.PATH_TO_DATA_DIR {cfg.DATA.PATH_TO_DATA_DIR!r} must be the folder that holds {names[0]} "
        f"(or {', '.join(names[1:])})"
    )
