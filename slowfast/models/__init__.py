"""Video models; `build_model(cfg)` builds them."""

from slowfast.models import (  # noqa: F401 (each registers its builder)
    contrastive,
    masked,
    mvit,
    regnet,
    resnet,
    slowfast,
    timesformer,
    x3d,
)
from slowfast.models.base import VideoModel
from slowfast.models.build import MODEL_ADAPTERS, MODEL_REGISTRY, build_model

__all__ = ["MODEL_ADAPTERS", "MODEL_REGISTRY", "VideoModel", "build_model"]
