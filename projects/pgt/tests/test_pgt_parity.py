"""Step scores, ensembles, whole clip, loss and gradient norms against the numbers of the published code."""

import json
from pathlib import Path

import pytest
import torch

from pgt import StepPlan
from pgt.task import ProgressiveTask, ensemble, step_scores
from slowfast.config import load_config
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.optim_step import OptimStep
from slowfast.layers.norm import freeze_bn_stats
from slowfast.models import build_model

FIXTURES = Path(__file__).parent / "fixtures"
CASES = sorted(path.stem for path in FIXTURES.glob("*.npz"))


class KeepGradients(torch.optim.SGD):
    """Optimizer that changes nothing and drops no gradient."""

    def step(self, closure=None):
        return None

    def zero_grad(self, set_to_none=True):
        return None


@pytest.fixture(params=CASES)
def case(request, parity, repo):
    """Return the config with the setting's own loss, the filled model, a batch, the numbers, and what the JSON says."""
    meta, expected = parity.load(FIXTURES, request.param)
    cfg = load_config(repo / "projects/pgt/configs" / meta["reference_config"], [*meta["overrides"], "NUM_GPUS", 0])
    clip = parity.make_clip(meta["clip"]["seed"], meta["clip"]["shape"])
    indices = meta["slow_frame_indices"]
    assert list(cfg.SLOWFAST.SLOW_INDICES) == (indices or [])
    model = build_model(cfg)
    if "batch_norm" in meta:  # trainable norms, but their running statistics in training too
        freeze_bn_stats(model)
    keys = json.loads((FIXTURES / f"{request.param}.keys.json").read_text())
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == keys
    inputs = [clip[:, :, indices], clip] if indices else [clip]
    labels = torch.tensor(meta["labels"])
    batch = Batch(inputs=inputs, labels=labels, video=torch.arange(2), view=torch.zeros(2, dtype=torch.long))
    return cfg, parity.fill_module(model), batch, expected, meta


def check_training(task, model, batch, expected, prefix, relative_error):
    """Compare one training iteration with the published mean loss and gradient norms."""
    model.zero_grad(set_to_none=True)
    result = task.train_step(model.train(), batch, OptimStep(model, KeepGradients(model.parameters(), lr=0.0)))
    assert relative_error(result["scores"], expected["train_logits_steps"].mean(axis=0)) < 1e-4
    assert relative_error(result["loss"], expected[f"{prefix}_mean_loss"]) < 1e-4
    norms = {name: float(p.grad.norm()) for name, p in model.named_parameters()}
    published = dict(zip(expected[f"{prefix}_grad_names"].tolist(), expected[f"{prefix}_grad_norms"], strict=True))
    assert norms.keys() == published.keys()
    for name, norm in published.items():
        assert norms[name] == pytest.approx(norm, rel=1e-3), name


def test_published_numbers(case, relative_error):
    cfg, model, batch, expected, meta = case
    plan = StepPlan.from_config(cfg)
    for pathway, ranges in enumerate((meta.get("slow_steps"), meta.get("fast_steps"))):
        assert ranges is None or [[r.start, r.stop] for r in plan.frame_ranges(pathway)] == ranges
    model.eval()
    with torch.no_grad():
        scores = step_scores(model, batch.inputs, plan)
        assert relative_error(scores, expected["progressive_steps"]) < 1e-4
        for method in ("sum", "max"):
            assert relative_error(ensemble(scores, method), expected[f"progressive_{method}"]) < 1e-4
        if "whole_clip_tpool4" in expected:
            assert relative_error(model.whole_clip(batch.inputs), expected["whole_clip_tpool4"]) < 1e-4

    task = ProgressiveTask(cfg)
    task.loss = torch.nn.CrossEntropyLoss()
    check_training(task, model, batch, expected, "train", relative_error)
    if "step_targets" in expected:
        targets = torch.tensor(expected["step_targets"]).to(torch.uint8)
        # One row in the middle of each step's new frames, which no other step sees.
        batch.frame_labels = torch.zeros(2, 2 * plan.num_frames - 1, targets.shape[2], dtype=torch.uint8)
        for step, frames in enumerate(plan.frame_ranges()):
            batch.frame_labels[:, 2 * frames[len(frames) // 2]] = targets[:, step]
        check_training(ProgressiveTask(cfg), model, batch, expected, "train_step_targets", relative_error)
