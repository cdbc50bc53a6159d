"""Rules of memory that learn: against the equations, against published rules, and their gradients unrolled."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from pgt import StepPlan
from pgt.conversion import Rules, convert
from pgt.learned_rules import GatedFrames, LearnedRule, Slots
from pgt.memory import CACHE_POLICIES, CachePolicy, MaxFrames, join, reset, select
from slowfast.checkpoint.io import checkpoint_path, load_checkpoint
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.model_setup import ModelSetup, setup_model
from slowfast.engine.optim import parameter_groups
from slowfast.engine.train import train
from slowfast.models import build_model

RULES = ("gate", "slots")


@pytest.fixture(params=RULES)
def rule(request):
    return request.param


def filled(policy, seed=0):
    """Give every parameter of a rule values of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return policy.double()


def written_out(policy, steps):
    """Return what an operator reads after each step, position by position, frame by frame.

    Args:
        policy: `GatedFrames` or `Slots`, for one frame that is read.
        steps: inputs (C, T) at one position.
    """
    kept, reads = None, []
    for x in steps:
        new = x.amax(dim=1)
        if isinstance(policy, GatedFrames):
            if kept is not None:
                gate = [
                    1 / (1 + math.exp(-float(policy.bias[c] + policy.old[c] * kept[c] + policy.new[c] * new[c])))
                    for c in range(len(new))
                ]
                kept = torch.stack([g * m + (1 - g) * p for g, m, p in zip(gate, kept, new, strict=True)])
            else:
                kept = new
            reads.append(kept)
            continue
        slots = [torch.zeros_like(new) for _ in range(4)] if kept is None else kept
        channels = len(new)
        leaving = [
            math.exp(float(policy.order[i]) - sum(float(policy.worth[c] * f[c]) for c in range(channels)) / channels)
            for i, f in enumerate([*slots, new])
        ]
        kept = [slot + leave / sum(leaving) * (new - slot) for slot, leave in zip(slots, leaving, strict=False)]
        scores = [
            math.exp(
                float(policy.place[i])
                + sum(float((policy.query[c] + policy.match[c] * new[c]) * f[c]) for c in range(channels)) / channels
            )
            for i, f in enumerate([*kept, new])
        ]
        reads.append(sum(score / sum(scores) * f for score, f in zip(scores, [*kept, new], strict=True)))
    return reads


@pytest.mark.parametrize("kind", [GatedFrames, Slots])
@torch.no_grad()
def test_a_rule_is_its_equation(kind):
    policy = filled(kind(1, channels=3))
    steps = [torch.randn(2, 3, t, 2, 1, dtype=torch.float64) for t in (4, 3, 1)]
    memory, reads = None, []
    for x in steps:
        memory = policy.update(x, memory)
        reads.append(policy.read(memory))
    for b in range(2):
        for h in range(2):
            expected = written_out(policy, [x[b, :, :, h, 0] for x in steps])
            for found, values in zip(reads, expected, strict=True):
                torch.testing.assert_close(found[b, :, 0, h, 0], values)


@pytest.mark.parametrize(
    ("weights", "published", "momentum"),
    [
        ((0.0, 1e6, -1e6), "max", 0.0),  # bias, old, new
        ((0.0, 1e6, -1e6), "max", 0.25),
        ((-1e6, 0.0, 0.0), "last", 0.0),
        ((-1e6, 0.0, 0.0), "last", 0.25),
        ((math.log(1 / 3), 0.0, 0.0), "last", 0.25),
    ],
)
def test_a_saturated_gate_is_a_published_rule(weights, published, momentum):
    """With one frame a step, its maximum is the last frame."""
    gate = GatedFrames(1, 0.0 if weights[0] == math.log(1 / 3) else momentum, channels=3).double()
    with torch.no_grad():
        for weight, value in zip((gate.bias, gate.old, gate.new), weights, strict=True):
            weight.fill_(value)
    rule, memory, known = CACHE_POLICIES.get(published)(1, momentum), None, None
    frames = 4 if published == "max" else 1
    for _ in range(4):
        x = torch.randn(2, 3, frames, 2, 2, dtype=torch.float64)
        memory, known = gate.update(x, memory), rule.update(x, known)
        torch.testing.assert_close(gate.read(memory), known)


def test_a_gate_starts_near_the_maximum_of_all_frames():
    gate, steps = GatedFrames(1, channels=8), [torch.randn(4, 8, 7, 5, 5) for _ in range(5)]
    memory = known = None
    with torch.no_grad():
        for x in steps:
            memory, known = gate.update(x, memory), MaxFrames(1).update(x, known)
    assert (gate.read(memory) - known).abs().mean() < 0.25 * known.std()


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_steps_shorter_than_the_memory(rule, frames):
    policy = CACHE_POLICIES.get(rule)(frames).for_operator(frames, 2)
    memory = policy.update(torch.randn(1, 2, 3, 2, 2), None)
    memory = policy.update(torch.randn(1, 2, 1, 2, 2), memory)
    assert policy.read(memory).shape == (1, 2, frames, 2, 2)
    with pytest.raises(ValueError, match="cannot fill 4 frames"):
        policy.for_operator(4, 2).update(torch.zeros(1, 2, 3, 2, 2), None)


