"""The progressive loop against loops written out, and what it refuses."""

import contextlib
import copy

import pytest
import torch
from torch.nn import functional as F

from pgt import StepPlan
from pgt.memory import CACHE_POLICIES
from pgt.task import ProgressiveTask
from slowfast.config import load_config
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.optim_step import OptimStep
from slowfast.engine.task import build_task
from slowfast.models import build_model

LR = 0.05


def a_batch(inputs, labels=(1, 3)):
    count = len(labels)
    return Batch(
        inputs=inputs,
        labels=torch.tensor(labels),
        video=torch.arange(count),
        view=torch.zeros(count, dtype=torch.long),
    )


def setup(cfg, parity, random_clip):
    model = parity.fill_module(build_model(cfg)).train()
    return model, a_batch(random_clip(cfg)), StepPlan.from_config(cfg)


def assert_same_weights(a, b):
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


def losses_of_steps(model, batch, plan):
    """Return the cross entropy of every step, memory carried on, written out."""
    memory, losses = None, []
    for step in plan.split(batch.inputs):
        logits, memory = model(step, memory)
        losses.append(F.cross_entropy(logits, batch.labels))
    return losses


@pytest.mark.parametrize("variant", ["slow", "slowfast", "i3d"])
def test_train_together_is_one_step_on_the_sum(variant, progressive_cfg, parity, random_clip, train_once):
    cfg = progressive_cfg(variant, "BN.NORM_TYPE", "frozen_batchnorm")
    model, batch, plan = setup(cfg, parity, random_clip)
    twin = copy.deepcopy(model)
    result = train_once(cfg, model, batch)

    losses = losses_of_steps(twin, batch, plan)
    gradients = torch.autograd.grad(sum(losses), list(twin.parameters()))
    with torch.no_grad():
        for p, g in zip(twin.parameters(), gradients, strict=True):
            p -= LR * g
    assert_same_weights(model, twin)
    torch.testing.assert_close(result["loss"], sum(losses).detach() / plan.steps)
    assert result["scores"].shape == (2, 5)


def test_an_update_a_step_uses_the_weights_of_the_step_before(progressive_cfg, parity, random_clip, train_once):
    cfg = progressive_cfg("slow", "PGT.TRAIN_TOGETHER", False, "BN.NORM_TYPE", "frozen_batchnorm")
    model, batch, plan = setup(cfg, parity, random_clip)
    twin = copy.deepcopy(model)
    train_once(cfg, model, batch)
    memory = None
    for step in plan.split(batch.inputs):
        logits, memory = twin(step, memory)
        gradients = torch.autograd.grad(F.cross_entropy(logits, batch.labels), list(twin.parameters()))
        with torch.no_grad():
            for p, g in zip(twin.parameters(), gradients, strict=True):
                p -= LR * g
    assert_same_weights(model, twin)


def test_full_gradient_is_back_propagation_through_all_steps(progressive_cfg, parity, random_clip, train_once):
    cfg = progressive_cfg("slow", "PGT.FULL_GRADIENT", True, "BN.NORM_TYPE", "frozen_batchnorm")
    model, batch, plan = setup(cfg, parity, random_clip)
    twin, truncated = copy.deepcopy(model), copy.deepcopy(model)
    result = train_once(cfg, model, batch)
    total = sum(losses_of_steps(twin, batch, plan))
    total.backward()
    with torch.no_grad():
        for p in twin.parameters():
            p -= LR * p.grad
    assert_same_weights(model, twin)
    torch.testing.assert_close(result["loss"], total.detach() / plan.steps)
    truncated.full_gradient = False
    train_once(progressive_cfg("slow", "BN.NORM_TYPE", "frozen_batchnorm"), truncated, batch)
    gaps = [(p - q).abs().max() for p, q in zip(model.parameters(), truncated.parameters(), strict=True)]
    assert max(gaps) > 1e-5


def test_step_weights_scale_losses(progressive_cfg, parity, random_clip, train_once):
    cfg = progressive_cfg("slow", "PGT.STEP_WEIGHTS", [0.0, 0.5, 2.0], "BN.NORM_TYPE", "frozen_batchnorm")
    model, batch, plan = setup(cfg, parity, random_clip)
    twin = copy.deepcopy(model)
    result = train_once(cfg, model, batch)
    losses = losses_of_steps(twin, batch, plan)
    (0.5 * losses[1] + 2.0 * losses[2]).backward()
    with torch.no_grad():
        for p in twin.parameters():
            p -= LR * p.grad
    assert_same_weights(model, twin)
    torch.testing.assert_close(result["loss"], ((0.5 * losses[1] + 2.0 * losses[2]) / 2.5).detach())


