"""Whatever becomes of an annotation file, its reader reads it or says where it is wrong."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slowfast.apps.prepare.frames import FORMATS
from slowfast.datasets.annotations.frame_list import read_frame_list
from slowfast.datasets.annotations.kinetics import chosen_classes, read_segments
from slowfast.datasets.charades import read_annotations
from slowfast.datasets.ssv2 import read_labels, read_videos
from slowfast.datasets.video_dataset import read_paths, read_video_list
from slowfast.evaluation.ava_files import read_boxes, read_detections, read_excluded, read_groundtruth
from slowfast.utils.errors import LineErrors, collect_errors
from slowfast.utils.label_map import read_label_map

# The same examples on every run, and none kept on disk.
ALWAYS = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=80,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@dataclass(frozen=True)
class Kind:
    """Name a format, a sound file of it, and its reader."""

    text: str
    read: Callable[[str], object]


FRAMES = "original_vido_id video_id frame_id path labels\n" + "".join(
    f'{name} {number} {frame} {name}/{name}-{frame + 1:06d}.jpg "{frame // 2},7"\n'
    for number, name in enumerate(("AAAAA", "BBBBB"))
    for frame in range(6)
)
BOXES = "".join(f"film,{second:04d},0.1,0.2,0.{second % 7 + 3},0.9,{second % 9 + 1},1\n" for second in range(902, 912))
LABELS = {"Moving something": 0, "Putting something": 1}
KINDS = {
    "video list": Kind("a b.mp4 3\n/c/d.mp4 0\n\ne.mp4 9\n", functools.partial(read_video_list, num_classes=10)),
    "paths": Kind("a b.mp4 3\n/c/d.mp4 0\n\ne.mp4 9\n", read_paths),
    "frame list": Kind(FRAMES, functools.partial(read_frame_list, prefix="/frames", num_classes=10)),
    "charades": Kind(
        'id,subject,actions,length\nAAAAA,S1,c001 0.20 0.61;c012 0.50 0.55,31.50\nBBBBB,"S,2",,9\n',
        functools.partial(read_annotations, num_classes=20),
    ),
    "ssv2 labels": Kind('{"Moving something": "0", "Putting something": "1"}', lambda path: read_labels(path, 2)),
    "ssv2 videos": Kind(
        '[{"id": "7", "template": "Moving [something]"},\n {"id": "8", "template": "Moving [something]"}]',
        lambda path: read_videos(path, LABELS),
    ),
    "ssv2 frames": Kind('[{"id": "7"},\n {"id": "8"}]', FORMATS["ssv2"].read),
    "ava boxes": Kind(BOXES, functools.partial(read_boxes, num_classes=9)),
    "ava predictions": Kind(
        BOXES.replace(",1\n", ",0.95\n"), functools.partial(read_boxes, num_classes=9, least_score=0.5)
    ),
    "ava excluded": Kind("film,0905\nfilm,0906\n", read_excluded),
    "label map": Kind('item {\n  name: "bend"\n  id: 1\n}\nlabel { label_id: 3 name: "sit" }\n', read_label_map),
    "kinetics": Kind(
        'label,youtube_id,time_start,time_end,split\n"a, b",aaaaaaaaaaa,10,20,train\nyoga,bbbbbbbbbbb,0,10,train\n',
        read_segments,
    ),
    "classes": Kind("yoga\nzumba\n", lambda path: chosen_classes(path, ["yoga", "zumba", "tango"])),
    "official detections": Kind(BOXES.replace(",1\n", ",0.95\n"), read_detections),
    "official ground truth": Kind(BOXES, read_groundtruth),
    "official excluded": Kind("film,0905\nfilm,0906\n", read_excluded),
}

TOKENS = [b'"', b"'", b",", b" ", b";", b"\n", b"\r", b"\r\n", b"\t", b"\0", b"-1", b"nan", b"inf", b"1e999", b"1_0"]
TOKENS += [b"99999999999999999999", b"0x1", b"\xc2\xb2", b"\xd9\xa3", b"\xff\xfe", b"\xef\xbb\xbf", b"{", b"}", b"["]
TOKENS += [b"]", b"null", b"true", b"[" * 3000, b"\\", b"\\ud800", b"\xe2\x80\xa8", b"\x1c", b"/", b"../", b"9" * 4400]
PIECES = st.sampled_from(TOKENS) | st.binary(max_size=8)
# Where (as a share of the file), how many bytes go, and what comes there; None doubles what would have gone.
CHANGES = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 12), PIECES | st.none()), min_size=1, max_size=4, unique_by=lambda c: c[0]
)


def changed(data: bytes, changes) -> bytes:
    """Return the file with all changes made, from its end to its start."""
    for share, count, piece in sorted(changes, key=lambda change: -change[0]):
        place = int(share * len(data))
        piece = 2 * data[place : place + count] if piece is None else piece
        data = data[:place] + piece + data[place + count :]
    return data


def complaint(read, path) -> str:
    """Return the reader's error message, "" if it reads the file; errors other than ValueError pass."""
    try:
        with np.errstate(all="raise"):
            read(str(path))
        found = None
    except ValueError as error:
        found = error
    assert type(found) in (ValueError, type(None)), f"{type(found).__name__} is no message of ours: {found}"
    return str(found) if found else ""


