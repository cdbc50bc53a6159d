"""Sizes, positions, surface and errors of MViT; its numbers are in test_parity.py."""

import math

import pytest
import torch

from slowfast.config import load_config
from slowfast.engine.multigrid import epoch_config
from slowfast.engine.optim import layer_scales, parameter_groups
from slowfast.models import build_model
from slowfast.models.blocks import round_channels
from slowfast.models.mvit_blocks import AttentionPooling, block_sizes
from slowfast.models.tokens import adapt_positions, sincos_3d

V1 = ["MVIT.SEP_POS_EMBED", True]
V2 = [
    "MVIT.USE_ABS_POS", False, "MVIT.REL_POS_SPATIAL", True, "MVIT.REL_POS_TEMPORAL", True,
    "MVIT.RESIDUAL_POOLING", True, "MVIT.DIM_MUL_IN_ATT", True,
]  # fmt: skip
VARIANTS = {
    "v1": V1,
    "v2": V2,
    "joint_without_class_token": ["MVIT.CLS_EMBED_ON", False, "MVIT.SEPARATE_QKV", True],
    "mean": [*V2, "MVIT.USE_MEAN_POOLING", True, "MVIT.NORM_STEM", True, "MVIT.REL_POS_ZERO_INIT", True],
    "sincos_3d": ["MVIT.USE_FIXED_SINCOS_POS", True, "MVIT.LAYER_SCALE_INIT_VALUE", 0.1],
    "pool_first": [*V1, "MVIT.POOL_FIRST", True, "MVIT.MODE", "conv_unshared"],
    "max": [*V2, "MVIT.MODE", "max", "MVIT.LAYER_SCALE_INIT_VALUE", 0.1],
    "kernel_by_stride": [*V1, "MVIT.POOL_KVQ_KERNEL", None, "MVIT.POOL_KV_STRIDE_ADAPTIVE", None],
    "dropping": [*V2, "MVIT.DROPPATH_RATE", 0.5, "MVIT.DROPOUT_RATE", 0.5],
}


@pytest.fixture(params=VARIANTS)
def cfg(request, tiny_mvit):
    return load_config(None, [*tiny_mvit, *VARIANTS[request.param]])


def clip(cfg, size=32, frames=None):
    shape = (2, 3, frames or cfg.DATA.NUM_FRAMES, size, size)
    return [torch.randn(shape, generator=torch.Generator().manual_seed(0))]


def test_surface_and_gradients(cfg):
    torch.manual_seed(0)
    model = build_model(cfg)
    scores = model.train()(clip(cfg))
    scores.square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    model.eval()
    with torch.no_grad():
        scores, (features,) = model(clip(cfg)), model.forward_features(clip(cfg))
    torch.testing.assert_close(scores.sum(1), torch.ones(2))
    assert features.shape == (2, model.num_features, 4, 4, 4)
    model.reset_classifier(7)
    assert model(clip(cfg)).shape == (2, 7)


