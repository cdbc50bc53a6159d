"""Check the data sets of a config: read all annotations, probe all videos, and report what is wrong."""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from slowfast.apps.prepare.file_pool import Lost, work_on
from slowfast.apps.prepare.probe import Facts, ProbeCache, probe
from slowfast.datasets.ava.dataset import AVA
from slowfast.datasets.base import ClipDataset
from slowfast.datasets.build import build_dataset
from slowfast.datasets.loading.unreadable import UnreadableError
from slowfast.datasets.video_dataset import VideoDataset
from slowfast.utils.errors import LineErrors, collect_errors

# Tolerance between the length of a video and its annotated length: seconds, plus a fraction of the length.
_LENGTH_TOLERANCE = (0.5, 0.05)
# Upper bound of the seconds that published frame lists of AVA have after the last key frame.
_SECONDS_AFTER = 60

# Kinds of findings; True makes the check fail.
KINDS = {
    "list": True,
    "wrong-line": True,
    "label-range": True,
    "box-outside": True,
    "unreadable": True,
    "frame-count": True,
    "same-path": True,
    "overlap": True,
    "same-content": False,
    "short": False,
    "duplicate-view": False,
    "reading": False,
    "class-without-samples": False,
}
_EXAMPLES = 20


@dataclass(frozen=True)
class CheckOptions:
    """Options of a check.

    Attributes:
        splits: of train, val, test.
        workers: number of processes.
        sample: number of evenly spaced videos of a split to probe; 0 for all.
        thorough: decode every frame; False decodes the first, the middle and the last frame of each video.
        cache: file of the facts about videos; "" for none.
        limit: number of wrong lines of a split to keep.
        allowed: kinds of findings with which the check still passes.
    """

    splits: Sequence[str] = ("train", "val", "test")
    workers: int = 0
    sample: int = 0
    thorough: bool = False
    cache: str = ""
    limit: int = 100
    allowed: Sequence[str] = ()


@dataclass
class _Split:
    """A split: its data set, and facts about its videos by the data set's name for them."""

    name: str
    dataset: ClipDataset
    videos: list[str]
    facts: dict[str, Facts] = field(default_factory=dict)

    @functools.cached_property
    def places(self) -> dict[str, str]:
        """Return video -> real path, by which videos of different splits are compared."""
        return {video: os.path.realpath((self.dataset.images(video) or [video])[0]) for video in self.videos}


