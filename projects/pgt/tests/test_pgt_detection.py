"""Models that score boxes, in steps: their memory, and what the boxes of a whole clip see."""

import pytest
import torch

from pgt import StepPlan
from pgt.memory import select
from slowfast.config import load_config
from slowfast.layers.roi_align import roi_align
from slowfast.models import build_model

DETECTION = [
    "DETECTION.ENABLE", True, "MODEL.HEAD_ACT", "sigmoid", "MODEL.LOSS_FUNC", "bce",
    "RESNET.SPATIAL_STRIDES", [[1], [2], [1], [1]],
]  # fmt: skip
MVIT = [
    "MODEL.MODEL_NAME", "MViT", "MODEL.ARCH", "mvit", "MVIT.DEPTH", 2, "MVIT.EMBED_DIM", 16, "MVIT.NUM_HEADS", 2,
    "MVIT.PATCH_PADDING", [1, 3, 3], "MVIT.POOL_Q_STRIDE", [[1, 1, 2, 2]], "MVIT.POOL_KVQ_KERNEL", [3, 3, 3],
    "PGT.OVERLAP", [2], "DATA.NUM_FRAMES", 20,
]  # fmt: skip
# The base of each in conftest.py, and what differs.
KINDS = {
    "slow": ("slow", []),
    "slow_momentum": ("slow", ["PGT.CACHE_MOMENTUM", 0.1]),
    "slow_overlap": ("slow_overlap", []),
    "i3d_max": ("i3d", ["MODEL.FINAL_POOL", ["avg", "max"]]),
    "slowfast": ("slowfast", []),
    "slowfast_avg": ("slowfast_even_max", ["PGT.CACHE", "avg"]),
    "x3d": ("x3d", []),
    "mvit": ("slow", MVIT),
    "nonlocal": ("progressive_nonlocal", []),
}


@pytest.fixture
def detection_cfg(progressive_settings):
    """`detection_cfg(kind, *more)`: the loaded configuration of a kind with further overrides."""

    def load(kind, *more):
        variant, own = KINDS[kind]
        return load_config(None, progressive_settings(variant, *DETECTION, *own, *more))

    return load


@pytest.fixture(params=KINDS)
def built(request, detection_cfg, parity):
    cfg = detection_cfg(request.param)
    return cfg, parity.fill_module(build_model(cfg)).eval(), StepPlan.from_config(cfg)


def boxes_of(counts, seed=0):
    """So many boxes in each sample of a batch, mixed, of pictures of 32 pixels."""
    generator = torch.Generator().manual_seed(seed)
    samples = torch.tensor([i for i, count in enumerate(counts) for _ in range(count)]).float()
    corners = torch.rand(len(samples), 2, 2, generator=generator).mul(40).sub(4).sort(dim=1).values.flatten(1)
    rows = torch.cat([samples[:, None], corners], dim=1)
    return rows[torch.randperm(len(rows), generator=generator)]


@torch.no_grad()
def test_steps_with_other_boxes_each_chain_through_a_saved_memory(built, random_clip, run_steps, tmp_path):
    cfg, model, plan = built
    steps = plan.split(random_clip(cfg))
    boxes = [boxes_of(counts, seed) for seed, counts in enumerate([(2, 1), (0, 3), (4, 1)])]
    whole, _ = run_steps(model, steps, boxes=boxes)
    assert [len(scores) for scores in whole] == [3, 3, 5]
    first, memory = run_steps(model, steps[:2], boxes=boxes[:2])
    torch.save(memory, tmp_path / "memory.pt")
    loaded = torch.load(tmp_path / "memory.pt", weights_only=True)
    rest, _ = run_steps(model, steps[2:], loaded, boxes[2:])
    assert all(torch.equal(*pair) for pair in zip([*first, *rest], whole, strict=True))


