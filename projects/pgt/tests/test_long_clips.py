"""Long clips are tested step by step: the same scores as of whole clips, in the memory of a few steps."""

import itertools
import tracemalloc

import numpy as np
import pytest

from slowfast.datasets import step_batches
from slowfast.datasets.build import build_loader
from slowfast.datasets.step_batches import long_clip_steps, step_loader
from slowfast.datasets.video.reader import VideoError
from slowfast.datasets.video_dataset import VideoDataset
from slowfast.engine import test as engine
from slowfast.engine.task import build_task

SWEEP = (
    "PGT.PG_EVAL", True, "DATA.TARGET_FPS", 4, "DATA.SAMPLING_RATE", 1, "DATA.TRAIN_JITTER_SCALES", [40, 40],
    "TEST.NUM_ENSEMBLE_VIEWS", 2, "TEST.NUM_SPATIAL_CROPS", 3, "TEST.BATCH_SIZE", 4, "DATA_LOADER.NUM_WORKERS", 0,
)  # fmt: skip


@pytest.fixture
def tested(saved_weights, progressive_cfg, sweep_data, tmp_path, monkeypatch):
    """`tested(variant, *more) -> [(predictions, results)] of whole clips and of steps."""

    def run(variant, *more):
        monkeypatch.setattr(step_batches, "LONG_CLIP_BYTES", 2**26)
        found = []
        for name in ("whole", "steps"):
            out = tmp_path / name
            own = ("DATA.PATH_TO_DATA_DIR", str(sweep_data), "OUTPUT_DIR", str(out))
            cfg, _ = saved_weights(progressive_cfg, variant, *SWEEP, *own, *more)
            results = engine.test(cfg)
            with np.load(out / "test_predictions.npz") as arrays:
                found.append(({key: arrays[key] for key in arrays.files if key != "about"}, results))
            monkeypatch.setattr(step_batches, "LONG_CLIP_BYTES", 40_000)  # three frames ahead
        return found

    return run


def check_equal(found):
    (whole, whole_results), (steps, steps_results) = found
    assert whole.keys() == steps.keys() and whole_results == steps_results
    for name in whole:
        assert whole[name].dtype == steps[name].dtype and np.array_equal(whole[name], steps[name]), name


@pytest.fixture
def count_steps(monkeypatch):
    """Number of steps that tests read, in a list."""
    read = []
    plain = VideoDataset.evaluation_steps

    def counting(self, video, *args):
        for samples in plain(self, video, *args):
            read.append(video)
            yield samples

    monkeypatch.setattr(VideoDataset, "evaluation_steps", counting)
    return read


@pytest.mark.parametrize("variant", ["slow_overlap", "slowfast_surplus", "x3d"])
def test_scores_are_those_of_whole_clips(tested, variant, count_steps):
    check_equal(tested(variant))
    assert len(count_steps) > 3 * 4  # steps, temporal views


def test_scores_do_not_depend_on_workers(tested):
    check_equal(tested("slow", "DATA_LOADER.NUM_WORKERS", 2, "PGT.ENSEMBLE_METHOD", "max"))


def test_scores_of_8_bit_clips_are_those_of_whole_ones(tested):
    check_equal(tested("slow", "DATA_LOADER.NORMALIZE_ON_DEVICE", True, "DATA.TEST_CROP_SIZE", 32))


@pytest.mark.parametrize("broken_step", [0, 2])
def test_a_video_that_breaks_off_is_left_out(tested, monkeypatch, broken_step):
    plain, plain_steps = VideoDataset.evaluation_sample, VideoDataset.evaluation_steps
    error = VideoError("b.mp4", "broken")

    def sample(self, video, view):
        if video == 1:
            raise error
        return plain(self, video, view)

    def steps(self, video, *args):
        yield from itertools.islice(plain_steps(self, video, *args), broken_step if video == 1 else None)
        if video == 1:
            raise error

    monkeypatch.setattr(VideoDataset, "evaluation_sample", sample)
    monkeypatch.setattr(VideoDataset, "evaluation_steps", steps)
    found = tested("slow", "DATA.MAX_UNREADABLE_FRACTION", 0.9)
    check_equal(found)
    assert found[1][1]["unreadable_files"] == 1


def test_a_clip_is_never_whole_in_memory(progressive_cfg, sweep_data, monkeypatch):
    """Of 100 steps, 701 frames of 32 x 32; NumPy's memory holds a few steps of them."""
    monkeypatch.setattr(step_batches, "LONG_CLIP_BYTES", 2**19)
    cfg = progressive_cfg(
        "slow", "DATA.PATH_TO_DATA_DIR", str(sweep_data), *SWEEP, "PGT.STEPS", 100, "DATA.NUM_FRAMES", 701
    )
    loader = build_loader(cfg, "test")
    steps = long_clip_steps(build_task(cfg), loader.dataset)
    assert len(steps) == 100
    tracemalloc.start()
    count = sum(batch.size for batch in step_loader(loader, steps))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 100 * len(loader.dataset)
    assert peak < 701 * 32 * 32 * 12 / 2


def test_which_clips_are_read_in_steps(progressive_cfg, sweep_data):
    """Those of 64 MiB and more, where the test reads them in steps."""
    at = ("DATA.PATH_TO_DATA_DIR", str(sweep_data))
    long = ("PGT.STEPS", 800, "DATA.NUM_FRAMES", 5601)  # x 32 x 32 x 12 bytes: 65.6 MiB
    for more, expected in ((long, 800), (("PGT.STEPS", 700, "DATA.NUM_FRAMES", 4901), None), ((), None)):
        cfg = progressive_cfg("slow", *at, *SWEEP, *more)
        steps = long_clip_steps(build_task(cfg), build_loader(cfg, "test").dataset)
        assert (steps and len(steps)) == expected
    cfg = progressive_cfg("slow", *at, *SWEEP, *long, "PGT.PG_EVAL", False)
    assert long_clip_steps(build_task(cfg), build_loader(cfg, "test").dataset) is None
