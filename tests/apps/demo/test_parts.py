"""Parts of the demo: clips of a source, reading ahead, labels, marks, and the window."""

import cv2
import numpy as np
import pytest

from slowfast.apps.demo.clips import DemoClip, ReadAhead, at_their_rate, cut_clips
from slowfast.apps.demo.drawing import Mark, draw_marks
from slowfast.apps.demo.labels import LabelRule, read_names


@pytest.mark.parametrize(
    ("count", "length", "shared", "expected"),
    [
        (20, 8, 0, [(0, 8, 0), (8, 8, 0), (16, 4, 0)]),
        (20, 8, 4, [(0, 8, 0), (4, 8, 4), (8, 8, 4), (12, 8, 4)]),
        (21, 8, 3, [(0, 8, 0), (5, 8, 3), (10, 8, 3), (15, 6, 3)]),
        (3, 8, 4, [(0, 3, 0)]),
        (0, 8, 4, []),
    ],
)
def test_clips_cover_a_source(count, length, shared, expected):
    found = list(cut_clips(range(count), length, shared))
    assert [(clip.first, len(clip.frames), clip.num_shared) for clip in found] == expected
    assert all(clip.key == len(clip.frames) // 2 for clip in found)
    assert [list(clip.frames) for clip in found] == [list(range(first, first + size)) for first, size, _ in expected]
    assert [frame for clip in found for frame in clip.frames[clip.num_shared :]] == list(range(count))


def clip(number):
    return DemoClip(number, [np.zeros((1, 1, 3), np.uint8)], 0)


def test_the_newest_clip_is_taken_and_older_ones_dropped(wait_for):
    ended = []

    def some():
        yield from map(clip, range(5))
        ended.append(True)

    with ReadAhead(some(), newest=True) as ahead:
        wait_for(lambda: ended)
        assert [each.first for each in ahead] == [4]


def test_a_thread_reads_only_so_far_ahead(wait_for):
    read = []

    def some():
        for number in range(9):
            read.append(number)
            yield clip(number)

    with ReadAhead(some(), most=2) as ahead:
        wait_for(lambda: len(read) == 3)  # two wait, and the third has no place
        clips = iter(ahead)
        assert next(clips).first == 0
        wait_for(lambda: len(read) == 4)
    assert len(read) == 4


def test_an_error_of_the_source_comes_behind_its_clips():
    def some():
        yield clip(0)
        raise ValueError("broken")

    with ReadAhead(some()) as ahead:
        clips = iter(ahead)
        assert next(clips).first == 0
        with pytest.raises(ValueError, match="broken"):
            next(clips)


def test_frames_come_no_earlier_than_a_camera_gives_them():
    now, slept = [100.0], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    for number in at_their_rate(range(4), 10.0, lambda: now[0], sleep):
        now[0] += 0.25 if number == 1 else 0.03  # the second frame takes longer than two others last
    np.testing.assert_allclose(slept, [0.0, 0.07, 0.0, 0.0], atol=1e-9)


NAMES = ["walk", "fly", "sit"]


@pytest.mark.parametrize(
    ("best", "common", "scores", "expected"),
    [
        (None, ["walk", "sit"], [0.7, 0.3, 0.69], ["[0.70] walk", "[0.30] fly"]),
        (None, ["walk", "sit"], [0.699, 0.299, 0.9], ["[0.90] sit"]),
        (None, [], [0.6, 0.75, 0.8], ["[0.80] sit", "[0.75] fly"]),
        (2, ["walk"], [0.1, 0.2, 0.05], ["[0.20] fly", "[0.10] walk"]),
    ],
)
def test_labels(best, common, scores, expected):
    assert LabelRule(NAMES, range(3), best, common, 0.7, 0.3)(np.array(scores)) == expected
    without = [label for label in expected if not label.endswith("sit")]
    assert LabelRule(NAMES, [0, 1], best, common, 0.7, 0.3)(np.array(scores)) == without


def test_names_of_a_label_map_count_from_one(tmp_path):
    path = tmp_path / "map.pbtxt"
    path.write_text('item { name: "bend" id: 1 }\nitem { name: "run" id: 3 }\n')
    assert read_names(str(path), 4) == ["bend", "1", "run", "3"]


SIDES = np.array([160, 120, 160, 120])


def test_a_box_and_its_labels_are_drawn_where_they_belong():
    frame = np.full((120, 160, 3), 200, np.uint8)
    found = draw_marks(frame, [Mark(["[0.93] walk"], np.array([40.0, 60, 100, 100]) / SIDES)])
    changed = (found != frame).any(-1)
    assert (frame == 200).all() and changed[60, 45:95].all() and changed[100, 45:95].all()
    assert changed[65:95, 40].all() and not changed[66:95, 46:94].any() and not changed[104:].any()
    # The label lies on the box; of a box at the top of the frame, in it.
    assert changed[46:58, 42:].any() and not changed[:42].any() and not changed[:, :38].any()
    at_top = (draw_marks(frame, [Mark(["[0.93] walk"], np.array([40.0, 2, 100, 100]) / SIDES)]) != frame).any(-1)
    assert at_top[8:16, 60:90].any()
    truth = draw_marks(frame, [Mark([], np.array([40.0, 60, 100, 100]) / SIDES, is_truth=True)])
    assert (truth[60, 50] != found[60, 50]).any()
    # A mark that lies outside does no harm, and text without ASCII neither.
    draw_marks(frame, [Mark(["漢字"] * 30, np.array([-900.0, -900, 900, 900]) / SIDES), Mark(["a" * 500])])


@pytest.fixture
def window(monkeypatch):
    """Stand-ins for OpenCV's window: the frames that it showed; `keys` are pressed, one at each frame."""
    shown, keys = [], []
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.setattr(cv2, "namedWindow", lambda *words: None)
    monkeypatch.setattr(cv2, "imshow", lambda title, frame: shown.append(frame))
    monkeypatch.setattr(cv2, "waitKey", lambda pause: keys.pop(0) if keys else -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *words: 1.0)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    return shown, keys


@pytest.fixture
def shown_by(run_tool, tiny_file, checkpoint, video):
    words = ("DEMO.INPUT_VIDEO", video, "TEST.CHECKPOINT_FILE_PATH", checkpoint)
    return lambda *more: run_tool("demo_net", "--cfg", tiny_file, *words, *more)


def test_without_a_file_a_window_shows_the_frames_until_q(window, shown_by, video, decode_all):
    shown, keys = window
    assert shown_by("DEMO.CLIP_VIS_SIZE", 0)[0] == 0
    expected = decode_all(video)
    assert len(shown) == len(expected) == 20
    np.testing.assert_array_equal(shown[0], expected[0][..., ::-1])
    shown.clear()
    keys += [-1, -1, ord("q")]
    assert shown_by()[0] == 0 and len(shown) == 3


def test_no_window_is_one_line(window, shown_by, monkeypatch):
    def refuse(*words):
        raise cv2.error("not implemented")

    monkeypatch.setattr(cv2, "namedWindow", refuse)
    for remedy in ("pip install opencv-python,", "DISPLAY is not set"):
        status, output = shown_by()
        assert status == 2 and remedy in output.splitlines()[-1] and "DEMO.OUTPUT_FILE" in output.splitlines()[-1]
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
