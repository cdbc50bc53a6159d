"""Runs whose clips, batches and norms change on the way: what each epoch trains on, and runs that were cut off."""

import multiprocessing
import os
import signal

import pytest
import torch

from slowfast.checkpoint.io import find_checkpoints
from slowfast.config import cfg_from_yaml
from slowfast.datasets.video.cache import VideoCache
from slowfast.engine import epoch_config as phase
from slowfast.engine.task import ClipTask
from slowfast.engine.test import test as run_test
from slowfast.engine.train import train
from slowfast.layers.conv import depthwise_convolutions
from slowfast.runtime.signals import TrainingInterrupted

# Batches of 4 short, small clips in epochs 1, 2 and 4, of 1 full clip in epochs 3 and 5.
LONG = [
    "MULTIGRID.LONG_CYCLE", True, "MULTIGRID.EPOCH_FACTOR", 1.0, "MULTIGRID.BN_BASE_SIZE", 2, "MULTIGRID.EVAL_FREQ", 1,
    "MULTIGRID.LONG_CYCLE_FACTORS", [[0.5, 0.7072], [1.0, 1.0]],
    "DATA.TRAIN_CROP_SIZE", 46, "DATA.TRAIN_JITTER_SCALES", [46, 50], "TRAIN.BATCH_SIZE", 1,
    "SOLVER.LR_POLICY", "steps_with_relative_lrs", "SOLVER.STEPS", [0, 2, 3], "SOLVER.LRS", [1, 0.1, 0.01],
    "SOLVER.MAX_EPOCH", 5, "TRAIN.CHECKPOINT_PERIOD", 5, "LOG_PERIOD", 100,
]  # fmt: skip
COARSE, FINE = (2, 33, 4, "SubBatchNorm3d"), (4, 46, 1, "BatchNorm3d")
SHORT = ["MULTIGRID.SHORT_CYCLE", True]


@pytest.fixture
def seen(monkeypatch):
    """Record (frames, crop, clips) of each training batch, and the norms that it passes, in order."""
    seen, original = [], ClipTask.train_step

    def train_step(self, model, batch, update):
        norm = type(model.s1.pathway0_stem.bn).__name__
        clips, _, frames, _, crop = batch.inputs[0].shape
        seen.append((frames, crop, clips, norm))
        return original(self, model, batch, update)

    monkeypatch.setattr(ClipTask, "train_step", train_step)
    return seen


def assert_same_bits(one, other):
    for weights, same in (
        (one["model_state"], other["model_state"]),
        (one["ema_state"]["model_state"], other["ema_state"]["model_state"]),
    ):
        assert weights.keys() == same.keys()
        for key, value in weights.items():
            assert torch.equal(value, same[key]), key
    for number, entry in one["optimizer_state"]["state"].items():
        assert torch.equal(entry["momentum_buffer"], other["optimizer_state"]["state"][number]["momentum_buffer"])
    assert torch.equal(one["rng_state"][0]["torch"], other["rng_state"][0]["torch"])
    assert (one["epoch"], one["step"]) == (other["epoch"], other["step"])


@pytest.mark.slow
def test_what_each_epoch_trains_on(tiny_cfg, seen, stats_of, last_state):
    cfg = tiny_cfg(*LONG)
    stats = stats_of(cfg)
    assert seen == [COARSE] * 6 + [FINE] * 12 + [COARSE] * 3 + [FINE] * 12
    # Rates are BASE_LR 0.01 times the batch's factor, ten times lower in the second turn and then in fine-tuning.
    rates = [entry["lr"] for entry in stats if entry["_type"] == "train_epoch"]
    assert rates == pytest.approx([0.04, 0.04, 0.01, 0.004, 0.0001])
    # Saved and evaluated where a shape's turn ends.
    assert [file.epoch for file in find_checkpoints(cfg.OUTPUT_DIR)] == [2, 3, 4, 5]
    assert [entry["epoch"] for entry in stats if entry["_type"] == "val_epoch"] == ["2/5", "3/5", "4/5", "5/5"]
    saved = last_state(cfg)
    assert cfg_from_yaml(saved["cfg"]) == cfg
    assert saved["step"] == len(seen)


@pytest.mark.slow
def test_evaluation_is_on_the_full_clip_with_its_model(tiny_cfg, monkeypatch):
    seen, original = [], ClipTask.predict

    def predict(self, model, batch):
        pool = model.head.pathway0_avgpool
        seen.append((tuple(batch.inputs[0].shape[2:]), pool.frames))
        return original(self, model, batch)

    monkeypatch.setattr(ClipTask, "predict", predict)
    train(tiny_cfg(*LONG))
    assert set(seen) == {((4, 46, 46), 4)}
    assert len(seen) == 4 * 4  # four evaluations of four videos


@pytest.mark.slow
def test_evaluated_weights_are_the_trained_ones_and_no_draw_is_lost(tiny_cfg):
    state = phase.build_state(tiny_cfg(*LONG))
    with torch.no_grad():
        for number, parameter in enumerate(state.model.parameters()):
            parameter.fill_(number)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    _, model = phase.evaluation_parts(state)
    assert torch.equal(torch.rand(3), expected)
    assert [p.flatten()[0].item() for p in model.parameters()] == list(range(len(list(model.parameters()))))
    assert model is not state.model


@pytest.mark.slow
def test_the_evaluated_model_computes_as_the_trained_one(tiny_models, tiny_cfg):
    way = ["TRAIN.MIXED_PRECISION", True, "TRAIN.DEPTHWISE_FP32", True, "TEST.FOLD_NORMS", True]
    state = phase.build_state(tiny_cfg(*tiny_models["X3D"], *LONG, *way))
    _, model = phase.evaluation_parts(state)
    assert model is not state.model
    for each in (model, state.model):
        assert {one.full_precision for one in depthwise_convolutions(each)} == {True}
    assert model.state_dict().keys() == state.model.state_dict().keys()  # norms are not folded
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def stop_at(monkeypatch, number):
    """Send this process a SIGTERM in the `number`-th training batch."""
    original, calls = ClipTask.train_step, []

    def train_step(self, *args):
        calls.append(0)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *args)

    monkeypatch.setattr(ClipTask, "train_step", train_step)


