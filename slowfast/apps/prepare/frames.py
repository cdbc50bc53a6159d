"""Extract frames and write frame lists, as published, of Charades, AVA and Something-Something V2."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from slowfast.apps.prepare.extract_frames import Extracted, ExtractOptions, count_images, extract
from slowfast.apps.prepare.file_pool import Lost, work_on
from slowfast.datasets.annotations.frame_list import COLUMNS
from slowfast.datasets.annotations.kinetics import split_of_name
from slowfast.datasets.ava.footage import find_clips
from slowfast.datasets.charades import FRAME_RATE, read_annotations
from slowfast.datasets.video.find import by_name, only_file, video_files
from slowfast.evaluation.ava_files import read_boxes
from slowfast.utils.files import atomic_write_local
from slowfast.utils.json_file import read_json

_ANY_CLASS = 10**6
_HOURS = 3600.0
_SHOWN = 20  # videos of each problem in the printed report


@dataclass(frozen=True)
class _ListedVideo:
    """A video that an annotation file names.

    Attributes:
        name: name of its file and of the folder of its frames.
        labels: seconds of its images -> (n, 3): class, first and last image of each action; None without labels.
        seconds: annotated length; 0 if unknown.
    """

    name: str
    labels: Callable[[np.ndarray], np.ndarray] | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class _FrameFormat:
    """Frame format of a data set.

    Attributes:
        options: published options of the extraction.
        read: annotation file -> its videos.
        least_seconds: seconds after the first image at which there has to be an image; 0 for no rule.
        clips: the annotations name clips of Kinetics, ID_000084_000094, by their video, ID.
    """

    options: ExtractOptions
    read: Callable[[str], list[_ListedVideo]]
    least_seconds: float = 0.0
    clips: bool = False


def _read_charades(path: str) -> list[_ListedVideo]:
    return [_ListedVideo(video.name, video.spans, video.length) for video in read_annotations(path, _ANY_CLASS)]


def _read_ava(path: str) -> list[_ListedVideo]:
    table = read_boxes(path, _ANY_CLASS)
    return [_ListedVideo(name) for name in dict.fromkeys([*table.names, *(video for video, _ in table.empty)])]


def _read_ssv2(path: str) -> list[_ListedVideo]:
    entries = read_json(path, list, '[{"id": ...}, ...]')
    try:
        names = [str(entry["id"]) for entry in entries]
    except (TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is not a list of videos with an id each ({type(error).__name__}: {error}), as in "
            "something-something-v2-train.json"
        ) from None
    if not names:
        raise ValueError(f"{path} names no video")
    return [_ListedVideo(name) for name in dict.fromkeys(names)]


FORMATS = {
    "charades": _FrameFormat(ExtractOptions(float(FRAME_RATE), mark="-"), _read_charades),
    # Published lists cover 901 seconds from second 900 on; the last key frame is at second 1798.
    "ava": _FrameFormat(ExtractOptions(30.0, 900.0, 1801.0), _read_ava, 898.0),
    "ava_kinetics": _FrameFormat(ExtractOptions(30.0), _read_ava, clips=True),
    "ssv2": _FrameFormat(ExtractOptions(12.0), _read_ssv2),
}


@dataclass
class _FrameReport:
    """Result of an extraction.

    Attributes:
        images: video -> number of its images.
        failed: video -> reason why it has no images.
        odd: video -> why its number of images is unexpected.
        lists: split -> number of listed videos.
    """

    images: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    odd: dict[str, str] = field(default_factory=dict)
    lists: dict[str, int] = field(default_factory=dict)

    def lines(self, lists: str) -> list[str]:
        """Format the counts, and the first videos of each problem; `lists` is the folder of the lists."""
        lines = [f"{len(self.images)} videos have {sum(self.images.values())} images"]
        lines += [f"{lists}/{split}.csv: {count} videos" for split, count in self.lists.items()]
        for title, causes in (("no frames", self.failed), ("unexpected number of frames", self.odd)):
            if causes:
                lines.append(f"{title}: {len(causes)} videos")
            lines += [f"    {video}: {cause}" for video, cause in list(causes.items())[:_SHOWN]]
        return lines


def prepare_frames(
    name: str, options: ExtractOptions, annotations: Sequence[str], videos: str, output: str, lists: str, workers: int
) -> _FrameReport:
    """Extract the frames of all annotated videos and write a list for each annotation file.

    Args:
        name: one of `FORMATS`.
        options: options of the extraction.
        annotations: published files, whose names tell the split; () for every video of the folder, in frames.csv.
        videos: folder of the videos and subfolders.
        output: folder for the frames.
        lists: folder for train.csv and val.csv.
        workers: number of processes.

    Raises:
        FileNotFoundError, ValueError: the annotations or the folder are missing or wrong.
        OSError: a file cannot be written.
    """
    if not options.fps and name == "charades":
        raise ValueError("every frame (0 frames a second) is impossible for charades, whose labels are in seconds")
    paths = by_name(video_files(os.path.abspath(videos)))
    if not paths:
        raise ValueError(f"{videos} holds no video file")
    splits = _splits(FORMATS[name], annotations) or {"frames": [_ListedVideo(video) for video in paths]}
    if FORMATS[name].clips:
        splits = {split: _as_clips(listed, paths) for split, listed in splits.items()}
    # Without annotations the videos have any length.
    least_seconds = FORMATS[name].least_seconds if annotations else 0.0
    report = _FrameReport()
    wanted = list(dict.fromkeys(video.name for listed in splits.values() for video in listed))
    if not any(video in paths for video in wanted):
        raise ValueError(f"{videos} holds none of the {len(wanted)} videos of the annotations, such as {wanted[0]}")
    tasks = []
    for video in wanted:
        try:
            tasks.append((video, _file_of(video, paths, videos)))
        except ValueError as error:
            report.failed[video] = str(error)
    os.makedirs(output, exist_ok=True)
    work = functools.partial(extract, options, output)
    for (video, _), result in work_on(work, tasks, workers, "extracting", 6 * _HOURS):
        done = Extracted(cause=result.cause) if isinstance(result, Lost) else result
        if done.cause:
            report.failed[video] = done.cause
        else:
            report.images[video] = done.images
    os.makedirs(lists, exist_ok=True)
    for split, listed in splits.items():
        there = [video for video in listed if video.name in report.images]
        lines = functools.partial(_lines, there, options, report.images)
        atomic_write_local(os.path.join(lists, f"{split}.csv"), lambda stream, lines=lines: stream.writelines(lines()))
        report.lists[split] = len(there)
        report.odd |= _odd(there, least_seconds, options, report.images, output)
    return report


def _file_of(video: str, paths: dict[str, list[str]], folder: str) -> str:
    """Return the file of a video; ValueError if it has none, or two, whose frames would share a folder."""
    if video not in paths:
        raise ValueError(f"it is not in {folder}")
    if "\n" in video or "\r" in video:
        raise ValueError("its name has a line break, which no list can hold")
    return only_file(video, paths[video])


def _splits(form: _FrameFormat, annotations: Sequence[str]) -> dict[str, list[_ListedVideo]]:
    splits: dict[str, list[_ListedVideo]] = {}
    for path in annotations:
        split = split_of_name(path)
        if split == "test" and form is FORMATS["charades"]:
            split = "val"  # Charades calls its validation videos test
        if not split or split in splits:
            raise ValueError(
                f"{path}: " + (f"there is a file for {split} already" if split else "no train, val or test in its name")
            )
        splits[split] = form.read(path)
    return splits


def _as_clips(listed: list[_ListedVideo], present: Iterable[str]) -> list[_ListedVideo]:
    """Return the videos under the names of their clips, each once."""
    clips = find_clips([video.name for video in listed], present)
    return list(dict.fromkeys(replace(video, name=clips.get(video.name, video.name)) for video in listed))


def _lines(videos: list[_ListedVideo], options: ExtractOptions, images: dict[str, int]) -> Iterator[bytes]:
    """Yield the lines of the frame list."""
    yield (" ".join(COLUMNS) + "\n").encode()
    for number, video in enumerate(videos):
        count, labels = images[video.name], [""] * images[video.name]
        if video.labels is not None:
            labels = _texts(video.labels(options.start + np.arange(count) / options.fps), count)
        for image in range(count):
            path = _field(options.image(video.name, image))
            line = f'{_field(video.name)} {number} {image} {path} "{labels[image]}"\n'
            yield line.encode("utf-8", "surrogateescape")


def _field(text: str) -> str:
    """Quote a field of a list where its spaces or quotes need it, as the module csv does."""
    return '"' + text.replace('"', '""') + '"' if " " in text or '"' in text else text


def _texts(spans: np.ndarray, count: int) -> list[str]:
    """Return the comma-separated classes of each image."""
    classes: list[list[int]] = [[] for _ in range(count)]
    for number, first, last in sorted(spans.tolist()):
        for image in range(first, min(last, count - 1) + 1):
            if number not in classes[image]:
                classes[image].append(number)
    return [",".join(map(str, numbers)) for numbers in classes]


def _odd(
    videos: list[_ListedVideo], least_seconds: float, options: ExtractOptions, images: dict[str, int], output: str
) -> dict[str, str]:
    """Find videos whose number of images contradicts the list or the annotations; video -> reason."""
    odd = {}
    for video in videos:
        count = images[video.name]
        there = count_images(os.path.join(output, video.name))
        if there != count:
            odd[video.name] = f"{count} images are listed, {there} are in its folder"
        elif options.fps and video.seconds and abs(count / options.fps - video.seconds) > 1.5:
            odd[video.name] = f"{count} images are {count / options.fps:.1f} s; the annotations say {video.seconds:g} s"
        elif options.fps and least_seconds and count <= least_seconds * options.fps:
            odd[video.name] = (
                f"{count} images are {count / options.fps:.1f} s; the last key frame is {least_seconds:g} s after "
                "the first image"
            )
    return odd


def with_overrides(name: str, **given: float | int | None) -> ExtractOptions:
    """Return the published options of a format, overridden by values that are not None."""
    return replace(FORMATS[name].options, **{key: value for key, value in given.items() if value is not None})
