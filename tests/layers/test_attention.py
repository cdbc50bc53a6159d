"""Pooling attention and relative positions against loops over heads and pairs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from slowfast.layers.attention import (
    Pooling,
    PoolingAttention,
    PoolingOptions,
    SelfAttention,
    get_rel_pos,
    resize_rel_pos,
    scaled_dot_product,
)

THW = (3, 4, 4)
POOL_Q, POOL_KV = Pooling((3, 3, 3), (1, 2, 2)), Pooling((1, 3, 3), (1, 4, 4))


def pooled_head(tokens, layer, norm, num_prefix_tokens):
    """Tokens (B, U + L, C) of a head, or of all where they pool together, as a map."""
    first, placed = tokens[:, :num_prefix_tokens], tokens[:, num_prefix_tokens:]
    maps = layer(placed.transpose(1, 2).reshape(len(tokens), -1, *THW))
    tokens = torch.cat([first, maps.flatten(2).transpose(1, 2)], dim=1)
    return tokens if norm is None else F.layer_norm(tokens, tokens.shape[-1:], norm.weight, norm.bias, norm.eps)


def reference(attention, tokens, num_prefix_tokens):
    heads, options = attention.heads, attention.options
    joint = options.mode == "conv_unshared"
    linears = [attention.q, attention.k, attention.v] if options.pool_first or options.separate_qkv else None
    packed = None if linears else attention.qkv(tokens).chunk(3, dim=-1)
    parts = []
    for i, name in enumerate("qkv"):
        x = tokens if options.pool_first else (linears[i](tokens) if linears else packed[i])
        layer, norm = getattr(attention, f"pool_{name}"), getattr(attention, f"norm_{name}")
        groups = [x] if joint else x.chunk(heads, dim=-1)
        x = torch.cat([pooled_head(group, layer, norm, num_prefix_tokens) for group in groups], dim=-1)
        parts.append(linears[i](x) if options.pool_first else x)
    reads = []
    for q, k, v in zip(*(part.chunk(heads, dim=-1) for part in parts), strict=True):
        reads.append((q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1) @ v)
    y = torch.cat(reads, dim=-1)
    if options.residual_pooling:
        y = y + F.pad(parts[0][:, num_prefix_tokens:], (0, 0, num_prefix_tokens, 0))
    return attention.proj(y)


@pytest.mark.parametrize("mode", ["conv", "conv_unshared", "avg", "max"])
@pytest.mark.parametrize("pool_first", [False, True])
@pytest.mark.parametrize(("num_prefix_tokens", "separate"), [(1, False), (0, True)])
def test_every_kind_is_attention_head_by_head(mode, pool_first, num_prefix_tokens, separate):
    torch.manual_seed(0)
    options = PoolingOptions(mode, pool_first, separate, residual_pooling=True, num_prefix_tokens=num_prefix_tokens)
    attention = PoolingAttention(8, 12, 2, POOL_Q, POOL_KV, THW, nn.LayerNorm, options)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.5)
    tokens = torch.randn(3, num_prefix_tokens + 48, 8)
    torch.testing.assert_close(
        attention(tokens, THW), reference(attention, tokens, num_prefix_tokens), rtol=1e-4, atol=1e-5
    )


def test_what_is_not_pooled_has_no_layer():
    attention = PoolingAttention(8, 8, 2, None, None, THW, nn.LayerNorm, PoolingOptions())
    plain = SelfAttention(8, 2)
    plain.load_state_dict(attention.state_dict())
    tokens = torch.randn(2, 49, 8)
    torch.testing.assert_close(attention(tokens, THW), plain(tokens))


def test_sizes_of_what_is_pooled():
    assert POOL_Q.size((3, 7, 8)) == (3, 4, 4)
    assert Pooling((3, 3, 3), (2, 1, 1)).size((7, 5, 5)) == (4, 5, 5)


@pytest.mark.parametrize("mode", ["conv", "pool"])
def test_what_cannot_be_built_is_named(mode):
    heads, message = (3, "3 attention heads do not divide 8") if mode == "conv" else (2, "mode is 'pool'")
    with pytest.raises(ValueError, match=message):
        PoolingAttention(8, 8, heads, POOL_Q, None, THW, nn.LayerNorm, PoolingOptions(mode))


def pair_vector(table, i, j, q_len, k_len):
    """The vector of query i and key j of an axis, by the published formula."""
    length = 2 * max(q_len, k_len) - 1
    if len(table) != length:
        table = torch.nn.functional.interpolate(table.t()[None], size=length, mode="linear")[0].t()
    q_step, k_step = max(k_len / q_len, 1.0), max(q_len / k_len, 1.0)
    return table[int(i * q_step - j * k_step + (k_len - 1) * k_step)]


def pairwise_attention(q, k, v, tables, q_thw, k_thw, num_prefix_tokens):
    """One head of one sample, pair by pair."""
    places = [[(t, y, x) for t in range(s[0]) for y in range(s[1]) for x in range(s[2])] for s in (q_thw, k_thw)]
    out = []
    for a, query in enumerate(q):
        scores = []
        for b, key in enumerate(k):
            score = query @ key / len(query) ** 0.5
            if a >= num_prefix_tokens and b >= num_prefix_tokens:
                for axis, table in enumerate(tables):
                    if table is not None:
                        i, j = places[0][a - num_prefix_tokens][axis], places[1][b - num_prefix_tokens][axis]
                        score = score + query @ pair_vector(table, i, j, q_thw[axis], k_thw[axis])
            scores.append(score)
        out.append(torch.stack(scores).softmax(0) @ v)
    return torch.stack(out)


@pytest.mark.parametrize("num_prefix_tokens", [0, 1])
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2), (0,)])
@pytest.mark.parametrize(("q_thw", "k_thw"), [((2, 4, 2), (2, 2, 2)), ((1, 2, 3), (3, 2, 3))])
def test_both_ways_are_the_sum_over_pairs(num_prefix_tokens, axes, q_thw, k_thw):
    generator = torch.Generator().manual_seed(0)
    make = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    lengths = [num_prefix_tokens + s[0] * s[1] * s[2] for s in (q_thw, k_thw)]
    q, k, v = make(2, 2, lengths[0], 6), make(2, 2, lengths[1], 6), make(2, 2, lengths[1], 6)
    tables = [make(2 * max(q_thw[a], k_thw[a]) - 1, 6) if a in axes else None for a in range(3)]
    rows = [None if t is None else get_rel_pos(t, i, j) for t, i, j in zip(tables, q_thw, k_thw, strict=True)]
    expected = torch.stack(
        [
            torch.stack(
                [
                    pairwise_attention(q[b, n], k[b, n], v[b, n], tables, q_thw, k_thw, num_prefix_tokens)
                    for n in range(2)
                ]
            )
            for b in range(2)
        ]
    )
    for bias_as in ("auto", "mask", "channels"):
        for queries in (q, q.clone().requires_grad_()):
            found = scaled_dot_product(queries, k, v, rows, q_thw, k_thw, num_prefix_tokens, bias_as)
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("bias_as, training", [("mask", True), ("channels", False)])
def test_the_kernel_can_be_chosen(monkeypatch, bias_as, training):
    seen, compute = [], F.scaled_dot_product_attention
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda *args, **options: seen.append(options.keys()) or compute(*args, **options),
    )
    options = PoolingOptions("conv", relative_space=True, relative_time=True)
    attention = PoolingAttention(8, 8, 2, POOL_Q, POOL_KV, THW, nn.LayerNorm, options)
    attention.bias_as = bias_as
    with torch.set_grad_enabled(training):
        attention(torch.randn(1, 49, 8), THW)
    assert seen == [{"mask": {"attn_mask"}, "channels": {"scale"}}[bias_as]]


def test_training_leaves_gpus_a_kernel_without_a_matrix_of_pairs(monkeypatch):
    """As those kernels need it: one number of channels, a multiple of 8. MViTv2-S has 96 + 8 + 7 + 7."""
    seen, compute = [], F.scaled_dot_product_attention

    def attend(q, k, v, **options):
        seen.extend(x.shape[-1] for x in (q, k, v))
        assert options.keys() == {"scale"}
        return compute(q, k, v, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attend)
    for thw, channels in (((2, 3, 3), 8), ((2, 4, 2), 8), ((8, 7, 7), 96)):
        q, k, v = torch.randn(3, 1, 1, thw[0] * thw[1] * thw[2], channels)
        rows = [get_rel_pos(torch.randn(2 * size - 1, channels), size, size) for size in thw]
        assert scaled_dot_product(q.requires_grad_(), k, v, rows, thw, thw).shape == q.shape
    assert seen == [16] * 6 + [120] * 3


def test_a_table_of_another_size_is_interpolated():
    table = torch.randn(5, 4)
    torch.testing.assert_close(resize_rel_pos(resize_rel_pos(table, 5), 5), table)
    expected = torch.stack([torch.stack([pair_vector(table, i, j, 7, 7) for j in range(7)]) for i in range(7)])
    torch.testing.assert_close(get_rel_pos(table, 7, 7), expected)


def test_without_positions_it_is_plain_attention():
    q, k, v = torch.randn(3, 1, 2, 5, 4)
    expected = (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v
    torch.testing.assert_close(scaled_dot_product(q, k, v), expected)
