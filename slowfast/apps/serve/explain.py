"""Evidence for an answer, found in an upload that is decoded in a process of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from slowfast.apps.serve.decoder import DecodingLimits, decode
from slowfast.apps.serve.feeds import collect
from slowfast.apps.serve.limits import RefusedError
from slowfast.apps.serve.models import ServedModel
from slowfast.apps.serve.videos import VideoStore
from slowfast.apps.visualize.evidence import evidence
from slowfast.apps.visualize.evidence_files import as_dict
from slowfast.utils.errors import short

_MOST_MAPS = 24  # frames with a picture of their heat: those with most evidence


def find_evidence(
    model: ServedModel, store: VideoStore, limits: DecodingLimits, video: str, step: int, label: str | int
) -> dict[str, Any]:
    """Return the evidence for a class at a step of a video, as the API tells it.

    Raises:
        RefusedError: no such video (404), step or class (400); the video cannot be read, or is too long (400).
    """
    predictor = model.predictor
    if model.boxes:
        raise RefusedError(400, f"the model {model.name} scores boxes of persons, and evidence is for whole clips")
    try:
        with store.in_use(video) as found, decode(found.path, limits, fps=predictor.settings.target_fps) as decoded:
            fps = decoded.facts.fps
            # Windows after this one have no say, but the end of the video does where the last clip is moved back.
            count = round(predictor.session(fps).window_end_s(step + 1) * fps) + 1
            frames = collect((pixels for _, pixels in decoded), fps, count)
        result = evidence(predictor, frames, label, step, fps=fps)
    except ValueError as error:
        raise RefusedError(400, short(error, 300)) from None
    best = sorted(np.argsort([-frame.value for frame in result.frames], kind="stable")[:_MOST_MAPS].tolist())
    shown = replace(
        result,
        frames=[result.frames[place] for place in best],
        maps=result.maps[best],
        pictures=result.pictures[best],
    )
    maps = {frame["frame"]: frame["map"] for frame in as_dict(shown, pictures=True)["frames"]}
    told = as_dict(result)
    told["frames"] = [{**frame, "map": maps.get(frame["frame"])} for frame in told["frames"]]
    return {"classes": result.name, **told}
