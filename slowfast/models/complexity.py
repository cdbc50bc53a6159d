"""Parameters and multiply-adds of a configuration's model, counted on the meta device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from fvcore.common.config import CfgNode
from torch.utils.flop_counter import FlopCounterMode

from slowfast.config.resolve import num_pathways
from slowfast.layers.conv import use_plain_convolutions
from slowfast.models.build import MODEL_REGISTRY


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

    PyTorch's FlopCounterMode counts attention, which fvcore's FlopCountAnalysis does not.

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
            model(inputs, *boxes)
    return _Complexity(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)


def _frames(cfg: CfgNode) -> list[int]:
    """Return the frames of a clip, for each pathway; where ALPHA does not divide a clip of steps, without the rest."""
    frames, alpha = cfg.DATA.NUM_FRAMES, cfg.SLOWFAST.ALPHA
    return [frames] if num_pathways(cfg) == 1 else [frames // alpha, frames // alpha * alpha]
