"""Contrastive learning on video: MoCo, BYOL, SimCLR and SwAV.

Source: "A Large-Scale Study on Unsupervised Spatiotemporal Representation Learning" (arXiv 2104.14558), section 3.

A clip is a list of pathways (B, C, T, H, W); `clips` are the clips of the same B videos, in order of time. Features are
(B, D), of L2 norm 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slowfast.models.base import VideoModel
from slowfast.models.contrastive_losses import (
    balanced_codes,
    code_loss,
    gather_rows,
    pair_loss,
    queue_logits,
    shuffled,
    similarity_loss,
)
from slowfast.models.knn import MemoryBank
from slowfast.models.losses import ContrastiveLoss
from slowfast.runtime.distributed import get_rank

Clip = list[Tensor]
# Runs a module on a clip, in mixed precision where that is on.
Run = Callable[[nn.Module, Clip], Any]
# Forward pass that ends in a loss; a backward pass follows each.
Pass = Callable[[], Tensor]

_PROTOTYPES = 1000
# SwAV: epoch up to which prototypes stay fixed, and from which the queue takes part.
_PROTOTYPES_FROM, _SWAV_QUEUE_FROM = 1.0, 15.0


class ContrastiveModel(VideoModel):
    """Backbone whose head projects clips to features, and the loss of several clips of each video.

    In eval mode `model(inputs)` returns the features of a clip. In train mode it returns (output, features): output is
    what the method's loss takes.

    Args:
        backbone: model whose head ends in the projection.
        temperature: of the loss.
        sequential: one clip (or pair of clips) after the other goes forward and backward, which saves memory.
        dim: D of the features.
        knn: keep the features of training videos, to classify others by their neighbors.

    Attributes:
        knn_mem: bank of these features; None without.
        last_features: of the last clip that went forward in train mode.
    """

    def __init__(self, backbone: VideoModel, temperature: float, sequential: bool, dim: int, knn: bool = False):
        super().__init__()
        self.backbone = backbone
        self.temperature, self.sequential, self.dim = temperature, sequential, dim
        self.num_pathways, self.in_channels, self.min_size = (
            backbone.num_pathways,
            backbone.in_channels,
            backbone.min_size,
        )
        self.num_features = backbone.num_features
        self.knn_mem = MemoryBank(dim, temperature) if knn else None
        self.last_features: Tensor | None = None

    def forward_features(self, inputs: Clip) -> list[Tensor]:
        """Return the features of each pathway of the backbone, in front of the head."""
        return self.backbone.forward_features(inputs)

    def pathways(self) -> list[list[nn.Module]]:
        """Return the modules of each pathway of the backbone."""
        return self.backbone.pathways()

    def depth_groups(self) -> list[list[nn.Module]]:
        """Return the layers of the backbone by depth; all else is trained as its head is."""
        groups = self.backbone.depth_groups()
        groups[-1] += [module for name, module in self.named_children() if name != "backbone"]
        return groups

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters without weight decay."""
        return {f"backbone.{name}" for name in self.backbone.no_weight_decay()}

    def forward(self, inputs: Clip) -> Tensor | tuple[Tensor, Tensor]:
        """Compute the features of a clip, in train mode with the output for the loss before them."""
        projected = self.backbone(inputs)
        features = unit(projected)
        return (self.output(projected, features), features) if self.training else features

    def output(self, projected: Tensor, features: Tensor) -> Tensor:
        """Return what the loss takes of a clip.

        Args:
            projected: (B, D) before they are divided by their norm.
        """
        return features

    def passes(self, run: Run, model: nn.Module, clips: Sequence[Clip], epoch: float, before: float) -> list[Pass]:
        """Return the forward passes of an iteration, to be called in order, each followed by its backward pass.

        Args:
            model: this model in its parallel wrapper.
            epoch: progress in epochs.
            before: progress at the iteration before.

        Raises:
            ValueError: the method takes another number of clips.
        """
        raise NotImplementedError

    def finish(self, epoch: float) -> None:
        """Run after the last backward pass of an iteration, before the optimizer steps."""

    def remember(self, videos: Tensor, labels: Tensor) -> None:
        """Put the features of the last clip into the bank; videos (B,) and labels (B,) are numbers."""
        if self.knn_mem is not None:
            self.knn_mem.put(gather_rows(videos), gather_rows(labels), gather_rows(self.last_features))

    def shown_loss(self, total: Tensor, clips: int) -> Tensor:
        """Return the loss that is reported, as published, given the sum over the passes."""
        return total / (2 * clips) if self.sequential else total

    def encode(self, run: Run, model: nn.Module, clip: Clip) -> Tensor:
        """Run a clip forward, and return what the loss takes."""
        output, features = run(model, clip)
        self.last_features = features.detach()
        return output


