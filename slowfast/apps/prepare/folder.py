"""Write video lists, class names and configurations from a folder with one sub folder per class."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from slowfast.apps.prepare.file_pool import Lost, work_on
from slowfast.apps.prepare.probe import Facts, probe
from slowfast.apps.prepare.ready_configs import Measured, config_texts
from slowfast.apps.prepare.split import Video, group, split_groups
from slowfast.datasets.video import open as decode
from slowfast.datasets.video.find import video_files
from slowfast.runtime.device import available_cores, device_count
from slowfast.runtime.seed import SPLITS
from slowfast.utils.files import atomic_write_local

FILES = ("classes.txt", *(f"{split}.csv" for split in SPLITS), "clip.yaml", "pgt.yaml")
_SHOWN = 10  # classes in a message
_MOST_WORKERS = 8


@dataclass(frozen=True)
class FolderOptions:
    """Options of the preparation.

    Attributes:
        videos: folder with one sub folder per class.
        output: folder for the lists and configurations.
        val, test: share of the videos of each class, between 0 and 1.
        seed: seed of the split.
        overwrite: replace files in `output`.
        workers: number of processes; 0 for this one.

    Raises:
        ValueError: a share, or their sum, is not between 0 and 1, or the number of processes is negative.
    """

    videos: str
    output: str
    val: float = 0.1
    test: float = 0.1
    seed: int = 0
    overwrite: bool = False
    workers: int = 0

    def __post_init__(self) -> None:
        if not (self.val > 0 and self.test > 0 and self.val + self.test < 1):
            raise ValueError(f"--val {self.val:g} and --test {self.test:g} must be over 0, and under 1 together")
        if self.workers < 0:
            raise ValueError(f"--workers {self.workers} must be at least 0")


@dataclass
class Prepared:
    """Tell what was written, and what was not.

    Attributes:
        classes: names of the classes, sorted.
        splits: videos of each split.
        groups: number of groups of videos that stay together.
        measured: medians of the videos.
        unreadable: path -> cause.
        notes: other remarks, one line each.
    """

    classes: list[str]
    splits: dict[str, list[Video]]
    groups: int
    measured: Measured
    unreadable: dict[str, str]
    notes: list[str] = field(default_factory=list)


def prepare_folder(options: FolderOptions) -> Prepared:
    """Write train.csv, val.csv, test.csv, classes.txt, clip.yaml and pgt.yaml.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a file would be overwritten, no or one class has readable videos, or there are too few videos for
            three splits.
        OSError: a file cannot be written.
    """
    output = os.path.abspath(options.output)
    _check_free(output, options.overwrite)
    found = _videos_by_class(options.videos)
    facts = _probe([path for paths in found.values() for path in paths], options.workers)
    unreadable = {path: seen.cause for path, seen in facts.items() if seen.cause}
    classes = [name for name, paths in found.items() if any(path not in unreadable for path in paths)]
    if len(classes) < 2:
        cause = next((f"; {path}: {cause}" for path, cause in unreadable.items()), "")
        raise ValueError(
            f"{len(classes)} of {len(found)} sub folders of {options.videos} hold a readable video, and two classes "
            f"are the least; {len(unreadable)} videos are unreadable{cause}"
        )
    videos = [
        Video(
            path, os.path.relpath(path, os.path.join(os.path.abspath(options.videos), name)), label, facts[path].digest
        )
        for label, name in enumerate(classes)
        for path in found[name]
        if path not in unreadable
    ]
    groups = group(videos, classes)
    splits = split_groups(groups, {"val": options.val, "test": options.test}, options.seed)
    missing = _classes_missing(groups, splits, classes)
    if missing and not all(splits.values()):
        raise ValueError(missing)
    without = [name for name in found if name not in classes]
    notes = [missing] if missing else []
    if without:
        notes.append(f"left out, without a readable video: {_listed(without)}")
    measured = Measured.of([facts[video.path] for video in videos])
    texts = {"classes.txt": "".join(f"{name}\n" for name in classes)}
    for split, members in splits.items():
        texts[f"{split}.csv"] = "".join(f"{video.path} {video.label}\n" for video in members)
    counts = {split: len(members) for split, members in splits.items()}
    loaders = max(1, min(_MOST_WORKERS, available_cores() - 1))
    texts |= config_texts(measured, len(classes), counts, output, min(1, device_count()), loaders)
    os.makedirs(output, exist_ok=True)
    for name in FILES:
        atomic_write_local(os.path.join(output, name), texts[name])
    return Prepared(classes, splits, len(groups), measured, unreadable, notes)


def report_lines(prepared: Prepared, options: FolderOptions) -> list[str]:
    """Format what `prepare_folder` returned, and the commands to go on with."""
    videos = sum(map(len, prepared.splits.values()))
    measured = prepared.measured
    lines = [f"unreadable, left out: {path}: {cause}" for path, cause in prepared.unreadable.items()]
    lines += [f"note: {note}" for note in prepared.notes]
    lines.append(f"{videos} videos in {len(prepared.classes)} classes, {prepared.groups} groups that stay together")
    lines.append(
        f"medians: {measured.seconds:.3g} s, {measured.fps:.4g} frames a second, short side {measured.short_side:g}"
    )
    for split, members in prepared.splits.items():
        seen = len({video.label for video in members})
        lines.append(f"{os.path.join(options.output, split)}.csv: {len(members)} videos of {seen} classes")
    lines += [f"python tools/run_net.py --cfg {os.path.join(options.output, name)}" for name in FILES[-2:]]
    return lines


def _check_free(output: str, overwrite: bool) -> None:
    there = [name for name in FILES if os.path.lexists(os.path.join(output, name))]
    if there and not overwrite:
        raise ValueError(f"{output} already holds {', '.join(there)}; name another --output, or add --overwrite")


def _videos_by_class(root: str) -> dict[str, list[str]]:
    """Return the paths of the videos of each sub folder, sorted.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it has no sub folder, or a name cannot be written into a list.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(f"there is no folder of videos {root}")
    root = os.path.abspath(root)
    names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise ValueError(f"{root} has no sub folder; put the videos of each class into one with the name of the class")
    found = {name: video_files(os.path.join(root, name)) for name in names}
    for path in (path for paths in found.values() for path in paths):
        if len(path.splitlines()) > 1:
            raise ValueError(f"{path!r}: a list has a line for each video, and this name has a line break; rename it")
    return found


def _probe(paths: Sequence[str], workers: int) -> dict[str, Facts]:
    """Return facts about each video, in the order of the paths."""
    look = functools.partial(probe, decode.open, False)
    facts = {
        path: Facts(cause=seen.cause) if isinstance(seen, Lost) else seen
        for path, seen in work_on(look, paths, workers, "probing")
    }
    return {path: facts[path] for path in paths}


def _classes_missing(groups: Sequence[Sequence[Video]], splits: dict[str, list[Video]], classes: Sequence[str]) -> str:
    """Return a line about the classes that are not in every split; "" for none."""
    seen = {split: {video.label for video in members} for split, members in splits.items()}
    lacking = [label for label in range(len(classes)) if not all(label in labels for labels in seen.values())]
    if not lacking:
        return ""
    number = Counter(label for members in groups for label in {video.label for video in members})
    words = [f"{classes[label]} {number[label]}" for label in lacking]
    return (
        f"{len(lacking)} of {len(classes)} classes have too few videos for train, val and test, which takes 3 that are "
        f"not parts of one video: {_listed(words)}; add videos, or rename files that are no parts of one video"
    )


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more
