"""Reversible blocks against ordinary backpropagation and against the formulas written out; memory; errors."""

import copy
import weakref

import pytest
import torch

from slowfast.config import load_config
from slowfast.engine.optim import layer_scales
from slowfast.layers.reversible import Branch, run_reversible
from slowfast.models import build_model
from slowfast.models.reversible import StreamFusion

REV = [
    "MVIT.REV.ENABLE", True, "MVIT.REV.BUFFER_LAYERS", [1], "MVIT.DEPTH", 4, "MVIT.CLS_EMBED_ON", False,
    "MVIT.USE_MEAN_POOLING", False,
]  # fmt: skip
VARIANTS = {
    "published": [],
    "dropping": ["MVIT.DROPPATH_RATE", 0.5, "MVIT.DROPOUT_RATE", 0.3],
    "max_and_mean": ["MVIT.REV.RES_PATH", "max", "MVIT.REV.PRE_Q_FUSION", "max", "MVIT.USE_MEAN_POOLING", True],
    "linear": ["MVIT.REV.PRE_Q_FUSION", "concat_linear_2", "MVIT.REV.RESPATH_FUSE", "ln+concat_linear"],
    "halved": ["MVIT.REV.PRE_Q_FUSION", "add", "MVIT.REV.RESPATH_FUSE", "avg"],
    "pool_first": ["MVIT.POOL_FIRST", True, "MVIT.REV.RESPATH_FUSE", "min", "MVIT.SEP_POS_EMBED", True],
    "relative": ["MVIT.REL_POS_SPATIAL", True, "MVIT.RESIDUAL_POOLING", True, "MVIT.USE_ABS_POS", False],
}


@pytest.fixture(params=VARIANTS)
def model(request, tiny_mvit, parity):
    return parity.fill_module(build_model(load_config(None, [*tiny_mvit, *REV, *VARIANTS[request.param]])))


@pytest.fixture
def clip():
    return [torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))]


def gradients(model, clip):
    torch.manual_seed(1)
    model.zero_grad()
    scores = model(clip)
    scores.square().sum().backward()
    return scores, {name: p.grad for name, p in model.named_parameters()}, torch.rand(1)


def test_gradients_are_those_of_autograd(model, clip):
    model.double().train()
    clip = [clip[0].double()]
    scores, found, after = gradients(model, clip)
    model.rev_backbone.recompute = False
    expected_scores, expected, expected_after = gradients(model, clip)
    assert torch.equal(scores, expected_scores) and torch.equal(after, expected_after)
    assert all(gradient is not None for gradient in found.values())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_surface(model, clip):
    assert model.eval()(clip).shape == (2, 5)
    (features,) = model.forward_features(clip)
    assert features.shape[1] == model.num_features == model.head.projection.in_features
    grids, prefix = model.token_grids((8, 32, 32))
    assert grids[-1] == tuple(features.shape[2:]) and prefix == 0
    scales = layer_scales(model, 0.5)
    assert scales[id(model.rev_backbone.layers[3].G.mlp.fc1.weight)] == 0.5
    copied = copy.deepcopy(model)
    torch.testing.assert_close(copied(clip), model(clip))


@torch.no_grad()
def test_blocks_are_the_formulas(tiny_mvit, clip, parity):
    settings = [*tiny_mvit, *REV, "MVIT.REV.BUFFER_LAYERS", [], "MVIT.POOL_Q_STRIDE", [], "MVIT.DIM_MUL", []]
    model = parity.fill_module(build_model(load_config(None, [*settings, "MVIT.HEAD_MUL", []]))).eval()
    thw = (4, 8, 8)
    x = torch.randn(2, 256, 32, generator=torch.Generator().manual_seed(0))
    x1 = x2 = x
    for block in model.rev_backbone.layers:
        x1 = x1 + block.F.attn(block.F.norm(x2), thw)
        x2 = x2 + block.G.mlp(block.G.norm(x1))
    streams, size = model.rev_backbone(x, thw)
    torch.testing.assert_close(streams, torch.cat([x1, x2], dim=-1))
    assert size == thw


class Kept:
    """Tensor that autograd keeps for the backward pass."""

    def __init__(self, tensor):
        self.tensor = tensor


def saved_bytes(run) -> int:
    """Count the bytes of the distinct storages that autograd still keeps once `run` has returned."""
    alive = weakref.WeakSet()

    def keep(tensor):
        alive.add(kept := Kept(tensor))
        return kept

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept.tensor):
        result = run()
    storages = {kept.tensor.untyped_storage().data_ptr(): kept.tensor.untyped_storage().nbytes() for kept in alive}
    del result
    return sum(storages.values())


