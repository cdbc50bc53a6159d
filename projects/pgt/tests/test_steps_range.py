"""Clips of varying length: the number of steps drawn by the batch, and training on what was drawn."""

import copy
import dataclasses

import pytest
import torch

from pgt import StepPlan
from pgt.task import ProgressiveTask
from slowfast.config import cfg_from_yaml, cfg_to_yaml, load_config
from slowfast.datasets.build import build_loader
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.task import build_task
from slowfast.engine.train import train
from slowfast.models import build_model

RANGE = ["PGT.STEPS_RANGE", [1, 4]]


def test_lengths_follow_from_the_steps(progressive_cfg):
    cfg = progressive_cfg("slow", *RANGE)
    assert cfg.DATA.TRAIN_NUM_FRAMES == [8, 15, 22, 29]
    assert cfg.DATA.NUM_FRAMES == 22
    assert cfg_from_yaml(cfg_to_yaml(cfg)) == cfg
    assert progressive_cfg("slow").DATA.TRAIN_NUM_FRAMES == []


@pytest.mark.parametrize("sampling", ["published", "even"])
@pytest.mark.parametrize(
    ("step_len", "overlap", "alpha"), [((8, 32), (1, 4), 4), ((4, 16), (1, 4), 4), ((6, 12), (2, 4), 2)]
)
def test_slow_frames_of_fewer_steps_are_the_first_of_more(sampling, step_len, overlap, alpha):
    if sampling == "published" and step_len[1] - overlap[1] <= step_len[0]:
        sampling = "even"
    longest = StepPlan(step_len, overlap, 10, alpha, sampling).slow_indices()
    for steps in range(1, 10):
        plan = StepPlan(step_len, overlap, steps, alpha, sampling)
        assert plan.slow_indices() == longest[: plan.num_frames // alpha]


@pytest.mark.parametrize("variant", ["slow", "slowfast", "i3d"])
@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("together", [True, False])
def test_a_batch_of_some_steps_trains_as_a_run_of_those_steps(
    variant, steps, together, progressive_cfg, parity, train_once
):
    """Bit for bit, with the slow frames that the loader takes for that length."""
    settings = ["PGT.TRAIN_TOGETHER", together, "PGT.CACHE_MOMENTUM", 0.25]
    drawn = progressive_cfg(variant, *RANGE, *settings)
    plan = dataclasses.replace(StepPlan.from_config(drawn), steps=steps)
    fixed = progressive_cfg(variant, *settings, "PGT.STEPS", steps, "DATA.NUM_FRAMES", plan.num_frames)
    clip = torch.randn(2, 3, plan.num_frames, 32, 32, generator=torch.Generator().manual_seed(0))
    slow = list(drawn.SLOWFAST.SLOW_INDICES)[: plan.num_frames // 4]
    assert slow[: len(fixed.SLOWFAST.SLOW_INDICES)] == list(fixed.SLOWFAST.SLOW_INDICES)
    labels = torch.tensor([1, 3])
    batch = Batch([clip[:, :, slow], clip] if slow else [clip], labels, labels, labels)
    model = parity.fill_module(build_model(drawn)).train()
    twin = copy.deepcopy(model)
    one, other = train_once(drawn, model, batch), train_once(fixed, twin, batch)
    assert torch.equal(one["loss"], other["loss"])
    assert torch.equal(one["scores"], other["scores"])
    for (name, weight), same in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.equal(weight, same), name
    with torch.no_grad():
        scores = build_task(drawn).predict(model.eval(), batch).scores
        assert torch.equal(scores, build_task(fixed).predict(model, batch).scores)


def test_a_clip_of_no_whole_number_of_steps_is_named(progressive_cfg, parity, train_once):
    cfg = progressive_cfg("slow", *RANGE)
    labels = torch.tensor([1, 3])
    batch = Batch([torch.zeros(2, 3, 16, 32, 32)], labels, labels, labels)
    with pytest.raises(ValueError, match=r"has \[16\] frames.*take \[22\]"):
        train_once(cfg, parity.fill_module(build_model(cfg)), batch)


@pytest.fixture
def seen(monkeypatch):
    """(steps, videos) of every training batch."""
    seen, original = [], ProgressiveTask.train_step

    def train_step(self, model, batch, update):
        seen.append(((batch.inputs[0].shape[2] - 4) // 3 + 1, batch.video.tolist()))
        return original(self, model, batch, update)

    monkeypatch.setattr(ProgressiveTask, "train_step", train_step)
    return seen


@pytest.mark.slow
def test_a_run_draws_what_its_loader_does_also_when_cut_off(run_cfg, cut_off_at, last_state, seen, tmp_path):
    settings = [*RANGE, "TRAIN.BATCH_SIZE", 1, "SOLVER.MAX_EPOCH", 2]
    whole = run_cfg(*settings, "OUTPUT_DIR", str(tmp_path / "whole"))
    train(whole)
    loader, expected = build_loader(run_cfg(*settings, "DATA_LOADER.NUM_WORKERS", 2), "train"), []
    for epoch in range(2):
        loader.batch_sampler.set_epoch(epoch)
        expected += [((batch.inputs[0].shape[2] - 4) // 3 + 1, batch.video.tolist()) for batch in loader]
    assert seen == expected
    assert sorted(steps for steps, _ in seen[:4]) == [1, 2, 3, 4]
    cfg = run_cfg(*settings)
    seen.clear()
    cut_off_at(cfg, 8)
    train(cfg)
    assert seen == expected
    one, other = last_state(cfg)["model_state"], last_state(whole)["model_state"]
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["PGT.STEPS_RANGE", [3]], r"STEPS_RANGE is \[3\]; it must be \[min, max\]"),
        (["PGT.STEPS_RANGE", [4, 2]], r"is \[4, 2\]"),
        (["PGT.STEPS_RANGE", [0, 2]], r"is \[0, 2\]"),
        ([*RANGE, "PGT.STEP_WEIGHTS", [1.0, 1.0, 1.0]], "STEPS_RANGE .* draws their number"),
        (["DATA.TRAIN_NUM_FRAMES", [8, 15]], r"TRAIN_NUM_FRAMES is \[8, 15\], but PGT.STEPS_RANGE \[\] makes it \[\]"),
    ],
)
def test_settings_that_contradict_are_named(settings, message, progressive_settings):
    with pytest.raises(ValueError, match=message):
        load_config(None, progressive_settings("slow", *settings))


def test_section_switched_off_again_has_clips_of_one_length(progressive_settings):
    settings = [*progressive_settings("slow", *RANGE), "TASK", "progressive", "DATA.TRAIN_NUM_FRAMES", [8, 15, 22, 29]]
    assert load_config(None, [*settings, "PGT.ENABLE", False]).DATA.TRAIN_NUM_FRAMES == []
