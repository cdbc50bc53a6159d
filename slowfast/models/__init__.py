"""Video models. `build_model(cfg)` is the way in."""

from slowfast.models import build_mvit, build_regnet, build_timesformer, build_x3d  # noqa: F401 (they register theirs)
from slowfast.models.build import MODEL_ADAPTERS, MODEL_REGISTRY, build_model

__all__ = ["MODEL_ADAPTERS", "MODEL_REGISTRY", "build_model"]