def check(cfg: Any, options: CheckOptions) -> Report:
    """Read all annotations and probe all videos of the configured data sets.

    The data sets are built as in a run, except that wrong lines are skipped and reported.

    Raises:
        OSError: the cache cannot be written.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATA.CACHE_VIDEOS = False
    report = Report(cfg.MODEL.NUM_CLASSES, options.allowed)
    splits = [split for name in options.splits if (split := _read(cfg, name, report, options.limit)) is not None]
    how = f"{cfg.DATA.DECODING_BACKEND}{' every frame' if options.thorough else ''}"
    with ProbeCache(options.cache, how) as cache:
        for split in splits:
            _probe(split, cache, options)
            _account(split, report)
            _compare_lengths(cfg, split, report)
    _compare(splits, report)
    return report


def _read(cfg: Any, name: str, report: Report, limit: int) -> _Split | None:
    """Build a data set; return None if that fails."""
    wrong = LineErrors(limit)
    try:
        with collect_errors(wrong):
            dataset = build_dataset(cfg, name)
    except (ValueError, OSError, UnreadableError) as error:
        dataset = None
        report.add("list", name, "the data set cannot be read", [str(error)])
    _sort_wrong(wrong, name, report)
    if dataset is None:
        return None
    videos = list(dataset.videos)
    split = _Split(name, dataset, videos)
    key = cfg.TEST.DATASET if name == "test" else cfg.TRAIN.DATASET
    report.splits[name] = _SplitFacts(key, len(dict.fromkeys(videos)), len(dataset))
    _count_labels(dataset, name, report)
    return split


def _sort_wrong(wrong: LineErrors, split: str, report: Report) -> None:
    """Report wrong lines by kind."""
    kinds: dict[str, list[str]] = {"wrong-line": [], "label-range": [], "box-outside": []}
    for message in wrong:
        outside = re.search(r"outside [01] to \d+$", message)
        kinds["label-range" if outside else "box-outside" if "out of the picture" in message else "wrong-line"].append(
            message
        )
    texts = {
        "wrong-line": "lines that cannot be read",
        "label-range": "labels outside the classes; is MODEL.NUM_CLASSES right?",
        "box-outside": "boxes that reach out of the picture",
    }
    for kind, messages in kinds.items():
        report.add(kind, split, texts[kind], messages)
    if wrong.count > len(wrong):
        report.add("wrong-line", split, "more wrong lines", [], wrong.count - len(wrong))


def _count_labels(dataset: ClipDataset, split: str, report: Report) -> None:
    """Count the classes that occur, and report those without a sample."""
    facts = report.splits[split]
    if isinstance(dataset, AVA):
        facts.key_frames = len(dataset.key_frames)
        facts.boxes = sum(dataset.box_counts)
    seen = dataset.classes_seen
    if seen is None:
        return
    names = dataset.info.class_names or {number: str(number) for number in range(report.num_classes)}
    facts.classes_seen = len(seen & set(names))
    lacking = [name for number, name in names.items() if number not in seen]
    report.add("class-without-samples", split, f"of {len(names)} classes those without a sample", lacking)


def _probe(split: _Split, cache: ProbeCache, options: CheckOptions) -> None:
    """Take facts about the videos from the cache, and probe the rest."""
    if split.dataset.open_video is None:
        return
    videos = list(dict.fromkeys(split.videos))
    if 0 < options.sample < len(videos):
        videos = [videos[len(videos) * i // options.sample] for i in range(options.sample)]
    left = []
    for video in videos:
        facts = cache.get(video, split.dataset.images(video))
        if facts is None:
            left.append(video)
        else:
            split.facts[video] = facts
    look = functools.partial(probe, split.dataset.open_video, options.thorough)
    for video, facts in work_on(look, left, options.workers, f"probing {split.name}"):
        if isinstance(facts, Lost):
            split.facts[video] = Facts(cause=facts.cause)
        else:
            split.facts[video] = facts
            cache.put(video, split.dataset.images(video), facts)


def _account(split: _Split, report: Report) -> None:
    """Sum up the facts of a split, and report what is wrong with its videos."""
    totals, found = report.splits[split.name], split.facts
    readable = {video: facts for video, facts in found.items() if not facts.cause}
    totals.probed, totals.unreadable = len(found), len(found) - len(readable)
    totals.frames = sum(facts.frames for facts in readable.values())
    totals.seconds = round(sum(facts.frames / facts.fps for facts in readable.values()), 3)
    causes = {video: facts.cause for video, facts in found.items() if facts.cause and not facts.missing}
    lines = [f"{video}: {cause}" for video, cause in causes.items()]
    report.add("unreadable", split.name, f"of {len(found)} videos those that cannot be read", lines)
    notes = [f"{video}: {note}" for video, facts in readable.items() for note in facts.notes]
    report.add("reading", split.name, "remarks on how videos are read", notes)
    _compare_with_disk(split, report)
    counts = Counter(split.places[video] for video in split.videos)
    twice = [f"{place}: {count} times" for place, count in counts.items() if count > 1]
    report.add("same-path", split.name, "videos that are listed more than once", twice)
    _look_for_copies(split, readable, report)
    _look_at_clips(split, readable, report)


def _compare_with_disk(split: _Split, report: Report) -> None:
    """Report listed images that do not exist, and unlisted images in a folder of a single video."""
    users = Counter(os.path.dirname(images[0]) for video in split.videos if (images := split.dataset.images(video)))
    lines = []
    for video, facts in split.facts.items():
        listed = len(split.dataset.images(video))
        if facts.missing:
            lines.append(f"{video}: {facts.missing} of {listed} images are not there, such as {facts.cause}")
        elif facts.other and users[facts.folder] == 1:
            lines.append(f"{video}: {listed} images are listed, {listed + facts.other} are in {facts.folder}")
    report.add("frame-count", split.name, "videos with another number of frames on disk than in the list", lines)


def _compare_lengths(cfg: Any, split: _Split, report: Report) -> None:
    """Report videos of another length than annotated, usually images extracted at another rate."""
    expected = split.dataset.annotated_seconds
    if expected is not None:
        seconds = {video: f.frames / f.fps for video, f in split.facts.items() if not f.cause}
        lines = [
            f"{video}: {seconds[video]:.1f} s, the annotations say {length:.1f} s"
            for video, length in zip(split.videos, expected, strict=True)
            if video in seconds and abs(seconds[video] - length) > _LENGTH_TOLERANCE[0] + _LENGTH_TOLERANCE[1] * length
        ]
        report.add("frame-count", split.name, "videos of another length than annotated", lines)
    if isinstance(split.dataset, AVA) and cfg.AVA.KEY_SECONDS:
        most = (cfg.AVA.KEY_SECONDS[1] - cfg.AVA.FIRST_SECOND + _SECONDS_AFTER) * cfg.AVA.FPS
        lines = [f"{video}: {facts.frames} images" for video, facts in split.facts.items() if facts.frames > most]
        text = f"videos with more images than AVA.FPS {cfg.AVA.FPS:g} gives; were they extracted at another rate?"
        report.add("frame-count", split.name, text, lines)


def _look_for_copies(split: _Split, readable: dict[str, Facts], report: Report) -> None:
    by_content: dict[str, list[str]] = {}
    for video, facts in readable.items():
        by_content.setdefault(facts.digest, []).append(video)
    groups = [videos for videos in by_content.values() if len({split.places[video] for video in videos}) > 1]
    copies = [" = ".join(videos) for videos in groups]
    report.add("same-content", split.name, "videos that are there more than once under different names", copies)


def _look_at_clips(split: _Split, readable: dict[str, Facts], report: Report) -> None:
    """Report clips that repeat a frame, and test views that are equal."""
    if not isinstance(split.dataset, VideoDataset):
        return
    clips = split.dataset.clips
    s, sampling = clips.settings, clips.sampling
    short, alike = [], []
    for video, facts in readable.items():
        frames = sampling.center(facts.frames, facts.fps, s)
        if len(set(frames)) < len(frames):
            short.append(f"{video}: {facts.frames} frames at {facts.fps:g} a second")
        if split.name == "test" and s.temporal_views > 1:
            views = {tuple(sampling.view(facts.frames, facts.fps, s, view)) for view in range(s.temporal_views)}
            if len(views) < s.temporal_views:
                alike.append(f"{video}: {len(views)} different ones of {s.temporal_views}")
    text = f"videos too short for a clip ({s.num_frames} x {s.sampling_rate} frames), in which frames repeat"
    report.add("short", split.name, text, short)
    report.add("duplicate-view", split.name, "videos of which test views show the same frames", alike)


def _compare(splits: Iterable[_Split], report: Report) -> None:
    """Report videos of training that are also in val or test."""
    by_name = {split.name: split for split in splits}
    train = by_name.get("train")
    for other in (by_name.get("val"), by_name.get("test")):
        if train is None or other is None:
            continue
        places, contents = set(train.places.values()), {f.digest for f in train.facts.values() if f.digest}
        both = [
            video
            for video, place in other.places.items()
            if place in places or (video in other.facts and other.facts[video].digest in contents)
        ]
        report.add("overlap", f"train+{other.name}", f"videos of {other.name} that are trained on", both)


@dataclass(frozen=True)
class _Finding:
    """A problem or remark.

    Attributes:
        kind: one of `KINDS`.
        split: train, val or test, or two of them joined by +.
        count: number of cases.
        text: description, in the plural.
        examples: first cases, one line each.
    """

    kind: str
    split: str
    count: int
    text: str
    examples: list[str] = field(default_factory=list)


@dataclass
class _SplitFacts:
    """Counts of a split.

    Attributes:
        dataset: name of the data set.
        videos, samples: a sample is a view of a video, or a key frame.
        classes_seen: number of classes among the labels; None if the labels are unknown.
        key_frames, boxes: of a data set with boxes.
        probed: number of videos probed, now or in an earlier check.
        unreadable: number of probed videos that cannot be read.
        frames, seconds: totals of the readable videos.
    """

    dataset: str
    videos: int = 0
    samples: int = 0
    classes_seen: int | None = None
    key_frames: int | None = None
    boxes: int | None = None
    probed: int = 0
    unreadable: int = 0
    frames: int = 0
    seconds: float = 0.0


@dataclass
class Report:
    """Report of a check.

    Attributes:
        num_classes: classes of the model.
        allowed: kinds of findings with which the check still passes.
        splits: counts of each split.
        findings: findings in the order of the splits.
    """

    num_classes: int
    allowed: Sequence[str] = ()
    splits: dict[str, _SplitFacts] = field(default_factory=dict)
    findings: list[_Finding] = field(default_factory=list)

    def add(self, kind: str, split: str, text: str, examples: Sequence[str], count: int | None = None) -> None:
        """Add a finding if it has cases; `count` is their number if the examples are not all."""
        count = len(examples) if count is None else count
        if count:
            self.findings.append(_Finding(kind, split, count, text, list(examples[:_EXAMPLES])))

    def fails(self, finding: _Finding) -> bool:
        """Return True if the finding makes the check fail."""
        return KINDS[finding.kind] and finding.kind not in self.allowed

    @property
    def passed(self) -> bool:
        """Return True if no finding makes the check fail."""
        return not any(map(self.fails, self.findings))

    def values(self) -> dict[str, Any]:
        """Return the report as values for JSON."""
        return {
            "passed": self.passed,
            "num_classes": self.num_classes,
            "allowed": list(self.allowed),
            "splits": {split: asdict(facts) for split, facts in self.splits.items()},
            "findings": [{**asdict(finding), "fails": self.fails(finding)} for finding in self.findings],
        }

    def lines(self, examples: int = 5) -> list[str]:
        """Format the report as lines of text, with up to `examples` cases of each finding."""
        lines = [f"{split}: {_describe(facts, self.num_classes)}" for split, facts in self.splits.items()]
        for finding in self.findings:
            verdict = "FAIL" if self.fails(finding) else "note"
            lines.append(f"{verdict} {finding.kind} ({finding.split}): {finding.text}: {finding.count}")
            lines += [f"    {example}" for example in finding.examples[:examples]]
            if finding.count > examples and finding.examples:
                lines.append("    ...")
        return [*lines, "passed" if self.passed else "failed"]


def _describe(facts: _SplitFacts, num_classes: int) -> str:
    parts = [f"{facts.dataset}, {facts.videos} videos", f"{facts.samples} samples"]
    if facts.key_frames is not None:
        parts.append(f"{facts.key_frames} key frames with {facts.boxes} boxes")
    if facts.classes_seen is not None:
        parts.append(f"{facts.classes_seen} of {num_classes} classes")
    found = f"{facts.unreadable} unreadable or incomplete, {facts.frames} frames, {facts.seconds:.0f} s"
    parts.append(f"{facts.probed} probed: {found}")
    return ", ".join(parts)
