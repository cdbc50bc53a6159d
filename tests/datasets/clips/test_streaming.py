"""Windows of whole videos: what they cover, and that they are cut as clips are."""

import itertools

import pytest

from slowfast.config import load_config
from slowfast.datasets.clips import temporal_sampling as sampling
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.streaming import ClipWindows, StepWindows, tiles
from slowfast.datasets.video_dataset import read_paths


@pytest.fixture
def settings(tiny_model):
    """Function: the test clips' settings under overrides of the tiny model."""
    return lambda *more: ClipSettings.from_config(load_config(None, [*tiny_model, *more]), "test")


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 30, 300])
@pytest.mark.parametrize("span", [1.0, 8.0, 7.5, 64.0])
def test_tiles_cover_every_frame_and_stay_inside(frames, span):
    found = tiles(frames, span)
    covered = {frame for start, end in found for frame in range(int(start), int(end) + 2)}
    assert set(range(frames)) <= covered
    assert found[0][0] == 0
    assert all(end - start == span - 1 for start, end in found)
    if frames >= span:
        assert found[-1][1] == frames - 1
        assert len(found) < frames / span + 1
    else:
        assert len(found) == 1


def test_tiles_of_a_video_of_whole_clips_do_not_overlap(settings):
    windows = ClipWindows(settings("DATA.SAMPLING_RATE", 2, "DATA.TARGET_FPS", 30))(64, 30.0)
    # 8 frames over 16: 0 to 15 in 8 even parts, cut to whole frames.
    assert [window[0] for window in windows[:2]] == [[0, 2, 4, 6, 8, 10, 12, 15], [16, 18, 20, 22, 24, 26, 28, 31]]
    assert len(windows) == 4


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize(("frames", "cyclic"), [(50, False), (5, False), (5, True)])
def test_spread_clips_are_the_test_views(settings, frames, cyclic, offset):
    s = settings("TEST.NUM_ENSEMBLE_VIEWS", 3, "DATA.USE_OFFSET_SAMPLING", offset, "TEST.CYCLIC_LOAD", cyclic)
    expected = [sampling.SpanSampling().view(frames, 25.0, s, view) for view in range(3)]
    assert [window[0] for window in ClipWindows(s, tile=False)(frames, 25.0)] == expected


def steps_of(first, later):
    """Steps of `first` frames, then `later` each, until all are read."""

    def steps(num_frames):
        bounds = [0, first]
        while bounds[-1] < num_frames:
            bounds.append(bounds[-1] + later)
        return [[list(range(*pair))] for pair in itertools.pairwise(bounds)]

    return steps


@pytest.mark.parametrize("rate", [1, 2, 8])
@pytest.mark.parametrize("fps", [30.0, 25.0, 12.0])
def test_steps_read_the_frames_of_a_clip_and_go_on_to_the_end(settings, rate, fps):
    s = settings("DATA.SAMPLING_RATE", rate, "DATA.TARGET_FPS", 30)
    windows = StepWindows(s, steps_of(8, 7))(400, fps)
    clip = sampling.span_indices((0.0, sampling.clip_span(8, rate, fps, 30) - 1), 8, 400)
    assert windows[0][0] == clip
    frames = [frame for window in windows for frame in window[0]]
    assert frames == sorted(frames)
    assert frames[-1] <= 399
    gaps = [b - a for a, b in itertools.pairwise(frames)]
    assert max(gaps) <= max(clip[i + 1] - clip[i] for i in range(7)) + 1
    # Within one sampled frame of the end.
    assert 399 - frames[-1] <= max(gaps)


def test_the_last_frame_repeats_behind_the_end(settings):
    windows = StepWindows(settings("DATA.TARGET_FPS", 30), steps_of(8, 7))(10, 30.0)
    assert [window[0] for window in windows] == [list(range(8)), [8, 9, 9, 9, 9, 9, 9]]


def test_labels_of_a_list_are_optional(tmp_path):
    file = tmp_path / "list.csv"
    file.write_text("a b.mp4 3\n\nc.mp4 0\n")
    assert read_paths(str(file), prefix="/data") == (["/data/a b.mp4", "/data/c.mp4"], [3, 0], [1, 3])
    file.write_text("path\nmy video 1.mp4\n/other/c.mp4\n")
    found = read_paths(str(file), prefix="/data", skip_rows=1)
    assert found == (["/data/my video 1.mp4", "/other/c.mp4"], [None] * 2, [2, 3])
    file.write_text("a.mp4,1\n")
    assert read_paths(str(file), ",") == (["a.mp4"], [1], [1])
    with pytest.raises(ValueError, match="lists no video"):
        read_paths(str(file), skip_rows=1)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_paths(str(tmp_path / "nowhere.csv"))