@torch.no_grad()
def test_a_batch_is_its_samples_with_any_number_of_boxes(built, random_clip, run_steps):
    cfg, model, plan = built
    inputs = random_clip(cfg, batch=3)
    boxes = [boxes_of((2, 0, 3), seed) for seed in range(plan.steps)]
    together, memory = run_steps(model, plan.split(inputs), boxes=boxes)
    for i in range(3):
        rows = [step[:, 0] == i for step in boxes]
        own = [step[row] * torch.tensor([0.0, 1, 1, 1, 1]) for step, row in zip(boxes, rows, strict=True)]
        alone, alone_memory = run_steps(model, plan.split([clip[i : i + 1] for clip in inputs]), boxes=own)
        for scores, expected, row in zip(alone, together, rows, strict=True):
            torch.testing.assert_close(scores, expected[row], rtol=1e-4, atol=1e-6)
        for name, frames in select(memory, [i]).items():
            torch.testing.assert_close(frames, alone_memory[name], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_memory_is_constant_its_own_and_reaches_the_boxes(built, random_clip, run_steps):
    cfg, model, plan = built
    steps, other = plan.split(random_clip(cfg)), plan.split(random_clip(cfg, seed=5))
    boxes, memory, sizes = boxes_of((2, 2)), None, set()
    for step in steps:
        _, memory = model(step, memory, boxes)
        assert memory.keys() == model.operators
        assert any(name.endswith("tpool") for name in memory)
        assert all(f.untyped_storage().nbytes() == f.numel() * f.element_size() for f in memory.values())
        sizes.add(sum(frames.numel() for frames in memory.values()))
    assert len(sizes) == (
        2 if cfg.NONLOCAL.PROGRESS else 1
    )  # non-local blocks remember their step, the first is longer
    scores, _ = run_steps(model, steps, boxes=boxes)
    changed, _ = run_steps(model, [other[0], *steps[1:]], boxes=boxes)
    reached = [bool((a - b).abs().max() > 1e-7) for a, b in zip(scores, changed, strict=True)]
    assert reached[1]
    if cfg.PGT.CACHE != "last" or cfg.PGT.CACHE_MOMENTUM or cfg.NONLOCAL.PROGRESS:
        assert reached[2]


@torch.no_grad()
def test_the_first_step_is_the_clip_model(detection_cfg, parity, random_clip):
    for kind in ("slow", "slowfast", "x3d", "mvit"):
        cfg = detection_cfg(kind)
        model, plan = parity.fill_module(build_model(cfg)).eval(), StepPlan.from_config(cfg)
        settings = ["PGT.ENABLE", False, "DATA.NUM_FRAMES", plan.step_len[-1]]
        clip_model = parity.fill_module(build_model(detection_cfg(kind, *settings))).eval()
        assert model.state_dict().keys() == clip_model.state_dict().keys()
        step, boxes = plan.split(random_clip(cfg))[0], boxes_of((2, 1))
        torch.testing.assert_close(model(step, None, boxes)[0], clip_model(step, boxes), rtol=1e-4, atol=1e-6)


def boxes_by_hand(model, frames, boxes, scale, temporal):
    """Scores of the boxes over these frames of features, (B, C, T, H, W) per pathway."""
    pooled = [x.amax(dim=2) if temporal == "max" else x.mean(dim=2) for x in frames]
    features = torch.cat([roi_align(x, boxes, 7, scale).amax(dim=(2, 3)) for x in pooled], dim=1)
    return torch.sigmoid(features @ model.head.projection.weight.T + model.head.projection.bias)


@pytest.mark.parametrize(("cache", "momentum"), [("last", 0.0), ("max", 0.0), ("max", 0.25), ("avg", 0.5)])
@torch.no_grad()
def test_memory_of_the_head_is_the_equation(detection_cfg, parity, random_clip, cache, momentum):
    """Take a network without temporal kernels, which remembers in its head alone; `max` is max there."""
    cfg = detection_cfg("slow", "MODEL.ARCH", "c2d_nopool", "PGT.CACHE", cache, "PGT.CACHE_MOMENTUM", momentum)
    model, plan = parity.fill_module(build_model(cfg)).eval(), StepPlan.from_config(cfg)
    assert model.operators == {"head.pathway0_avgpool.tpool"}
    boxes, memory, expected = boxes_of((1, 2)), None, None
    for step in plan.split(random_clip(cfg)):
        (x,) = model.forward_features(step)
        z = x if expected is None else torch.cat([expected, x], dim=2)
        pooled = {"last": z[:, :, -1:], "max": z.amax(2, keepdim=True), "avg": z.mean(2, keepdim=True)}[cache]
        expected = pooled if expected is None else (1 - momentum) * pooled + momentum * expected
        scores, memory = model(step, memory, boxes)
        torch.testing.assert_close(scores, boxes_by_hand(model, [z], boxes, 1 / 8, "avg"))
        torch.testing.assert_close(memory["head.pathway0_avgpool.tpool"], expected)


@torch.no_grad()
def test_a_head_without_memory(detection_cfg, parity, random_clip, run_steps):
    cfg = detection_cfg("slow", "PGT.HEAD", False)
    model, plan = parity.fill_module(build_model(cfg)).eval(), StepPlan.from_config(cfg)
    assert not any("head" in name for name in model.operators) and model.operators
    scores, _ = run_steps(model, plan.split(random_clip(cfg)), boxes=boxes_of((1, 1)))
    assert (scores[1] - scores[2]).abs().max() > 1e-6


@pytest.mark.parametrize(("kind", "frames"), [("slow", [9]), ("i3d_max", [5]), ("mvit", [5]), ("slowfast", [5, 17])])
@torch.no_grad()
def test_boxes_of_a_whole_clip_see_the_last_step_and_the_frame_before(detection_cfg, parity, random_clip, kind, frames):
    """Steps of 8 frames; of 8 that a temporal pooling, or patches, have made 4; of 4 slow and 16 fast ones."""
    cfg = detection_cfg(kind)
    model = parity.fill_module(build_model(cfg)).eval()
    inputs, boxes = random_clip(cfg), boxes_of((2, 1))
    window = [x[:, :, -count:] for x, count in zip(model.forward_features(inputs), frames, strict=True)]
    expected = boxes_by_hand(model, window, boxes, 1 / 8, cfg.MODEL.FINAL_POOL[1])
    torch.testing.assert_close(model.whole_clip(inputs, boxes), expected)


def test_gradients_stop_at_the_head_memory_or_flow(detection_cfg, parity, random_clip):
    for full in (False, True):
        cfg = detection_cfg("slow", "MODEL.ARCH", "c2d_nopool", "PGT.FULL_GRADIENT", full, "PGT.TRAIN_TOGETHER", True)
        model, plan = parity.fill_module(build_model(cfg)).eval(), StepPlan.from_config(cfg)
        steps, boxes = plan.split([x.requires_grad_() for x in random_clip(cfg)]), boxes_of((1, 1))
        _, memory = model(steps[0], None, boxes)
        scores, _ = model([x.detach() for x in steps[1]], memory, boxes)
        gradient = torch.autograd.grad(scores.sum(), steps[0][0], allow_unused=True)[0]
        assert (gradient is not None and bool(gradient.any())) == full


def test_boxes_that_are_missing_or_not_wanted_are_named(detection_cfg, progressive_cfg, random_clip):
    cfg, clip_cfg = detection_cfg("slow"), progressive_cfg("slow")
    model, clip_model = build_model(cfg), build_model(clip_cfg)
    inputs, boxes = random_clip(cfg), boxes_of((1, 1))
    step = StepPlan.from_config(cfg).split(inputs)[0]
    for call in (lambda: model(step), lambda: model.whole_clip(inputs)):
        with pytest.raises(ValueError, match=r"scores boxes and got none"):
            call()
    for call in (lambda: clip_model(step, None, boxes), lambda: clip_model.whole_clip(inputs, boxes)):
        with pytest.raises(ValueError, match="whole clips, but got 2 boxes"):
            call()
