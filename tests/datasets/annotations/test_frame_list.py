"""Lists of frames against a reader that keeps every line."""

import csv
import os
import pickle
import random

import pytest

from slowfast.datasets.annotations.frame_list import FramePaths, read_frame_list

HEADER = "original_vido_id video_id frame_id path labels\n"


def by_hand(files, prefix=""):
    """video -> [(frame_id, path, set of labels)] in order of frame_id."""
    videos = {}
    for file in files:
        with open(file, newline="", encoding="utf-8", errors="surrogateescape") as stream:
            for row in list(csv.reader(stream, delimiter=" "))[1:]:
                if row:
                    labels = {int(label) for label in row[4].split(",") if label}
                    videos.setdefault(row[0], []).append((int(row[2]), os.path.join(prefix, row[3]), labels))
    return {name: sorted(frames, key=lambda frame: frame[0]) for name, frames in videos.items()}


def labels_of(frames, video):
    shown = [set() for _ in frames.paths(video)]
    for label, first, last in frames.spans(video).tolist():
        for frame in range(first, last + 1):
            assert label not in shown[frame]
            shown[frame].add(label)
    return shown


def check(files, prefix=""):
    expected = by_hand(files, prefix)
    frames = pickle.loads(pickle.dumps(read_frame_list([str(file) for file in files], prefix, num_classes=157)))
    assert frames.videos == list(expected)
    assert len(frames) == len(expected)
    for video, name in enumerate(frames.videos):
        assert list(frames.paths(video)) == [path for _, path, _ in expected[name]]
        assert labels_of(frames, video) == [labels for _, _, labels in expected[name]]
        ids = [number for number, _, _ in expected[name]]
        assert frames.gaps(video) == ids[-1] - ids[0] + 1 - len(ids)
    return frames


@pytest.fixture
def write(tmp_path):
    def write(text, name="train.csv", header=HEADER, **options):
        path = tmp_path / name
        path.write_text(header + text, **options)
        return path

    return write


def published(seed, videos=3, first=1):
    rng = random.Random(seed)
    lines = []
    for number in range(videos):
        name = f"V{number}{rng.choice('AB12')}-x"
        labels = []
        for frame in range(rng.choice([1, 9, 120, 1050])):
            if rng.random() < 0.05:
                labels = sorted(rng.sample(range(157), rng.randint(0, 3)))
            text = ",".join(map(str, labels))
            lines.append(f'{name} {number} {frame} {name}/{name}-{frame + first:06d}.jpg "{text}"\n')
    return lines


@pytest.mark.parametrize("seed", range(4))
def test_published_lists(write, seed):
    check([write("".join(published(seed)))], "/some/folder")


@pytest.mark.parametrize("seed", range(4))
def test_lines_in_any_order(write, seed):
    lines = published(seed)
    random.Random(seed).shuffle(lines)
    check([write("".join(lines))])


def test_a_video_over_two_files(write):
    lines = published(1)
    cut = len(lines) // 2
    check([write("".join(lines[:cut])), write("".join(lines[cut:]), "more.csv")])


