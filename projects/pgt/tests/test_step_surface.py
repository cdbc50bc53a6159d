"""Test the shared interface of every registered model in steps, scoring clips or boxes.

Each step brings few frames, so that a memory of the last ones alone reaches two steps on.
"""

import pytest
import torch

from pgt import StepPlan
from pgt.memory import select
from slowfast.config import load_config
from slowfast.models import MODEL_REGISTRY, build_model
from slowfast.models.complexity import complexity

# STEP_LEN, OVERLAP, DATA.NUM_FRAMES of three steps; of other models those of "".
LENGTHS = {"": ([2], [1], 4), "SlowFast": ([2, 8], [1, 4], 16), "MViT": ([4], [2], 8)}
BOXES = torch.tensor([[0.0, 4.0, 2.0, 20.0, 30.0], [1.0, 0.0, 0.0, 31.0, 31.0], [1.0, 10.0, 9.0, 22.0, 25.0]])
WITHOUT_BOXES = ("TimeSformer", "RegNet")
CASES = [
    (name, kind)
    for name in MODEL_REGISTRY
    for kind in ("clip", "boxes")
    if not MODEL_REGISTRY.fact(name, "task") and (kind == "clip" or name not in WITHOUT_BOXES)
]


@pytest.fixture(params=CASES, ids="-".join)
def case(request, tiny_models):
    """Return the config of every model in three steps, and the boxes of each step, if any."""
    name, kind = request.param
    length, overlap, frames = LENGTHS.get(name, LENGTHS[""])
    settings = [*tiny_models[name], "PGT.ENABLE", True, "PGT.STEPS", 3, "PGT.STEP_LEN", length, "PGT.OVERLAP", overlap]
    settings += ["DATA.NUM_FRAMES", frames, "PGT.TRAIN_TOGETHER", True]
    if kind == "boxes":
        settings += ["DETECTION.ENABLE", True, "MODEL.HEAD_ACT", "sigmoid", "MODEL.LOSS_FUNC", "bce"]
    return load_config(None, settings), BOXES if kind == "boxes" else None


@pytest.fixture
def built(case, parity, random_clip):
    """Return the model, its plan, a function that gives a clip of a seed in steps, and the boxes, if any."""
    cfg, boxes = case
    model, plan = parity.fill_module(build_model(cfg)).eval(), StepPlan.from_config(cfg)
    return model, plan, lambda seed=0: plan.split(random_clip(cfg, seed=seed)), boxes


@torch.no_grad()
def test_steps_chain_through_a_saved_memory(built, run_steps, tmp_path):
    model, _, clip, boxes = built
    whole, _ = run_steps(model, clip(), boxes=boxes)
    _, memory = run_steps(model, clip()[:1], boxes=boxes)
    torch.save(memory, tmp_path / "memory.pt")
    rest, _ = run_steps(model, clip()[1:], torch.load(tmp_path / "memory.pt", weights_only=True), boxes)
    assert torch.equal(rest, whole[1:])


@torch.no_grad()
def test_a_batch_is_its_samples(built, run_steps):
    model, _, clip, boxes = built
    together, memory = run_steps(model, clip(), boxes=boxes)
    first = None if boxes is None else boxes[boxes[:, 0] == 0]
    alone, alone_memory = run_steps(model, [[x[:1] for x in step] for step in clip()], boxes=first)
    torch.testing.assert_close(alone, together[:, :1], rtol=1e-4, atol=1e-6)
    for name, part in select(memory, [0]).items():
        torch.testing.assert_close(part, alone_memory[name], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_memory_is_of_constant_size(built):
    model, _, clip, boxes = built
    first, *later = clip()
    memory, sizes = None, []
    for step in (first, *later, *later, *later):
        _, memory = model(step, memory, boxes)
        assert memory.keys() == model.operators and memory
        sizes.append({name: (part.shape, part.untyped_storage().nbytes()) for name, part in memory.items()})
    assert all(size == sizes[1] for size in sizes[2:])
    assert all(
        size[1] == part.numel() * part.element_size()
        for size, part in zip(sizes[-1].values(), memory.values(), strict=True)
    )


@torch.no_grad()
def test_the_first_step_changes_the_third_ones_scores(built, run_steps):
    model, _, clip, boxes = built
    scores, _ = run_steps(model, clip(), boxes=boxes)
    changed, _ = run_steps(model, [clip(seed=5)[0], *clip()[1:]], boxes=boxes)
    assert float((scores[2] - changed[2]).abs().max()) > 1e-6  # rounding is less


def test_every_parameter_trains_in_a_later_step_and_no_gradient_crosses(built):
    model, _, clip, boxes = built
    model.train()
    first, second, _ = clip()
    first = [x.requires_grad_() for x in first]
    _, memory = model(first, None, boxes)
    scores, _ = model(second, memory, boxes)
    (scores * torch.randn(scores.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert [x.grad for x in first] == [None] * len(first)


def test_the_clip_models_weights_and_size(case):
    cfg, _ = case
    clip_cfg = cfg.clone()
    clip_cfg.defrost()
    clip_cfg.MODEL.ADAPTER = ""
    assert build_model(cfg).state_dict().keys() == build_model(clip_cfg).state_dict().keys()
    assert complexity(cfg) == complexity(clip_cfg)
