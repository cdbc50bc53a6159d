"""TimeSformer with divided space-time attention.

Shapes: a clip is (B, C, T, H, W); tokens are (B, 1 + T*N, C), the class token before the N patches of each frame.
Source: "Is Space-Time Attention All You Need for Video Understanding?" (arXiv 2102.05095), section 3.
"""

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.layers.activation_checkpoint import CheckpointedBlock
from slowfast.layers.attention import SelfAttention, as_map
from slowfast.layers.conv import Conv3d
from slowfast.layers.mlp import DropPath, Mlp
from slowfast.models.build import MODEL_REGISTRY, position_embedding_size
from slowfast.models.heads import apply_head
from slowfast.models.tokens import TokenHead, TokenModel, layer_norm
from slowfast.utils.errors import naming_keys
from slowfast.utils.registry import CHOICES

CHOICES["TIMESFORMER.ATTENTION_TYPE"] = ("divided_space_time",)
_POSITIONS = ("cls_token", "pos_embed", "time_embed")


class _FramePatches(nn.Module):
    """Patch embedding of each frame: a convolution whose stride is its kernel.

    Its weight is the published one with an axis of time, (C, 3, 1, P, P).

    Args:
        dim_in, dim: channels.
        patch: side P of a patch in pixels.
    """

    def __init__(self, dim_in: int, dim: int, patch: int):
        super().__init__()
        self.proj = Conv3d(dim_in, dim, (1, patch, patch), (1, patch, patch))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embed a clip: (B, T, h, w, C)."""
        return self.proj(x).permute(0, 2, 3, 4, 1)


class TimeAttention(SelfAttention):
    """Attention of each patch to the patches at its place in all frames: (B, T, N, C) in and out."""

    def temporal_attention(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Attend from queries (B, T, N, C) to keys and values (B, T', N, C) at their place."""
        places = [x.transpose(1, 2).flatten(0, 1) for x in (q, k, v)]
        return self.attention(*places).unflatten(0, (q.shape[0], -1)).transpose(1, 2)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return self.proj_drop(self.proj(self.temporal_attention(*self.qkv(patches).chunk(3, dim=-1))))


