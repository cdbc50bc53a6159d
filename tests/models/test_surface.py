"""What every model of the registry offers alike, scoring clips or boxes."""

import copy
import pickle

import pytest
import torch

from slowfast.config import load_config
from slowfast.engine.model_setup import checkpoint_blocks, fold_norms, freeze_stages, move_model
from slowfast.layers.conv import use_plain_convolutions
from slowfast.models import MODEL_REGISTRY, build_model
from slowfast.models.complexity import complexity
from slowfast.models.mvit import MViT

WITHOUT_BOXES = ("TimeSformer", "RegNet")
DETECTION = ["DETECTION.ENABLE", True, "MODEL.HEAD_ACT", "sigmoid", "MODEL.LOSS_FUNC", "bce"]
CASES = [
    (name, kind)
    for name in MODEL_REGISTRY
    for kind in ("clip", "boxes")
    if not MODEL_REGISTRY.fact(name, "task") and (kind == "clip" or name not in WITHOUT_BOXES)
]
BOXES = torch.tensor([[0.0, 4.0, 2.0, 20.0, 30.0], [1.0, 0.0, 0.0, 31.0, 31.0], [1.0, 10.0, 9.0, 22.0, 25.0]])


def random_clip(cfg, seed=0, batch=2):
    generator = torch.Generator().manual_seed(seed)
    clip = torch.randn(batch, 3, 8, 32, 32, generator=generator)
    return [clip[:, :, :: cfg.SLOWFAST.ALPHA], clip] if len(cfg.DATA.INPUT_CHANNEL_NUM) == 2 else [clip]


@pytest.fixture(params=CASES, ids="-".join)
def case(request, tiny_models):
    """Settings, and further arguments of a call, of every model with every head."""
    name, kind = request.param
    cfg = load_config(None, [*tiny_models[name], *(DETECTION if kind == "boxes" else [])])
    return cfg, [BOXES] if kind == "boxes" else []


@pytest.fixture
def built(case, parity):
    """The model with weights that leave nothing at zero, its settings, clips and further arguments."""
    cfg, boxes = case
    return parity.fill_module(build_model(cfg)), cfg, random_clip(cfg), boxes


@torch.no_grad()
def test_scores_and_features(built):
    model, cfg, inputs, boxes = built
    model.eval()
    scores = model(inputs, *boxes)
    assert scores.shape == (len(BOXES) if boxes else 2, cfg.MODEL.NUM_CLASSES)
    assert bool(((scores >= 0) & (scores <= 1)).all())
    assert torch.equal(model(inputs, *boxes), scores)
    features = model.forward_features(inputs)
    assert len(features) == len(inputs)
    for x, clip in zip(features, inputs, strict=True):
        assert x.dim() == 5 and len(x) == 2 and clip.shape[2] % x.shape[2] == 0
    assert sum(x.shape[1] for x in features) == model.num_features
    assert not torch.allclose(model(random_clip(cfg, seed=1), *boxes), scores)


def test_other_inputs_are_refused_with_what_the_model_takes(built):
    model, _, inputs, boxes = built
    wrong = [inputs[0], [], [*inputs, inputs[0]], [clip[0] for clip in inputs], [clip[:, :2] for clip in inputs], None]
    wrong += [[clip.byte() for clip in inputs], [clip[:, :, :0] for clip in inputs]]
    if len(inputs) > 1:
        wrong += [inputs[::-1], [inputs[0], inputs[1][:1]]]
    for each in wrong:
        with pytest.raises(ValueError, match=rf"takes a list of {len(inputs)} clip|fast frames"):
            model(each, *boxes)


def test_modules_by_pathway(built):
    model, _, inputs, _ = built
    owned = [{id(m) for top in modules for m in top.modules()} for modules in model.pathways()]
    assert len(owned) == model.num_pathways == len(inputs)
    assert len(set.union(*owned)) == sum(map(len, owned))
    for name, module in model.named_modules():
        _, found, rest = name.partition("pathway")
        if found:
            assert id(module) in owned[int(rest[0])]


