"""Reversible MViT in steps: blocks that backward computes again read the memory that they had read."""

import pytest
import torch

from pgt import StepPlan
from pgt.operators.attention import StepTransition
from slowfast.models import build_model


@pytest.fixture
def make_model(progressive_cfg, parity):
    def make(*settings):
        cfg = progressive_cfg("mvit_reversible", "MVIT.DROPPATH_RATE", 0.4, "MVIT.DROPOUT_RATE", 0.2, *settings)
        return cfg, parity.fill_module(build_model(cfg)).double().train(), StepPlan.from_config(cfg)

    return make


def gradients(model, steps, together):
    """Scores of all steps, and the gradients, with one backward pass at the end or one after each step."""
    torch.manual_seed(1)
    model.zero_grad()
    memory, losses, scores = None, [], []
    for step in steps:
        y, memory = model(step, memory)
        scores.append(y.detach())
        losses.append(y.sin().sum())
        if not together:
            losses[-1].backward()
    if together:
        sum(losses).backward()
    return torch.stack(scores), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize(("together", "cache"), [(True, "max"), (False, "max"), (False, "gate"), (True, "slots")])
def test_gradients_with_memory_are_those_of_autograd(make_model, random_clip, together, cache):
    cfg, model, plan = make_model("PGT.CACHE", cache)
    steps = plan.split(random_clip(cfg, dtype=torch.float64))
    scores, found = gradients(model, steps, together)
    model.rev_backbone.recompute = False
    expected_scores, expected = gradients(model, steps, together)
    assert torch.equal(scores, expected_scores)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    model.carries_memory = False
    forgetful, _ = gradients(model, steps, together)
    assert torch.equal(forgetful[0], scores[0]) and not torch.allclose(forgetful[1:], scores[1:], rtol=1e-2)


def test_the_shortcut_of_a_transition_has_a_memory_of_its_own(make_model, random_clip):
    """The layer of the queries pools two different inputs."""
    cfg, model, plan = make_model()
    assert isinstance(model.rev_backbone.layers[1], StepTransition)
    queries = "rev_backbone.layers.1.F.attn.pool_q"
    _, memory = model.eval()(plan.split(random_clip(cfg, dtype=torch.float64))[0])
    assert {queries, f"{queries}.shortcut"} <= model.operators == memory.keys()
    assert not torch.equal(memory[queries], memory[f"{queries}.shortcut"])


@pytest.mark.parametrize(("key", "value"), [("PGT.FULL_GRADIENT", True), ("PGT.GRADIENT_STEPS", 2)])
def test_gradients_through_memory_are_refused(key, value, progressive_cfg):
    with pytest.raises(ValueError, match=f"{key} {value} with MVIT.REV.ENABLE True"):
        progressive_cfg("mvit_reversible", key, value)