def test_memory_does_not_grow_with_depth():
    x = torch.randn(2, 16, 8, requires_grad=True)

    def kept(depth, recompute):
        layers = [torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU()) for _ in range(2 * depth)]
        blocks = [(Branch(f), Branch(g)) for f, g in zip(layers[::2], layers[1::2], strict=True)]
        return saved_bytes(lambda: run_reversible(x, blocks, recompute))

    assert kept(2, True) == kept(20, True) == 2 * x.nbytes
    assert kept(20, False) > 5 * kept(2, False)


def test_frozen_and_shared_parameters():
    torch.manual_seed(0)
    shared, frozen = torch.nn.Linear(4, 4).double(), torch.nn.Linear(4, 4).double().requires_grad_(False)
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    blocks = [(Branch(shared), Branch(frozen)), (Branch(shared), Branch(shared))]
    inputs = [x, *shared.parameters()]
    found, expected = (
        torch.autograd.grad(sum(y.sin().sum() for y in run_reversible(x, blocks, recompute)), inputs)
        for recompute in (True, False)
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_streams_stay_exact_under_mixed_precision(tiny_mvit, clip, parity):
    model = parity.fill_module(build_model(load_config(None, [*tiny_mvit, *REV]))).train()
    results = []
    for recompute in (True, False):
        model.rev_backbone.recompute = recompute
        with torch.autocast("cpu", torch.bfloat16):
            scores = model(clip)
        model.zero_grad()
        scores.float().square().sum().backward()
        results.append((scores.detach(), torch.stack([p.grad.norm() for p in model.parameters()])))
    (scores, norms), (expected_scores, expected_norms) = results
    torch.testing.assert_close(scores, expected_scores)
    assert ((norms - expected_norms).abs() / expected_norms.max()).max() < 5e-3


def test_fusions():
    streams = torch.tensor([[[1.0, -2.0, 3.0, 4.0]]])
    expected = {"add": [4, 2], "avg": [2, 1], "max": [3, 4], "min": [1, -2], "concat": [1, -2, 3, 4]}
    for mode, values in expected.items():
        assert StreamFusion(mode, 4)(streams).flatten().tolist() == values
    linear = StreamFusion("concat_linear_3", 4)
    assert {key: tuple(value.shape) for key, value in linear.state_dict().items()} == {
        "fuse_fn.fc1.weight": (12, 4), "fuse_fn.fc1.bias": (12,),
        "fuse_fn.fc2.weight": (4, 12), "fuse_fn.fc2.bias": (4,),
    }  # fmt: skip


def test_a_class_token_is_left_out_with_a_warning(tiny_mvit, caplog):
    cfg = load_config(None, [*tiny_mvit, *REV, "MVIT.CLS_EMBED_ON", True])
    assert not cfg.MVIT.CLS_EMBED_ON and "CLS_EMBED_ON True is read as False" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["MVIT.REV.BUFFER_LAYERS", []], r"POOL_Q_STRIDE has \[1, 1, 2, 2\].*add block 1 to MVIT.REV.BUFFER_LAYERS"),
        (["MVIT.REV.BUFFER_LAYERS", [0, 1]], r"BUFFER_LAYERS is \[0, 1\]"),
        (["MVIT.REV.BUFFER_LAYERS", [1, 3]], r"1 to 2, no two in a row"),
        (["MVIT.REV.PRE_Q_FUSION", "mean"], "MVIT.REV.PRE_Q_FUSION .*'mean'"),
        (["MVIT.REV.RESPATH_FUSE", "concat_linear_x"], "MVIT.REV.RESPATH_FUSE .*concat_linear_x"),
        (["MVIT.REV.RES_PATH", "avg"], "MVIT.REV.RES_PATH"),
        (["MVIT.LAYER_SCALE_INIT_VALUE", 0.1], "set MVIT.LAYER_SCALE_INIT_VALUE 0.0"),
        (["MODEL.COMPILE", True], "MODEL.COMPILE True with MVIT.REV.ENABLE True"),
        (["DETECTION.ENABLE", True], "set DETECTION.ENABLE False"),
    ],
)
def test_what_cannot_be_built_is_named(settings, message, tiny_mvit):
    with pytest.raises(ValueError, match=message):
        build_model(load_config(None, [*tiny_mvit, *REV, *settings]))