# With the short cycle coarse epochs have two batches (8 + 4 clips), fine ones four (4 + 2 + 1 + 4); precise statistics,
# averaged weights, dropout and momentum make state.
BOTH = [*LONG, *SHORT, "BN.USE_PRECISE_STATS", True, "BN.NUM_BATCHES_PRECISE", 2, "EMA.ENABLE", True]


@pytest.fixture(scope="module")
def whole():
    """Return the results of an uninterrupted run with BOTH; the first test that asks makes them."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize(("step", "position"), [(1, (0, 1)), (6, (3, 0)), (9, (3, 3))])
def test_cut_off_and_continued(step, position, tiny_cfg, monkeypatch, whole, tmp_path, last_state):
    if not whole:
        cfg = tiny_cfg(*BOTH, "OUTPUT_DIR", str(tmp_path / "whole"))
        train(cfg)
        whole.update(last_state(cfg))
    cfg = tiny_cfg(*BOTH)
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(TrainingInterrupted):
            train(cfg)
    newest = find_checkpoints(cfg.OUTPUT_DIR)[-1]
    assert (newest.epoch, newest.iteration) == position
    train(cfg)
    assert_same_bits(last_state(cfg), whole)


@pytest.mark.slow
def test_workers_of_a_phase_end_with_it_and_videos_are_decoded_once(tiny_cfg, monkeypatch):
    counts, decoded = [], []
    original, make = ClipTask.train_step, VideoCache.__init__

    def train_step(self, *args):
        counts.append(len(multiprocessing.active_children()))
        return original(self, *args)

    monkeypatch.setattr(ClipTask, "train_step", train_step)
    monkeypatch.setattr(VideoCache, "__init__", lambda self, *args: decoded.append(0) or make(self, *args))
    train(tiny_cfg(*BOTH, "DATA_LOADER.NUM_WORKERS", 1, "DATA.CACHE_VIDEOS", True))
    # One that makes training clips; one that makes those of validation, from the first evaluation on.
    assert counts == [1] * 4 + [2] * (len(counts) - 4)
    assert len(decoded) == 2
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_clips_of_varying_length_on_a_clip_model(tiny_cfg, seen):
    train(tiny_cfg("DATA.TRAIN_NUM_FRAMES", [2, 3, 6], "SOLVER.MAX_EPOCH", 2))
    assert sorted(entry[0] for entry in seen[:3]) == sorted(entry[0] for entry in seen[3:]) == [2, 3, 6]


def test_parts_of_a_batch_that_do_not_come_out(tiny_cfg):
    cfg = tiny_cfg("BN.NORM_TYPE", "sub_batchnorm", "BN.NUM_SPLITS", 3)
    with pytest.raises(ValueError, match=r"BN\.NUM_SPLITS 3, TRAIN\.BATCH_SIZE 4: 3 splits do not divide the 4 clips"):
        phase.check_phases(cfg, range(12))


def test_the_change_in_words(tiny_cfg):
    old = tiny_cfg()
    new = tiny_cfg("DATA.NUM_FRAMES", 6, "SOLVER.BASE_LR", 0.5, "DATA.TRAIN_NUM_FRAMES", list(range(1, 30)))
    assert phase.describe_change(old, new) == "SOLVER.BASE_LR 0.5, DATA.NUM_FRAMES 6, DATA.TRAIN_NUM_FRAMES"


@pytest.mark.slow
def test_two_processes_go_through_the_phases_as_one_does(tiny_cfg, tiny_file, tool, finish, tmp_path, last_state):
    settings = [*LONG, "BN.NORM_TYPE", "frozen_batchnorm", "MODEL.DROPOUT_RATE", 0.0, "TRAIN.BATCH_SIZE", 2]
    settings += ["TEST.ENABLE", False]
    status, output = finish(tool("run_net", "--cfg", tiny_file, "--num_procs", 2, *settings))
    assert status == 0, output
    alone = tiny_cfg(*settings, "OUTPUT_DIR", str(tmp_path / "alone"))
    assert [output.count(f"from epoch {epoch} on: TRAIN.BATCH_SIZE") for epoch in range(1, 6)] == [0, 0, 1, 1, 1]
    train(alone)
    together, single = last_state(tiny_cfg(*settings)), last_state(alone)
    assert together["step"] == single["step"]
    for key, value in single["model_state"].items():
        torch.testing.assert_close(together["model_state"][key], value, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_testing_takes_the_run_s_own_shape_and_norm(tiny_cfg, last_state):
    """Test with plain norms although the last epochs had norms over two splits of a batch."""
    settings = [
        *LONG,
        "TRAIN.BATCH_SIZE",
        3,
        "MULTIGRID.BN_BASE_SIZE",
        1,
        "SOLVER.STEPS",
        [0, 1],
        "SOLVER.MAX_EPOCH",
        2,
    ]
    cfg = tiny_cfg(*settings, "DATA.TEST_CROP_SIZE", 46, "TEST.NUM_ENSEMBLE_VIEWS", 1)
    metrics = train(cfg)
    assert "s1.pathway0_stem.bn.split_mean" in last_state(cfg)["model_state"]
    results = run_test(cfg)
    assert results["checkpoint"] == find_checkpoints(cfg.OUTPUT_DIR)[-1].path
    assert set(metrics) - {"loss"} <= set(results)
