"""The registries of models, and the way from a configuration to a model."""

from fvcore.common.config import CfgNode
from torch import nn

from slowfast.models.base import VideoModel
from slowfast.models.parts import is_alone, norm_type
from slowfast.runtime.logging import get_logger
from slowfast.utils.registry import Registry

logger = get_logger(__name__)

# Builders of clip models: builder(cfg) -> nn.Module. `num_pathways` is the number of frame streams it takes,
# `archs` the values of MODEL.ARCH that it reads, () for a model that does not read the key.
MODEL_REGISTRY = Registry("MODEL.MODEL_NAME", facts={"num_pathways": 1, "archs": ()})

# What a project makes of a built clip model: adapter(model, cfg) -> nn.Module.
MODEL_ADAPTERS = Registry("MODEL.ADAPTER", several=True)


def build_model(cfg: CfgNode) -> nn.Module:
    """Build the model of a configuration, on the CPU, with fresh weights.

    `model(inputs)` takes one clip (B, 3, T, H, W) a pathway and gives (B, MODEL.NUM_CLASSES): logits in train mode,
    class scores in eval mode. With DETECTION.ENABLE `model(inputs, boxes)` takes boxes (N, 5) too, index in the batch,
    x1, y1, x2, y2 in pixels of the clip, and gives (N, MODEL.NUM_CLASSES), class scores in both modes. With
    MODEL.ADAPTER set the project that set it says what the model takes and gives.

    Raises:
        ValueError: MODEL.MODEL_NAME or MODEL.ADAPTER is not registered; what it builds is no `VideoModel`; or a setting
            of the model is inconsistent.
    """
    if norm_type(cfg) == "sync_batchnorm" and is_alone(cfg):
        logger.info("BN.NORM_TYPE sync_batchnorm is built as batchnorm: one process has nobody to synchronize with")
    model = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME)(cfg)
    if not isinstance(model, VideoModel):
        raise ValueError(
            f"MODEL.MODEL_NAME {cfg.MODEL.MODEL_NAME!r} builds a {type(model).__name__}; derive that from "
            "slowfast.models.VideoModel"
        )
    for name in MODEL_ADAPTERS.names(cfg.MODEL.ADAPTER):
        model = MODEL_ADAPTERS.get(name)(model, cfg)
    return model