@pytest.mark.parametrize("name", KINDS)
def test_sound_files_are_read(name, tmp_path):
    (tmp_path / "train.txt").write_text(KINDS[name].text)
    assert complaint(KINDS[name].read, tmp_path / "train.txt") == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_changed_files_are_read_or_their_place_is_named(name, tmp_path):
    kind, path = KINDS[name], tmp_path / "train.txt"
    complaints = []

    @ALWAYS
    @given(CHANGES)
    def read_changed(changes):
        path.write_bytes(changed(kind.text.encode(), changes))
        message = complaint(kind.read, path)
        complaints.append(message)
        if message:
            assert str(path) in message
            line = re.search(r"line (\d+)", message)
            if line:
                assert 1 <= int(line[1]) <= 2 + len(re.split(rb"\r\n|\r|\n", path.read_bytes()))

    read_changed()
    # A list of paths alone has no line that is wrong; of all others the changes do break some.
    assert name == "paths" or any("line " in message for message in complaints)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_any_bytes_are_read_or_refused(name, tmp_path):
    kind, path = KINDS[name], tmp_path / "train.txt"

    @settings(ALWAYS, max_examples=30)
    @given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
    def read_any(data):
        path.write_bytes(data)
        message = complaint(kind.read, path)
        assert not message or str(path) in message

    read_any()


def test_a_header_that_is_no_csv(tmp_path):
    """A field has at most 131,072 characters in Python's module."""
    (tmp_path / "train.csv").write_text("youtube_id" * 20_000 + ",time_start,time_end\n")
    with pytest.raises(ValueError, match=r"train\.csv, line 1: .* is no line of a CSV file"):
        read_segments(str(tmp_path / "train.csv"))


def test_a_label_map_of_many_classes_is_read_in_one_pass(tmp_path):
    """Copying the rest of the text for each token would take minutes for this file."""
    text = "".join(f'item {{\n  name: "class {number}"\n  id: {number}\n}}\n' for number in range(1, 40_001))
    (tmp_path / "map.pbtxt").write_text(text)
    assert read_label_map(str(tmp_path / "map.pbtxt"))[40_000] == "class 40000"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["video list", "frame list", "charades", "ava boxes", "ava predictions", "kinetics"])
def test_a_wrong_line_costs_a_checker_nothing_but_that_line(name, tmp_path):
    """Lines that a run would stop at are passed over, and every message is of another place than the others."""
    kind, path = KINDS[name], tmp_path / "train.txt"

    @settings(ALWAYS, max_examples=40)
    @given(
        st.lists(
            st.tuples(st.integers(1, 3), st.sampled_from([b"?", b",,,,,,,", b"x y", b"1 2 3 4 5 end"])), max_size=3
        )
    )
    def read_with(wrong_lines):
        lines = kind.text.encode().splitlines()
        header = len(lines) and name in ("frame list", "charades", "kinetics")
        for place, line in wrong_lines:
            lines.insert(min(place, len(lines)) if header else place - 1, line)
        path.write_bytes(b"\n".join(lines) + b"\n")
        wrong = LineErrors(100)
        with collect_errors(wrong):
            kind.read(str(path))
        assert wrong.count == len(set(wrong)) == len(wrong_lines)

    read_with()