@pytest.fixture
def learning(rule, variant, progressive_cfg, parity):
    """Config, model with random weights, and plan of a variant whose memories learn."""
    cfg = progressive_cfg(variant, "PGT.CACHE", rule)
    return cfg, parity.fill_module(build_model(cfg)), StepPlan.from_config(cfg)


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def rules_of(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, LearnedRule)}


def test_every_model_learns_what_to_keep(learning, random_clip, tmp_path):
    """Rules fit their channels, every parameter gets a gradient from the step that reads, and none from before."""
    cfg, model, plan = learning
    model.train()
    steps = plan.split(random_clip(cfg))
    scores, memory = model(steps[0])
    scores.square().sum().backward()
    rules = rules_of(model)
    assert all(not weight.grad.any() for policy in rules.values() for weight in policy.parameters())
    for step in steps[1:]:
        assert not any(frames.requires_grad for frames in memory.values())
        scores, memory = model(step, memory)
    scores.square().sum().backward()
    used = [name for name, policy in rules.items() if all(weight.grad.any() for weight in policy.parameters())]
    assert len(used) > 0.7 * len(rules) and rules  # a dead channel or a maximum may hide one
    for name, policy in rules.items():
        key = name.removesuffix(".policy")
        assert policy.channels == memory[key].shape[1], name
        assert memory[key].shape[2] == policy.kept_frames + policy.frames

    model.eval()
    with torch.no_grad():
        _, memory = model(steps[0])
        torch.save(memory, tmp_path / "memory.pt")
        whole, last = model(steps[1], memory)
        again, _ = model(steps[1], torch.load(tmp_path / "memory.pt", weights_only=True))
        assert torch.equal(whole, again)
        mixed, _ = model(steps[1], reset(memory, [0]))
        alone, _ = model([x[:1] for x in steps[1]])
        assert_close(mixed[:1], alone)
        assert_close(mixed[1:], whole[1:])
        swapped, _ = model([x.flip(0) for x in steps[1]], select(memory, [1, 0]))
        assert_close(swapped.flip(0), whole)
        joined, _ = model(steps[1], join([select(memory, [0]), select(memory, [1])]))
        assert torch.equal(joined, whole)


@torch.no_grad()
def test_a_channel_of_its_own_has_a_gate_of_its_own():
    """The rule of an operator with 2 channels is two rules of one."""
    x, memory = torch.randn(1, 2, 3, 4, 4), None
    both = GatedFrames(1).for_operator(1, 2)
    both.bias[1] = 2.0
    both.new[0] = 0.5
    memory = both.update(x, both.update(x.flip(0), None))
    for c in range(2):
        alone = GatedFrames(1)
        for weight, whole in zip(alone.parameters(), both.parameters(), strict=True):
            weight[0] = whole[c]
        torch.testing.assert_close(alone.read(memory[:, c : c + 1]), both.read(memory)[:, c : c + 1])


class Pooled(CachePolicy, torch.nn.Module):
    """Memory of the maximum of a step: the new frames of the learned rules."""

    frames = 1

    def update(self, x, memory):
        return x.amax(dim=2, keepdim=True)


def combined(name, weights, kept, new):
    """Return (what is kept next, what is read), by the equations of a rule for one frame, over all positions."""
    of = {key: weights[f"{name}.policy.{key}"].view(-1, 1, 1, 1) for key in ("bias", "old", "new")}
    if kept is None:
        return new, new
    gate = 1 / (1 + (-(of["bias"] + of["old"] * kept + of["new"] * new)).exp())
    both = gate * kept + (1 - gate) * new
    return both, both


def unrolled(model, batch, plan, group, together, lr):
    """Train on a batch with the gates outside of the model, and `group` steps in a graph; return the weights."""
    weights = dict(model.named_parameters())
    for name in model.operators:
        model.get_submodule(name).policy = Pooled()
    model.full_gradient = True

    def descend(loss):
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        with torch.no_grad():
            for weight, gradient in zip(weights.values(), gradients, strict=True):
                if gradient is not None:
                    weight -= lr * gradient

    kept, new, losses = {}, None, []
    for number, step in enumerate(plan.split(batch.inputs), start=1):
        memory = None
        if new is not None:
            pairs = {name: combined(name, weights, kept.get(name), new[name]) for name in model.operators}
            kept = {name: after for name, (after, _) in pairs.items()}
            memory = {name: read for name, (_, read) in pairs.items()}
        logits, new = model(step, memory)
        losses.append(F.cross_entropy(logits, batch.labels))
        if number % group == 0:
            kept, new = ({name: x.detach() for name, x in frames.items()} for frames in (kept, new))
            if not together:
                descend(sum(losses[-group:]))
    if together:
        descend(sum(losses))
    elif number % group:
        descend(sum(losses[-(number % group) :]))
    return weights