@pytest.mark.parametrize(
    "line",
    [
        "v 0 {0} v/f{0}.jpg \"\"",  # no leading zeros
        "v 0 {0} v/f{0:03d}.jpg \"3\"",  # more digits than their width
        "v 0 {0} v/f{0:03d}-480.jp2 1",  # the number that counts is not the last, labels are not quoted
        "v 0 {1} v/{2}.jpg 1",  # ids with gaps, names without a rule
        "v 0 {0} v/same.jpg \"1,2\"",
        "v 0 {0} /elsewhere/{0:06d}.jpg ",  # no labels at all
        "v 0 0{0} v/{0}.jpg \"1\"",
        "v 0 {0} \"v w/{0}.jpg\" \"1,2\"",  # a path with a space
        "v 0 {0} v/99999999999999999999999{0}.jpg \"1\"",
        "v 0 {0} v{3}/{0:06d}.jpg \"{3}\"",
    ],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n"])
def test_unusual_lines(write, line, ending):
    rng = random.Random(0)
    lines = [line.format(n, 2 * n, rng.randrange(10**9), n // 30) for n in range(5, 1105)]
    check([write(ending.join(lines), newline="")], "here")


def test_names_that_are_no_utf8(tmp_path):
    path = tmp_path / "train.csv"
    path.write_bytes(HEADER.encode() + b'v 0 0 v\xff/000001.jpg ""\nv 0 1 v\xff/000002.jpg ""\n')
    frames = check([path], "there")
    assert os.fsencode(frames.paths(0)[1]) == b"there/v\xff/000002.jpg"


def test_a_published_list_is_small(write):
    frames = check(
        [write("".join(f'v{v} {v} {f} v{v}/{f:06d}.jpg "{f // 300}"\n' for v in range(5) for f in range(3000)))]
    )
    assert len(pickle.dumps(frames)) < 5 * 300
    names = [f"/{random.Random(n).randrange(10**12)}.jpg" for n in range(1000)]
    frames = check([write("".join(f'v 0 {f} {name} ""\n' for f, name in enumerate(names)))])
    assert len(pickle.dumps(frames)) < 1000 * 25


def test_labels_are_left_alone_without_classes(write):
    frames = read_frame_list(str(write('v 0 0 a.jpg "what is this"\nv 0 1 b.jpg 99\n')))
    assert frames.spans(0).shape == (0, 3)
    with pytest.raises(ValueError, match="labels"):
        read_frame_list(str(write('v 0 0 a.jpg "what"\n')), num_classes=3)


GOOD = ['v 0 0 v/1.jpg "1"\n', 'v 0 1 v/2.jpg "1"\n']


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ('v 0 2 "1"', "4 fields"),
        ('v 0 2 v/3.jpg more "1"', "6 fields"),
        ('v 0 x v/3.jpg "1"', "frame_id 'x'"),
        ('v 0 -2 v/3.jpg "1"', "frame_id '-2'"),
        ('v 0 ² v/3.jpg "1"', "frame_id"),
        ('v 0 1 v/3.jpg "1"', "frame_id 1 of v, which another line has too"),
        ('v 0 0 v/1.jpg "1"', "frame_id 0 of v, which another line has too"),
        ('v 0 2 v/3.jpg "157"', "label 157, outside 0 to 156"),
        ('v 0 2 v/3.jpg "1,"', "labels"),
        ('v 0 2 v/3.jpg "-1"', "labels"),
        ('v 0 2 v/3.jpg "1', "does not parse|labels"),
        ('v 0 2 "v/3.jpg 1', "does not parse"),
        ('v 0 2  "1"', "names no video or no path"),
        (' 0 2 v/3.jpg "1"', "names no video or no path"),
        ("nonsense", "1 fields"),
    ],
)
def test_wrong_lines(write, line, cause):
    # A blank line counts too; what follows the wrong one goes on as if it were not there.
    path = write(GOOD[0] + "\n" + GOOD[1] + line + "\n" + 'v 0 3 v/4.jpg "1"\n')
    with pytest.raises(ValueError, match=cause) as caught:
        read_frame_list(str(path), num_classes=157)
    assert str(caught.value).startswith(f"{path}, line 5: {line!r}")
    wrong = []
    frames = read_frame_list(str(path), num_classes=157, errors=wrong)
    assert wrong == [str(caught.value)]
    assert list(frames.paths(0)) == ["v/1.jpg", "v/2.jpg", "v/4.jpg"]


def test_wrong_files(write, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no list of frames"):
        read_frame_list(str(tmp_path / "none.csv"))
    with pytest.raises(ValueError, match="line 1: 'path 3' is not the header"):
        read_frame_list(str(write("path 4\n", header="path 3\n")))
    with pytest.raises(ValueError, match="list no frame"):
        read_frame_list(str(write("\n")))


def test_paths_are_a_sequence(write):
    frames = read_frame_list(str(write("".join(f'v 0 {f} v/{f:06d}.jpg ""\n' for f in range(10)))), "p")
    paths = frames.paths(0)
    assert isinstance(paths, FramePaths)
    assert paths[-1] == "p/v/000009.jpg"
    assert paths[2:9:3] == [f"p/v/00000{n}.jpg" for n in (2, 5, 8)]
    with pytest.raises(IndexError, match="10 of 10"):
        paths[10]
