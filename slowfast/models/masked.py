"""Masked learning: MAE (arXiv 2205.09113, of videos) and MaskFeat (arXiv 2112.09133) over the encoder of MViT.

Shapes: a clip is (B, C, T, H, W); tokens are (B, P + T'*H'*W', C), with P prefix tokens; a mask is (B, t, h, w) bool,
True where masked. Rows are the M masked tokens of a batch, in order of sample, time, row and column.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.layers.attention import Size, as_map, as_tokens
from slowfast.layers.hog import Hog
from slowfast.models.build import MODEL_REGISTRY
from slowfast.models.masks import enlarge, equal_counts, given, random_mask
from slowfast.models.mvit_blocks import AttentionPooling, MultiscaleBlock, block_sizes
from slowfast.models.mvit_encoder import MultiscaleEncoder, attention_options, build_blocks, encoder_parts
from slowfast.models.tokens import fill_sincos_3d, layer_norm
from slowfast.utils.errors import naming_keys
from slowfast.utils.registry import CHOICES

HEAD_TYPES = ("separate", "separate_xformer")
CHOICES["MASK.HEAD_TYPE"] = HEAD_TYPES
_DECODER_HEAD_DIM = 64  # channels of an attention head of the decoder, as published

# Predictions (M, values) of each decoded block, and of each the target (M, values) with its weight in the loss.
Output = tuple[list[torch.Tensor], list[tuple[torch.Tensor, float]]]


@dataclass(frozen=True)
class MaskTarget:
    """Tell what is predicted of a masked token.

    Attributes:
        hog: predict HOG features; False for pixels.
        first_frame: pixels: predict the first frame of a token only, as HOG does.
        normalize: pixels: subtract the mean of a token and divide by its standard deviation.
    """

    hog: bool = False
    first_frame: bool = True
    normalize: bool = True

    def length(self, channels: int, stride: Size) -> int:
        """Return the number of values of a token of `stride` (T, H, W) frames and pixels.

        Raises:
            ValueError: cells of HOG do not divide a token.
        """
        frames, height, width = stride
        if not self.hog:
            return channels * (1 if self.first_frame else frames) * height * width
        hog = Hog(channels=channels)
        if height % hog.cell or width % hog.cell:
            raise ValueError(
                f"MASK.PRED_HOG True has cells of {hog.cell} x {hog.cell} pixels, which do not divide a token of "
                f"{height} x {width}; decode a later block (MASK.PRETRAIN_DEPTH) or predict pixels"
            )
        return channels * hog.bins * (height // hog.cell) * (width // hog.cell)


@torch.no_grad()
def pixel_targets(clip: torch.Tensor, thw: Size, first_frame: bool = True, normalize: bool = True) -> torch.Tensor:
    """Return the pixels of each token, (B, T', H', W', values), in the order frame, row, column, channel.

    Args:
        clip: (B, C, T, H, W).
        thw: (T', H', W') of the tokens.
        first_frame, normalize: see `MaskTarget`.
    """
    clip = clip.float().unflatten(4, (thw[2], -1)).unflatten(3, (thw[1], -1)).unflatten(2, (thw[0], -1))
    values = clip[:, :, :, : 1 if first_frame else None].permute(0, 2, 4, 6, 3, 5, 7, 1).flatten(4)
    if normalize:
        variance, mean = torch.var_mean(values, dim=-1, keepdim=True)
        values = (values - mean) / (variance + 1e-6).sqrt()
    return values


def hog_targets(hog: Hog, clip: torch.Tensor, thw: Size) -> torch.Tensor:
    """Return the HOG features of each token's first frame, (B, T', H', W', values).

    Values are in the order channel, bin, row and column of the cell. Arguments as in `pixel_targets`.
    """
    frames = clip[:, :, :: clip.shape[2] // thw[0]].transpose(1, 2)
    cells = hog(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])  # (B, T', C, bins, rows, columns)
    cells = cells.unflatten(5, (thw[2], -1)).unflatten(4, (thw[1], -1))
    return cells.permute(0, 1, 4, 6, 2, 3, 5, 7).flatten(4)


class PredictionHead(nn.Module):
    """Heads of the decoded blocks: transformer blocks (if any), norm, and a linear map of the masked tokens.

    Args:
        dims: channels of the tokens, for each decoded block.
        lengths: predicted values of a token.
        blocks: transformer blocks in front of the norm.
        num_prefix_tokens: P.
    """

    def __init__(
        self,
        dims: Sequence[int],
        lengths: Sequence[int],
        blocks: Sequence[Sequence[MultiscaleBlock]],
        num_prefix_tokens: int,
    ):
        super().__init__()
        self.num_prefix_tokens = num_prefix_tokens
        self.transforms = nn.ModuleList(
            nn.Sequential(*own, layer_norm(dim)) for dim, own in zip(dims, blocks, strict=True)
        )
        self.projections = nn.ModuleList(nn.Linear(*sizes) for sizes in zip(dims, lengths, strict=True))

    def forward(self, index: int, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Predict (M, values) from the tokens (B, P + L, C) of decoded block number `index`, masked as in `mask`."""
        *blocks, norm = self.transforms[index]
        for block in blocks:
            tokens = block(tokens, tuple(mask.shape[1:]))
        return self.projections[index](norm(tokens[:, self.num_prefix_tokens :][mask.flatten(1)]))


class MaskMViT(MultiscaleEncoder):
    """Base class of the masked models; a subclass defines `decode`.

    Args:
        parts: arguments of `MultiscaleEncoder`.
        num_features: channels of the last block.
        head: of the decoded blocks.
        target: what it predicts.
        dim_mask: channels of the mask token.
    """

    def __init__(self, parts: tuple, num_features: int, head: PredictionHead, target: MaskTarget, dim_mask: int):
        super().__init__(*parts)
        self.num_features, self.target = num_features, target
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim_mask))
        self.pred_head = head
        hogs = [Hog(channels=self.in_channels[0]) for _ in head.projections] if target.hog else []
        # Only for HOG, since published checkpoints have these keys only then.
        self.hogs = nn.ModuleList(hogs)

    def decode(self, features: torch.Tensor, mask: torch.Tensor | None) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Predict the masked tokens from embedded patches (B, C, T', H', W').

        Returns:
            Of each decoded block the predictions (M, values) and its mask (B, T', H', W').
        """
        raise NotImplementedError

    def forward(self, inputs: list[torch.Tensor], mask: torch.Tensor | None = None) -> Output:
        """Predict the masked tokens of clips, and compute their targets.

        Args:
            inputs: a list with one clip (B, C, T, H, W).
            mask: (B, t, h, w), from the loader; None to draw one here.

        Raises:
            ValueError: the mask is missing or does not fit.
        """
        decoded = self.decode(self.patch_embed(inputs[0]), mask)
        clip = inputs[0] if inputs[0].dim() == 5 else inputs[0].unsqueeze(2)  # an image is a clip of one frame
        targets = [(self.targets(clip, i, used), self.weight) for i, (_, used) in enumerate(decoded)]
        return [prediction for prediction, _ in decoded], targets

    @property
    def weight(self) -> float:
        """Weight of the loss of each decoded block, as published."""
        return 1.0 if self.target.hog else 1.0 / len(self.pred_head.projections)

    def targets(self, clip: torch.Tensor, index: int, mask: torch.Tensor) -> torch.Tensor:
        """Compute the targets (M, values) of decoded block number `index`."""
        thw = tuple(mask.shape[1:])
        if self.target.hog:
            return hog_targets(self.hogs[index], clip, thw)[mask]
        return pixel_targets(clip, thw, self.target.first_frame, self.target.normalize)[mask]

    def _tail(self) -> list[nn.Module]:
        return [self.pred_head]

    def forward_features(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the features [(B, C, T', H', W')] after the last block, nothing masked and without the class token."""
        tokens, thw = self._tokens(inputs)
        return [as_map(tokens[:, self.num_prefix_tokens :], thw)]

    def reset_classifier(self, num_classes: int) -> None:
        """Raise ValueError: there is no classifier."""
        raise ValueError(
            "MaskMViT predicts what is masked and has no classifier; fine-tune its weights with MODEL.MODEL_NAME MViT"
        )

    def scale_by_depth(self) -> None:
        """Divide the output weights of attention and MLP of block n, from 1, by sqrt(2 n). (BEiT, section 2.5.)"""
        with torch.no_grad():
            for number, block in enumerate(self.blocks, start=1):
                for linear in (block.attn.proj, block.mlp.fc2):
                    linear.weight.div_(math.sqrt(2 * number))


class MaskFeat(MaskMViT):
    """MaskFeat: all tokens are encoded, the masked ones replaced by a mask token, and blocks at some depths decoded.

    Args:
        parts, num_features, head, target: see `MaskMViT`.
        depths: decoded blocks, from 0, ascending.
    """

    def __init__(
        self, parts: tuple, num_features: int, head: PredictionHead, target: MaskTarget, depths: Sequence[int]
    ):
        super().__init__(parts, num_features, head, target, parts[0].proj.out_channels)
        self.depths = tuple(depths)

    def decode(self, features: torch.Tensor, mask: torch.Tensor | None) -> list[tuple[torch.Tensor, torch.Tensor]]:
        mask = given(mask)
        thw = tuple(features.shape[2:])
        tokens = as_tokens(features)
        masked = enlarge(mask, thw).flatten(1)[..., None].to(tokens.device)
        tokens = self._embedded(torch.where(masked, self.mask_token.to(tokens.dtype), tokens), thw)
        decoded = []
        for depth, block in enumerate(self.blocks):
            tokens, thw = block(tokens, thw), block.size(thw)
            if depth in self.depths:
                own = enlarge(mask, thw)
                decoded.append((self.pred_head(len(decoded), tokens, own), own))
        return decoded


class MAE(MaskMViT):
    """Masked autoencoder: visible tokens are encoded, and a small transformer decodes them together with mask tokens.

    Args:
        parts, num_features, head, target: see `MaskMViT`; the head has one decoded block.
        dim: channels of the decoder.
        ratio, tube, per_frame: of the masks that are drawn here, see `random_mask`; ratio None takes the loader's.
        separate_positions: one decoder position embedding of space and one of time, not a joint one.
    """

    def __init__(
        self,
        parts: tuple,
        num_features: int,
        head: PredictionHead,
        target: MaskTarget,
        dim: int,
        ratio: float | None = None,
        tube: bool = False,
        per_frame: bool = False,
        separate_positions: bool = False,
    ):
        super().__init__(parts, num_features, head, target, dim)
        self.ratio, self.tube, self.per_frame = ratio, tube, per_frame
        self.norm = layer_norm(self.num_features)
        self.decoder_embed = nn.Linear(self.num_features, dim)
        prefix, (frames, height, width) = self.num_prefix_tokens, self.sizes
        lengths = {"decoder_pos_embed": prefix + frames * height * width}
        if separate_positions:
            lengths = {"dec_pos_embed_spatial": height * width, "dec_pos_embed_temporal": frames}
            lengths |= {"dec_pos_embed_class": 1} if prefix else {}
        self.separate_positions = separate_positions
        fixed = self.positions == "sincos_3d" and not separate_positions
        for name, length in lengths.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(1, length, dim), requires_grad=not fixed))
        self.undecayed = (*self.undecayed, *lengths) if self.undecayed else ()

    def _tail(self) -> list[nn.Module]:
        return [self.norm, self.decoder_embed, *super()._tail()]

    def init_weights(self) -> None:
        """Initialize weights as `MultiscaleEncoder`, and fixed positions of the decoder by sines and cosines."""
        super().init_weights()
        if self.positions == "sincos_3d" and not self.separate_positions:
            fill_sincos_3d(self.decoder_pos_embed, self.sizes, self.num_prefix_tokens)

    def position_grids(self) -> dict[str, tuple[Size, int]]:
        """Return (T, H, W) and the number of prefix tokens of each position embedding, by state-dict key."""
        frames, height, width = self.sizes
        own = {"decoder_pos_embed": (self.sizes, self.num_prefix_tokens)}
        if self.separate_positions:
            own = {"dec_pos_embed_spatial": ((1, height, width), 0), "dec_pos_embed_temporal": ((frames, 1, 1), 0)}
        return super().position_grids() | own

    def decode(self, features: torch.Tensor, mask: torch.Tensor | None) -> list[tuple[torch.Tensor, torch.Tensor]]:
        batch, _, *grid = features.shape
        thw = tuple(grid)
        if mask is None and self.ratio is not None:
            mask = random_mask(batch, thw, self.ratio, self.tube, self.per_frame, features.device)
        else:
            mask = equal_counts(enlarge(given(mask), thw))
        visible, prefix = ~mask.flatten(1), self.num_prefix_tokens
        tokens = self._embedded(as_tokens(features), thw)
        kept = tokens[:, prefix:][visible].unflatten(0, (batch, -1))
        tokens = torch.cat([tokens[:, :prefix], kept], dim=1)
        for block in self.blocks:
            tokens = block(tokens, thw)
        tokens = self.decoder_embed(self.norm(tokens))
        placed = self.mask_token.to(tokens.dtype).repeat(*visible.shape, 1)
        placed[visible] = tokens[:, prefix:].flatten(0, 1)
        tokens = torch.cat([tokens[:, :prefix], placed], dim=1) + self._decoder_positions(thw)
        return [(self.pred_head(0, tokens, mask), mask)]

    def _decoder_positions(self, thw: Size) -> torch.Tensor:
        """Return the position embeddings (1, P + T*H*W, dim) of the decoder."""
        if self.separate_positions:
            space = self.dec_pos_embed_spatial.unflatten(1, (1, *self.sizes[1:]))
            time = self.dec_pos_embed_temporal[:, :, None, None]
            first = [self.dec_pos_embed_class] if self.num_prefix_tokens else []
            table = self.fit_positions(time, (thw[0], 1, 1)) + self.fit_positions(space, (1, *thw[1:]))
        else:
            first = [self.decoder_pos_embed[:, : self.num_prefix_tokens]]
            table = self.fit_positions(
                self.decoder_pos_embed[:, self.num_prefix_tokens :].unflatten(1, self.sizes), thw
            )
        return torch.cat([*first, table.flatten(1, 3)], dim=1)


