"""The models that the server answers with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slowfast.apps.people.sources import Detector, box_source
from slowfast.apps.predict.predictor import Predictor, load
from slowfast.checkpoint.zoo.entries import find_entry

_ZOO = "zoo://"
PERSONS_EVERY_S = 1.0  # from one moment to the next at which a model of boxes answers


class ServedModel:
    """A model and what viewers are told of it.

    Args:
        name: unique on the server.
        title: for viewers.
        predictor: the model.
        boxes: detector of a model that scores boxes of persons, see `box_source`; "" for none.

    Attributes:
        rate: frames a second that it reads.
        boxes: where it finds persons; None for a model of whole clips.

    Raises:
        ValueError: it scores boxes, and no detector is named, or a file of boxes; or as of `box_source`.
    """

    def __init__(self, name: str, title: str, predictor: Predictor, boxes: str | Detector = "") -> None:
        self.name, self.title, self.predictor = name, title, predictor
        settings, cfg = predictor.stream_settings, predictor.cfg
        self.rate, self.boxes = settings.target_fps / settings.sampling_rate, None
        if cfg.DETECTION.ENABLE:
            if not boxes or (isinstance(boxes, str) and boxes.endswith(".csv")):
                raise ValueError(
                    f"{name} scores boxes of persons (DETECTION.ENABLE True); name a detector that finds them: "
                    "--boxes FILE.onnx, or zoo://NAME"
                )
            self.rate, self.boxes = cfg.AVA.FPS / cfg.DATA.SAMPLING_RATE, box_source(boxes, cfg, PERSONS_EVERY_S)

    def describe(self) -> dict[str, Any]:
        """Return what viewers are told."""
        every_s = PERSONS_EVERY_S
        if not self.boxes:
            session = self.predictor.session(self.rate)
            every_s = (session.window_end_s(101) - session.window_end_s(1)) / 100
        return {
            "name": self.name,
            "title": self.title,
            "classes": self.predictor.class_names,
            "memory": self.has_memory,
            "boxes": self.boxes is not None,
            "rate": self.rate,
            "step_seconds": every_s,
        }

    @property
    def has_memory(self) -> bool:
        """True if viewers may switch its memory. A model of boxes keeps its own, of the clip around a moment."""
        return self.predictor.step_positions is not None and not self.boxes


def load_models(checkpoints: Sequence[str], device: str | None = None, boxes: str = "") -> list[ServedModel]:
    """Load checkpoints, each a file or zoo://NAME; arguments and errors as of `load`, and of `ServedModel`.

    Raises:
        ValueError: boxes are named, and no model scores any.
    """
    models: list[ServedModel] = []
    for checkpoint in checkpoints:
        if checkpoint.startswith(_ZOO):
            name = checkpoint.removeprefix(_ZOO)
            title = f"{name} ({find_entry(name).dataset})"
        else:
            name = title = Path(os.path.abspath(checkpoint)).stem
        same = sum(name == model.name.partition(" #")[0] for model in models)
        number = f" #{same + 1}" if same else ""
        models.append(ServedModel(name + number, title + number, load(checkpoint, device), boxes))
    if boxes and not any(model.boxes for model in models):
        raise ValueError(f"--boxes {boxes} is for models that score boxes of persons, and none of these does")
    return models
