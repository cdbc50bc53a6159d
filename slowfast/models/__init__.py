"""Video models. `build_model(cfg)` is the way in."""

from slowfast.models.build import MODEL_ADAPTERS, MODEL_REGISTRY, build_model

__all__ = ["MODEL_ADAPTERS", "MODEL_REGISTRY", "build_model"]
