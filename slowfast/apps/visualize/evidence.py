"""Evidence for an answer: in which frames, minutes ago, it lies, where in them, and in which memory it was kept.

It is the positive part of the attributions of the frames, see `slowfast.apps.visualize.attribution`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from slowfast.apps.predict.predictor import Predictor
from slowfast.apps.predict.scorer import Video
from slowfast.apps.visualize.attribution import Attributions, Step, StepPath
from slowfast.apps.visualize.clips import clip_frames
from slowfast.apps.visualize.gradcam import grad_cam
from slowfast.datasets.clips.streaming import Chunk, ClipWindows, StepWindows
from slowfast.datasets.video.timing import Timeline
from slowfast.engine.optim_step import autocast
from slowfast.utils.errors import check_choice, nearest_keys

METHODS = ("integrated", "gradient", "grad-cam")
_LAST_STAGE = "s5"  # of residual networks, the layer of Grad-CAM
_SMALLEST = 1e-30  # score whose logarithm is taken
_BLUR = 1 / 16  # standard deviation of the smoothing of a map, as a share of its shorter side


@dataclass(frozen=True)
class StepEvidence:
    """Evidence in a step's frames: its share, `value`, from `start_s` to `end_s` seconds of the video."""

    start_s: float
    end_s: float
    value: float


@dataclass(frozen=True)
class FrameEvidence:
    """Evidence in a frame.

    Attributes:
        index: of the frame in the video, from 0.
        time_s: its time, in seconds of the video.
        value: share of the evidence, 0 to 1.
        attribution: what the frame adds to the score, see `Evidence.change`; negative if it speaks against the class.
    """

    index: int
    time_s: float
    value: float
    attribution: float


@dataclass(frozen=True)
class OperatorEvidence:
    """Evidence that passes through the memory of an operator.

    Attributes:
        name: of the operator, or of the part of the memory.
        steps: for each step the share of all evidence that is in the operator's memory after it. Over operators they
            add up to the evidence of the frames up to this step. 0 for the last step, whose memory nothing reads.
    """

    name: str
    steps: list[float]


@dataclass(frozen=True)
class Evidence:
    """Tell where the evidence for a class at a step lies.

    Attributes:
        label, name: number and name of the class.
        step: number of the step (of a clip model: of the clip), from 0.
        score: of the class at the step.
        steps: the last `EvidenceSettings.most_steps` up to this one, in order; values add up to 1. Of a clip model the
            clip alone.
        left_out: number of steps before them. Their memory is read, but not explained. 0 for a clip model.
        frames: frames of these steps, in order; values add up to 1.
        operators: parts of the memory, in the order in which the model computes them; empty without memory.
        maps: (T, H, W) float32, at least 0; each adds up to its frame's value.
        pictures: (T, H, W, 3) uint8, RGB: the frames as the model sees them, resized and cropped.
        change: what is shared out: the logarithm of the score (or the score itself, of a head without activation) less
            that for a still of the mean frame. With method "integrated" the attributions of the frames add up to it. Of
            Grad-CAM the sum of its maps.
        method: one of `METHODS`.
    """

    label: int
    name: str
    step: int
    score: float
    steps: list[StepEvidence]
    left_out: int
    frames: list[FrameEvidence]
    operators: list[OperatorEvidence]
    maps: np.ndarray = field(repr=False)
    pictures: np.ndarray = field(repr=False)
    change: float
    method: str


@dataclass(frozen=True)
class EvidenceSettings:
    """Say how evidence is computed.

    Attributes:
        method: "integrated" or "gradient", see `StepPath`; or "grad-cam", for clip models.
        points: of the integral. On the demo's videos 32 are within 0.03 of the shares of 256.
        layers: of Grad-CAM, one for each pathway or one for all; () for the last stage of a residual network.
        most_steps: greatest number of steps whose frames are kept.
        wiped: numbers of steps, from 0, before which the memory is emptied. Frames before them then have no evidence.

    Raises:
        ValueError: no such method; no points or steps.
    """

    method: str = METHODS[0]
    points: int = 32
    layers: Sequence[str] = ()
    most_steps: int = 64
    wiped: Collection[int] = ()

    def __post_init__(self) -> None:
        check_choice("the method", self.method, METHODS)
        if self.most_steps < 1 or self.points < 1:
            raise ValueError(
                f"{self.most_steps} steps and {self.points} points of the integral are asked for; both must be 1 or "
                "more"
            )


_USUAL_SETTINGS = EvidenceSettings()


