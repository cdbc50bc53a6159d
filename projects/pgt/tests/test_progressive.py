"""Test explicit memory: steps chain, samples are apart, nothing leaks, gradients stop where they should."""

import copy
import threading

import pytest
import torch
from torch import nn

from pgt import StepPlan
from pgt.conversion import Rules, convert
from pgt.memory import LastFrames, select, to
from pgt.task import ensemble, step_scores
from slowfast.config import load_config
from slowfast.models import VideoModel, build_model


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_steps_chain_through_a_saved_memory(built, random_clip, run_steps, tmp_path):
    cfg, model, plan = built
    steps = plan.split(random_clip(cfg))
    whole, _ = run_steps(model, steps)
    first, memory = run_steps(model, steps[:2])
    torch.save(memory, tmp_path / "memory.pt")
    loaded = torch.load(tmp_path / "memory.pt", weights_only=True)
    rest, _ = run_steps(model, steps[2:], loaded)
    assert torch.equal(torch.cat([first, rest]), whole)


@torch.no_grad()
def test_a_batch_is_its_samples(built, random_clip, run_steps):
    cfg, model, plan = built
    inputs = random_clip(cfg, batch=3)
    together, memory = run_steps(model, plan.split(inputs))
    for i in range(3):
        alone, alone_memory = run_steps(model, plan.split([clip[i : i + 1] for clip in inputs]))
        assert_close(alone[:, 0], together[:, i])
        for name, frames in select(memory, [i]).items():
            assert_close(frames, alone_memory[name])


@torch.no_grad()
def test_interleaved_videos_do_not_meet(built, random_clip, run_steps):
    cfg, model, plan = built
    videos = [plan.split(random_clip(cfg, seed=seed)) for seed in (1, 2)]
    alone = [run_steps(model, steps)[0] for steps in videos]
    memories, scores = [None, None], [[], []]
    for s in range(plan.steps):
        for v in (0, 1):
            y, memories[v] = model(videos[v][s], memories[v])
            scores[v].append(y)
    assert torch.equal(torch.stack(scores[0]), alone[0]) and torch.equal(torch.stack(scores[1]), alone[1])


