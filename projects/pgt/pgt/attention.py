"""Markov operators of models over tokens: attention with the keys and values of earlier steps, and what goes with it.

Shapes: tokens are (B, U + T*H*W, C), U of no position (the class token); memory of attention is (B, 2C, A, H, W), keys
and values of A positions in time. In a step

    y  = attention(q(x), [memory; keys, values of x])
    m' = the cache of [memory; keys, values of x], as for any operator

so queries are the step's alone, and read what the steps before left. The class token starts anew in every step: it is
in no memory, and reads the earlier steps through that of the blocks. ("Markov Progressive Framework", TPAMI 2024; the
keys carried are MViT's pooled ones, and those of TimeSformer's attention over time.)

Positions are those of [memory; step], made for a step of PGT.STEP_LEN frames, so nothing grows with the video:

- a relative position in time is the distance, memory lying right in front of the step; a distance over the table's
  takes its end;
- a step behind memory takes the last absolute positions in time of the table, and one without memory all of them, as
  the clip model does;
- in a whole clip every frame has the position that it has in its step.

Windows along time (patches, pooling of queries, keys and values) read the frames before the step where a window reaches
over its start, in place of padding. With an even number of new frames patches of stride 2 are those of the whole video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

from pgt.markov import CacheRule, active_carry
from slowfast.layers.attention import PoolingAttention, Size, as_map, as_tokens
from slowfast.layers.conv import Conv3d
from slowfast.layers.relative_positions import Rows, fit_rows
from slowfast.models.timesformer import TimeAttention
from slowfast.models.tokens import TokenModel


class StepPositions(nn.Module):
    """Mixin for a model over tokens: absolute positions in time by the rule of this module.

    Attributes:
        step_tokens: temporal positions of a later step.
    """

    step_tokens: int

    def fit_positions(self, table: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        carry, made_for, frames = active_carry(), table.shape[1], size[0]
        if carry is None and frames > made_for:
            later = range(max(0, made_for - self.step_tokens), made_for)
            index = [*range(made_for), *(frame for _ in range(frames) for frame in later)]
            table = table[:, index[:frames]]
        elif carry is not None and carry.old and frames <= made_for:
            table = table[:, made_for - frames :]
        return super().fit_positions(table, size)


class MarkovPoolingAttention(PoolingAttention):
    """Pooling attention to the step's keys and values and to those in memory."""

    name: str
    rule: CacheRule

    def read(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, q_thw: Size, k_thw: Size) -> torch.Tensor:
        carry = active_carry()
        if carry is None:
            return super().read(q, k, v, q_thw, k_thw)
        first = self.num_prefix_tokens
        maps = torch.cat([as_map(x[:, first:], k_thw) for x in (k, v)], dim=1)
        memory = carry.read(self.name, maps)
        carry.write(self.name, self.rule, maps, memory)
        if memory is not None:
            past = as_tokens(memory.to(k.dtype)).chunk(2, dim=-1)
            k, v = (torch.cat([x[:, :first], m, x[:, first:]], dim=1) for x, m in zip((k, v), past, strict=True))
            k_thw = (memory.shape[2] + k_thw[0], *k_thw[1:])
        return super().read(q, k, v, q_thw, k_thw)

    def rows(self, q_thw: Size, k_thw: Size) -> Rows:
        carry, table = active_carry(), self.rel_pos_t
        memory = None if carry is None else carry.old.get(self.name)
        past = 0 if memory is None else memory.shape[2]
        if table is None or (not past and (carry is not None or q_thw[0] <= self._made_for(self.stride_q))):
            return super().rows(q_thw, k_thw)
        return [self._rows_in_time(q_thw[0], k_thw[0], past), *super().rows(q_thw, k_thw)[1:]]

    def _made_for(self, stride: Size) -> int:
        """Positions in time, at that stride, that the table of relative ones is made for."""
        return (len(self.rel_pos_t) // 2) // stride[0] + 1

    def _rows_in_time(self, q_len: int, k_len: int, past: int) -> torch.Tensor:
        """The vectors (q_len, k_len, C) of all pairs, the first `past` keys lying in front of the first query."""
        step_q, step_k, last_k = self.stride_q[0], self.stride_kv[0], self._made_for(self.stride_kv) - 1
        unit = min(step_q, step_k)
        table = fit_rows(self.rel_pos_t, 2 * max(self._made_for(self.stride_q), last_k + 1) - 1)
        q_at = torch.arange(q_len, device=table.device)[:, None] * step_q
        k_at = (torch.arange(k_len, device=table.device)[None] - past) * step_k
        distance = (q_at - k_at + last_k * step_k) // unit
        return table[distance.clamp(0, len(table) - 1)]


class MarkovTimeAttention(TimeAttention):
    """Attention over time to the step's keys and values and to those in memory, (B, 2C, A, N, 1) for N places."""

    name: str
    rule: CacheRule

    def over_time(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        carry = active_carry()
        if carry is None:
            return super().over_time(q, k, v)
        maps = torch.cat([k, v], dim=-1).permute(0, 3, 1, 2)[..., None]
        memory = carry.read(self.name, maps)
        carry.write(self.name, self.rule, maps, memory)
        if memory is not None:
            past = memory.to(k.dtype)[..., 0].permute(0, 2, 3, 1).chunk(2, dim=-1)
            k, v = (torch.cat([m, x], dim=1) for x, m in zip((k, v), past, strict=True))
        return super().over_time(q, k, v)


class StepWindow(nn.Module):
    """Mixin for a layer with windows along time: those that reach over the step's start read memory there.

    Attributes:
        rule: None where no window reaches over the start, so that nothing is remembered.
        heads: groups of channels that the layer gets side by side in the batch; in memory they are so in the channels.
    """

    name: str
    rule: CacheRule | None
    heads: int

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        carry = active_carry()
        if carry is None or self.rule is None:
            return super().forward(x)
        frames = x.unflatten(0, (-1, self.heads)).flatten(1, 2)
        memory = carry.read(self.name, frames)
        carry.write(self.name, self.rule, frames, memory)
        if memory is None:
            return super().forward(x)
        return self.behind(memory.to(x.dtype).unflatten(1, (self.heads, -1)).flatten(0, 1), x)


class StepConv3d(StepWindow, Conv3d):
    """A convolution, of any stride in time."""

    def behind(self, past: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The convolution of x with `past` in place of the padding before it: that of x plus that of `past`."""
        y = Conv3d.forward(self, x)
        reach, stride = self.padding[0], self.stride[0]
        outputs = -(-reach // stride)
        # Zeros before: frames that the memory lacks. Zeros behind: where the kernel leaves the memory.
        past = F.pad(past, (0, 0, 0, 0, reach - past.shape[2], (outputs - 1) * stride))
        reached = self.convolve(past, self.weight[:, :, :reach], None, (0, *self.padding[1:]))[:, :, : y.shape[2]]
        y[:, :, : reached.shape[2]] += reached
        return y


class StepPool(StepWindow):
    """Mixin for a pooling, `nn.MaxPool3d` or `nn.AvgPool3d`, of any stride in time."""

    def behind(self, past: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The pooling of x with `past` in place of the padding before it."""
        reach, stride = self.padding[0], self.stride[0]
        outputs = -(-reach // stride)
        filler = float("-inf") if isinstance(self, nn.MaxPool3d) else 0.0
        past = F.pad(past, (0, 0, 0, 0, outputs * stride - past.shape[2], 0), value=filler)
        return super(StepWindow, self).forward(torch.cat([past, x], dim=2))[:, :, outputs:]


@cache
def mixed(mixin: type[nn.Module], cls: type[nn.Module]) -> type[nn.Module]:
    """The class `cls` with `mixin` in front."""
    return type(f"Step{cls.__name__}", (mixin, cls), {})


def step_window(name: str, layer: nn.Module | None, rule: CacheRule, heads: int = 1) -> None:
    """Has the windows of a convolution or pooling that go along time read memory, in place.

    Only the frames that padding would stand for can be read, so these are kept.
    """
    if layer is None or layer.kernel_size[0] == 1:
        return
    reach = layer.padding[0]
    layer.__class__ = StepConv3d if isinstance(layer, Conv3d) else mixed(StepPool, type(layer))
    layer.name, layer.heads, layer.rule = name, heads, replace(rule, frames=reach) if reach else None


def convert_positions(model: TokenModel, step_tokens: int) -> None:
    """Gives a model over tokens the positions of this module, in place; a later step has `step_tokens` in time."""
    model.__class__ = mixed(StepPositions, type(model))
    model.step_tokens = step_tokens


def convert_attention(name: str, attention: nn.Module, rule: CacheRule) -> None:
    """Gives an attention memory, in place, and the windows that pool its queries, keys and values."""
    attention.name, attention.rule = name, rule
    if isinstance(attention, TimeAttention):
        attention.__class__ = MarkovTimeAttention
        return
    attention.__class__ = MarkovPoolingAttention
    folded = 1 if attention.options.mode == "conv_unshared" else attention.heads
    for pool in ("pool_q", "pool_k", "pool_v"):
        step_window(f"{name}.{pool}", getattr(attention, pool), rule, folded)
