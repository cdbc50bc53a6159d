"""Multigrid over steps against a run written out epoch by epoch, and what goes together with it."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from pgt.mgrid import epoch_config
from pgt.task import ProgressiveTask
from slowfast.config import load_config
from slowfast.datasets.build import build_loader
from slowfast.engine.train import train
from slowfast.models import build_model
from slowfast.runtime.seed import seed_all

ENTRIES = [(3, 4, 1.0), (4, 3, 0.5), (2, 6, 2.0)]
MGRID = [
    "PGT.MGRID", True, "PGT.MGRID_STEPS", [3, 4, 2], "PGT.MGRID_STEP_LEN", [4, 3, 6],
    "PGT.MGRID_LRSCALES", [1.0, 0.5, 2.0], "SOLVER.COSINE_END_LR", 0.001, "SOLVER.NESTEROV", False,
    "SOLVER.WEIGHT_DECAY", 0.0, "SOLVER.MOMENTUM", 0.9,
]  # fmt: skip


def settings_by_hand(epoch, finetune=True):
    """(steps, step length, factor of the rate) of each of 5 epochs."""
    by_epoch = [ENTRIES[0], ENTRIES[1], ENTRIES[2], ENTRIES[0], (3, 4, 1.0) if finetune else ENTRIES[1]]
    return by_epoch[epoch]


def trained_by_hand(run_cfg):
    """Weights before and after 5 epochs of 3 batches: every frame range, rate and momentum step written out."""
    seed_all(1)
    model = build_model(run_cfg()).train()
    first = parameters_to_vector(model.parameters()).detach().clone()
    speed = [torch.zeros_like(p) for p in model.parameters()]
    for epoch in range(5):
        steps, length, scale = settings_by_hand(epoch)
        frames = length + (steps - 1) * (length - 1)
        plain = run_cfg("PGT.STEPS", steps, "PGT.STEP_LEN", [length], "DATA.NUM_FRAMES", frames)
        loader = build_loader(plain, "train")
        loader.batch_sampler.set_epoch(epoch)
        for iteration, batch in enumerate(loader):
            progress = (epoch + iteration / 3) / 5
            rate = scale * (0.001 + (0.005 - 0.001) * 0.5 * (1 + math.cos(math.pi * progress)))
            (clip,) = batch.inputs
            assert clip.shape[2] == frames
            memory, start, total = None, 0, 0.0
            for step in range(steps):
                stop = length + step * (length - 1)
                logits, memory = model([clip[:, :, start:stop]], memory)
                total = total + F.cross_entropy(logits, batch.labels)
                start = stop
            assert start == frames
            gradients = torch.autograd.grad(total, list(model.parameters()))
            with torch.no_grad():
                for p, v, g in zip(model.parameters(), speed, gradients, strict=True):
                    v.mul_(0.9).add_(g)
                    p.sub_(rate * v)
    return first, parameters_to_vector(model.parameters()).detach()


@pytest.mark.slow
def test_a_run_is_the_one_written_out(run_cfg, last_state, monkeypatch):
    evaluated, predict = [], ProgressiveTask.predict

    def spy(self, model, batch):
        evaluated.append((self.plan.steps, self.plan.step_len, batch.inputs[0].shape[2]))
        return predict(self, model, batch)

    monkeypatch.setattr(ProgressiveTask, "predict", spy)
    cfg = run_cfg(*MGRID, "TRAIN.EVAL_PERIOD", 3)
    train(cfg)
    model = build_model(cfg)
    model.load_state_dict(last_state(cfg)["model_state"])
    first, last = trained_by_hand(run_cfg)
    # The sums are taken in another order, and the difference, 0.0005, grows along the way. A factor of 0.55 rather than
    # 0.5 on the rate of the second epoch makes it 0.016.
    assert (parameters_to_vector(model.parameters()) - last).norm() < 3e-3 * (last - first).norm()
    assert set(evaluated) == {(3, (4,), 10)}  # after epochs 3 and 5, always the plain setting


@pytest.mark.slow
def test_cut_off_and_continued(run_cfg, cut_off_at, last_state, tmp_path):
    """In the middle of the second epoch, and then at the end of the third."""
    whole, cfg = run_cfg(*MGRID, "OUTPUT_DIR", str(tmp_path / "whole")), run_cfg(*MGRID)
    train(whole)
    cut_off_at(cfg, 5)
    cut_off_at(cfg, 4)
    assert (last_state(cfg)["epoch"], last_state(cfg)["iteration"]) == (2, 0)
    train(cfg)
    one, other = last_state(cfg)["model_state"], last_state(whole)["model_state"]
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("no_finetune", [False, True])
def test_settings_of_each_epoch(no_finetune, run_cfg):
    cfg = run_cfg(*MGRID, "PGT.MGRID_NO_FINETUNE", no_finetune, "SOLVER.WARMUP_START_LR", 0.02)
    for epoch in range(5):
        steps, length, scale = settings_by_hand(epoch, not no_finetune)
        of_epoch = epoch_config(cfg, epoch)
        assert (of_epoch.PGT.STEPS, of_epoch.PGT.STEP_LEN) == (steps, [length])
        assert of_epoch.DATA.NUM_FRAMES == length + (steps - 1) * (length - 1)
        rates = of_epoch.SOLVER.BASE_LR, of_epoch.SOLVER.COSINE_END_LR, of_epoch.SOLVER.WARMUP_START_LR
        assert rates == pytest.approx((0.005 * scale, 0.001 * scale, 0.02 * scale))
        assert of_epoch.PGT.TPOOL_SIZE == cfg.PGT.TPOOL_SIZE


def test_both_pathways(progressive_cfg):
    lists = ["PGT.MGRID_STEPS", [3, 4], "PGT.MGRID_STEP_LEN", [[4, 16], [3, 12]], "PGT.MGRID_LRSCALES", [1, 1]]
    cfg = progressive_cfg("slowfast", "PGT.MGRID", True, *lists, "PGT.SLOW_SAMPLING", "even")
    of_epoch = epoch_config(cfg, 1)
    assert of_epoch.DATA.NUM_FRAMES == 12 + 3 * 8
    # 3 of the first 12 frames, then 2 of every 8 new ones.
    assert of_epoch.SLOWFAST.SLOW_INDICES == [0, 5, 11, 12, 19, 20, 27, 28, 35]


@pytest.mark.parametrize("name", ["miniKinetics/SLOW_PROG_36x8_R50_mgrid", "Charades/SLOW_PROG_76x8_R50_K400_mgrid"])
def test_published_settings(name, repo):
    cfg = load_config(repo / f"projects/pgt/configs/{name}.yaml")
    frames = [epoch_config(cfg, epoch).DATA.NUM_FRAMES for epoch in range(5)]
    assert frames == {"mini": [36, 37, 36, 37, 36], "Char": [76, 79, 78, 81, 76]}[name[:4]]
    assert epoch_config(cfg, cfg.SOLVER.MAX_EPOCH - 1) is cfg


LISTS = ["PGT.MGRID_STEPS", [3, 4], "PGT.MGRID_STEP_LEN", [8, 7], "PGT.MGRID_LRSCALES", [1, 1]]
LONG = [
    "MULTIGRID.LONG_CYCLE", True, "SOLVER.LR_POLICY", "steps_with_relative_lrs", "SOLVER.STEPS", [0, 2],
    "SOLVER.LRS", [1, 0.1], "SOLVER.MAX_EPOCH", 4,
]  # fmt: skip
SPATIAL = [*LONG, "MULTIGRID.SHORT_CYCLE", True, "MULTIGRID.LONG_CYCLE_FACTORS", [[1.0, 0.75], [1.0, 1.0]]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], r"in three lists: MGRID_STEPS has 0 \[\]"),
        ([*LISTS, "PGT.MGRID_LRSCALES", [1]], r"MGRID_STEPS has 2 \[3, 4\].*MGRID_LRSCALES has 1 \[1\]"),
        ([*LISTS, "PGT.MGRID_LRSCALES", [1, 0]], "must be over 0"),
        ([*LISTS, "PGT.MGRID_STEPS", [3, 0]], "entry 2 of PGT.MGRID_STEPS.*PGT.STEPS is 0"),
        ([*LISTS, "PGT.MGRID_STEP_LEN", [8, 1]], "entry 2 of .*overlap < step length"),
        ([*LISTS, "PGT.MGRID_STEP_LEN", [[8, 8], [7]]], r"entry 1 of PGT.MGRID_STEP_LEN is \[8, 8\].*1 pathway"),
        ([*LISTS, "PGT.STEPS_RANGE", [2, 4]], r"STEPS_RANGE \[2, 4\] draws.*keep one"),
        ([*LISTS, "PGT.STEP_WEIGHTS", [1.0, 1.0, 1.0]], "STEP_WEIGHTS has a weight for each of 3 steps"),
        ([*LISTS, *SPATIAL], "PGT.MGRID and MULTIGRID.LONG_CYCLE both"),
    ],
)
def test_lists_that_cannot_be(settings, message, progressive_settings):
    with pytest.raises(ValueError, match=message):
        load_config(None, progressive_settings("slow", "PGT.MGRID", True, *settings))


def test_pathways_that_disagree(progressive_settings):
    lists = ["PGT.MGRID_STEPS", [3], "PGT.MGRID_STEP_LEN", [8], "PGT.MGRID_LRSCALES", [1]]
    with pytest.raises(ValueError, match=r"entry 1 .*slow 8 \+ .* it must be SLOWFAST.ALPHA 4 x slow"):
        load_config(None, progressive_settings("slowfast", "PGT.MGRID", True, *lists))


def test_long_cycle_over_frames_is_refused_with_the_way_out(progressive_settings):
    with pytest.raises(ValueError, match="which the steps of PGT fix at 22.*set PGT.MGRID"):
        load_config(None, progressive_settings("slow", *LONG, "MULTIGRID.SHORT_CYCLE", True))


@pytest.mark.slow
def test_cycles_over_crops_go_with_steps(run_cfg, last_state, monkeypatch):
    seen, original = [], ProgressiveTask.train_step

    def train_step(self, model, batch, update):
        seen.append(tuple(batch.inputs[0].shape)[2:4])
        return original(self, model, batch, update)

    monkeypatch.setattr(ProgressiveTask, "train_step", train_step)
    cfg = run_cfg(*SPATIAL, "MULTIGRID.EPOCH_FACTOR", 1.0, "TRAIN.BATCH_SIZE", 1)
    train(cfg)
    # Six videos in batches of 4 and 2 small clips; the third batch of a turn would be of 24, later of 32 pixels.
    assert set(seen) == {(10, 16), (10, 23)}
    assert last_state(cfg)["step"] == len(seen) == 8
