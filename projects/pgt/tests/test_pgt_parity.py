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
    """An optimizer that changes nothing and drops no gradient."""

    def step(self, closure=None):
        return None

    def zero_grad(self, set_to_none=True):
        return None


@pytest.fixture(params=CASES)
def case(request, parity, repo):
    meta, expected = parity.load(FIXTURES, request.param)
    overrides = [*meta["overrides"], "NUM_GPUS", 0, "MODEL.LOSS_FUNC", "cross_entropy"]
    cfg = load_config(repo / "projects/pgt/configs" / meta["reference_config"], overrides)
    clip = parity.make_clip(meta["clip"]["seed"], meta["clip"]["shape"])
    indices = meta["slow_frame_indices"]
    assert list(cfg.SLOWFAST.SLOW_INDICES) == (indices or [])
    inputs = [clip[:, :, indices], clip] if indices else [clip]
    model = build_model(cfg)
    if "batch_norm" in meta:  # trainable norms, but their running statistics in training too
        freeze_bn_stats(model)
    keys = json.loads((FIXTURES / f"{request.param}.keys.json").read_text())
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == keys
    return cfg, parity.fill_module(model), inputs, torch.tensor(meta["labels"]), expected


def test_published_numbers(case, relative_error):
    cfg, model, inputs, labels, expected = case
    model.eval()
    with torch.no_grad():
        scores = step_scores(model, inputs, StepPlan.from_config(cfg))
        assert relative_error(scores, expected["progressive_steps"]) < 1e-4
        for method in ("sum", "max"):
            assert relative_error(ensemble(scores, method), expected[f"progressive_{method}"]) < 1e-4
        assert relative_error(model.whole_clip(inputs), expected["whole_clip_tpool4"]) < 1e-4

    model.train()
    batch = Batch(inputs=inputs, labels=labels, video=torch.arange(2), view=torch.zeros(2, dtype=torch.long))
    update = OptimStep(model, KeepGradients(model.parameters(), lr=0.0))
    result = ProgressiveTask(cfg).train_step(model, batch, update)
    assert relative_error(result["scores"], expected["train_logits_steps"].mean(axis=0)) < 1e-4
    assert relative_error(result["loss"], expected["train_mean_loss"]) < 1e-4
    norms = {name: float(p.grad.norm()) for name, p in model.named_parameters()}
    assert norms.keys() == set(expected["train_grad_names"].tolist())
    for name, norm in zip(expected["train_grad_names"].tolist(), expected["train_grad_norms"], strict=True):
        assert norms[name] == pytest.approx(norm, rel=1e-3), name
