"""The models that the server answers with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slowfast.apps.predict.predictor import Predictor, load
from slowfast.checkpoint.zoo.entries import find_entry

_ZOO = "zoo://"


class ServedModel:
    """A model and what viewers are told of it.

    Args:
        name: unique on the server.
        title: for viewers.
        predictor: the model.

    Raises:
        ValueError: it scores boxes of persons.
    """

    def __init__(self, name: str, title: str, predictor: Predictor) -> None:
        if predictor.cfg.DETECTION.ENABLE:
            raise ValueError(
                f"{name} scores boxes of persons (DETECTION.ENABLE True), which the page does not show; "
                "tools/predict.py --boxes answers with it"
            )
        self.name, self.title, self.predictor = name, title, predictor
        settings = predictor.stream_settings
        self.rate = settings.target_fps / settings.sampling_rate

    def describe(self) -> dict[str, Any]:
        """Return what viewers are told."""
        session = self.predictor.session(self.rate)
        return {
            "name": self.name,
            "title": self.title,
            "classes": self.predictor.class_names,
            "memory": self.predictor.step_positions is not None,
            "boxes": False,
            "rate": self.rate,
            "step_seconds": (session.window_end_s(101) - session.window_end_s(1)) / 100,
        }


def load_models(checkpoints: Sequence[str], device: str | None = None) -> list[ServedModel]:
    """Load checkpoints, each a file or zoo://NAME; arguments and errors as of `load`, and of `ServedModel`."""
    models: list[ServedModel] = []
    for checkpoint in checkpoints:
        if checkpoint.startswith(_ZOO):
            name = checkpoint.removeprefix(_ZOO)
            title = f"{name} ({find_entry(name).dataset})"
        else:
            name = title = Path(os.path.abspath(checkpoint)).stem
        same = sum(name == model.name.partition(" #")[0] for model in models)
        number = f" #{same + 1}" if same else ""
        models.append(ServedModel(name + number, title + number, load(checkpoint, device)))
    return models