@pytest.mark.parametrize(("dtype", "momentum"), [("bf16", 0.0), ("bf16", 0.25), ("fp16", 0.25)])
def test_mixed_precision_trains_close_to_full_precision(
    dtype, momentum, progressive_cfg, parity, random_clip, train_once
):
    settings = ["PGT.CACHE", "max", "PGT.CACHE_MOMENTUM", momentum, "BN.NORM_TYPE", "frozen_batchnorm"]
    cfg = progressive_cfg("slow", *settings)
    model, batch, _ = setup(cfg, parity, random_clip)
    twin = copy.deepcopy(model)
    plain = train_once(cfg, model, batch)
    mixed_cfg = progressive_cfg("slow", *settings, "TRAIN.MIXED_PRECISION", True, "TRAIN.MIXED_PRECISION_DTYPE", dtype)
    mixed = train_once(mixed_cfg, twin, batch)
    torch.testing.assert_close(mixed["loss"].float(), plain["loss"], rtol=0.05, atol=0.0)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert p.dtype == q.dtype == torch.float32 and torch.isfinite(q).all()


class Recorder(OptimStep):
    """Notes what a task asks for."""

    def __init__(self, *args):
        super().__init__(*args)
        self.events = []

    def sync(self, last=True):
        self.events.append("sync" if last else "no_sync")
        return contextlib.nullcontext()

    def __call__(self):
        self.events.append("update")
        return super().__call__()


@pytest.mark.parametrize(
    ("together", "events"),
    [
        ((True, 1), ["no_sync", "no_sync", "sync", "update"]),
        ((False, 1), ["sync", "update"] * 3),
        ((True, 2), ["no_sync", "no_sync", "sync", "update"]),
        ((False, 2), ["no_sync", "sync", "update", "sync", "update"]),
    ],
)
def test_gradients_cross_the_wire_once_an_update(together, events, progressive_cfg, parity, random_clip):
    cfg = progressive_cfg("slow", "PGT.TRAIN_TOGETHER", together[0], "PGT.GRADIENT_STEPS", together[1])
    model, batch, _ = setup(cfg, parity, random_clip)
    update = Recorder(model, torch.optim.SGD(model.parameters(), lr=LR))
    ProgressiveTask(cfg).train_step(model, batch, update)
    assert update.events == events


@pytest.mark.parametrize("method", ["sum", "max", "last"])
@torch.no_grad()
def test_predict_progressively_and_on_the_whole_clip(method, progressive_cfg, parity, random_clip, run_steps):
    cfg = progressive_cfg("slow", "PGT.PG_EVAL", True, "PGT.ENSEMBLE_METHOD", method)
    model, batch, plan = setup(cfg, parity, random_clip)
    model.eval()
    scores, _ = run_steps(model, plan.split(batch.inputs))
    expected = {"sum": scores.sum(dim=0), "max": scores.amax(dim=0), "last": scores[-1]}[method]
    torch.testing.assert_close(build_task(cfg).predict(model, batch).scores, expected)
    whole = build_task(progressive_cfg("slow", "PGT.PG_EVAL", False)).predict(model, batch).scores
    torch.testing.assert_close(whole, model.whole_clip(batch.inputs))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["PGT.FULL_GRADIENT", True, "PGT.TRAIN_TOGETHER", False], "PGT.TRAIN_TOGETHER True"),
        (["PGT.TRUNCATE_GRAD", True], "PGT.FULL_GRADIENT"),
        (["PGT.GRADIENT_STEPS", 0], "at least 1"),
        (["PGT.GRADIENT_STEPS", 2, "PGT.FULL_GRADIENT", True], "GRADIENT_STEPS 1"),
        (["TRAIN.ACCUM_STEPS", 2, "PGT.TRAIN_TOGETHER", False], "ACCUM_STEPS is 2"),
        (["PGT.STEP_WEIGHTS", [1.0, 1.0]], "each of the 3 steps"),
        (["PGT.STEP_WEIGHTS", [0.0, 0.0, 0.0]], "not all 0"),
        (["PGT.CACHE", "mean"], "PGT.CACHE is 'mean'"),
        (["PGT.HEAD_CACHE", "mean"], "published, last, max, avg"),
        (["PGT.CACHE_MOMENTUM", 1.0], "under 1"),
        (["PGT.ENSEMBLE_METHOD", "mean"], "sum, max, last"),
        (["PGT.TPOOL_SIZE", [4, 4]], r"TPOOL_SIZE is \[4, 4\]; the model has 1 pathway"),
        (["PGT.TPOOL_SIZE", [0]], "at least 1"),
        (["PGT.STEP_LEM", [8]], "STEP_LEN"),
    ],
)
def test_settings_that_contradict_are_named(progressive_settings, settings, message):
    with pytest.raises(ValueError, match=message):
        load_config(None, progressive_settings("slow", *settings))


def test_section_switched_off_again_gives_a_clip_model(progressive_settings):
    cfg = load_config(None, [*progressive_settings("slow"), "TASK", "progressive", "PGT.ENABLE", False])
    assert cfg.TASK == "" and cfg.MODEL.ADAPTER == ""
    assert not hasattr(build_model(cfg), "whole_clip")


@pytest.mark.parametrize(
    ("cache", "head_cache", "expected"),
    [("max", "published", "avg"), ("last", "published", "last"), ("max", "max", "max")],
)
def test_head_cache(cache, head_cache, expected, progressive_cfg):
    model = build_model(progressive_cfg("slow", "PGT.CACHE", cache, "PGT.HEAD_CACHE", head_cache))
    assert type(model.head.pathway0_avgpool.policy) is CACHE_POLICIES.get(expected)
