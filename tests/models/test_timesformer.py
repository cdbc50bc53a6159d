"""TimeSformer against loops over frames and places with plain softmax; sizes, surface and errors."""

import pytest
import torch
import torch.nn.functional as F

from slowfast.config import load_config
from slowfast.models import build_model


def norm(x, layer):
    return F.layer_norm(x, x.shape[-1:], layer.weight, layer.bias, 1e-6)


def attention(x, layer, heads):
    """Tokens (L, C) to tokens, token by token."""
    q, k, v = (layer.qkv.weight @ x.T + layer.qkv.bias[:, None]).T.chunk(3, dim=1)
    width = q.shape[1] // heads
    out = []
    for i in range(len(x)):
        heads_out = []
        for h in range(heads):
            part = slice(h * width, (h + 1) * width)
            scores = torch.stack([q[i, part] @ k[j, part] for j in range(len(x))]) / width**0.5
            weights = scores.softmax(0)
            heads_out.append(sum(w * v[j, part] for j, w in enumerate(weights)))
        out.append(layer.proj(torch.cat(heads_out)))
    return torch.stack(out)


def reference_block(block, first, patches, heads):
    """The class token (C) and patches (T, N, C) behind a block."""
    frames, places = patches.shape[:2]
    over_time = torch.zeros_like(patches)
    for n in range(places):
        over_time[:, n] = attention(norm(patches[:, n], block.temporal_norm1), block.temporal_attn, heads)
    patches = patches + block.temporal_fc(over_time)
    over_space, of_first = torch.zeros_like(patches), []
    for t in range(frames):
        read = attention(norm(torch.cat([first[None], patches[t]]), block.norm1), block.attn, heads)
        of_first.append(read[0])
        over_space[t] = read[1:]
    first, patches = first + torch.stack(of_first).mean(0), patches + over_space
    return tuple(x + block.mlp.fc2(F.gelu(block.mlp.fc1(norm(x, block.norm2)))) for x in (first, patches))


def reference(model, clip, heads, size):
    """Logits of one clip (3, T, H, W) in patches of `size` pixels."""
    frames, side = clip.shape[1], clip.shape[2] // size
    weight, bias = model.patch_embed.proj.weight.flatten(1), model.patch_embed.proj.bias
    patches = torch.stack(
        [
            torch.stack(
                [
                    weight @ clip[:, t, y * size : (y + 1) * size, x * size : (x + 1) * size].flatten() + bias
                    for y in range(side)
                    for x in range(side)
                ]
            )
            for t in range(frames)
        ]
    )
    patches = patches + model.pos_embed[0, 1:] + model.time_embed[0][:, None]
    first = model.cls_token[0, 0] + model.pos_embed[0, 0]
    for block in model.blocks:
        first, patches = reference_block(block, first, patches, heads)
    return model.head.projection(norm(first, model.norm))


@torch.no_grad()
def test_it_is_attention_over_time_then_over_space(tiny_timesformer, parity):
    settings = [*tiny_timesformer, "DATA.NUM_FRAMES", 3, "DATA.TRAIN_CROP_SIZE", 16]
    model = parity.fill_module(build_model(load_config(None, settings)).double()).train()
    clip = torch.randn(2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.stack([reference(model, one, 2, 8) for one in clip])
    torch.testing.assert_close(model([clip]), expected)


def test_surface_and_gradients(tiny_timesformer, parity):
    model = parity.fill_module(build_model(load_config(None, tiny_timesformer)))
    clip = [torch.randn(2, 3, 8, 32, 32)]
    model(clip).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    (features,) = model.eval().forward_features(clip)
    assert features.shape == (2, model.num_features, 8, 4, 4)
    assert len(model.depth_groups()) == 4
    assert model.no_weight_decay() == {"cls_token", "pos_embed", "time_embed"}
    model.reset_classifier(7)
    torch.testing.assert_close(model(clip).sum(1), torch.ones(2))


def test_it_starts_as_a_network_of_pictures_but_for_the_first_block(tiny_timesformer):
    model = build_model(load_config(None, tiny_timesformer))
    assert model.blocks[0].temporal_fc.weight.any() and not model.blocks[1].temporal_fc.weight.any()


def test_published_size_and_names(repo):
    cfg = load_config(repo / "configs/Kinetics/TIMESFORMER_8x32_B16.yaml", ["NUM_GPUS", 0])
    with torch.device("meta"):
        model = build_model(cfg)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(121.4e6, rel=0.01)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes["pos_embed"] == (1, 197, 768) and shapes["time_embed"] == (1, 8, 768)
    assert shapes["blocks.11.temporal_attn.qkv.weight"] == shapes["blocks.0.attn.qkv.weight"] == (2304, 768)
    assert {"cls_token", "patch_embed.proj.weight", "blocks.0.temporal_norm1.bias", "norm.weight"} <= shapes.keys()
    assert {"blocks.0.temporal_fc.weight", "blocks.0.mlp.fc1.weight", "blocks.0.norm2.bias"} <= shapes.keys()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["TIMESFORMER.ATTENTION_TYPE", "joint"], "is 'joint'.*divided_space_time"),
        (["TIMESFORMER.NUM_HEADS", 3], "TIMESFORMER.EMBED_DIM 16, TIMESFORMER.NUM_HEADS 3, .*do not divide 16"),
        (["TIMESFORMER.PATCH_SIZE", 64], "64 exceeds the 32 pixels"),
        (["TIMESFORMER.DEPTH", 0], "must be at least 1"),
    ],
)
def test_what_cannot_be_built_is_named(settings, message, tiny_timesformer):
    with pytest.raises(ValueError, match=message):
        build_model(load_config(None, [*tiny_timesformer, *settings]))
