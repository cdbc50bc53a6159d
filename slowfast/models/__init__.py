"""Video models. `build_model(cfg)` is the way in."""

from slowfast.models import mvit, regnet, resnet, slowfast, timesformer, x3d  # noqa: F401 (they register theirs)
from slowfast.models.base import VideoModel
from slowfast.models.registry import MODEL_ADAPTERS, MODEL_REGISTRY, build_model

__all__ = ["MODEL_ADAPTERS", "MODEL_REGISTRY", "VideoModel", "build_model"]
