"""Multiscale vision transformers: MViT (arXiv 2104.11227) and MViTv2 (arXiv 2112.01526).

Shapes: a clip is (B, C, T, H, W); tokens are (B, P + T'*H'*W', C), with P prefix tokens (the class token, if any).
"""

from collections.abc import Sequence

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.layers.attention import Size, as_map, as_tokens
from slowfast.layers.pool import SpaceTimePool
from slowfast.models.build import MODEL_REGISTRY, build_head
from slowfast.models.heads import Classifier, apply_head
from slowfast.models.mvit_blocks import ImagePatchEmbed, MultiscaleBlock, PatchEmbed
from slowfast.models.mvit_encoder import (
    MultiscaleEncoder,
    TokenOptions,
    attention_options,
    build_blocks,
    encoder_parts,
)
from slowfast.models.reversible import ReversibleBackbone, StreamFusion, build_reversible
from slowfast.models.tokens import TokenHead, layer_norm
from slowfast.utils.errors import naming_keys


class MViT(MultiscaleEncoder):
    """MViT or MViTv2: an encoder, norm and head.

    Args:
        patch_embed, blocks, size, options, norm_stem: see `MultiscaleEncoder`.
        norm: of the last block's channels.
        head: (B, P, channels) -> scores; a head for boxes gets the feature map instead.
        pool: (B, channels, T', H', W') -> (B, channels, P, 1, 1), vectors for the head in place of the class token.
    """

    def __init__(
        self,
        patch_embed: PatchEmbed | ImagePatchEmbed,
        blocks: Sequence[MultiscaleBlock],
        norm: nn.Module,
        head: Classifier,
        size: Size,
        options: TokenOptions,
        pool: nn.Module | None = None,
        norm_stem: nn.Module | None = None,
    ):
        super().__init__(patch_embed, blocks, size, options, norm_stem)
        self.mean_first = options.mean_first
        self.norm = norm
        self.pool = pool
        self.head, self.num_features, self.takes_boxes = head, head.num_features, head.takes_boxes

    def init_weights(self, head_scale: float = 1.0) -> None:
        """Initialize weights as `MultiscaleEncoder`, and scale the weight and bias of the head by `head_scale`."""
        super().init_weights()
        with torch.no_grad():
            self.head.projection.weight.mul_(head_scale)
            self.head.projection.bias.mul_(head_scale)

    def _tail(self) -> list[nn.Module]:
        return [self.norm, self.head]

    def _normed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Apply the last norm."""
        return self.norm(tokens)

    def forward_features(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the features [(B, C, T', H', W')] after the last norm, without the class token."""
        tokens, thw = self._tokens(inputs)
        return [as_map(self._normed(tokens)[:, self.num_prefix_tokens :], thw)]

    def forward(self, inputs: list[torch.Tensor], boxes: torch.Tensor | None = None) -> torch.Tensor:
        """Compute scores (B, classes) of clips or (N, classes) of boxes, as in `VideoModel`.

        Args:
            inputs: a list with one clip (B, C, T, H, W).
            boxes: (N, 5), for a head that takes boxes.
        """
        return apply_head(
            self.head, self.forward_features(inputs) if self.takes_boxes else self._pooled_tokens(inputs), boxes
        )

    def _pooled_tokens(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Compute the vectors for the head, (B, P, C): the class token or the pooled tokens."""
        tokens, thw = self._tokens(inputs)
        if self.pool is None:
            return self._normed(tokens[:, :1])
        if self.mean_first:
            return self.norm(self._pooled(tokens, thw))
        return self._pooled(self._normed(tokens), thw)

    def _pooled(self, tokens: torch.Tensor, thw: Size) -> torch.Tensor:
        return as_tokens(self.pool(as_map(tokens[:, self.num_prefix_tokens :], thw)))


class ReversibleMViT(MViT):
    """MViT of reversible blocks (arXiv 2302.04869), whose two streams are joined at the end.

    Args:
        patch_embed, norm, head, size, options, pool, norm_stem: as `MViT`; `norm` has the width that it sees.
        backbone: the blocks.
        fuse: joins the streams; before the last norm if it halves their width, or with `options.mean_first`.
    """

    def __init__(
        self,
        patch_embed: PatchEmbed | ImagePatchEmbed,
        backbone: ReversibleBackbone,
        fuse: StreamFusion,
        norm: nn.Module,
        head: Classifier,
        size: Size,
        options: TokenOptions,
        pool: nn.Module | None = None,
        norm_stem: nn.Module | None = None,
    ):
        super().__init__(patch_embed, (), norm, head, size, options, pool, norm_stem)
        self.rev_backbone, self.fuse = backbone, fuse
        self.fuse_first = options.mean_first or fuse.halves

    @property
    def layers(self) -> Sequence[nn.Module]:
        """Return the blocks and the transitions between stages, in order."""
        return self.rev_backbone.layers

    def _tail(self) -> list[nn.Module]:
        return [*super()._tail(), self.fuse]

    def _run_blocks(self, tokens: torch.Tensor, thw: Size) -> tuple[torch.Tensor, Size]:
        streams, thw = self.rev_backbone(tokens, thw)
        return (self.fuse(streams) if self.fuse_first else streams), thw

    def _normed(self, tokens: torch.Tensor) -> torch.Tensor:
        normed = self.norm(tokens)
        return normed if self.fuse_first else self.fuse(normed)


@MODEL_REGISTRY.register("MViT")
def build_mvit(cfg: CfgNode) -> MViT:
    """Build MViT from MVIT.*, for clips of DATA.NUM_FRAMES and DATA.TRAIN_CROP_SIZE (or MODEL.POSITIONS_FOR).

    With MVIT.PATCH_2D it is a model of images, with MVIT.REV.ENABLE one of reversible blocks.
    """
    patch_embed, blocks, rates, size, tokens, norm_stem = encoder_parts(cfg)
    dim = blocks[-1].dim_out
    if cfg.MVIT.REV.ENABLE:
        backbone, fuse = build_reversible(cfg, blocks, attention_options(cfg), rates)
        dim = dim if fuse.halves else 2 * dim
        model = ReversibleMViT(
            patch_embed, backbone, fuse, layer_norm(dim), _head(cfg, dim), size, tokens, _pool(cfg), norm_stem
        )
    else:
        layers = build_blocks(cfg, blocks, rates)
        model = MViT(patch_embed, layers, layer_norm(dim), _head(cfg, dim), size, tokens, _pool(cfg), norm_stem)
    with naming_keys(cfg, "MVIT.EMBED_DIM", "MVIT.USE_FIXED_SINCOS_POS"):
        model.init_weights(cfg.MVIT.HEAD_INIT_SCALE)
    return model


def _pool(cfg: CfgNode) -> nn.Module | None:
    """Build the pooling of tokens; None if the head reads the class token, or boxes."""
    if cfg.DETECTION.ENABLE or (cfg.MVIT.CLS_EMBED_ON and not cfg.MVIT.USE_MEAN_POOLING):
        return None
    return SpaceTimePool(None, None, *cfg.MODEL.FINAL_POOL)


def _head(cfg: CfgNode, dim: int) -> nn.Module:
    if cfg.DETECTION.ENABLE:
        return build_head(cfg, [dim], [(cfg.MVIT.PATCH_STRIDE[0], 1, 1)])
    return TokenHead(dim, cfg.MODEL.NUM_CLASSES, cfg.MODEL.DROPOUT_RATE, cfg.MODEL.HEAD_ACT)
