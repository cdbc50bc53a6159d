"""Which frames are shown when: constant rates are counted in frames, variable ones by the stamps of the file."""

from fractions import Fraction

import numpy as np
import pytest

from slowfast.apps.prepare.extract_frames import ExtractOptions, at_rate
from slowfast.apps.prepare.resize import ResizeOptions, resize
from slowfast.datasets.video import open as decode
from slowfast.datasets.video.in_order import OrderedFrame
from slowfast.datasets.video.timing import Timeline

MILLISECONDS = Fraction(1, 1000)


def variable(seed, count=60):
    """Times of frames with gaps of 8 ms to half a second."""
    gaps = np.random.default_rng(seed).choice([0.008, 1 / 30, 1 / 24, 0.125, 0.5], count - 1)
    return np.concatenate([[0.0], np.cumsum(gaps)]).round(3)


def timeline_of(times):
    return Timeline.of_times(times, len(times) / (2 * times[-1] - times[-2]))


@pytest.mark.parametrize(
    "name, codec, rate",
    [
        ("a.mp4", "libx264", 30),
        ("b.mp4", "libx264", Fraction(30000, 1001)),
        ("c.webm", "libvpx-vp9", Fraction(24000, 1001)),
        ("d.webm", "libvpx-vp9", 30),
        ("e.mkv", "libx264", 60),
        ("f.avi", "mpeg4", 15),
        ("g.ts", "libx264", 25),
        ("h.flv", "libx264", Fraction(30000, 1001)),
        ("i.mpg", "mpeg2video", 25),
    ],
)
def test_a_constant_rate_is_counted_in_frames(name, codec, rate, tmp_path, encode, pictures):
    """Also where stamps are rounded to milliseconds."""
    with decode.open(str(encode(tmp_path / name, pictures(90, 32, 32), codec, rate=rate))) as video:
        timeline = Timeline.of(video)
        assert timeline.is_even
        grid = timeline.grid(7.0)
        assert (grid.num_frames, grid.fps) == (video.num_frames, video.fps)
        assert grid.frames([0, 5, 5, 89]) == [0, 5, 5, 89]
        assert timeline.times.tolist() == [i / video.fps for i in range(90)]
        assert timeline.spans(np.array([3]), np.array([89])).tolist() == [[3 / video.fps, 90 / video.fps]]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
@pytest.mark.parametrize("rate, count", [(15, 91), (24, 98), (30, 90), (30, 241), (60, 301)])
def test_frames_of_a_whole_rate_are_at_its_seconds(name, rate, count, tmp_path, encode, pictures):
    """Stamps in whole milliseconds, where the rounded last one makes the mean rate 29.999; labels end at 4.00 s."""
    stamps = [round(1000 * n / rate) for n in range(count)]
    path = encode(tmp_path / name, pictures(count, 32, 32), "libx264", rate=rate, pts=stamps, time_base=MILLISECONDS)
    with decode.open(str(path)) as video:
        assert np.array_equal(Timeline.of(video).times, np.arange(count) / rate)
    resize(str(path), str(tmp_path / "copy.mp4"), ResizeOptions(16))
    with decode.open(str(tmp_path / "copy.mp4")) as copy:
        assert np.array_equal(Timeline.of(copy).times, np.arange(count) / rate)


def test_what_counts_as_constant():
    numbers = np.arange(300)
    assert Timeline.of_times(np.zeros(1), 30.0).is_even
    # A rate of 30 where the stamps say 29.97: less than a frame over the video.
    drifting = Timeline.of_times(numbers / 29.97, 30.0)
    assert drifting.is_even and drifting.times[-1] == round(299 / 29.97, 6)
    # Jitter of a fifth of a frame: clips are counted in frames, but every frame keeps its own time.
    jitter = (numbers + 0.2 * np.sin(numbers)) / 30
    assert Timeline.of_times(jitter, 30.0).is_even
    assert np.array_equal(Timeline.of_times(jitter, 30.0).times, jitter.round(6))
    # Two dropped frames, a pause, and a rate that falls.
    for times in (np.delete(numbers, [80, 81]) / 30, (numbers + 15 * (numbers > 150)) / 30, (numbers / 30) ** 1.2):
        assert not timeline_of(times).is_even
    # Two pictures of a screen, 5 s apart, of which the last lasts 1/30 s.
    assert not Timeline.of_times(np.array([0.0, 5.0]), 2 / (5 + 1 / 30)).is_even


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fps", [7.0, 24.0, 30.0])
def test_a_variable_rate_is_counted_in_the_images_that_would_be_extracted(seed, fps):
    """The images of `prepare_frames`; and no image is of a frame more than half an image away from those on screen."""
    times = variable(seed)
    grid = timeline_of(times).grid(fps)
    assert grid.fps == fps
    images = at_rate([OrderedFrame(number, seconds) for number, seconds in enumerate(times)], ExtractOptions(fps))
    found = grid.frames(range(grid.num_frames))
    assert found == [image.frame for image in images]
    for image, frame in enumerate(found):
        assert times[frame] <= (image + 0.5) / fps
        assert frame == len(times) - 1 or times[frame + 1] > (image - 0.5) / fps


def test_seconds_of_frames_last_until_the_next_frame():
    times = variable(5)
    spans = timeline_of(times).spans(np.array([0, 7, 59]), np.array([6, 7, 59]))
    np.testing.assert_allclose(spans[:2], [[0, times[7]], [times[7], times[8]]])
    np.testing.assert_allclose(spans[2], [times[59], 2 * times[59] - times[58]])


def test_copies_of_another_size_keep_the_times_of_their_frames(tmp_path, encode, pictures):
    times = variable(2)
    source = encode(
        tmp_path / "a.mkv", pictures(60, 32, 32), pts=(times * 1000).astype(int).tolist(), time_base=MILLISECONDS
    )
    resize(str(source), str(tmp_path / "copy.mp4"), ResizeOptions(16))
    with decode.open(str(source)) as before, decode.open(str(tmp_path / "copy.mp4")) as after:
        np.testing.assert_allclose(before.times, times, atol=1e-6)
        np.testing.assert_allclose(after.times, times, atol=2e-5)
