"""Times of a stream's frames, and slots of a constant rate, beside slow and obvious references."""

import math
from fractions import Fraction

import numpy as np
import pytest

from slowfast.apps.predict.resample import Resampler, StreamClock
from slowfast.datasets.video.timing import Timeline


def resampled(times, fps, start=0.0):
    """Numbers of the frames that the slots show."""
    resampler = Resampler(fps, start)
    shown = [number for place, time in enumerate(times) for number in resampler.push(time, place)]
    return shown + resampler.finish()


def newest_by(times, slot, fps):
    """Number of the last frame whose time, rounded to slots (half a slot upward), is not after the slot."""
    return max(place for place, time in enumerate(times) if math.floor(Fraction(time) * fps + Fraction(1, 2)) <= slot)


@pytest.mark.parametrize("fps", [1, 8, 25, 30])
def test_a_slot_shows_the_newest_frame(fps):
    rng = np.random.default_rng(fps)
    for _ in range(30):
        times = [0.0, *(rng.exponential(rng.choice([0.3, 1, 3]) / fps, size=rng.integers(1, 40)).cumsum().tolist())]
        shown = resampled(times, fps)
        assert shown == [newest_by(times, slot, fps) for slot in range(len(shown))]
        # The last frame lasts as long as the one before it.
        assert len(shown) == max(math.floor(Fraction(2 * times[-1] - times[-2]) * fps + Fraction(1, 2)), 1)
        # So are the images of a file of a variable rate.
        if not (timeline := Timeline.of_times(np.array(times), len(times) / (times[-1] + 1e-9))).is_even:
            grid = timeline.grid(fps)
            assert shown == grid.frames(range(grid.num_frames))


@pytest.mark.parametrize("fps", [7.5, 24, 25, 30000 / 1001, 50])
def test_a_constant_rate_stays_as_it_is(fps):
    for digits in (3, 9):  # milliseconds, as in Matroska
        times = [round(number / fps, digits) for number in range(500)]
        assert resampled(times, fps) == list(range(500))
        assert resampled([1000 + time for time in times], fps, 1000.0) == list(range(500))


def test_a_slot_is_shown_as_soon_as_it_is_known():
    resampler = Resampler(10)
    assert resampler.finish() == []
    assert resampler.push(0.0, "a") == []
    assert resampler.push(0.1, "b") == ["a"]
    assert resampler.push(0.4, "c") == ["b"] * 3
    assert resampler.push(0.4, "d") == []
    assert resampler.finish() == ["d"] * 3
    one = Resampler(10, 5.0)
    one.push(5.0, "a")
    assert one.finish() == ["a"]


def seconds(clock, frames):
    return [round(clock.seconds(stamp, arrived), 6) for stamp, arrived in frames]


def test_time_comes_from_stamps():
    clock = StreamClock()
    assert seconds(clock, [(90.0, 5.0), (90.5, 9.0), (92.0, 9.1)]) == [0, 0.5, 2.0]
    assert not clock.is_broken


def test_frames_without_stamps_are_timed_by_their_arrival():
    clock = StreamClock()
    assert seconds(clock, [(None, 5.0), (None, 5.25), (7.0, 5.5), (7.5, 9.0), (None, 9.25)]) == [0, 0.25, 0.5, 1, 1.25]
    assert clock.is_broken


def test_a_file_without_stamps_is_timed_by_its_rate():
    assert seconds(StreamClock(0.5), [(None, 5.0), (None, 5.0), (None, 5.1)]) == [0, 0.5, 1.0]


def test_a_small_step_back_is_no_other_time():
    clock = StreamClock()
    assert seconds(clock, [(1.0, 0.0), (1.08, 0.1), (1.04, 0.1), (1.12, 0.2)]) == [0, 0.08, 0.08, 0.12]
    assert not clock.is_broken


def test_stamps_of_another_time_go_on_from_the_arrival():
    """Back by an hour, and ahead by one, as where the clock of a camera is set."""
    for other in (-3600.0, 3600.0):
        clock = StreamClock()
        assert seconds(clock, [(4000.0, 7.0), (4000.5, 7.5), (4001 + other, 8.25), (4001.5 + other, 9)]) == [
            *(0, 0.5, 1.25),
            1.75,
        ]
        assert clock.is_broken
    # A live source that was silent has late stamps, and a file may have a gap.
    assert seconds(StreamClock(), [(0.0, 0.0), (60.0, 55.0)]) == [0, 60]
    assert seconds(StreamClock(0.04), [(0.0, 0.0), (3600.0, 0.1)]) == [0, 3600]


def test_a_lost_source_goes_on_by_the_clock():
    clock = StreamClock()
    assert seconds(clock, [(50.0, 0.0), (51.0, 1.0)]) == [0, 1]
    clock.interrupt()
    assert seconds(clock, [(3.0, 8.5), (3.5, 8.6)]) == [8.5, 9.0]
    assert not clock.is_broken


def test_a_file_that_is_read_again_is_known():
    clock = StreamClock(0.04)
    clock.seconds(10.0, 0.0)
    clock.seconds(10.04, 0.0)
    assert [clock.is_past(stamp) for stamp in (10.0, 10.04, 10.08, None)] == [True, True, False, False]
