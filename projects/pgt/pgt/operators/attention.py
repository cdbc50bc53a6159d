"""Markov operators of attention: keys and values of earlier steps, windows along time, positions.

Shapes: tokens are (B, P + T*H*W, C), P prefix tokens (the class token, if any). The memory of an attention is
(B, 2C, A, H, W), keys and values of A positions in time. In a step

    y  = attention(q(x), [memory; keys, values of x])
    m' = the policy's update of the memory by the keys and values of x

so queries are of the step alone. The class token is in no memory: it starts anew in every step and reads earlier steps
through the blocks. ("Markov Progressive Framework", TPAMI 2024; MViT carries its pooled keys and values, TimeSformer
those of its attention over time.)

Position embeddings are made for a step of PGT.STEP_LEN frames, so no table grows with the video:

- A relative position in time is the distance. Memory lies right in front of the step. Distances beyond the table take
  its last entry.
- A step with memory takes the last absolute positions in time of the table. A step without memory takes all of them, as
  the clip model does.
- In a whole clip every frame has the position that it has in its step.

Windows along time (patch embedding, pooling of queries, keys and values) read the frames before the step in place of
padding. With an even number of new frames, patches of stride 2 are those of the whole video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from pgt.memory import active_carry
from pgt.operators.layers import MarkovOperator, adopt
from slowfast.layers.attention import (
    PoolingAttention,
    RelPos,
    Size,
    as_map,
    as_tokens,
    resize_rel_pos,
)
from slowfast.layers.conv import Conv3d
from slowfast.layers.nonlocal_ import NonLocal
from slowfast.layers.pool import AvgPool3d
from slowfast.models.reversible import StageTransition
from slowfast.models.timesformer import TimeAttention
from slowfast.models.tokens import fit_table


class MarkovNonLocal(MarkovOperator, NonLocal):
    """Non-local block with queries of the step, and keys and values of the step before.

    In the first step of a video, and in a whole clip, keys and values are of the same frames as the queries.
    """

    def step(self, memory: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
        """Attend from x (B, C, T, H, W) to the memory: (B, C', T, H, W)."""
        return self.attention(x, x if memory is None else memory)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute a step while a carry is active, otherwise the block of a whole clip."""
        carry = active_carry()
        if carry is None:
            return NonLocal.forward(self, x)
        # The norm stands behind `run`, so that it sees the whole batch.
        return x + self.bn(self.conv_out(self.run(carry, x, x)))


class MarkovPoolingAttention(MarkovOperator, PoolingAttention):
    """Pooling attention to the keys and values of the step and of the memory."""

    forward = PoolingAttention.forward  # memory comes in at `attention`, as keys and values

    def attention(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, q_thw: Size, k_thw: Size) -> torch.Tensor:
        """Attend from queries to keys and values, and in a step to those in memory."""
        carry = active_carry()
        if carry is None:
            return super().attention(q, k, v, q_thw, k_thw)
        first = self.num_prefix_tokens
        if carry.writes:
            remembered = torch.cat([as_map(x[:, first:], k_thw) for x in (k, v)], dim=1)
        else:  # the visible tokens of a masked step form no grid
            remembered = torch.cat([k, v], dim=-1)[:, first:].transpose(1, 2)
        return self.run(carry, remembered, q, k, v, q_thw, k_thw)

    def step(
        self,
        memory: torch.Tensor | None,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        q_thw: Size,
        k_thw: Size,
    ) -> torch.Tensor:
        """Attend from the queries (B, P + Lq, C) to the memory and the keys and values (B, P + Lk, C)."""
        if memory is None:
            return self._attend(q, k, v, q_thw, k_thw, super().rel_pos(q_thw, k_thw))
        first, past = self.num_prefix_tokens, as_tokens(memory).chunk(2, dim=-1)
        k, v = (torch.cat([x[:, :first], m, x[:, first:]], dim=1) for x, m in zip((k, v), past, strict=True))
        k_thw = (memory.shape[2] + k_thw[0], *k_thw[1:])
        rel_pos = super().rel_pos(q_thw, k_thw)
        if self.rel_pos_t is not None:
            rel_pos = [self._rel_pos_in_time(q_thw[0], k_thw[0], memory.shape[2]), *rel_pos[1:]]
        return self._attend(q, k, v, q_thw, k_thw, rel_pos)

    def rel_pos(self, q_thw: Size, k_thw: Size) -> RelPos:
        """Return the relative position embeddings of time, height and width in a whole clip."""
        rel_pos = super().rel_pos(q_thw, k_thw)
        if self.rel_pos_t is None or q_thw[0] <= self._made_for(self.stride_q):
            return rel_pos
        return [self._rel_pos_in_time(q_thw[0], k_thw[0], 0), *rel_pos[1:]]

    def _made_for(self, stride: Size) -> int:
        """Return the number of positions in time, at a stride, that the table of relative positions is made for."""
        return (len(self.rel_pos_t) // 2) // stride[0] + 1

    def _rel_pos_in_time(self, q_len: int, k_len: int, past: int) -> torch.Tensor:
        """Return the embeddings (q_len, k_len, C) of all pairs, with `past` keys in front of the first query."""
        step_q, step_k, last_k = self.stride_q[0], self.stride_kv[0], self._made_for(self.stride_kv) - 1
        unit = min(step_q, step_k)
        table = resize_rel_pos(self.rel_pos_t, 2 * max(self._made_for(self.stride_q), last_k + 1) - 1)
        q_at = torch.arange(q_len, device=table.device)[:, None] * step_q
        k_at = (torch.arange(k_len, device=table.device)[None] - past) * step_k
        distance = (q_at - k_at + last_k * step_k) // unit
        return table[distance.clamp(0, len(table) - 1)]


class MarkovTimeAttention(MarkovOperator, TimeAttention):
    """Attention over time to the keys and values of the step and of the memory, (B, 2C, A, N, 1) for N places."""

    forward = TimeAttention.forward  # memory comes in at `temporal_attention`, as keys and values

    def temporal_attention(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Attend from queries (B, T, N, C) to keys and values at their place, and in a step to those in memory."""
        carry = active_carry()
        if carry is None:
            return super().temporal_attention(q, k, v)
        return self.run(carry, torch.cat([k, v], dim=-1).permute(0, 3, 1, 2)[..., None], q, k, v)

    def step(self, memory: torch.Tensor | None, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Attend from queries (B, T, N, C) to the memory and the keys and values (B, T, N, C)."""
        if memory is not None:
            past = memory[..., 0].permute(0, 2, 3, 1).chunk(2, dim=-1)
            k, v = (torch.cat([m, x], dim=1) for x, m in zip((k, v), past, strict=True))
        return super().temporal_attention(q, k, v)


class StepWindow(MarkovOperator):
    """Mixin for a layer whose windows along time read memory where they reach over the start of the step.

    Its policy holds as many frames as the layer pads in front.

    Attributes:
        heads: groups of channels that lie side by side in the batch of the layer; the memory has them in the channels.
    """

    heads: int

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute a step while a carry is active, otherwise what the layer does; x is (B * heads, C, T, H, W)."""
        carry = active_carry()
        if carry is None:
            return self.whole(x)
        groups = x.unflatten(0, (-1, self.heads))
        return self.run(carry, groups.flatten(1, 2), groups).flatten(0, 1)

    def step(self, memory: torch.Tensor | None, groups: torch.Tensor) -> torch.Tensor:
        """Apply the layer to groups (B, heads, C, T, H, W), with the memory in place of the padding before them."""
        x = groups.flatten(0, 1)
        past = None if memory is None else memory.unflatten(1, (self.heads, -1)).flatten(0, 1)
        y = self.whole(x) if past is None else self.behind(past, x)
        return y.unflatten(0, (-1, self.heads))

    def whole(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer without memory."""
        return super(MarkovOperator, self).forward(x)

    def behind(self, past: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer to x with the frames `past` in place of the padding before it."""
        raise NotImplementedError


class StepConv3d(StepWindow, Conv3d):
    """Convolution of any stride in time whose windows read memory."""

    def behind(self, past: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Add the convolution of `past` to that of x."""
        y = self.whole(x)
        reach, stride = self.padding[0], self.stride[0]
        outputs = -(-reach // stride)
        # Zeros before: frames that the memory lacks. Zeros behind: where the kernel leaves the memory.
        past = F.pad(past, (0, 0, 0, 0, reach - past.shape[2], (outputs - 1) * stride))
        reached = self.convolve(past, self.weight[:, :, :reach], None, (0, *self.padding[1:]))[:, :, : y.shape[2]]
        y[:, :, : reached.shape[2]] += reached
        return y


class _StepPool(StepWindow):
    """Mixin for a pooling of any stride in time whose windows read memory.

    Attributes:
        filler: value of frames that the memory lacks.
    """

    filler: float

    def behind(self, past: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Pool [past; x] and drop the outputs of `past`."""
        reach, stride = self.padding[0], self.stride[0]
        outputs = -(-reach // stride)
        past = F.pad(past, (0, 0, 0, 0, outputs * stride - past.shape[2], 0), value=self.filler)
        return self.whole(torch.cat([past, x], dim=2))[:, :, outputs:]


class StepMaxPool3d(_StepPool, nn.MaxPool3d):
    """Max pooling whose windows read memory."""

    filler = float("-inf")


class StepAvgPool3d(_StepPool, AvgPool3d):
    """Average pooling whose windows read memory."""

    filler = 0.0


class StepTransition(StageTransition):
    """Transition of a reversible model, whose shortcut is pooled by the layer of the queries, with a second memory.

    Attributes:
        ending: of the name of that memory.
    """

    ending = ".shortcut"

    @classmethod
    def from_layer(cls, layer: StageTransition) -> StepTransition:
        """Make one of the clip model's transition; they share everything."""
        return adopt(cls, layer)

    def pool_shortcut(self, x: torch.Tensor, thw: Size) -> torch.Tensor:
        """Pool tokens (B, L, C) of the shortcut to (B, L', C)."""
        carry = active_carry()
        if carry is None or self.residual_path != "conv":
            return super().pool_shortcut(x, thw)
        with carry.beside(self.ending):
            return super().pool_shortcut(x, thw)


@dataclass(frozen=True)
class StepPositions:
    """Absolute positions in time of a model over tokens in steps, by the rule of this module.

    Args:
        step_tokens: temporal positions of a later step.
    """

    step_tokens: int

    def __call__(self, table: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """Return the position embedding (1 or B, T, H, W, C) of a step or clip with `size` positions (T, H, W)."""
        carry, made_for, frames = active_carry(), table.shape[1], size[0]
        if carry is None and frames > made_for:
            later = table[:, max(0, made_for - self.step_tokens) :]
            repeats = -(-(frames - made_for) // later.shape[1])
            return fit_table(torch.cat([table, *[later] * repeats], dim=1)[:, :frames], size)
        if carry is None or not carry.old or frames > made_for:
            return fit_table(table, size)
        behind = fit_table(table[:, made_for - frames :], size)
        if carry.start is None:
            return behind
        start = carry.start.to(table.device).view(-1, 1, 1, 1, 1)
        return torch.where(start, fit_table(table, size), behind)