def evidence(
    predictor: Predictor,
    video: Video,
    label: int | str | None = None,
    step: int = -1,
    fps: float | None = None,
    settings: EvidenceSettings = _USUAL_SETTINGS,
) -> Evidence:
    """Find the evidence for a class at a step of a video. The model stays as it is, and may be used meanwhile.

    The first steps of a video longer than `settings.most_steps` have no gradient; see `Evidence.left_out`.

    Args:
        predictor: a model of whole clips; with a memory, its task defines `differentiable_step`.
        video: see `slowfast.apps.predict.predictor`.
        label: number or name of the class; None for the best at this step.
        step: number of the step, or of the clip of a clip model; negative ones count from the end.
        fps: frames a second; None for `DATA.TARGET_FPS`.
        settings: the method, and what of the memory it sees.

    Raises:
        VideoError: the video cannot be read.
        ValueError: no such class, step, or step to wipe before; a model of boxes; a memory without gradients; or no
            frame speaks for the class.
    """
    predictor.check_kind(boxes=False)
    number = None if label is None else _class_number(predictor, label)
    chunks, memory = _windows_up_to(predictor, video, step, fps, settings)
    if outside := [number for number in settings.wiped if not 0 <= number <= chunks[-1].first]:
        raise ValueError(
            f"the memory cannot be wiped before step {outside[0]}: step {chunks[-1].first} is explained, and it can be "
            "wiped before the steps from 0 to this one"
        )
    windows = [[x.to(predictor.device) for x in chunk.inputs] for chunk in chunks]
    resets = [place for place, chunk in enumerate(chunks) if chunk.first in settings.wiped]
    path = StepPath(_step_of(predictor), windows, memory, resets)
    scores = path.scores()
    if number is None:
        number = predictor.scored[int(scores[predictor.scored].argmax())]

    def target(scores: Tensor) -> Tensor:
        picked = scores[:, number]
        return picked if predictor.cfg.MODEL.HEAD_ACT == "none" else picked.clamp(min=_SMALLEST).log()

    if settings.method == "grad-cam":
        found = _grad_cam(predictor, windows[-1], number, settings.layers)
    else:
        found = path.attribute(target, settings.points if settings.method == "integrated" else 0)
    with predictor.opener(video, fps)("") as reader:
        times = Timeline.of(reader).times
    return _join(predictor, chunks, found, times, (number, scores, settings.method))


def _join(
    predictor: Predictor,
    chunks: Sequence[Chunk],
    found: Attributions,
    times: np.ndarray,
    about: tuple[int, Tensor, str],
) -> Evidence:
    """Make the evidence of attributions.

    Args:
        chunks: the windows.
        times: seconds of the video's frames.
        about: number of the class, the scores (classes,) of the last window, and the method.

    Raises:
        ValueError: no frame speaks for the class.
    """
    number, scores, method = about
    name, step, score = predictor.class_names[number], chunks[-1].first, float(scores[number])
    indices, values, maps = _by_frame(chunks, found.pixels)
    positive = values.clip(min=0)
    if not positive.sum() > 0:
        best = predictor.class_names[int(scores.argmax())]
        advice = f"ask about another class, such as {best!r}" if best != name else "nothing in the video changes it"
        raise ValueError(f"no frame speaks for {name!r} at step {step}, where its score is {score:.3g}: {advice}")
    shares = positive / positive.sum()
    by_step = [float(shares[np.isin(indices, _frames_of(chunk))].sum()) for chunk in chunks]
    columns = zip(indices.tolist(), times[indices].tolist(), shares.tolist(), values.tolist(), strict=True)
    return Evidence(
        number,
        name,
        step,
        score,
        [StepEvidence(*chunk.times[0], value) for chunk, value in zip(chunks, by_step, strict=True)],
        chunks[0].first if predictor.step_positions else 0,
        [FrameEvidence(*row) for row in columns],
        _operator_shares(found.conductance, by_step),
        _heat(maps, shares),
        _pictures(predictor, chunks, indices),
        found.change,
        method,
    )


def _grad_cam(predictor: Predictor, inputs: list[Tensor], number: int, layers: Sequence[str]) -> Attributions:
    """Return the maps of Grad-CAM of a clip.

    Raises:
        ValueError: the model reads in steps, or the layers do not fit.
    """
    if predictor.step_positions:
        raise ValueError(
            "Grad-CAM explains a clip, and this model reads in steps: take the method integrated (--memory), which "
            "goes through its memory"
        )
    known = dict(predictor.model.named_children())
    if not layers and _LAST_STAGE not in known:
        raise ValueError(f"Grad-CAM takes the name of a layer (--layer); the model's parts are {', '.join(known)}")
    maps, _ = grad_cam(predictor.model, inputs, layers or [_LAST_STAGE], torch.tensor([number]))
    pixels = [x[0].cpu() for x in maps]
    return Attributions([pixels], [], float(sum(x.sum() for x in pixels)))


