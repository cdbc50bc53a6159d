"""Write video lists of Kinetics from its published annotations and a folder of videos, and report the coverage."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from slowfast.apps.prepare.file_pool import Lost, work_on
from slowfast.apps.prepare.probe import Facts, probe
from slowfast.apps.prepare.resize import ResizeOptions, resize_set
from slowfast.datasets.annotations.kinetics import Segment, VideoFolder, chosen_classes, read_segments
from slowfast.datasets.clips import temporal_sampling as sampling
from slowfast.datasets.video import open as decode
from slowfast.datasets.video.find import video_files
from slowfast.runtime.seed import SPLITS
from slowfast.utils.files import atomic_write_local

TARGET_FPS = 30.0  # frame rate at which the published configs count
# A file longer than its segment by this many seconds was probably never trimmed.
_UNTRIMMED_S = 2.0
_FATES = ("listed", "missing", "unreadable")
_SHOWN = 5  # unreadable files in the printed report


@dataclasses.dataclass(frozen=True)
class KineticsOptions:
    """Options of the preparation.

    Attributes:
        annotations: published CSV files; () only resizes videos.
        videos: folder of the videos and subfolders.
        output: folder for the lists, classes.txt and coverage.json.
        classes: file of the classes to use, one a line; "" for all.
        test: split of test.csv: "test", "val", or "auto", which is test if its labels are known, else val.
        separator: separator of path and label.
        relative: write paths relative to the folder of the videos.
        frames, rate: frames of a clip and their distance, to count videos that are shorter.
        probe: open every video; without it no video counts as unreadable or short.
        resize: options of resized copies; None uses the videos themselves.
        resized: folder of the resized copies.
        workers: number of processes.
    """

    annotations: tuple[str, ...]
    videos: str
    output: str
    classes: str = ""
    test: str = "auto"
    separator: str = " "
    relative: bool = False
    frames: int = 8
    rate: int = 8
    probe: bool = True
    resize: ResizeOptions | None = None
    resized: str = ""
    workers: int = 0

    @property
    def root(self) -> str:
        """Return the folder of the listed videos."""
        return os.path.abspath(self.resized if self.resize else self.videos)

    @property
    def copies(self) -> str:
        """Return the folder whose videos are copies, not sources; "" for none.

        Raises:
            ValueError: it is the folder of the videos.
        """
        if self.resize and os.path.realpath(self.root) == os.path.realpath(self.videos):
            raise ValueError(f"--resized is {self.resized}, the folder of the videos itself; name another for copies")
        return self.root if self.resize else ""


@dataclasses.dataclass
class _Entry:
    """An annotated segment, the path of its file ("" for none), and facts about the file."""

    segment: Segment
    path: str
    facts: Facts = Facts()

    def fate(self) -> str:
        """Return "missing", "unreadable" or "listed"."""
        return "missing" if not self.path else "unreadable" if self.facts.cause else "listed"


def prepare(options: KineticsOptions) -> dict[str, Any]:
    """Write the lists, the class names and the report; return the report.

    Raises:
        FileNotFoundError, ValueError: the annotations, the class file or the folder are missing or wrong, no
            annotated video exists, or the copies would be written among the videos themselves.
        OSError: a file cannot be written.
    """
    segments = [segment for path in options.annotations for segment in read_segments(path)]
    classes = sorted({segment.label for segment in segments if segment.label})
    if options.classes:
        classes = sorted(chosen_classes(options.classes, classes))
    known = {"", *classes}
    segments = [segment for segment in segments if segment.label in known]
    folder = VideoFolder(os.path.abspath(options.videos), options.copies)
    entries = [_Entry(segment, folder.find(segment)) for segment in dict.fromkeys(segments)]
    found = {entry.path for entry in entries if entry.path}
    if not found:
        example = segments[0]
        raise ValueError(
            f"{options.videos} holds {folder.num_files} video files, but none of the {len(entries)} that the "
            f"annotations name; they should be called like {example.name}.mp4 or {example.youtube_id}.mp4"
        )
    if options.resize:
        _resize(entries, folder.root, options)
    if options.probe:
        _probe(entries, options.workers)
    os.makedirs(options.output, exist_ok=True)
    report = {
        "clip": {"frames": options.frames, "rate": options.rate, "fps": TARGET_FPS},
        "classes": len(classes),
        "probed": options.probe,
        "lists": _write_lists(entries, classes, options),
        "splits": _by_split(entries, segments, options),
        "files_without_annotation": folder.num_files - len(found),
        "by_class": _by_class(entries, classes),
        "missing": {
            split: [entry.segment.name for entry in entries if not entry.path and entry.segment.split == split]
            for split in SPLITS
        },
        "unreadable": {entry.path: entry.facts.cause for entry in entries if entry.fate() == "unreadable"},
        "short": {entry.path: entry.facts.frames for entry in entries if _is_short(entry.facts, options)},
        "untrimmed": [entry.path for entry in entries if _is_untrimmed(entry)],
    }
    _write(options, "classes.txt", "".join(f"{name}\n" for name in classes))
    _write(options, "coverage.json", json.dumps(report, indent=2) + "\n")
    return report


def report_lines(report: dict[str, Any], options: KineticsOptions) -> list[str]:
    """Format the report of `prepare`: the table of splits, the first unreadable files, and the settings to use."""
    columns = ["annotated", "found", *_FATES, "short", "untrimmed"]
    lines = [f"{report['classes']} classes; {report['files_without_annotation']} video files have no annotation"]
    lines.append("".join(f"{word:>12}" for word in ("split", *columns)))
    for split, row in report["splits"].items():
        lines.append("".join(f"{word:>12}" for word in (split, *(row[column] for column in columns))))
    clip = report["clip"]
    lines.append(
        f"short: under {clip['frames']} x {clip['rate']} frames at {clip['fps']:g} fps; untrimmed: over their segment"
    )
    for path, cause in list(report["unreadable"].items())[:_SHOWN]:
        lines.append(f"  unreadable: {path}: {cause}")
    for split in SPLITS:
        origin = report["lists"].get(split)
        note = f" (the videos of {origin})" if origin and origin != split else ""
        verdict = f"written{note}" if origin else "not written, it has no video"
        lines.append(f"{os.path.join(options.output, f'{split}.csv')}: {verdict}")
    prefix = f" DATA.PATH_PREFIX {options.root}" if options.relative else ""
    separator = f" DATA.PATH_LABEL_SEPARATOR {options.separator!r}" if options.separator != " " else ""
    settings = f"DATA.PATH_TO_DATA_DIR {options.output}{prefix}{separator} MODEL.NUM_CLASSES {report['classes']}"
    return [*lines, settings]


def resize_folder(options: KineticsOptions) -> dict[str, Any]:
    """Resize every video of the folder, annotated or not.

    Returns:
        Numbers of `videos` and of `resized` ones, and `unreadable`: path -> cause.

    Raises:
        FileNotFoundError, ValueError: the folder does not exist, holds no video, or is that of the copies too.
        OSError: a copy cannot be written.
    """
    root = os.path.abspath(options.videos)
    paths = video_files(root, options.copies)
    if not paths:
        raise ValueError(f"{options.videos} holds no video file")
    causes = {
        source: cause for source, _, cause in resize_set(paths, root, options.root, options.resize, options.workers)
    }
    failed = {source: cause for source, cause in sorted(causes.items()) if cause}
    return {"videos": len(paths), "resized": len(paths) - len(failed), "unreadable": failed}


def _is_short(facts: Facts, options: KineticsOptions) -> bool:
    """Return True if a clip reaches past the end of the video, and so repeats its last frame."""
    span = sampling.clip_span(options.frames, options.rate, facts.fps, TARGET_FPS)
    return 0 < facts.frames < span


def _is_untrimmed(entry: _Entry) -> bool:
    """Return True if the file is clearly longer than its segment."""
    facts, segment = entry.facts, entry.segment
    return facts.frames > 0 and facts.frames / facts.fps > segment.end - segment.start + _UNTRIMMED_S


def _resize(entries: list[_Entry], root: str, options: KineticsOptions) -> None:
    """Replace the paths by those of resized copies; store the cause where there is no copy."""
    paths = [entry.path for entry in entries if entry.path]
    copies = {source: rest for source, *rest in resize_set(paths, root, options.root, options.resize, options.workers)}
    for entry in entries:
        if entry.path:
            copy, cause = copies[entry.path]
            entry.path, entry.facts = (entry.path, Facts(cause=cause)) if cause else (copy, entry.facts)


def _probe(entries: list[_Entry], workers: int) -> None:
    paths = list(dict.fromkeys(entry.path for entry in entries if entry.fate() == "listed"))
    look = functools.partial(probe, decode.open, False)
    facts = {}
    for path, found in work_on(look, paths, workers, "probing"):
        facts[path] = Facts(cause=found.cause) if isinstance(found, Lost) else found
    for entry in entries:
        entry.facts = facts.get(entry.path, entry.facts)


def _write_lists(entries: list[_Entry], classes: Sequence[str], options: KineticsOptions) -> dict[str, str]:
    """Write a list for every split that has videos; return split -> split whose videos it lists."""
    label_of = {name: number for number, name in enumerate(classes)}
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    for entry in entries:
        if entry.fate() == "listed" and entry.segment.label:
            path = os.path.relpath(entry.path, options.root) if options.relative else entry.path
            lines[entry.segment.split].append(f"{path}{options.separator}{label_of[entry.segment.label]}\n")
    test = "test" if options.test == "test" or (options.test == "auto" and lines["test"]) else "val"
    lists = {split: split for split in SPLITS} | {"test": test}
    lists = {split: origin for split, origin in lists.items() if lines[origin]}
    for split, origin in lists.items():
        _write(options, f"{split}.csv", "".join(lines[origin]))
    return lists


def _by_split(entries: list[_Entry], segments: list[Segment], options: KineticsOptions) -> dict[str, dict[str, int]]:
    rows = {}
    for split in SPLITS:
        own = [entry for entry in entries if entry.segment.split == split]
        if own:
            fates = Counter(entry.fate() for entry in own)
            rows[split] = {
                "annotated": len(own),
                "found": len(own) - fates["missing"],
                **{fate: fates[fate] for fate in _FATES},
                "without_label": sum(not entry.segment.label for entry in own),
                "annotated_again": sum(segment.split == split for segment in segments) - len(own),
                "short": sum(_is_short(entry.facts, options) for entry in own),
                "untrimmed": sum(map(_is_untrimmed, own)),
            }
    return rows


def _by_class(entries: list[_Entry], classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    counts: Counter = Counter()
    for entry in entries:
        counts[entry.segment.label, entry.segment.split, entry.fate()] += 1
    return {
        name: {
            "label": label,
            **{split: {fate: counts[name, split, fate] for fate in _FATES} for split in SPLITS},
        }
        for label, name in enumerate(classes)
    }


def _write(options: KineticsOptions, name: str, text: str) -> None:
    atomic_write_local(os.path.join(options.output, name), text)
