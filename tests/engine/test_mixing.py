"""Mixup and cutmix against their formulas, and that a run with them goes on exactly."""

import os
import signal

import numpy as np
import pytest
import torch

from slowfast.checkpoint.io import find_checkpoints, load_checkpoint
from slowfast.datasets import Batch
from slowfast.engine import mixing as mixing_module
from slowfast.engine.mixing import Mixing
from slowfast.engine.task import ClipTask
from slowfast.engine.train import train
from slowfast.runtime.signals import TrainingInterrupted

CLASSES = 7


def mixing(alpha=0.8, cut_alpha=1.0, probability=1.0, cut_probability=0.5, smoothing=0.1, seed=1):
    return Mixing(CLASSES, seed, alpha, cut_alpha, probability, cut_probability, smoothing)


def make_batch(clips=4, side=32, pathways=1):
    """Make clips whose pixels are i + 1 in the first pathway, and 10 times that in the second."""
    numbers = torch.arange(1.0, clips + 1).view(-1, 1, 1, 1, 1)
    inputs = [(10**p * numbers).expand(clips, 3, 4 // (p + 1), side, side).clone() for p in range(pathways)]
    places = torch.arange(clips)
    return Batch(inputs, labels=places % CLASSES, video=places, view=torch.zeros_like(places))


def smoothed(labels, smoothing):
    return torch.eye(CLASSES)[labels] * (1 - smoothing) + smoothing / CLASSES


def test_overlay():
    """Check x = share * x + (1 - share) * reversed x, with one share for clips, labels and pathways."""
    shares = []
    for iteration in range(400):
        batch = make_batch(pathways=2)
        mixed = mixing(cut_alpha=0.0)(batch, 3, iteration)
        # Clip 1 became share * 1 + (1 - share) * 4.
        share = (4 - mixed.inputs[0][0, 0, 0, 0, 0].item()) / 3
        for before, after in zip(batch.inputs, mixed.inputs, strict=True):
            torch.testing.assert_close(after, share * before + (1 - share) * before.flip(0), rtol=1e-5, atol=1e-5)
        own = smoothed(batch.labels, 0.1)
        torch.testing.assert_close(mixed.mixed_labels, share * own + (1 - share) * own.flip(0), rtol=1e-4, atol=1e-5)
        assert mixed.targets is mixed.mixed_labels
        assert torch.equal(mixed.labels, batch.labels)
        shares.append(share)
    # Beta(0.8, 0.8): mean 1/2, variance 1 / (4 * 2.6).
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)
    assert np.var(shares) == pytest.approx(1 / 10.4, rel=0.15)


def test_pasting():
    """Check that a rectangle comes from the reversed batch; the label keeps the share of the remaining pixels."""
    shares, places = [], set()
    for iteration in range(400):
        batch = make_batch(pathways=2, side=20)
        mixed = mixing(alpha=0.0)(batch, 0, iteration)
        other = (mixed.inputs[0] != batch.inputs[0])[:, 0, 0]
        assert (other == other[:1]).all()
        rows, columns = other[0].any(dim=1).nonzero().flatten(), other[0].any(dim=0).nonzero().flatten()
        assert other[0].sum() == len(rows) * len(columns)
        for before, after in zip(batch.inputs, mixed.inputs, strict=True):
            expected = torch.where(other[:, None, None], before.flip(0), before)
            assert torch.equal(after, expected)
        share = 1 - other[0].float().mean().item()
        own = smoothed(batch.labels, 0.1)
        torch.testing.assert_close(mixed.mixed_labels, share * own + (1 - share) * own.flip(0), rtol=1e-5, atol=1e-6)
        shares.append(share)
        places.add((rows.tolist() or [0])[0])
    assert len(places) > 15
    # Beta(1, 1) has mean 1/2; what is cut off at the frame's edge leaves more of the clip.
    assert 0.6 < np.mean(shares) < 0.75


def test_how_often_which():
    kinds = []
    for iteration in range(1000):
        batch = make_batch(side=8)
        inputs = mixing(probability=0.5, cut_probability=0.25)(batch, 0, iteration).inputs[0]
        changed = (inputs != batch.inputs[0])[0, 0, 0]
        kinds.append("none" if not changed.any() else "overlay" if inputs[0].unique().numel() == 1 else "paste")
    # A rectangle can be too small for a pixel, so there are a few less.
    assert kinds.count("overlay") / 1000 == pytest.approx(0.375, abs=0.05)
    assert 0.06 < kinds.count("paste") / 1000 < 0.15


def test_labels_are_smoothed_where_nothing_is_blended():
    batch = make_batch()
    mixed = mixing(probability=0.0)(batch, 0, 0)
    assert torch.equal(mixed.inputs[0], batch.inputs[0])
    torch.testing.assert_close(mixed.mixed_labels, smoothed(batch.labels, 0.1))
    torch.testing.assert_close(mixing(probability=0.0, smoothing=0.0)(batch, 0, 0).targets, smoothed(batch.labels, 0))


def test_draws_depend_on_seed_epoch_iteration_and_rank_alone(monkeypatch):
    def blend(epoch=0, iteration=0, **more):
        return mixing(cut_alpha=0.0, **more)(make_batch(), epoch, iteration).inputs[0][0, 0, 0, 0, 0].item()

    torch.manual_seed(1)
    np.random.seed(1)
    first = blend()
    torch.manual_seed(2)
    np.random.seed(2)
    assert blend() == first
    monkeypatch.setattr(mixing_module, "get_rank", lambda: 1)
    other_rank = blend()
    monkeypatch.undo()
    assert len({first, other_rank, blend(epoch=1), blend(iteration=1), blend(seed=2)}) == 5


def test_several_labels_a_clip():
    batch = make_batch()
    batch.labels = torch.zeros(4, CLASSES)
    with pytest.raises(ValueError, match="MIXUP.ENABLE True.*several"):
        mixing()(batch, 0, 0)


def test_labels_that_change_within_a_clip():
    batch = make_batch()
    batch.frame_labels = batch.labels[:, None].repeat(1, 2)
    with pytest.raises(ValueError, match="MIXUP.ENABLE True.*change"):
        mixing()(batch, 0, 0)


SETTINGS = [
    "MIXUP.ENABLE", True, "MODEL.LOSS_FUNC", "soft_cross_entropy", "AUG.ENABLE", True, "AUG.NUM_SAMPLE", 2,
    "DATA.TRAIN_JITTER_SCALES_RELATIVE", [0.3, 1.0], "DATA.COLOR_RND_GRAYSCALE", 0.2, "SOLVER.MAX_EPOCH", 2,
]  # fmt: skip


@pytest.mark.slow
def test_a_run_stopped_in_mid_epoch_goes_on_exactly(tiny_cfg, tmp_path, monkeypatch):
    """Everything that is random is on: copies, operations, erasing, blends."""
    whole = tiny_cfg(*SETTINGS, "OUTPUT_DIR", str(tmp_path / "whole"))
    seen = []
    step = ClipTask.train_step

    def watched(self, model, batch, update):
        seen.append((batch.size, batch.mixed_labels.sum(dim=1)))
        return step(self, model, batch, update)

    monkeypatch.setattr(ClipTask, "train_step", watched)
    train(whole)
    assert [size for size, _ in seen] == [8] * 6
    torch.testing.assert_close(torch.stack([total for _, total in seen]), torch.ones(6, 8))
    calls = []

    def stopping(self, model, batch, update):
        calls.append(batch)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, model, batch, update)

    monkeypatch.setattr(ClipTask, "train_step", stopping)
    cfg = tiny_cfg(*SETTINGS)
    with pytest.raises(TrainingInterrupted):
        train(cfg)
    train(cfg)
    assert len(calls) == 6
    one, other = (load_checkpoint(find_checkpoints(c.OUTPUT_DIR)[-1].path)["model_state"] for c in (whole, cfg))
    assert all(torch.equal(value, other[key]) for key, value in one.items())