def _class_number(predictor: Predictor, label: int | str) -> int:
    """Return the number of a class, given by number or name; ValueError if there is none."""
    names = predictor.class_names
    if isinstance(label, str):
        if label not in names:
            near = ", ".join(nearest_keys(label, names, 3))
            raise ValueError(f"the model has no class {label!r}; the nearest of its {len(names)} classes are {near}")
        return names.index(label)
    if not 0 <= label < len(names):
        raise ValueError(f"class {label} does not exist: the model has {len(names)}, from 0 to {len(names) - 1}")
    return label


def _windows_up_to(
    predictor: Predictor, video: Video, step: int, fps: float | None, settings: EvidenceSettings
) -> tuple[list[Chunk], Any]:
    """Return the windows of a video that have a gradient, up to a step, and the memory in front of the first.

    Raises:
        ValueError: the video has no such step.
    """
    stream, positions = predictor.stream_settings, predictor.step_positions
    windows = StepWindows(stream, positions) if positions else ClipWindows(stream)
    kept: deque[tuple[Chunk, Any]] = deque(maxlen=settings.most_steps if positions else 1)
    memory = None
    for chunk in predictor.chunks(video, fps, windows):
        count = chunk.windows
        if not -count <= step < count:
            raise ValueError(
                f"step {step} does not exist: the video has {count} steps, from 0 to {count - 1}, or from -{count} to "
                "-1, counted from the end"
            )
        memory = None if chunk.first in settings.wiped else memory
        kept.append((chunk, memory))
        if chunk.first == step % count:
            break
        if positions:
            _, memory = predictor.step_scores(chunk.inputs, memory)
    return [chunk for chunk, _ in kept], kept[0][1]


def _step_of(predictor: Predictor) -> Step:
    """Return a function that computes a step, with gradients: (inputs, memory) -> (scores, memory)."""

    def call(inputs: list[Tensor], memory: Any) -> tuple[Tensor, Any]:
        with autocast(predictor.device, predictor.dtype):
            scores, after = predictor.task.differentiable_step(predictor.model, inputs, memory)
        return scores.float(), after

    return call


def _frames_of(chunk: Chunk) -> list[int]:
    """Return the indices of the frames that a window reads, each once."""
    return sorted({index for pathway in chunk.indices[0] for index in pathway})


def _by_frame(chunks: Sequence[Chunk], pixels: list[list[Tensor]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join pathways and repeated frames.

    Returns:
        The indices (T,) of the frames in the video, their attributions (T,), and those of their pixels (T, H, W).
    """
    indices = np.unique([index for chunk in chunks for index in _frames_of(chunk)])
    maps = np.zeros((len(indices), *pixels[0][0].shape[1:]), np.float64)
    for chunk, pathways in zip(chunks, pixels, strict=True):
        for frames, values in zip(chunk.indices[0], pathways, strict=True):
            np.add.at(maps, np.searchsorted(indices, frames), values.numpy())
    return indices, maps.sum(axis=(1, 2)), maps


def _heat(maps: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the smoothed positive part of attributions (T, H, W), each frame scaled to its share."""
    sigma = _BLUR * min(maps.shape[1:])
    # Mirrored at the edges the smoothing keeps the sum. So the positive part of a frame with a share is not 0.
    smooth = [cv2.GaussianBlur(m, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for m in maps]
    positive = np.clip(smooth, 0, None)
    sums = positive.sum(axis=(1, 2), keepdims=True)
    scale = np.divide(shares[:, None, None], sums, out=np.zeros_like(sums), where=sums > 0)
    return (positive * scale).astype(np.float32)


def _pictures(predictor: Predictor, chunks: Sequence[Chunk], indices: np.ndarray) -> np.ndarray:
    """Return the frames as the model sees them, (T, H, W, 3) uint8."""
    seen: dict[int, Tensor] = {}
    for chunk in chunks:
        for frames, clip in zip(chunk.indices[0], chunk.inputs, strict=True):
            seen.update(zip(frames, clip[0].unbind(dim=1), strict=True))
    settings = predictor.stream_settings
    clip = torch.stack([seen[int(index)] for index in indices], dim=1)
    return clip_frames(clip, settings.mean, settings.std, settings.reverse_channels)


def _operator_shares(conductance: list[dict[str, float]], by_step: Sequence[float]) -> list[OperatorEvidence]:
    """Share out the evidence of the frames before each hand-over of memory, by the sizes of the conductances."""
    names = list(dict.fromkeys(name for values in conductance for name in values))
    before, shares = np.cumsum(by_step), []
    for values, share in zip(conductance, before, strict=False):
        sizes = np.array([abs(values.get(name, 0.0)) for name in names])
        shares.append(share * sizes / sizes.sum() if sizes.sum() > 0 else sizes)
    columns = np.array([*shares, np.zeros(len(names))]).T
    return [OperatorEvidence(name, column.tolist()) for name, column in zip(names, columns, strict=True)]
