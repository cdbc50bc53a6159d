"""TimeSformer with divided attention. Shapes: a clip is (B, 3, T, H, W); tokens are (B, 1 + T*N, C), the class token,
then the N patches of every frame.

Source: "Is Space-Time Attention All You Need for Video Understanding?" (arXiv 2102.05095), section 3.


TimeSformer from a configuration.
"""

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.layers.activation_checkpoint import CheckpointedBlock
from slowfast.layers.attention import SelfAttention, as_map
from slowfast.layers.conv import Conv3d
from slowfast.layers.mlp import DropPath, Mlp
from slowfast.models.heads import apply_head
from slowfast.models.parts import positions_for
from slowfast.models.registry import MODEL_REGISTRY
from slowfast.models.tokens import TokenHead, TokenModel, layer_norm

ATTENTION_TYPES = ("divided_space_time",)
_POSITIONS = ("cls_token", "pos_embed", "time_embed")


class FramePatches(nn.Module):
    """Every frame's patches as vectors: a convolution whose stride is its kernel. Its weight is (C, 3, 1, P, P), the
    published one with an axis of time.

    Args:
        dim_in, dim: channels.
        patch: side P of a patch, pixels.
    """

    def __init__(self, dim_in: int, dim: int, patch: int):
        super().__init__()
        self.proj = Conv3d(dim_in, dim, (1, patch, patch), (1, patch, patch))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, h, w, C)."""
        return self.proj(x).permute(0, 2, 3, 4, 1)


class TimeAttention(SelfAttention):
    """Attention of every patch to those at its place in other frames: (B, T, N, C) in and out."""

    def over_time(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """What queries (B, T, N, C) read from keys and values (B, T', N, C) at their place."""
        places = [x.transpose(1, 2).flatten(0, 1) for x in (q, k, v)]
        return self.read(*places).unflatten(0, (q.shape[0], -1)).transpose(1, 2)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return self.proj_drop(self.proj(self.over_time(*self.qkv(patches).chunk(3, dim=-1))))


class DividedBlock(CheckpointedBlock):
    """Attention over time, attention over space, two-layer network; each behind a norm and added to its input.

    The class token takes part in the attention over space, once a frame; it gets the mean of what it reads there.

    Args:
        dim, heads: channels and attention heads.
        mlp_ratio: hidden channels of the network over `dim`.
        qkv_bias: bias in the maps to queries, keys and values.
        dropout: rate within each branch; `drop_path`: share of samples whose branch is dropped.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.norm1 = layer_norm(dim)
        self.attn = SelfAttention(dim, heads, qkv_bias, dropout)
        self.temporal_norm1 = layer_norm(dim)
        self.temporal_attn = TimeAttention(dim, heads, qkv_bias, dropout)
        self.temporal_fc = nn.Linear(dim, dim)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.norm2 = layer_norm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), dim, dropout)

    def forward_block(self, tokens: torch.Tensor, frames: int) -> torch.Tensor:
        first, patches = tokens[:, :1], tokens[:, 1:].unflatten(1, (frames, -1))
        patches = patches + self.temporal_fc(self.drop_path(self.temporal_attn(self.temporal_norm1(patches))))
        spatial = self.drop_path(self._over_space(first, patches))
        read = torch.cat([spatial[:, :, :1].mean(dim=1), spatial[:, :, 1:].flatten(1, 2)], dim=1)
        tokens = torch.cat([first, patches.flatten(1, 2)], dim=1) + read
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))

    def _over_space(self, first: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """What a frame's tokens, the class token among them, read from each other: (B, T, 1 + N, C)."""
        batch, frames = patches.shape[:2]
        pictures = torch.cat([first[:, None].expand(-1, frames, -1, -1), patches], dim=2).flatten(0, 1)
        return self.attn(self.norm1(pictures)).unflatten(0, (batch, frames))


class TimeSformer(TokenModel):
    """Patches, positions of space and time, divided blocks, norm, head.

    State-dict keys are the published ones without their prefix `model.`, with `head.projection` for `head`.

    Args:
        dim_in: channels of the clip.
        size: (T, h, w) of the patches that positions are made for.
        patch: side of a patch, pixels.
        dim: channels of a token.
        blocks: in order.
        head: (B, 1, dim) -> scores.
        dropout: rate behind the positions.
    """

    def __init__(
        self,
        dim_in: int,
        size: tuple[int, int, int],
        patch: int,
        dim: int,
        blocks: list[nn.Module],
        head: nn.Module,
        dropout: float = 0.0,
        decay_positions: bool = False,
    ):
        super().__init__()
        self.sizes = tuple(size)
        self.undecayed = () if decay_positions else _POSITIONS
        frames, height, width = size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + height * width, dim))
        self.time_embed = nn.Parameter(torch.zeros(1, frames, dim))
        self.patch_embed = FramePatches(dim_in, dim, patch)
        self.pos_drop = nn.Dropout(dropout)
        self.time_drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(blocks)
        self.norm = layer_norm(dim)
        self.head, self.num_features = head, head.num_features
        self.in_channels = [dim_in]

    def init_weights(self) -> None:
        """Truncated normal of deviation 0.02; what the attentions over time add, behind the first block, starts at
        zero, so that a network of pictures is where it starts from.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)
        for block in self.blocks[1:]:
            nn.init.zeros_(block.temporal_fc.weight)

    def position_grids(self) -> dict[str, tuple[tuple[int, int, int], int]]:
        """Of each table of positions (T, h, w) and how many tokens of no position it begins with."""
        frames, height, width = self.sizes
        return {"pos_embed": ((1, height, width), 1), "time_embed": ((frames, 1, 1), 0)}

    def depth_groups(self) -> list[list[nn.Module]]:
        """The layers by depth: patches with positions, blocks, head with the last norm."""
        return [[self.patch_embed, self.own_parameters()], *([block] for block in self.blocks), [self.norm, self.head]]

    def _placed(self, patches: torch.Tensor) -> torch.Tensor:
        """Tokens (B, 1 + T*h*w, C) of patches (B, T, h, w, C)."""
        batch, frames, height, width, _ = patches.shape
        space = self.fit_positions(self.pos_embed[:, 1:].unflatten(1, (1, *self.sizes[1:])), (1, height, width))
        time = self.fit_positions(self.time_embed[:, :, None, None], (frames, 1, 1))
        patches = self.time_drop(self.pos_drop(patches + space) + time)
        first = self.pos_drop(self.cls_token + self.pos_embed[:, :1]).expand(batch, -1, -1)
        return torch.cat([first.to(patches.dtype), patches.flatten(1, 3)], dim=1)

    def _tokens(self, inputs: list[torch.Tensor]) -> tuple[torch.Tensor, tuple[int, int, int]]:
        """The tokens behind the last norm, and (T, h, w) of the patches."""
        patches = self.patch_embed(inputs[0])
        tokens = self._placed(patches)
        for block in self.blocks:
            tokens = block(tokens, patches.shape[1])
        return self.norm(tokens), tuple(patches.shape[1:4])

    def forward_features(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """A list with the map (B, C, T, h, w) behind the last norm, without the class token."""
        tokens, thw = self._tokens(inputs)
        return [as_map(tokens[:, 1:], thw)]

    def forward(self, inputs: list[torch.Tensor], boxes: torch.Tensor | None = None) -> torch.Tensor:
        """Scores (B, classes): logits in train mode, activated in eval mode.

        Args:
            inputs: a list with one clip (B, 3, T, H, W).
            boxes: none; it scores clips only.

        Raises:
            ValueError: boxes.
        """
        tokens, _ = self._tokens(inputs)
        return apply_head(self.head, tokens[:, :1], boxes)


@MODEL_REGISTRY.register("TimeSformer")
def build_timesformer(cfg: CfgNode) -> TimeSformer:
    """TimeSformer by TIMESFORMER.*, for clips of DATA.NUM_FRAMES and DATA.TRAIN_CROP_SIZE (or MODEL.POSITIONS_FOR).

    Raises:
        ValueError: another attention type, patches larger than the crop, or detection, for which it has no head.
    """
    options = cfg.TIMESFORMER
    if options.ATTENTION_TYPE not in ATTENTION_TYPES:
        raise ValueError(
            f"TIMESFORMER.ATTENTION_TYPE is {options.ATTENTION_TYPE!r}; what is built is {', '.join(ATTENTION_TYPES)}"
        )
    if cfg.DETECTION.ENABLE:
        raise ValueError("DETECTION.ENABLE True: TimeSformer scores clips only; set it False, or take MViT")
    frames, crop = positions_for(cfg)
    side = crop // options.PATCH_SIZE
    if not side:
        raise ValueError(
            f"TIMESFORMER.PATCH_SIZE {options.PATCH_SIZE} is over the {crop} pixels of DATA.TRAIN_CROP_SIZE"
        )
    rates = [options.DROPPATH_RATE * i / max(options.DEPTH - 1, 1) for i in range(options.DEPTH)]
    blocks = [
        DividedBlock(
            options.EMBED_DIM,
            options.NUM_HEADS,
            options.MLP_RATIO,
            options.QKV_BIAS,
            options.DROPOUT_RATE,
            rate,
        )
        for rate in rates
    ]
    model = TimeSformer(
        cfg.DATA.INPUT_CHANNEL_NUM[0],
        (frames, side, side),
        options.PATCH_SIZE,
        options.EMBED_DIM,
        blocks,
        TokenHead(options.EMBED_DIM, cfg.MODEL.NUM_CLASSES, cfg.MODEL.DROPOUT_RATE, cfg.MODEL.HEAD_ACT),
        options.DROPOUT_RATE,
        decay_positions=not options.ZERO_DECAY_POS_CLS,
    )
    model.init_weights()
    return model
