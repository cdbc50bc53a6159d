"""Framework for training video models. `slowfast.load` returns a trained one to call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slowfast import compat

if TYPE_CHECKING:
    from slowfast.apps.predict.predictor import Predictor

__all__ = ["load"]

compat.install()


def load(path: Any, **options: Any) -> Predictor:
    """Load a trained model to call; see `slowfast.apps.predict.predictor.load`."""
    from slowfast.apps.predict.predictor import load  # late: it imports most of the framework

    return load(path, **options)