def test_layers_and_weight_decay(cfg):
    model = build_model(cfg)
    scales = layer_scales(model, 0.5)
    assert scales[id(model.head.projection.weight)] == 1
    assert scales[id(model.patch_embed.proj.weight)] == 0.5 ** (cfg.MVIT.DEPTH + 1)
    groups = parameter_groups(model, 0.1, 0.0, zero_decay_1d=False)
    undecayed = {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    positions = [p for n, p in model.named_parameters() if ("pos" in n or "cls_token" in n) and p.requires_grad]
    assert positions == [] or {id(p) in undecayed for p in positions} == {True}
    assert id(model.blocks[0].mlp.fc1.weight) not in undecayed


def test_positions_are_decayed_on_demand(tiny_mvit):
    model = build_model(load_config(None, [*tiny_mvit, *V1, "MVIT.ZERO_DECAY_POS_CLS", False]))
    assert model.no_weight_decay() == set()


def test_sizes_of_the_published_networks():
    grow = [[1, 2.0], [3, 2.0], [14, 2.0]]
    pools = AttentionPooling(
        [[1, 1, 2, 2], [3, 1, 2, 2], [14, 1, 2, 2]], stride_kv_adaptive=[1, 8, 8], kernel=[3, 3, 3]
    )
    small = block_sizes(16, 96, 1, (8, 56, 56), grow, grow, True, pools)
    assert [(b.dim, b.dim_out, b.heads) for b in small[:4]] == [(96, 96, 1), (96, 192, 2), (192, 192, 2), (192, 384, 4)]
    assert [b.size[1] for b in small] == [56, 56, 28, 28, *[14] * 11, 7]
    assert [b.pool_kv.stride[1] for b in small[:14]] == [8, 4, 4, *[2] * 11]
    first = block_sizes(16, 96, 1, (8, 56, 56), grow, grow, False, pools)
    assert [(b.dim, b.dim_out, b.heads) for b in first[:3]] == [(96, 192, 1), (192, 192, 2), (192, 384, 2)]
    assert first[0].pool_q is None and first[14].pool_kv.stride == (1, 1, 1)
    by_stride = block_sizes(2, 8, 1, (2, 8, 8), pooling=AttentionPooling(stride_kv=[[0, 1, 4, 4], [1, 1, 1, 1]]))
    assert by_stride[0].pool_kv.kernel == (1, 5, 5) and by_stride[1].pool_kv is None


@pytest.mark.parametrize(
    ("width", "factor", "divisor", "expected"), [(96, 2.0, 2, 192), (10, 1.0, 8, 16), (3, 1.5, 2, 6), (1, 0.1, 1, 1)]
)
def test_widths_are_rounded(width, factor, divisor, expected):
    assert round_channels(width * factor, divisor, minimum=1) == expected


def test_waves_are_sines_and_cosines():
    table = sincos_3d(32, (2, 3, 5))[0]
    for t, y, x in [(0, 0, 0), (1, 2, 4), (1, 1, 3)]:
        expected = []
        for position, dim in ((t, 8), (x, 12), (y, 12)):
            angles = [position / 10000 ** (2 * i / dim) for i in range(dim // 2)]
            expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        torch.testing.assert_close(table[t, y, x], torch.tensor(expected))


@pytest.mark.parametrize("variant", ["v1", "v2", "joint_without_class_token", "sincos_3d"])
@torch.no_grad()
def test_a_clip_of_another_size_gets_the_positions_that_adapting_weights_gives(variant, tiny_mvit, parity):
    settings = [*tiny_mvit, *VARIANTS[variant]]
    model = parity.fill_module(build_model(load_config(None, settings))).eval()
    larger = [*settings, "DATA.NUM_FRAMES", 12, "DATA.TRAIN_CROP_SIZE", 64, "DATA.TRAIN_JITTER_SCALES", [64, 64]]
    other = build_model(load_config(None, larger)).eval()
    weights = model.state_dict()
    before = {key: value.clone() for key, value in weights.items()}
    other.load_state_dict(adapt_positions(weights, other, model.sizes))
    assert all(torch.equal(weights[key], value) for key, value in before.items())
    inputs = clip(load_config(None, larger), 64)
    torch.testing.assert_close(model(inputs), other(inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("frames", "crop"), [(8, 64), (16, 32)])
def test_the_size_of_a_joint_table_is_told_by_its_length(frames, crop, tiny_mvit):
    sizes = ["DATA.NUM_FRAMES", frames, "DATA.TRAIN_CROP_SIZE", crop, "DATA.TRAIN_JITTER_SCALES", [64, 64]]
    model, other = (build_model(load_config(None, [*tiny_mvit, *settings])) for settings in ([], sizes))
    weights = model.state_dict()
    found, told = adapt_positions(weights, other), adapt_positions(weights, other, model.sizes)
    assert found["pos_embed"].shape == other.pos_embed.shape
    torch.testing.assert_close(found["pos_embed"], told["pos_embed"])


def test_weights_that_fit_or_are_no_positions_stay(tiny_mvit):
    model = build_model(load_config(None, [*tiny_mvit, *V1]))
    weights = {**model.state_dict(), "head.projection.weight": torch.zeros(9, 64), "unknown": torch.zeros(3)}
    adapted = adapt_positions(weights, model)
    assert all(adapted[key] is value for key, value in weights.items())


def test_tables_of_a_fixed_size_for_clips_that_change(tiny_mvit):
    settings = [*tiny_mvit, *V1, "MODEL.POSITIONS_FOR", [16, 64]]
    model = build_model(load_config(None, settings))
    assert model.pos_embed_spatial.shape[1] == 16 * 16 and model.pos_embed_temporal.shape[1] == 8


def test_tables_keep_their_size_in_the_long_cycle_of_multigrid(tiny_mvit):
    cycle = ["MULTIGRID.LONG_CYCLE", True, "MULTIGRID.LONG_CYCLE_FACTORS", [[0.5, 0.5], [1, 1]]]
    cycle += ["SOLVER.LR_POLICY", "steps_with_relative_lrs", "SOLVER.STEPS", [0, 4], "SOLVER.LRS", [1.0, 0.1]]
    larger = ["SOLVER.MAX_EPOCH", 8, "DATA.TRAIN_CROP_SIZE", 64, "DATA.TRAIN_JITTER_SCALES", [64, 64]]
    cfg = load_config(None, [*tiny_mvit, *V2, *cycle, *larger, "TRAIN.BATCH_SIZE", 8])
    coarse = epoch_config(cfg, 0)
    assert (coarse.DATA.NUM_FRAMES, coarse.DATA.TRAIN_CROP_SIZE) == (4, 32)
    model = build_model(coarse)
    model.load_state_dict(build_model(cfg).state_dict())
    assert model(clip(coarse)).shape == (2, 5)


def test_dropped_branches_grow_with_depth(tiny_mvit):
    model = build_model(load_config(None, [*tiny_mvit, *V2, "MVIT.DROPPATH_RATE", 0.4, "MVIT.DEPTH", 3]))
    assert [getattr(block.drop_path, "rate", 0) for block in model.blocks] == pytest.approx([0, 0.2, 0.4])


def test_the_head_starts_scaled(tiny_mvit):
    heads = []
    for scale in (1.0, 0.001):
        torch.manual_seed(0)
        heads.append(build_model(load_config(None, [*tiny_mvit, "MVIT.HEAD_INIT_SCALE", scale])).head.projection)
    torch.testing.assert_close(heads[1].weight, heads[0].weight * 0.001)
    torch.testing.assert_close(heads[1].bias, heads[0].bias * 0.001)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["MVIT.MODE", "mean"], "MVIT.MODE is 'mean'"),
        (["MVIT.NORM", "batchnorm"], "it can be layernorm"),
        (["MVIT.NUM_HEADS", 5], "MVIT.EMBED_DIM 32, MVIT.NUM_HEADS 5, .*do not divide 32"),
        (["MVIT.PATCH_KERNEL", [7, 7]], r"PATCH_KERNEL is \[7, 7\]; it is \[time, height, width\]"),
        (["MVIT.POOL_Q_STRIDE", [[9, 1, 2, 2]]], "blocks from 0 to 1"),
        (["MVIT.POOL_Q_STRIDE", [[1, 2, 2]]], r"\[block, time, height, width\]"),
        (["MVIT.POOL_Q_STRIDE", [[1, 1, 3, 3]]], "another number of positions"),
        (["MVIT.DIM_MUL", [[1, 0.0]]], "a factor must be over 0"),
        (["MVIT.USE_FIXED_SINCOS_POS", True, "MVIT.SEP_POS_EMBED", True], "SEP_POS_EMBED True"),
        (["MVIT.DROPPATH_RATE", 1.0], r"MVIT\.DROPPATH_RATE 1\.0: .*at least 0 and under 1"),
        (["MODEL.POSITIONS_FOR", [8]], r"it is \[frames, pixels\]"),
        (["MVIT.PATCH_2D", True, "MVIT.PATCH_KERNEL", [7, 7], "MVIT.PATCH_STRIDE", [4, 4],
          "MVIT.PATCH_PADDING", [3, 3]], "DATA.NUM_FRAMES is 8; set NUM_FRAMES 1"),
        (["MVIT.PATCH_STRIDE", [2, 64, 64]], "leaves no patch of 8 frames of 32 x 32"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_named(settings, message, tiny_mvit):
    with pytest.raises(ValueError, match=message):
        build_model(load_config(None, [*tiny_mvit, *settings]))


def test_inputs_that_do_not_fit_are_named(tiny_mvit):
    model = build_model(load_config(None, tiny_mvit))
    with pytest.raises(ValueError, match="takes a list of 1 clip.*list of 2"):
        model([torch.zeros(1, 3, 8, 32, 32)] * 2)
