"""Attention with relative positions against loops over pairs, in both ways of computing it."""

import pytest
import torch

from slowfast.layers.attention import get_rel_pos, resize_rel_pos, scaled_dot_product


def pair_vector(table, i, j, q_len, k_len):
    """The vector of query i and key j of an axis, by the published formula."""
    length = 2 * max(q_len, k_len) - 1
    if len(table) != length:
        table = torch.nn.functional.interpolate(table.t()[None], size=length, mode="linear")[0].t()
    q_step, k_step = max(k_len / q_len, 1.0), max(q_len / k_len, 1.0)
    return table[int(i * q_step - j * k_step + (k_len - 1) * k_step)]


def reference(q, k, v, tables, q_thw, k_thw, num_prefix_tokens):
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
                [reference(q[b, n], k[b, n], v[b, n], tables, q_thw, k_thw, num_prefix_tokens) for n in range(2)]
            )
            for b in range(2)
        ]
    )
    torch.testing.assert_close(scaled_dot_product(q, k, v, rows, q_thw, k_thw, num_prefix_tokens), expected)
    torch.testing.assert_close(
        scaled_dot_product(q.requires_grad_(), k, v, rows, q_thw, k_thw, num_prefix_tokens), expected
    )


def test_a_table_of_another_size_is_interpolated():
    table = torch.randn(5, 4)
    torch.testing.assert_close(resize_rel_pos(resize_rel_pos(table, 5), 5), table)
    expected = torch.stack([torch.stack([pair_vector(table, i, j, 7, 7) for j in range(7)]) for i in range(7)])
    torch.testing.assert_close(get_rel_pos(table, 7, 7), expected)


def test_without_positions_it_is_plain_attention():
    q, k, v = torch.randn(3, 1, 2, 5, 4)
    expected = (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v
    torch.testing.assert_close(scaled_dot_product(q, k, v), expected)