@torch.no_grad()
def test_threads_do_not_meet(progressive_cfg, parity, random_clip, run_steps):
    cfg = progressive_cfg("slow")
    model, plan = parity.fill_module(build_model(cfg)).eval(), StepPlan.from_config(cfg)
    videos = [plan.split(random_clip(cfg, seed=seed)) for seed in range(4)]
    alone = [run_steps(model, steps)[0] for steps in videos]
    results = [None] * 4

    def work(v):
        with torch.no_grad():
            results[v] = run_steps(model, videos[v])[0]

    threads = [threading.Thread(target=work, args=(v,)) for v in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, expected in zip(results, alone, strict=True):
        assert_close(result, expected)


@torch.no_grad()
def test_without_memory_it_is_the_clip_model(variant, progressive_cfg, progressive_settings, parity, random_clip):
    cfg = progressive_cfg(variant)
    plan = StepPlan.from_config(cfg)
    frames = plan.step_len[-1]
    settings = [*progressive_settings(variant), "PGT.ENABLE", False, "DATA.NUM_FRAMES", frames]
    clip_model = parity.fill_module(build_model(load_config(None, settings))).eval()
    model = parity.fill_module(build_model(cfg)).eval()
    step = plan.split(random_clip(cfg))[0]
    scores, _ = model(step, None)
    assert_close(scores, clip_model(step))
    fresh = model.state_dict().keys() - clip_model.state_dict().keys()
    assert clip_model.state_dict().keys() <= model.state_dict().keys() and all(".policy." in key for key in fresh)
    assert bool(fresh) == (cfg.PGT.CACHE in ("gate", "slots"))


@torch.no_grad()
def test_memory_reaches_the_output(built, random_clip, run_steps):
    cfg, model, plan = built
    steps, other = plan.split(random_clip(cfg)), plan.split(random_clip(cfg, seed=5))
    scores, _ = run_steps(model, steps)
    changed, _ = run_steps(model, [other[0], *steps[1:]])
    reached = (scores - changed).abs().amax(dim=(1, 2)) > 1e-7
    assert bool(reached[1])
    # The last frames alone know only as far back as the convolutions reach; pooled or averaged memory, and that of a
    # whole step, hands everything on.
    if cfg.PGT.CACHE != "last" or cfg.PGT.CACHE_MOMENTUM or cfg.NONLOCAL.PROGRESS:
        assert bool(reached[2])


@torch.no_grad()
def test_memory_is_small_constant_and_its_own(built, random_clip):
    cfg, model, plan = built
    memory, sizes = None, set()
    for step in plan.split(random_clip(cfg)):
        inputs = {x.untyped_storage().data_ptr() for x in step}
        _, memory = model(step, memory)
        assert memory.keys() == model.operators
        for frames in memory.values():
            assert frames.untyped_storage().nbytes() == frames.numel() * frames.element_size()
            assert frames.untyped_storage().data_ptr() not in inputs
        sizes.add(sum(frames.numel() for frames in memory.values()))
    # Progressive non-local blocks remember their whole step, of which the first is longer.
    assert len(sizes) == (2 if cfg.NONLOCAL.PROGRESS else 1)
    assert len({frames.untyped_storage().data_ptr() for frames in memory.values()}) == len(memory)


@pytest.mark.parametrize("full", [False, True])
def test_gradient_through_a_step_boundary(variant, full, progressive_cfg, parity, random_clip):
    if full and variant == "mvit_reversible":
        pytest.skip("refused, see test_reversible_steps.py")
    cfg = progressive_cfg(variant, "PGT.FULL_GRADIENT", full)
    model, plan = parity.fill_module(build_model(cfg)).train(), StepPlan.from_config(cfg)
    steps = plan.split([clip.requires_grad_() for clip in random_clip(cfg)])
    _, memory = model(steps[0])
    scores, _ = model([x.detach() for x in steps[1]], memory)
    first = [p for p in steps[0] if p.requires_grad]
    gradients = torch.autograd.grad(scores.square().sum(), first, allow_unused=True)
    flows = [g is not None and bool(g.abs().max() > 0) for g in gradients]
    if full:
        assert flows[-1]
    else:
        assert gradients == (None,) * len(first) and not any(frames.requires_grad for frames in memory.values())


@torch.no_grad()
def test_memory_off_forgets(progressive_cfg, parity, random_clip, run_steps):
    cfg = progressive_cfg("slow", "PGT.MEMORY", False)
    model, plan = parity.fill_module(build_model(cfg)).eval(), StepPlan.from_config(cfg)
    steps = plan.split(random_clip(cfg))
    scores, memory = run_steps(model, steps)
    assert memory == {}
    assert torch.equal(scores[2], model(steps[2])[0])


@pytest.mark.parametrize("variant", ["slow", "mvit_mean"])
@torch.no_grad()
def test_memory_off_takes_steps_that_could_not_fill_a_memory(variant, progressive_cfg, parity, run_steps):
    """8 frames, then 2 at a time: fewer than the 6 of a convolution's memory, or the 3 positions of an attention's."""
    plan = ["PGT.STEP_LEN", [8], "PGT.OVERLAP", [6], "PGT.STEPS", 3, "DATA.NUM_FRAMES", 12, "PGT.ATTENTION_MEMORY", 3]
    cfg = progressive_cfg(variant, *plan, "PGT.MEMORY", False)
    model = parity.fill_module(build_model(cfg)).eval()
    clip = torch.randn(2, 3, 12, 32, 32, generator=torch.Generator().manual_seed(0))
    steps = [[clip[:, :, a:b]] for a, b in ((0, 8), (8, 10), (10, 12))]
    scores, memory = run_steps(model, steps)
    assert memory == {}
    assert torch.equal(scores, torch.stack([model(step)[0] for step in steps]))
    features = [model.step_features(step, memory)[0][0] for step in steps]
    assert torch.equal(features[2], model.forward_features(steps[2])[0])


@torch.no_grad()
def test_wiped_memory_is_a_fresh_start(progressive_cfg, parity, random_clip):
    cfg = progressive_cfg("slow")
    model, plan = parity.fill_module(build_model(cfg)).eval(), StepPlan.from_config(cfg)
    inputs = random_clip(cfg)
    wiped = step_scores(model, inputs, plan, lambda s, memory: None if s == plan.steps - 1 else memory)
    whole = step_scores(model, inputs, plan)
    assert torch.equal(wiped[:-1], whole[:-1])
    assert torch.equal(wiped[-1], model(plan.split(inputs)[-1])[0])
    swapped = step_scores(model, inputs, plan, lambda s, memory: select(memory, [1, 0]))
    assert not torch.equal(swapped[1], whole[1])


def test_ensembles():
    scores = torch.tensor([[[0.1, 0.9]], [[0.6, 0.4]]])
    torch.testing.assert_close(ensemble(scores, "sum"), torch.tensor([[0.7, 1.3]]))
    torch.testing.assert_close(ensemble(scores, "max"), torch.tensor([[0.6, 0.9]]))
    torch.testing.assert_close(ensemble(scores, "last"), torch.tensor([[0.6, 0.4]]))
    with pytest.raises(ValueError, match="'mean'"):
        ensemble(scores, "mean")


@torch.no_grad()
def test_memory_of_another_model_is_named(progressive_cfg, random_clip):
    slow, i3d = progressive_cfg("slow"), progressive_cfg("i3d")
    step = StepPlan.from_config(slow).split(random_clip(slow))[0]
    _, memory = build_model(slow)(step)
    with pytest.raises(ValueError, match="it is of another model"):
        build_model(i3d)(step, memory)
    with pytest.raises(ValueError, match="batch, channels and size must agree"):
        build_model(slow)([x[:1] for x in step], memory)


@torch.no_grad()
def test_memory_moves_and_a_model_copies(progressive_cfg, random_clip):
    cfg = progressive_cfg("slow")
    model = build_model(cfg).eval()
    step = StepPlan.from_config(cfg).split(random_clip(cfg))[0]
    scores, memory = model(step)
    assert to(memory, "cpu").keys() == memory.keys()
    twin, twin_memory = copy.deepcopy(model)(step)
    assert torch.equal(scores, twin) and twin_memory.keys() == memory.keys()


def test_progressive_nonlocal_blocks_have_a_norm_of_their_own(progressive_cfg):
    settings = ["BN.NORM_TYPE", "frozen_batchnorm", "PGT.NL_NORM", "batchnorm"]
    block = build_model(progressive_cfg("progressive_nonlocal", *settings)).s3.pathway0_nonlocal1
    assert isinstance(block.bn, nn.BatchNorm3d)
    assert not block.bn.weight.any()
    with pytest.raises(ValueError, match="NONLOCAL.GROUP 2"):
        build_model(progressive_cfg("progressive_nonlocal", "NONLOCAL.GROUP", [[1], [2], [1], [1]]))


def test_temporal_strides_cannot_carry_memory():
    model = VideoModel()
    model.conv = nn.Conv3d(3, 3, (3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0))
    with pytest.raises(ValueError, match="kernel 3, stride 2"):
        convert(model, Rules([LastFrames(1)], None, [4]))
