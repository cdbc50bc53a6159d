"""Memories of batches: selected, joined and reset by sample, and updated by a project's own rule."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from pgt import StepPlan
from pgt.conversion import Rules, convert
from pgt.memory import CACHE_POLICIES, START, CachePolicy, LastFrames, join, reset, select, to
from slowfast.config import load_config
from slowfast.models import build_model


def sample(step, i):
    return [x[i : i + 1] for x in step]


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_a_reset_sample_is_computed_as_with_no_memory(built, random_clip):
    cfg, model, plan = built
    first, second, third = plan.split(random_clip(cfg, batch=3))
    _, memory = model(first)
    mixed = reset(memory, [1])
    together, new = model(second, mixed)
    assert new.keys() == model.operators
    last, _ = model(third, new)
    for i in range(3):
        alone, alone_memory = model(sample(second, i), None if i == 1 else select(memory, [i]))
        assert_close(together[i : i + 1], alone)
        for name, frames in select(new, [i]).items():
            assert_close(frames, alone_memory[name])
        assert_close(last[i : i + 1], model(sample(third, i), alone_memory)[0])
    assert START not in memory and mixed[START].tolist() == [False, True, False]


@torch.no_grad()
def test_features_of_a_reset_sample(progressive_cfg, parity, random_clip):
    cfg = progressive_cfg("slowfast")
    model = parity.fill_module(build_model(cfg)).eval()
    first, second, _ = StepPlan.from_config(cfg).split(random_clip(cfg))
    _, memory = model.step_features(first)
    together, _ = model.step_features(second, reset(memory, [0]))
    alone, _ = model.step_features(sample(second, 0))
    assert_close([x[:1] for x in together], alone)


@pytest.mark.parametrize("name", ["slow", "i3d", "slowfast_fusion", "mvit", "mvit_mean", "timesformer", "x3d_max"])
@torch.no_grad()
def test_videos_of_other_lengths_share_a_batch(name, progressive_cfg, parity, random_clip):
    """Two places of a batch read five videos one after the other; each gets the scores that it gets alone."""
    cfg = progressive_cfg(name)
    model, plan = parity.fill_module(build_model(cfg)).eval(), StepPlan.from_config(cfg)
    later = [length - overlap for length, overlap in zip(plan.step_len, plan.overlap, strict=True)]
    videos, waiting = [], [3, 1, 2, 2, 1]
    for seed, steps in enumerate(waiting):
        clip = random_clip(cfg, batch=1, seed=seed)
        videos.append([[x[:, :, s : s + n] for x, n in zip(clip, later, strict=True)] for s in range(steps)])
    found = [[] for _ in videos]
    places, started, memory = [0, 1], 2, None
    progress = [0] * len(videos)
    while len(places) == 2:
        steps = [videos[v][progress[v]] for v in places]
        scores, memory = model([torch.cat(parts) for parts in zip(*steps, strict=True)], memory)
        for place, v in enumerate(list(places)):
            found[v].append(scores[place])
            progress[v] += 1
            if progress[v] == len(videos[v]):
                places[place] = started if started < len(videos) else None
                started += 1
                memory = memory and reset(memory, [place])
        places = [v for v in places if v is not None]
    for v, scores in enumerate(found):
        memory = None
        for step, score in zip(videos[v], scores, strict=False):
            expected, memory = model(step, memory)
            assert_close(score, expected[0])
    assert sum(map(len, found)) >= 8


def test_a_mixed_step_has_the_gradient_of_its_samples(progressive_cfg, parity, random_clip):
    cfg = progressive_cfg("mvit", "PGT.FULL_GRADIENT", True)
    model = parity.fill_module(build_model(cfg)).eval()
    first, second, _ = StepPlan.from_config(cfg).split(random_clip(cfg))
    _, memory = model(first)
    scores, _ = model(second, reset(memory, [1]))
    together = torch.autograd.grad(scores.square().sum(), list(model.parameters()))
    _, memory = model(sample(first, 0))
    alone = [model(sample(second, 0), memory)[0], model(sample(second, 1))[0]]
    expected = torch.autograd.grad(torch.cat(alone).square().sum(), list(model.parameters()))
    torch.testing.assert_close(together, expected, rtol=1e-4, atol=1e-6)


def test_norms_of_nonlocal_blocks_see_a_mixed_batch_once(progressive_cfg, random_clip):
    cfg = progressive_cfg("progressive_nonlocal")
    model = build_model(cfg).train()
    first, second, _ = StepPlan.from_config(cfg).split(random_clip(cfg))
    _, memory = model(first)
    model(second, reset(memory, [0]))
    assert int(model.s3.pathway0_nonlocal1.bn.num_batches_tracked) == 2


@pytest.fixture
def memories():
    return [{"a": torch.randn(n, 2, 1, 3, 3), "b.c": torch.randn(n, 4, 2, 1, 1)} for n in (1, 2)]


def test_the_starts_of_a_joined_memory_are_on_the_device_of_its_frames(monkeypatch):
    monkeypatch.setattr("pgt.memory._settled", lambda memory: memory)  # a meta tensor has no values to look at
    frames = {"s1": torch.empty(1, 2, 1, 4, 4, device="meta")}
    for memories in ([None, frames], [frames, None]):
        assert join(memories)[START].device.type == "meta"


def test_join_and_select_are_inverse(memories):
    one, two = memories
    joined = join([one, None, two])
    assert joined[START].tolist() == [False, True, False, False]
    for part, samples in ((one, [0]), (two, [2, 3])):
        torch.testing.assert_close(select(joined, samples), part, rtol=0, atol=0)
    assert select(joined, [1]) is None and join([None, None]) is None
    assert select(joined, torch.tensor([1, 3]))[START].tolist() == [True, False]
    torch.testing.assert_close(join([joined, one])["a"][-1:], one["a"])
    assert START not in join([one, two]) and join([{}, {}]) == {}
    assert to(joined, "cpu").keys() == joined.keys()


def test_reset_leaves_its_argument_and_ends_in_none(memories):
    _, two = memories
    before = {name: frames.clone() for name, frames in two.items()}
    some = reset(two, [1])
    torch.testing.assert_close(two, before, rtol=0, atol=0)
    torch.testing.assert_close(select(some, [0]), select(two, [0]), rtol=0, atol=0)
    assert not some["a"][1].any() and reset(some, [0]) is None
    assert reset(two, torch.tensor([0, 1])) is None and reset({}, [0]) == {}


def test_memories_that_do_not_go_together_are_named(memories):
    one, two = memories
    with pytest.raises(ValueError, match="differ in b.c: they are of different models"):
        join([one, {"a": two["a"]}])
    with pytest.raises(ValueError, match=r"memories of a have sizes .*\(2, 1, 3, 3\), \(2, 2, 3, 3\)"):
        join([one, {**two, "a": torch.zeros(1, 2, 2, 3, 3)}])


@dataclass
class EveryOther(CachePolicy):
    """Memory of every second frame from the end."""

    frames: int
    momentum: float = 0.0

    def update(self, x, memory):
        return x.flip(2)[:, :, ::2][:, :, : self.frames].flip(2).clone()


class Gated(CachePolicy, nn.Module):
    """Memory of the last frames times a trained number."""

    def __init__(self, frames, momentum=0.0):
        nn.Module.__init__(self)
        self.frames, self.gate = frames, nn.Parameter(torch.ones(()))

    def update(self, x, memory):
        return self.gate * x[:, :, -self.frames :]


@pytest.fixture
def own_policy():
    CACHE_POLICIES.register("every_other")(EveryOther)
    yield "every_other"
    del CACHE_POLICIES._objects["every_other"]


def test_a_rule_of_ones_own_is_a_setting(own_policy, progressive_settings, random_clip):
    settings = progressive_settings("slow", "PGT.CACHE", own_policy, "PGT.OVERLAP", [2], "DATA.NUM_FRAMES", 20)
    cfg = load_config(None, settings)
    model, seen = build_model(cfg).eval(), {}
    name = next(name for name in sorted(model.operators) if name.startswith("s4"))
    model.get_submodule(name).register_forward_hook(lambda _, inputs, __: seen.update(x=inputs[0]))
    with torch.no_grad():
        _, memory = model(StepPlan.from_config(cfg).split(random_clip(cfg))[0])
    torch.testing.assert_close(memory[name], seen["x"][:, :, [-3, -1]])
    assert type(model.head.pathway0_avgpool.policy) is EveryOther


def test_a_rule_with_parameters_is_trained(one_block_model):
    model = convert(one_block_model(), Rules([Gated(1)], [LastFrames(1)], [2]))
    model.full_gradient = True
    (name,) = (key for key, _ in model.named_parameters() if key.endswith("policy.gate"))
    memory = None
    for step in torch.randn(2, 3, 8, 16, 16).split(4, dim=2):
        scores, memory = model([step], memory)
    scores.square().sum().backward()
    assert name in model.state_dict() and model.get_parameter(name).grad.abs() > 0
