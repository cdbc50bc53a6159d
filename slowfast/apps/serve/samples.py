"""Sample videos for models of the synthetic set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slowfast.apps.serve.models import ServedModel
from slowfast.apps.serve.videos import VideoStore
from slowfast.apps.synthetic.files import FPS, encode_video
from slowfast.apps.synthetic.render import CLASS_NAMES, NUM_FRAMES, label_of, render_video

_SIZE = 32  # pixels, as the models were trained
_COUNT = 4


def add_samples(store: VideoStore, models: Sequence[ServedModel], folder: Path) -> None:
    """Make test videos of the set `sweep`, if a model was trained on it and the limits allow their length.

    Args:
        store: gets the videos.
        models: of the server.
        folder: for the files; it is made.
    """
    if store.limits.seconds < NUM_FRAMES / FPS or not any(
        tuple(model.predictor.class_names) == CLASS_NAMES for model in models
    ):
        return
    folder.mkdir()
    for number in range(_COUNT):
        frames, _ = render_video(0, "test", number, _SIZE)
        path = folder / f"sweep_{number}.mp4"
        encode_video(path, frames)
        store.add_sample(path, f"sweep {number + 1}: {CLASS_NAMES[label_of(number)]}.mp4")