def unit(x: Tensor) -> Tensor:
    """Divide rows by their L2 norm, in float32 at least."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1)


class SimCLR(ContrastiveModel):
    """SimCLR: two clips of a video against all other clips of the batch, or of all processes' batches.

    Args:
        everywhere: take the other clips from all processes.
        others: see `ContrastiveModel`.
    """

    def __init__(self, *others: Any, everywhere: bool = True):
        super().__init__(*others)
        self.everywhere = everywhere

    def passes(self, run: Run, model: nn.Module, clips: Sequence[Clip], epoch: float, before: float) -> list[Pass]:
        _check_count(clips, "simclr", 2, None if self.sequential else 2)
        return [partial(self._pair, run, model, *pair) for pair in zip(clips, clips[1:], strict=False)]

    def _pair(self, run: Run, model: nn.Module, *pair: Clip) -> Tensor:
        features = [self.encode(run, model, clip) for clip in pair]
        if self.everywhere:
            features = [gather_rows(each) for each in features]
        return pair_loss(*features, self.temperature)


class MomentumModel(ContrastiveModel):
    """MoCo and BYOL: an average of the weights, `backbone_hist`, encodes the keys that clips are compared with.

    Args:
        history: model like the backbone.
        momentum: share M of the average that an iteration keeps.
        annealing: raise it from M to 1 over `max_epoch` epochs, along a cosine.
        queue_len: features in the queue.
        shuffle: whose clips batch norm of the key encoder mixes: "all" or "host" (those of a host); "" for none.
        others: see `ContrastiveModel`.

    Attributes:
        queue_x, ptr: features of earlier keys, and where the next ones are written.
        iter: number of iterations done.
    """

    def __init__(
        self,
        backbone: VideoModel,
        history: VideoModel,
        *others: Any,
        momentum: float,
        annealing: bool,
        max_epoch: int,
        queue_len: int,
        shuffle: str,
    ):
        super().__init__(backbone, *others)
        self.backbone_hist = history.requires_grad_(False)
        self.base_momentum, self.annealing, self.max_epoch, self.shuffle = momentum, annealing, max_epoch, shuffle
        self.register_buffer("ptr", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("queue_x", unit(torch.randn(queue_len, self.dim)))
        self.register_buffer("iter", torch.zeros(1, dtype=torch.int64))
        self.keys: list[Tensor] = []

    def momentum(self, epoch: float) -> float:
        """Return the momentum at a progress in epochs."""
        if not self.annealing:
            return self.base_momentum
        return 1 - (1 - self.base_momentum) * (math.cos(math.pi * epoch / self.max_epoch) + 1) / 2

    def momentum_in_use(self, epoch: float, before: float) -> float:
        """Return the momentum of an iteration. If clips are sequential that is the one set in the iteration before."""
        if not self.sequential:
            return self.momentum(epoch)
        return self.momentum(before) if int(self.iter) else self.base_momentum

    @torch.no_grad()
    def compute_keys(self, run: Run, clips: Sequence[Clip], momentum: float) -> list[Tensor]:
        """Move the key encoder towards the backbone, and return the features of every clip.

        Batch norms of the key encoder take their statistics over one clip of each video at a time.
        """
        kept = momentum if int(self.iter) else 0.0
        for old, new in zip(self.backbone_hist.parameters(), self.backbone.parameters(), strict=True):
            old.mul_(kept).add_(new, alpha=1 - kept)
        encode, seed = partial(run, self.backbone_hist), int(self.iter)
        if self.shuffle:
            keys = [shuffled(encode, clip, self.shuffle == "all", seed) for clip in clips]
        else:
            keys = [encode(clip) for clip in clips]
        self.iter += 1
        return [unit(key) for key in keys]


class MoCo(MomentumModel):
    """MoCo: each key is told from a queue of the keys of earlier batches.

    Args:
        all_views: queue the keys of all clips, not those of the first alone.
        others: see `MomentumModel`.
    """

    def __init__(self, *others: Any, all_views: bool, **options: Any):
        super().__init__(*others, **options)
        self.all_views, self.loss = all_views, ContrastiveLoss()

    def passes(self, run: Run, model: nn.Module, clips: Sequence[Clip], epoch: float, before: float) -> list[Pass]:
        _check_count(clips, "moco", 2, None)
        momentum = self.momentum_in_use(epoch, before)
        if self.sequential:
            self.keys = self.compute_keys(run, clips, momentum)
            return [partial(self._query, run, model, clip, _without(self.keys, i)) for i, clip in enumerate(clips)]
        self.keys = self.compute_keys(run, clips[1:], momentum)
        return [partial(self._query, run, model, clips[0], self.keys)]

    def _query(self, run: Run, model: nn.Module, clip: Clip, keys: Sequence[Tensor]) -> Tensor:
        return self.loss(queue_logits(self.encode(run, model, clip), keys, self.queue_x, self.temperature))

    @torch.no_grad()
    def finish(self, epoch: float) -> None:
        """Write the keys of all processes into the queue, one clip after the other."""
        for keys in self.keys if self.all_views else self.keys[:1]:
            rows = gather_rows(keys)
            start = int(self.ptr)
            self.queue_x[start : start + len(rows)] = rows
            self.ptr.fill_((start + len(rows)) % len(self.queue_x))
        self.keys = []


class BYOL(MomentumModel):
    """BYOL: a predictor guesses the key of another clip from the features of a clip; there are no negatives."""

    def output(self, projected: Tensor, features: Tensor) -> Tensor:
        for predictor in self.backbone.head.predictors:
            projected = predictor(projected)
        return unit(projected)

    def passes(self, run: Run, model: nn.Module, clips: Sequence[Clip], epoch: float, before: float) -> list[Pass]:
        _check_count(clips, "byol", 2, None if self.sequential else 2)
        keys = self.compute_keys(run, clips, self.momentum_in_use(epoch, before))
        single = [partial(self._predict, run, model, clip, _without(keys, i)) for i, clip in enumerate(clips)]
        return single if self.sequential else [lambda: sum(each() for each in single)]

    def _predict(self, run: Run, model: nn.Module, clip: Clip, keys: Sequence[Tensor]) -> Tensor:
        return similarity_loss(self.encode(run, model, clip), keys, self.temperature)


class SwAV(ContrastiveModel):
    """SwAV: the cluster of a clip is predicted from other clips of the video.

    Args:
        queue_len: features of earlier batches that help to balance the clusters; 0 for none.
        others: see `ContrastiveModel`.

    Attributes:
        queue_swav: (2, queue_len, D) features of the first two clips, newest first.
    """

    def __init__(self, *others: Any, queue_len: int):
        super().__init__(*others)
        self.swav_prototypes = nn.Linear(self.dim, _PROTOTYPES, bias=False)
        if queue_len:
            self.register_buffer("queue_swav", torch.zeros(2, queue_len, self.dim))
        self.queue_len = queue_len

    def output(self, projected: Tensor, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return self.swav_prototypes(features)

    def passes(self, run: Run, model: nn.Module, clips: Sequence[Clip], epoch: float, before: float) -> list[Pass]:
        _check_count(clips, "swav", 2, None)
        with torch.no_grad():
            self.swav_prototypes.weight.copy_(unit(self.swav_prototypes.weight))
        return [partial(self._assign, run, model, clips, epoch)]

    def _assign(self, run: Run, model: nn.Module, clips: Sequence[Clip], epoch: float) -> Tensor:
        scores, features = zip(*(run(model, clip) for clip in clips), strict=True)
        self.last_features = features[-1].detach()
        codes = [self._codes(i, scores[i].detach(), features[i].detach(), epoch) for i in range(2)]
        return code_loss(codes, scores, self.temperature)

    @torch.no_grad()
    def _codes(self, clip: int, scores: Tensor, features: Tensor, epoch: float) -> Tensor:
        """Return the codes of this process's videos; those of all processes and of the queue balance them."""
        rows, own = len(scores), scores
        start = get_rank() * rows
        scores = gather_rows(scores)
        if self.queue_len and epoch >= _SWAV_QUEUE_FROM:
            queue, fresh = self.queue_swav[clip], gather_rows(features)
            if bool(queue[-1].any()):
                scores = torch.cat([scores, self.swav_prototypes(queue)])
            kept = queue[: -len(fresh)].clone()
            queue[len(fresh) :] = kept
            queue[: len(fresh)] = fresh
        return balanced_codes(scores)[start : start + len(own)]

    def finish(self, epoch: float) -> None:
        """Keep the prototypes as they are during the first epoch."""
        if epoch <= _PROTOTYPES_FROM:
            self.swav_prototypes.weight.grad = None

    def shown_loss(self, total: Tensor, clips: int) -> Tensor:
        return total


def _without(items: Sequence[Any], index: int) -> list[Any]:
    return [item for i, item in enumerate(items) if i != index]


def _check_count(clips: Sequence[Clip], method: str, least: int, most: int | None) -> None:
    """Raise ValueError unless there are from `least` to `most` (None: any number of) clips of each video."""
    if len(clips) < least or (most is not None and len(clips) > most):
        wanted = f"exactly {least}" if most == least else f"at least {least}"
        raise ValueError(f"{method} takes {wanted} clips of each video here, and got {len(clips)}")