@MODEL_REGISTRY.register("MaskMViT", task="masked")
def build_mask_mvit(cfg: CfgNode) -> MaskMViT:
    """Build a masked model from MASK.* and MVIT.*; blocks behind the last of MASK.PRETRAIN_DEPTH are left out.

    Raises:
        ValueError: see `encoder_parts` and `MaskTarget.length`; a clip is not whole tokens; tokens of MAE are pooled or
            have relative positions.
    """
    mask, depths = cfg.MASK, sorted(cfg.MASK.PRETRAIN_DEPTH)
    patch_embed, sizes, rates, size, tokens, norm_stem = encoder_parts(cfg)
    sizes = sizes[: depths[-1] + 1]
    parts = patch_embed, build_blocks(cfg, sizes, rates[: len(sizes)]), size, tokens, norm_stem
    target = MaskTarget(mask.PRED_HOG, mask.TIME_STRIDE_LOSS, mask.NORM_PRED_PIXEL)
    strides = [patch_embed.stride]  # of the tokens before each block, and behind the last one
    for each in sizes:
        step = each.pool_q.stride if each.pool_q else (1, 1, 1)
        strides.append(tuple(a * b for a, b in zip(strides[-1], step, strict=True)))
    for depth in depths:
        _check_whole_tokens(cfg, strides[depth + 1])
    lengths = [target.length(cfg.DATA.INPUT_CHANNEL_NUM[0], strides[depth + 1]) for depth in depths]
    dims = [mask.DECODER_EMBED_DIM if mask.MAE_ON else sizes[depth].dim_out for depth in depths]
    grids = [tuple(n * a // b for n, a, b in zip(size, strides[0], strides[d + 1], strict=True)) for d in depths]
    with naming_keys(cfg, "MASK.DECODER_EMBED_DIM", "MVIT.EMBED_DIM", "MVIT.USE_FIXED_SINCOS_POS"):
        decoders = [_decoder(cfg, dim, grid) for dim, grid in zip(dims, grids, strict=True)]
        head = PredictionHead(dims, lengths, decoders, int(cfg.MVIT.CLS_EMBED_ON))
        if mask.MAE_ON:
            model = MAE(
                parts,
                sizes[-1].dim_out,
                head,
                target,
                mask.DECODER_EMBED_DIM,
                cfg.AUG.MASK_RATIO if mask.MAE_RND_MASK else None,
                cfg.AUG.MASK_TUBE,
                mask.PER_FRAME_MASKING,
                mask.DECODER_SEP_POS_EMBED,
            )
        else:
            model = MaskFeat(parts, sizes[-1].dim_out, head, target, depths)
        model.init_weights()
    if mask.SCALE_INIT_BY_DEPTH:
        model.scale_by_depth()
    return model


def _check_whole_tokens(cfg: CfgNode, stride: Size) -> None:
    """Raise ValueError unless tokens of `stride` (T, H, W) frames and pixels divide a training clip."""
    frames, crop = cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE
    if any(size % step for size, step in zip((frames, crop, crop), stride, strict=True)):
        raise ValueError(
            f"DATA.NUM_FRAMES {frames} and DATA.TRAIN_CROP_SIZE {crop} are not whole tokens of "
            f"{' x '.join(map(str, stride))} frames and pixels (MVIT.PATCH_STRIDE, POOL_Q_STRIDE), so their pixels "
            "make no targets; set multiples of these"
        )


def _decoder(cfg: CfgNode, dim: int, size: Size) -> list[MultiscaleBlock]:
    """Build the transformer blocks of a head with the encoder's settings, for MASK.HEAD_TYPE separate_xformer."""
    mask = cfg.MASK
    if mask.HEAD_TYPE == "separate":
        return []
    plain = {"relative_space": False, "relative_time": False, "residual_pooling": False, "dropout": 0.0}
    options = replace(attention_options(cfg), **plain)
    stride = mask.DEC_KV_STRIDE or ([1, 1, 1] if mask.DEC_KV_KERNEL else [])
    pooling = AttentionPooling(
        stride_kv=[[i, *stride] for i in range(mask.DECODER_DEPTH)] if stride else (),
        kernel=mask.DEC_KV_KERNEL or None,
    )
    sizes = block_sizes(mask.DECODER_DEPTH, dim, dim // _DECODER_HEAD_DIM, size, pooling=pooling)
    return [MultiscaleBlock(each, options, layer_norm, cfg.MVIT.MLP_RATIO) for each in sizes]
