"""Attention with relative positions of time, height and width. Shapes: q is (B, N, Lq, C), k and v (B, N, Lk, C) with N
heads; a clip's tokens come frame by frame, row by row, behind those that have no position. (MViTv2, arXiv 2112.01526,
section 4.1.)
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

# What a query's vector is multiplied with: of time, height and width the vectors (Lq_axis, Lk_axis, C); None for none.
Rows = Sequence[torch.Tensor | None]


def fit_rows(table: torch.Tensor, length: int) -> torch.Tensor:
    """A table (n, C) of vectors by distance as one of `length` rows, linearly interpolated where they differ."""
    if table.shape[0] == length:
        return table
    return F.interpolate(table.t()[None], size=length, mode="linear")[0].t()


def relative_rows(table: torch.Tensor, q_len: int, k_len: int) -> torch.Tensor:
    """The vectors (q_len, k_len, C) of all pairs of positions of an axis.

    Where queries and keys are of different number, they span the same axis and distances count in steps of the finer.

    Args:
        table: (n, C), vectors by distance.
    """
    table = fit_rows(table, 2 * max(q_len, k_len) - 1)
    q_step, k_step = max(k_len / q_len, 1.0), max(q_len / k_len, 1.0)
    q_at = torch.arange(q_len, device=table.device)[:, None] * q_step
    k_at = torch.arange(k_len, device=table.device)[None] * k_step
    return table[(q_at - k_at + (k_len - 1) * k_step).long()]


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    rows: Rows = (None, None, None),
    q_thw: Sequence[int] = (),
    k_thw: Sequence[int] = (),
    num_prefix_tokens: int = 0,
) -> torch.Tensor:
    """softmax(q k' / sqrt(C) + b) v, (B, N, Lq, C), where b is the sum over the axes of q times the pair's vector.

    Args:
        rows: vectors of the pairs' positions, an axis.
        q_thw, k_thw: positions (T, H, W) of queries and keys.
        num_prefix_tokens: tokens in front that have no position, and so no b.
    """
    if all(row is None for row in rows):
        return F.scaled_dot_product_attention(q, k, v)
    placed = q[:, :, num_prefix_tokens:].unflatten(2, tuple(q_thw))
    scores = [
        None if row is None else torch.einsum(f"bnthwc,{axis}kc->bnthwk", placed, row)
        for axis, row in zip("thw", rows, strict=True)
    ]
    # As a mask the sum is kept, and has a gradient, for every pair; as further channels it does not exist as such.
    how = _joined if torch.is_grad_enabled() and q.requires_grad else _masked
    return how(q, k, v, scores, k_thw, num_prefix_tokens)


def _masked(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scores: Rows, k_thw: Sequence[int], num_prefix_tokens: int
):
    """The sum as a mask."""
    mask = q.new_zeros(())
    for axis, score in enumerate(scores):
        if score is not None:
            others = [1 if other != axis else -1 for other in range(3)]
            mask = mask + score.unflatten(-1, others)
    mask = mask.expand(*mask.shape[:-3], *k_thw).flatten(5).flatten(2, 4)
    mask = F.pad(mask, (num_prefix_tokens, 0, num_prefix_tokens, 0)).to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _joined(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scores: Rows, k_thw: Sequence[int], num_prefix_tokens: int
):
    """A score a position of an axis as further channels of q, and in k a one at the key's own position."""
    channels = q.shape[-1]
    index = torch.arange(k.shape[2] - num_prefix_tokens, device=k.device).view(*k_thw)
    at = (index // (k_thw[1] * k_thw[2]), index // k_thw[2] % k_thw[1], index % k_thw[2])
    queries, keys = [q * channels**-0.5], [k]
    for score, position, size in zip(scores, at, k_thw, strict=True):
        if score is not None:
            queries.append(F.pad(score.flatten(2, 4), (0, 0, num_prefix_tokens, 0)))
            own = F.pad(F.one_hot(position.flatten(), size).to(k.dtype), (0, 0, num_prefix_tokens, 0))
            keys.append(own.expand(*k.shape[:2], -1, -1))
    q, k = torch.cat(queries, dim=-1), torch.cat(keys, dim=-1)
    # The kernels that keep no scores take one width for all three.
    v = F.pad(v, (0, q.shape[-1] - channels))
    return F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), scale=1.0)[..., :channels]