@pytest.mark.parametrize(
    ("group", "together"), [(1, True), (1, False), (2, True), (2, False), (3, True)], ids=lambda value: str(value)
)
def test_training_is_the_unrolled_one(group, together, progressive_cfg, parity, random_clip, train_once):
    """Gates in the operators against gates outside of a model whose operators are given what they read."""
    settings = ["PGT.CACHE", "gate", "PGT.TRAIN_TOGETHER", together, "PGT.GRADIENT_STEPS", group]
    cfg = progressive_cfg("slow", *settings, "BN.NORM_TYPE", "frozen_batchnorm")
    model, plan = parity.fill_module(build_model(cfg)).train(), StepPlan.from_config(cfg)
    batch = Batch(random_clip(cfg), *[torch.tensor([1, 3])] * 3)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    twin = copy.deepcopy(model)
    train_once(cfg, model, batch, lr=0.5)
    expected = unrolled(twin, batch, plan, group, together, lr=0.5)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=1e-6, msg=name)
    moved = [name for name in expected if ".policy." in name and not torch.equal(expected[name], before[name])]
    assert len(moved) == 3 * len(model.operators)


def test_groups_of_all_steps_are_the_full_gradient(rule, progressive_cfg, parity, random_clip, train_once):
    results = []
    for settings in (["PGT.FULL_GRADIENT", True], ["PGT.GRADIENT_STEPS", 3], ["PGT.GRADIENT_STEPS", 2]):
        cfg = progressive_cfg("slow", "PGT.CACHE", rule, *settings, "BN.NORM_TYPE", "frozen_batchnorm")
        model = parity.fill_module(build_model(cfg)).train()
        train_once(cfg, model, Batch(random_clip(cfg), *[torch.tensor([1, 3])] * 3))
        results.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    assert torch.equal(results[0], results[1]) and not torch.allclose(results[0], results[2], atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [[], ["PGT.TRAIN_TOGETHER", False, "TRAIN.MIXED_PRECISION", True], ["PGT.GRADIENT_STEPS", 2]],
    ids=["together", "per_step_mixed", "groups"],
)
def test_recomputed_blocks_train_bit_for_bit(rule, settings, one_block_model, progressive_cfg, random_clip, train_once):
    cfg = progressive_cfg("slow_basic", *settings)
    policy = CACHE_POLICIES.get(rule)(1)
    plain = convert(one_block_model(), Rules([policy], [policy], [2])).train()
    plain.full_gradient = cfg.PGT.GRADIENT_STEPS > 1
    batch = Batch([clip[..., :16, :16] for clip in random_clip(cfg)], *[torch.tensor([1, 3])] * 3)
    results = []
    for how in (ModelSetup(), ModelSetup(checkpoint_activations=True)):
        model = setup_model(copy.deepcopy(plain), torch.device("cpu"), how)
        train_once(cfg, model, batch)
        results.append(model.state_dict())
    assert [key for key in results[0] if not torch.equal(results[0][key], results[1][key])] == []
    gates = [key for key in results[0] if ".policy." in key]
    assert any(not torch.equal(results[0][key], plain.state_dict()[key]) for key in gates)


def test_mixed_precision_keeps_memory_in_half(rule, progressive_cfg, parity, random_clip):
    cfg = progressive_cfg("slow", "PGT.CACHE", rule)
    model, plan = parity.fill_module(build_model(cfg)).train(), StepPlan.from_config(cfg)
    memory, plain = None, None
    for step in plan.split(random_clip(cfg)):
        expected, plain = model(step, plain)
        with torch.autocast("cpu", torch.bfloat16):
            scores, memory = model(step, memory)
    assert torch.bfloat16 in {frames.dtype for frames in memory.values()}
    assert (scores.float() - expected).abs().mean() < 0.1 * expected.std()


def test_rules_are_trained_without_weight_decay_of_one_dimensional_parameters(rule, progressive_cfg):
    model = build_model(progressive_cfg("slow", "PGT.CACHE", rule))
    weights = {id(weight) for name, weight in model.named_parameters() if ".policy." in name}
    for spared in (True, False):
        groups = parameter_groups(model, 0.1, 0.0, zero_decay_1d=spared)
        decays = {group["weight_decay"] for group in groups for weight in group["params"] if id(weight) in weights}
        assert decays == {0.0 if spared else 0.1}


def test_a_run_cut_off_and_resumed_ends_as_the_whole_run(rule, run_cfg, cut_off_at, tmp_path):
    settings = ["PGT.CACHE", rule, "SOLVER.MAX_EPOCH", 2, "TRAIN.EVAL_PERIOD", 2, "TRAIN.CHECKPOINT_PERIOD", 1]
    whole, cut = (run_cfg(*settings, "OUTPUT_DIR", str(tmp_path / name)) for name in ("whole", "cut"))
    train(whole)
    cut_off_at(cut, 5)
    train(cut)
    ends = [load_checkpoint(checkpoint_path(cfg.OUTPUT_DIR, 2))["model_state"] for cfg in (whole, cut)]
    assert any(".policy." in key for key in ends[0])
    assert [key for key, value in ends[0].items() if not torch.equal(value, ends[1][key])] == []
