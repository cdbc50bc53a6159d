"""Split videos of classes into train, val and test, with the parts of one video together."""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from slowfast.datasets.video.find import stem
from slowfast.runtime.seed import SPLITS

# Endings that say "this is a part": the seconds of Kinetics, and a word for a part with its number.
_SECONDS = re.compile(r"_\d{6}_\d{6}$")
_PART = re.compile(
    r"[ _.\-]+(?:chapter|chunk|clip|cut|part|piece|scene|seg|segment|shot|subclip|pt|c|p)[ _.\-]*\d+$", re.IGNORECASE
)
_NUMBER = re.compile(r"[ _.\-]+\(?\d+\)?$")
# What cameras and people put before the number of a video; such a word is no video's name.
_CAMERA_WORDS = frozenset(
    ("clip", "dji", "dsc", "dscn", "gopr", "img", "mov", "movie", "mvi", "pxl", "sample", "take", "vid", "video")
)


@dataclass(frozen=True)
class Video:
    """A video of a class.

    Attributes:
        path: path of the file.
        place: path below the folder of its class.
        label: class number.
        digest: equal for files with the same content.
    """

    path: str
    place: str
    label: int
    digest: str


def source_name(name: str, class_name: str = "") -> tuple[str, str]:
    """Return the name of the video that a file is a part of, and what was cut off: "part", "number"; "file" for none.

    Cut off the end are, as often as there are any: the seconds of Kinetics (`_000012_000022`), and a word for a part
    with its number (`_c01`, `-clip_0001`, ` part1`). If there are none, a number after a separator (`_12`, ` (2)`).
    Nothing is cut off if what is left is no name: no letters or digits, a word that cameras use (`IMG`), or the name
    of the class.

    Args:
        name: name of the file without its suffix.
        class_name: name of its class.
    """
    no_names = {"", _plain(class_name), *_CAMERA_WORDS}
    source = name
    while match := _SECONDS.search(source) or _PART.search(source):
        if _plain(source[: match.start()]) in no_names:
            return (source, "part") if source != name else (name, "file")
        source = source[: match.start()]
    if source != name:
        return source, "part"
    match = _NUMBER.search(name)
    if match and _plain(name[: match.start()]) not in no_names:
        return name[: match.start()], "number"
    return name, "file"


def group(videos: Sequence[Video], classes: Sequence[str]) -> list[list[Video]]:
    """Return groups of videos that have to stay in one split.

    Together are files of the same content, files of one folder below that of a class, and files of one `source_name`:
    in one class, and in all classes if the names end as those of parts. If all files of a class have one source, and
    only numbers differ, these count the videos of the class, and the files are not together.

    Args:
        videos: the videos.
        classes: name of each class.
    """
    sources = [_source_of(video, classes[video.label]) for video in videos]
    of_class: dict[int, set[str]] = {}
    for video, (source, _) in zip(videos, sources, strict=True):
        of_class.setdefault(video.label, set()).add(source)
    leader = list(range(len(videos)))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    first: dict[object, int] = {}
    for i, (video, (source, kind)) in enumerate(zip(videos, sources, strict=True)):
        counter = kind == "number" and len(of_class[video.label]) == 1
        keys: list[object] = [video.digest, (video.label, video.place if counter else source)]
        if kind == "part":
            keys.append((source,))
        for key in keys:
            leader[find(i)] = find(first.setdefault(key, i))
    groups: dict[int, list[Video]] = {}
    for i, video in enumerate(videos):
        groups.setdefault(find(i), []).append(video)
    return list(groups.values())


def split_groups(groups: Iterable[Sequence[Video]], shares: Mapping[str, float], seed: int) -> dict[str, list[Video]]:
    """Split groups so that each class gives about its share of videos to val and test, and one group at least.

    A class of two groups gives one to train and one to val, a class of one gives it to train.

    Args:
        groups: groups of videos, whose classes may differ.
        shares: share of val and of test, each of 0 to 1.
        seed: seed of the order in which groups are taken.

    Returns:
        Split -> videos, sorted by label and path.
    """
    shuffled = [tuple(videos) for videos in groups]
    random.Random(seed).shuffle(shuffled)
    classes: dict[int, list[int]] = {}
    for number, videos in enumerate(shuffled):
        for label in sorted({video.label for video in videos}):
            classes.setdefault(label, []).append(number)
    place: dict[int, str] = {}
    # Classes with few groups choose first: those of others have more to choose from.
    for label, own in sorted(classes.items(), key=lambda item: (len(item[1]), item[0])):
        size = {number: sum(video.label == label for video in shuffled[number]) for number in own}
        have = Counter({split: sum(size[n] for n in own if place.get(n) == split) for split in SPLITS})
        for split in ("val", "test"):
            _take(split, shares[split] * sum(size.values()), size, have, place)
        place.update({number: "train" for number in own if number not in place})
    chosen: dict[str, list[Video]] = {split: [] for split in SPLITS}
    for number, videos in enumerate(shuffled):
        chosen[place[number]] += videos
    return {split: sorted(videos, key=lambda video: (video.label, video.path)) for split, videos in chosen.items()}


def _take(split: str, target: float, size: Mapping[int, int], have: Counter[str], place: dict[int, str]) -> None:
    """Place free groups of a class in a split while that brings its number of videos nearer to the target.

    Args:
        size: videos of the class in each of its groups.
        have: videos of the class in each split, updated.
        place: split of each group that has one, updated.
    """
    free = [number for number in size if number not in place]

    def put(number: int) -> None:
        free.remove(number)
        place[number] = split
        have[split] += size[number]

    # A group stays for each split that has none yet.
    for number in list(free):
        missing = sum(not have[other] for other in SPLITS if other != split)
        if len(free) > missing and have[split] + size[number] / 2 <= target:
            put(number)
    if not have[split] and len(free) > (not have["train"]):
        put(min(free, key=size.__getitem__))


def _source_of(video: Video, class_name: str) -> tuple[str, str]:
    """Return the name of a video's source, and what names it: a "folder", "part", "number" or whole "file"."""
    folder, name = os.path.split(video.place)
    if folder:
        return f"{folder}{os.sep}", "folder"
    return source_name(stem(name), class_name)


def _plain(name: str) -> str:
    """Return the letters and digits of a name, in lower case."""
    return re.sub(r"[\W_]+", "", name).lower()