class _DividedBlock(CheckpointedBlock):
    """Pre-norm transformer block of temporal attention, spatial attention and an MLP.

    The class token takes part in the spatial attention of every frame; its outputs are averaged over frames.

    Args:
        dim, heads: channels and attention heads.
        mlp_ratio: hidden channels of the MLP over `dim`.
        qkv_bias: bias of the query, key and value projections.
        dropout: rate in each branch.
        drop_path: stochastic depth rate of each branch.
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
        spatial = self.drop_path(self._spatial_attention(first, patches))
        spatial = torch.cat([spatial[:, :, :1].mean(dim=1), spatial[:, :, 1:].flatten(1, 2)], dim=1)
        tokens = torch.cat([first, patches.flatten(1, 2)], dim=1) + spatial
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))

    def _spatial_attention(self, first: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """Attend within each frame, class token included: (B, T, 1 + N, C)."""
        batch, frames = patches.shape[:2]
        frame_tokens = torch.cat([first[:, None].expand(-1, frames, -1, -1), patches], dim=2).flatten(0, 1)
        return self.attn(self.norm1(frame_tokens)).unflatten(0, (batch, frames))


class TimeSformer(TokenModel):
    """TimeSformer: patch embedding, position embeddings of space and time, divided blocks, norm and head.

    State-dict keys are the published ones without their prefix `model.`, with `head.projection` for `head`.

    Args:
        dim_in: channels of the clip.
        size: (T, h, w) of the patches that position embeddings are built for.
        patch: side of a patch in pixels.
        dim: channels of a token.
        blocks: in order.
        head: (B, 1, dim) -> scores.
        dropout: rate after the position embeddings.
        decay_positions: apply weight decay to the class token and the position embeddings.
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
        self.patch_embed = _FramePatches(dim_in, dim, patch)
        self.pos_drop = nn.Dropout(dropout)
        self.time_drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(blocks)
        self.norm = layer_norm(dim)
        self.head, self.num_features = head, head.num_features
        self.in_channels, self.min_size = [dim_in], (1, patch, patch)

    def init_weights(self) -> None:
        """Initialize weights by a truncated normal distribution of deviation 0.02.

        The output of temporal attention starts at zero in all blocks but the first, so that the network starts nearly
        as one of images.
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
        """Return (T, h, w) and the number of prefix tokens of each position embedding, by state-dict key."""
        frames, height, width = self.sizes
        return {"pos_embed": ((1, height, width), 1), "time_embed": ((frames, 1, 1), 0)}

    def token_grids(self, size: tuple[int, int, int]) -> tuple[list[tuple[int, int, int]], int]:
        """Return the grid (T, h, w) of the patches of a clip of `size`, and 1 for the class token."""
        _, patch_height, patch_width = self.min_size
        return [(size[0], size[1] // patch_height, size[2] // patch_width)], 1

    def depth_groups(self) -> list[list[nn.Module]]:
        """Return the layers by depth: patch and position embeddings, blocks, head with the last norm."""
        return [[self.patch_embed, self.own_parameters()], *([block] for block in self.blocks), [self.norm, self.head]]

    def _with_positions(self, patches: torch.Tensor) -> torch.Tensor:
        """Add class token and position embeddings to patches (B, T, h, w, C): (B, 1 + T*h*w, C)."""
        batch, frames, height, width, _ = patches.shape
        space = self.fit_positions(self.pos_embed[:, 1:].unflatten(1, (1, *self.sizes[1:])), (1, height, width))
        time = self.fit_positions(self.time_embed[:, :, None, None], (frames, 1, 1))
        patches = self.time_drop(self.pos_drop(patches + space) + time)
        first = self.pos_drop(self.cls_token + self.pos_embed[:, :1]).expand(batch, -1, -1)
        return torch.cat([first.to(patches.dtype), patches.flatten(1, 3)], dim=1)

    def _tokens(self, inputs: list[torch.Tensor]) -> tuple[torch.Tensor, tuple[int, int, int]]:
        """Compute the tokens after the last norm, and (T, h, w) of the patches."""
        patches = self.patch_embed(inputs[0])
        tokens = self._with_positions(patches)
        for block in self.blocks:
            tokens = block(tokens, patches.shape[1])
        return self.norm(tokens), tuple(patches.shape[1:4])

    def forward_features(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the features [(B, C, T, h, w)] after the last norm, without the class token."""
        tokens, thw = self._tokens(inputs)
        return [as_map(tokens[:, 1:], thw)]

    def forward(self, inputs: list[torch.Tensor], boxes: torch.Tensor | None = None) -> torch.Tensor:
        """Compute scores (B, classes), as in `VideoModel`.

        Args:
            inputs: a list with one clip (B, C, T, H, W).
            boxes: None; the model scores clips only.

        Raises:
            ValueError: boxes are given.
        """
        tokens, _ = self._tokens(inputs)
        return apply_head(self.head, tokens[:, :1], boxes)


@MODEL_REGISTRY.register("TimeSformer")
def build_timesformer(cfg: CfgNode) -> TimeSformer:
    """Build TimeSformer from TIMESFORMER.*, for DATA.NUM_FRAMES and DATA.TRAIN_CROP_SIZE (or MODEL.POSITIONS_FOR).

    Raises:
        ValueError: patches larger than the crop, or DETECTION.ENABLE, for which it has no head.
    """
    options = cfg.TIMESFORMER
    if cfg.DETECTION.ENABLE:
        raise ValueError("DETECTION.ENABLE True: TimeSformer scores clips only; set it False, or use MViT")
    frames, crop = position_embedding_size(cfg)
    side = crop // options.PATCH_SIZE
    if not side:
        raise ValueError(
            f"TIMESFORMER.PATCH_SIZE {options.PATCH_SIZE} exceeds the {crop} pixels of DATA.TRAIN_CROP_SIZE"
        )
    rates = [options.DROPPATH_RATE * i / max(options.DEPTH - 1, 1) for i in range(options.DEPTH)]
    with naming_keys(cfg, "TIMESFORMER.EMBED_DIM", "TIMESFORMER.NUM_HEADS", "TIMESFORMER.DROPPATH_RATE"):
        blocks = [
            _DividedBlock(
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