@torch.no_grad()
def test_a_batch_is_its_samples(built):
    model, _, inputs, boxes = built
    model.eval()
    together = model(inputs, *boxes)
    first = [BOXES[BOXES[:, 0] == 0]] if boxes else []
    alone = model([clip[:1] for clip in inputs], *first)
    torch.testing.assert_close(alone, together[:1], rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_a_new_classifier(built):
    model, _, inputs, boxes = built
    model.eval()
    before, features = model.num_features, model.forward_features(inputs)
    model.reset_classifier(7)
    assert model(inputs, *boxes).shape[1] == 7
    assert model.num_features == before
    for x, y in zip(features, model.forward_features(inputs), strict=True):
        assert torch.equal(x, y)


def test_every_parameter_is_of_one_depth(built):
    model, *_ = built
    groups = model.depth_groups()
    owners = [[id(p) for module in group for p in module.parameters()] for group in groups]
    counted = [parameter for group in owners for parameter in group]
    assert sorted(counted) == sorted(id(p) for p in model.parameters())
    before = dict(model.named_parameters())
    model.reset_classifier(7)
    replaced = [p for p, new in zip(before.values(), model.parameters(), strict=True) if p is not new]
    assert len(replaced) == 2 and {id(p) for p in replaced} <= set(owners[-1])
    first = next(iter(model.children())).parameters()
    assert {id(p) for p in first} <= set(owners[0])


@torch.no_grad()
def test_state_dict_round_trip(built, tmp_path):
    model, cfg, inputs, boxes = built
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = build_model(cfg).eval()
    assert not torch.equal(other(inputs, *boxes), model.eval()(inputs, *boxes))
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True), strict=True)
    assert torch.equal(other(inputs, *boxes), model(inputs, *boxes))


def test_every_parameter_gets_a_gradient(built):
    model, _, inputs, boxes = built
    scores = model.train()(inputs, *boxes)
    (scores * torch.randn(scores.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    nil = [name for name, gradient in gradients.items() if not bool(gradient.abs().max() > 0)]
    if isinstance(model, MViT) and not boxes:
        # The head reads the class token, which is at no position.
        nil = [name for name in nil if not name.startswith("blocks.2.attn.rel_pos_")]
    assert nil == []


def test_recomputed_activations_give_the_same_gradient(built):
    model, _, inputs, boxes = built
    other = copy.deepcopy(model)
    checkpoint_blocks(other)
    for each in (model, other):
        each.train()(inputs, *boxes).square().sum().backward()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_frozen_and_checkpointed_models_are_copied_and_pickled(built, copied):
    model, _, inputs, boxes = built
    cls = type(model)
    freeze_stages(model, [name for name, _ in model.named_children()][:2])
    checkpoint_blocks(model)
    other = copied(model.train())
    assert type(other) is type(model) is cls
    assert [type(m) for m in other.modules()] == [type(m) for m in model.modules()]
    assert [m.training for m in other.modules()] == [m.training for m in model.modules()]
    for each in (model, other):
        each(inputs, *boxes).square().sum().backward()
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        assert p.grad is q.grad is None or torch.equal(p.grad, q.grad), name
    with torch.no_grad():
        assert torch.equal(model.eval()(inputs, *boxes), other.eval()(inputs, *boxes))


@torch.no_grad()
def test_weights_in_bfloat16(built):
    model, _, inputs, boxes = built
    scores = model.eval()(inputs, *boxes)
    half = model.bfloat16()([clip.bfloat16() for clip in inputs], *boxes)
    torch.testing.assert_close(half.float(), scores, rtol=0.2, atol=0.05)


@torch.no_grad()
def test_layout_and_folded_norms_leave_scores(built):
    model, _, inputs, boxes = built
    plain = use_plain_convolutions(copy.deepcopy(model)).eval()(inputs, *boxes)
    for layout in ("contiguous", "channels_last"):
        placed = move_model(copy.deepcopy(model), torch.device("cpu"), layout).eval()
        torch.testing.assert_close(placed(inputs, *boxes), plain, rtol=1e-4, atol=1e-6)
        fold_norms(placed)
        torch.testing.assert_close(placed(inputs, *boxes), plain, rtol=1e-3, atol=1e-5)


def test_complexity(built):
    model, cfg, *_ = built
    size = complexity(cfg)
    assert size.parameters == sum(p.numel() for p in model.parameters())
    assert size.multiply_adds > size.parameters


@pytest.mark.parametrize("name", WITHOUT_BOXES)
def test_models_without_boxes_say_so(name, tiny_models):
    with pytest.raises(ValueError, match=name):
        build_model(load_config(None, [*tiny_models[name], *DETECTION]))
