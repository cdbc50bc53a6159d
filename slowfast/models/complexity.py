"""Parameters and multiply-adds of a configuration's model, counted on the meta device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from fvcore.common.config import CfgNode
from torch.utils.flop_counter import FlopCounterMode

from slowfast.config.resolve import num_pathways
from slowfast.layers.conv import use_plain_convolutions
from slowfast.models.build import MODEL_REGISTRY
from slowfast.models.masked import MaskMViT
from slowfast.models.masks import random_mask


@dataclass(frozen=True)
class _Complexity:
    """Parameters and multiply-adds of a model.

    Attributes:
        parameters: number of learnable parameters.
        multiply_adds: of convolutions and matrix products, for one clip; papers call them FLOPs.
    """

    parameters: int
    multiply_adds: int

    def __str__(self) -> str:
        return f"{self.parameters / 1e6:.2f} M parameters, {self.multiply_adds / 1e9:.2f} GFLOPs a clip (multiply-adds)"


def complexity(cfg: CfgNode, crop: int | None = None) -> _Complexity:
    """Count parameters and multiply-adds of a clip model, for one clip of DATA.NUM_FRAMES frames.

    PyTorch's FlopCounterMode counts attention, which fvcore's FlopCountAnalysis does not. Of a masked model
    these are encoder and decoder of pre-training under AUG.MASK_RATIO, without the targets.

    Args:
        crop: pixels of the clip's sides; None for DATA.TRAIN_CROP_SIZE.
    """
    crop = crop or cfg.DATA.TRAIN_CROP_SIZE
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        model = use_plain_convolutions(MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME)(cfg)).eval()
        inputs = [
            torch.empty(1, channels, frames, crop, crop)
            for channels, frames in zip(cfg.DATA.INPUT_CHANNEL_NUM, _frames(cfg), strict=True)
        ]
        boxes = [torch.tensor([[0.0, 0.0, 0.0, crop, crop]])] if cfg.DETECTION.ENABLE else []
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            if isinstance(model, MaskMViT):
                grid = model.token_grids((cfg.DATA.NUM_FRAMES, crop, crop))[0][-1]
                # How many tokens are computed depends on the values of the mask, and the meta device has none.
                model.decode(
                    model.patch_embed(inputs[0]), random_mask(1, grid, cfg.AUG.MASK_RATIO, device=torch.device("cpu"))
                )
            else:
                model(inputs, *boxes)
    return _Complexity(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)


def _frames(cfg: CfgNode) -> list[int]:
    """Return the frames of a clip, for each pathway; where ALPHA does not divide a clip of steps, without the rest."""
    frames, alpha = cfg.DATA.NUM_FRAMES, cfg.SLOWFAST.ALPHA
    return [frames] if num_pathways(cfg) == 1 else [frames // alpha, frames // alpha * alpha]
