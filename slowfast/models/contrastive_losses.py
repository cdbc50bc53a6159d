"""Losses of contrastive learning, and the tensors that they exchange between processes.

Shapes: features are (B, D), of L2 norm 1; row b of every tensor belongs to video b.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from slowfast.runtime.distributed import get_rank, get_world_size, norm_group

# SwAV: sharpness of the codes, and rounds of their normalization ("Unsupervised Learning of Visual Features by
# Contrasting Cluster Assignments", arXiv 2006.09882, section 3.1 and appendix A).
_CODE_TEMPERATURE = 0.05
_CODE_ROUNDS = 3


def queue_logits(query: Tensor, keys: Sequence[Tensor], queue: Tensor, temperature: float) -> Tensor:
    """Return MoCo's logits (B * K, 1 + Q): the positive key first, then the queue; rows key by key.

    Source: "Momentum Contrast for Unsupervised Visual Representation Learning" (arXiv 1911.05722), equation 1.

    Args:
        query: features of one clip.
        keys: features of K other clips of the same videos.
        queue: (Q, D) features of other videos.
    """
    negatives = query @ queue.t()
    rows = [torch.cat([(query * key).sum(dim=1, keepdim=True), negatives], dim=1) for key in keys]
    return torch.cat(rows) / temperature


def similarity_loss(prediction: Tensor, keys: Sequence[Tensor], temperature: float) -> Tensor:
    """Return BYOL's loss: minus the mean similarity of a prediction and the keys, over the temperature.

    Source: "Bootstrap Your Own Latent" (arXiv 2006.07733), equation 2, up to a constant and the temperature.
    """
    return -torch.stack([(prediction * key).sum(dim=1).mean() for key in keys]).mean() / temperature


def pair_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return SimCLR's loss (NT-Xent) of two clips of each video, against all other clips of the batch.

    Source: "A Simple Framework for Contrastive Learning of Visual Representations" (arXiv 2002.05709), equation 1.
    """
    features = torch.cat([first, second])
    count = len(first)
    logits = features @ features.t() / temperature
    itself = torch.eye(2 * count, dtype=torch.bool, device=logits.device)
    partner = torch.arange(2 * count, device=logits.device).roll(count)
    return F.cross_entropy(logits.masked_fill(itself, -torch.inf), partner)


@torch.no_grad()
def balanced_codes(scores: Tensor) -> Tensor:
    """Return SwAV's codes (B, P): rows sum to 1, and all prototypes are used about equally (Sinkhorn-Knopp).

    Args:
        scores: (B, P) similarities of features and prototypes.
    """
    # The largest score cancels out; subtracting it keeps exp finite.
    codes = ((scores - scores.max()) / _CODE_TEMPERATURE).exp()
    codes /= codes.sum()
    samples, prototypes = codes.shape
    for _ in range(_CODE_ROUNDS):
        codes /= codes.sum(dim=0, keepdim=True) * prototypes
        codes /= codes.sum(dim=1, keepdim=True) * samples
    return codes * samples


def code_loss(codes: Sequence[Tensor], scores: Sequence[Tensor], temperature: float) -> Tensor:
    """Return SwAV's loss: each of the first clips' codes is predicted from the scores of every other clip.

    Args:
        codes: (B, P) of the first clips.
        scores: (B, P) of all clips.
    """
    guesses = [F.log_softmax(each / temperature, dim=1) for each in scores]
    losses = [
        torch.stack([-(code * guess).sum(dim=1).mean() for other, guess in enumerate(guesses) if other != clip]).mean()
        for clip, code in enumerate(codes)
    ]
    return torch.stack(losses).mean()


class _GatherWithGradient(torch.autograd.Function):
    """Concatenate the rows of all processes; gradients are summed over processes and returned to their rows."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        return _all_rows(x, None)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        total = gradient.contiguous()
        dist.all_reduce(total)
        return total[get_rank() * ctx.rows :][: ctx.rows]


def gather_rows(x: Tensor) -> Tensor:
    """Return the rows of all processes in rank order, each of which has as many, with gradients."""
    return _GatherWithGradient.apply(x) if get_world_size() > 1 else x


@torch.no_grad()
def shuffled(encode: Callable[[list[Tensor]], Tensor], batch: list[Tensor], everywhere: bool, seed: int) -> Tensor:
    """Return `encode(batch)`, computed on clips that are shuffled over processes, without gradients.

    Batch norm then cannot tell which clips share a process. Source: MoCo (arXiv 1911.05722), section 3.3.

    Args:
        batch: clips (B, C, T, H, W) of each pathway, as many in every process.
        everywhere: shuffle over all hosts, rather than over the processes of a host.
        seed: of the order, equal in all processes.
    """
    if get_world_size() == 1:
        return encode(batch)
    group = norm_group(everywhere, 1)
    count, size, rank = len(batch[0]), dist.get_world_size(group), dist.get_rank(group)
    order = torch.randperm(size * count, generator=torch.Generator().manual_seed(seed)).to(batch[0].device)
    mine, own = order[rank * count :][:count], slice(rank * count, (rank + 1) * count)
    features = _all_rows(encode([_all_rows(pathway, group)[mine] for pathway in batch]), group)
    return features[order.argsort()[own]]


def _all_rows(x: Tensor, group: Any) -> Tensor:
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, x.contiguous(), group=group)
    return torch.cat(parts)
