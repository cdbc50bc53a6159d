"""Something-Something V2: short videos with one of 174 actions each, which differ in their temporal order."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slowfast.config.resolve import num_labels
from slowfast.datasets.annotations.frame_list import read_frame_list
from slowfast.datasets.base import check_split
from slowfast.datasets.clips.temporal_sampling import SegmentSampling
from slowfast.datasets.video.find import ListedFrames, VideoOpener, find_videos
from slowfast.datasets.video_dataset import VideoDataset, list_path
from slowfast.evaluation.classification import NO_LABEL
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import naming_keys, quote, record
from slowfast.utils.json_file import read_json, read_text

logger = get_logger(__name__)

_FRAME_RATE = 30  # of the published lists of frames; sampling does not depend on it
# Names of the authors' files, in the first release and in the present one.
_LABELS = ("something-something-v2-labels.json", "labels/labels.json", "labels.json")
_VIDEOS = {
    "train": ("something-something-v2-train.json", "labels/train.json", "train.json"),
    "val": ("something-something-v2-validation.json", "labels/validation.json", "validation.json"),
    "test": ("something-something-v2-test.json", "labels/test.json", "test.json"),
}

_MAX_DIGITS = 18
_SHOWN = 500  # characters of an entry in a message
# Text between two entries of a JSON list.
_BETWEEN = re.compile(r"[\s,]*")


@dataclass(frozen=True)
class _LabeledVideo:
    """A video (its id is the name of its file or folder) and its class, or `NO_LABEL`."""

    name: str
    label: int


def read_labels(path: str, num_classes: int) -> dict[str, int]:
    """Read the class of each template, `{"Putting something on a surface": "93", ...}`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file does not parse, or a class is not an integer from 0 to `num_classes` - 1.
    """
    templates = _annotations(path, dict, '{"template": "class", ...}')
    labels = {}
    for template, label in templates.items():
        digits = str(label)
        whole = digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS and not isinstance(label, bool)
        if not whole or int(digits) >= num_classes:
            raise ValueError(
                f"{path}, {_line_with(path, json.dumps(template))}: {quote(template)} has class {digits[:40]!r}, which "
                f"is not a whole number from 0 to {num_classes - 1}"
            )
        labels[template] = int(digits)
    return labels


def read_videos(
    path: str, labels: dict[str, int], errors: list[str] | None = None, templates_optional: bool = False
) -> list[_LabeledVideo]:
    """Read the videos of `[{"id": "78687", "template": "Putting [something] on a surface", ...}, ...]`, in order.

    The class is that of the template without its brackets.

    Args:
        path: the file.
        labels: class of each template.
        errors: takes the messages about wrong entries, which are then skipped; None raises the first.
        templates_optional: the file may also have a template in no entry, as the authors' list of test videos.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an entry is wrong, has an unknown template or comes twice (with file, line number and entry), the
            file does not parse, or it has no entry.
    """
    entries = _annotations(path, list, '[{"id": ..., "template": ...}, ...]')
    videos: dict[str, _LabeledVideo] = {}
    lines: list[int] = []
    labeled = not templates_optional or any(isinstance(entry, dict) and "template" in entry for entry in entries)
    for number, entry in enumerate(entries):
        try:
            video = _video(entry, labels if labeled else None)
            if video.name in videos:
                raise ValueError(f"has id {video.name}, which an earlier entry has too")
            videos[video.name] = video
        except ValueError as error:
            lines = lines or _lines_of_entries(path)
            where = f"{path}, line {lines[number]}: {json.dumps(entry)[:_SHOWN]}"
            record(ValueError(f"{where} {error}"), errors)
    if not videos:
        raise ValueError(f"{path} lists no video")
    return list(videos.values())


def _video(entry: Any, labels: dict[str, int] | None) -> _LabeledVideo:
    """Parse an entry; `labels` is None where entries have no template."""
    if not isinstance(entry, dict):
        raise ValueError("is not an entry with id and template")
    name, template = entry.get("id"), entry.get("template")
    name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
    if not isinstance(name, str) or not name or "/" in name or "\0" in name:
        raise ValueError("has no id that names a video")
    if labels is None:
        return _LabeledVideo(name, NO_LABEL)
    if not isinstance(template, str):
        raise ValueError("has no template")
    plain = template.replace("[", "").replace("]", "")
    if plain not in labels:
        raise ValueError(f"has template {quote(plain)}, which is none of the {len(labels)} of the labels")
    return _LabeledVideo(name, labels[plain])


def _annotations(path: str, kind: type, form: str) -> Any:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no annotation file {path}")
    return read_json(path, kind, form)


def _line_with(path: str, text: str) -> str:
    head, found, _ = read_text(path).partition(text)
    return f"line {head.count(chr(10)) + 1}" if found else "line 1"


def _lines_of_entries(path: str) -> list[int]:
    """Return the line number at which each entry of a list begins."""
    text = read_text(path)
    decoder, lines = json.JSONDecoder(), []
    line, counted, position = 1, 0, _BETWEEN.match(text, text.index("[") + 1).end()
    while text[position] != "]":
        line, counted = line + text.count("\n", counted, position), position
        lines.append(line)
        _, position = decoder.raw_decode(text, position)
        position = _BETWEEN.match(text, position).end()
    return lines


class SSv2(VideoDataset):
    """Clips with one frame of each of NUM_FRAMES equal segments of the video.

    `DATA.PATH_TO_DATA_DIR` holds the authors' JSON files, see `read_labels` and `read_videos`. It may hold lists of
    frames train.csv and val.csv, see `read_frame_list`. Then videos in both the list and the JSON files are used, and
    the log counts the others. Without a list, `DATA.PATH_PREFIX` holds each video as a file (ID.webm, ID.mp4) or a
    folder of frames. test uses the videos of val; only where there is no file of those, the authors' file of test
    videos, which has no templates, with the list of frames test.csv.

    All temporal views of a video are the same frames, so `TEST.NUM_ENSEMBLE_VIEWS` over 1 only costs time, and there is
    nothing to loop (`TEST.CYCLIC_LOAD`). Left and right are part of the classes, so `DATA.RANDOM_FLIP` should be False.

    Raises:
        FileNotFoundError: a file of the authors is missing, or there is no video.
        ValueError: a wrong line or entry; no video is in both; an unknown `DATA.DECODING_BACKEND`; `TEST.CYCLIC_LOAD`.
        UnreadableError: as `VideoDataset`.
    """

    sampling = SegmentSampling()

    def __init__(self, cfg: Any, split: str) -> None:
        part = "train" if check_split(split) == "train" else "val"
        if split == "test" and not _has_annotations(cfg, part) and _has_annotations(cfg, "test"):
            part = "test"
        num_classes, key = num_labels(cfg)
        with naming_keys(cfg, key):
            templates = read_labels(_annotation_path(cfg, _LABELS), num_classes)
        annotations = _annotation_path(cfg, _VIDEOS[part])
        videos = read_videos(annotations, templates, templates_optional=split == "test")
        frames_list = list_path(cfg, f"{part}.csv")
        if os.path.isfile(frames_list):
            videos, paths, open_video = _listed(cfg, frames_list, videos, annotations)
        else:
            paths = find_videos(cfg.DATA.PATH_PREFIX, [video.name for video in videos])
            open_video = VideoOpener.from_config(cfg, _FRAME_RATE)
        labels = [video.label for video in videos]
        names = {label: template for template, label in templates.items()}
        super().__init__(cfg, split, paths, labels, open_video, class_names=names, source=annotations)
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
    cfg: Any, path: str, videos: list[_LabeledVideo], annotations: str
) -> tuple[list[_LabeledVideo], list[str], ListedFrames]:
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
    return both, [video.name for video in both], ListedFrames.from_config(cfg, frames.paths_by_name(), _FRAME_RATE)


def _has_annotations(cfg: Any, part: str) -> bool:
    return any(os.path.isfile(list_path(cfg, name)) for name in _VIDEOS[part])


def _annotation_path(cfg: Any, names: Sequence[str]) -> str:
    """Return the path of the first of the names that is in `DATA.PATH_TO_DATA_DIR`."""
    for name in names:
        if os.path.isfile(list_path(cfg, name)):
            return list_path(cfg, name)
    raise FileNotFoundError(
        f"DATA.PATH_TO_DATA_DIR {cfg.DATA.PATH_TO_DATA_DIR!r} must be the folder that holds {names[0]} "
        f"(or {', '.join(names[1:])})"
    )
