"""What answers are made of: a model's scores for clips and steps of a video, with the names of its classes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from slowfast.datasets.build import clip_class
from slowfast.datasets.clips.streaming import Chunk, FrameIndices, StreamingDataset
from slowfast.datasets.clips.temporal_sampling import SpanSampling
from slowfast.datasets.loading.batch import Batch
from slowfast.datasets.video.cache import ArrayVideo
from slowfast.datasets.video.find import VideoOpener
from slowfast.datasets.video.open import video_opener
from slowfast.datasets.video.reader import VideoError, VideoReader
from slowfast.engine.optim_step import autocast, autocast_dtype
from slowfast.engine.task import build_task, check_classes
from slowfast.evaluation.finite import check_finite
from slowfast.evaluation.prediction import Prediction

Video = str | os.PathLike | np.ndarray | Tensor
"""A path, or an array (T, H, W, 3) uint8, RGB."""


@dataclass(frozen=True)
class Answer:
    """Scores of a span of a video.

    Attributes:
        start_s, end_s: start of its first frame and end of its last, in seconds of the video.
        scores: (n,) float32, best first; probabilities where the model's activation gives them.
        names: n class names, in the same order; a class without a name is named by its number.
        all_scores: (classes,) float32, in the order of the model's outputs.
    """

    start_s: float
    end_s: float
    scores: np.ndarray
    names: list[str]
    all_scores: np.ndarray = field(repr=False)

    def __str__(self) -> str:
        return f"{self.start_s:.2f} to {self.end_s:.2f} s: {in_words(self.names, self.scores)}"


def in_words(names: Sequence[str], scores: Sequence[float] | np.ndarray) -> str:
    """Return classes with their scores as text, in the order given."""
    return ", ".join(f"{name} {score:.3f}" for name, score in zip(names, scores, strict=True))


class Scorer:
    """A trained model that scores frames of videos, with its config and class names.

    Args:
        model: set up and in eval mode, on `device`.
        cfg: its config.
        device: of the model.
        class_names: one name per output of the model.

    Attributes:
        model, cfg, device, class_names: see above.
        scored: numbers of the outputs among which an answer's best are: all; of a model of boxes those with a name, if
            any has one (AVA names 60 of 80).
        dataset: class of the data set whose clips it scores, see `clip_class`.
        of_images: the model scores images, and each picture or frame on its own.
        settings: how clips are made of a video; `settings.facts()` describes it for other programs.
        stream_settings: the same for streams, which have one crop, the center.
        step_positions: steps of a stream, see `Task.stream_steps`; None for a model that reads clips.
        task, dtype: of the calls of the model; the dtype is None for full precision, see `autocast`.
    """

    def __init__(self, model: nn.Module, cfg: Any, device: torch.device, class_names: Sequence[str]) -> None:
        check_classes(cfg)
        self.model, self.cfg, self.device, self.class_names = model, cfg, device, list(class_names)
        self.scored = list(range(len(self.class_names)))
        if cfg.DETECTION.ENABLE:
            self.scored = [number for number in self.scored if self.class_names[number] != str(number)] or self.scored
        self.dataset = clip_class(cfg.TEST.DATASET)
        self.of_images = self.dataset.unit == "images"
        self.settings = self.dataset.clip_settings(cfg, "test")
        self.task, self.dtype = build_task(cfg), autocast_dtype(cfg)
        self.step_positions = None if self.task.stream_steps(1) is None else self.task.stream_steps
        self.stream_settings = self.dataset.clip_settings(_one_crop(cfg), "test")
        self._maker = self.dataset.maker(self.stream_settings, video_opener(cfg), SpanSampling())

    def check_kind(self, boxes: bool) -> None:
        """Raise ValueError if the model scores boxes and a method for clips is called, or the reverse."""
        if self.cfg.DETECTION.ENABLE and not boxes:
            raise ValueError(
                "this model scores boxes of persons (DETECTION.ENABLE True): call people(video, boxes), or "
                "tools/predict.py with --boxes"
            )
        if boxes and not self.cfg.DETECTION.ENABLE:
            raise ValueError(
                "this model scores whole clips (DETECTION.ENABLE False): call it without boxes; people takes a model "
                "that was trained on boxes"
            )

    def chunks(
        self, video: Video, fps: float | None, windows: Callable[[int, float], list[FrameIndices]]
    ) -> Iterator[Chunk]:
        """Yield the windows of a video one by one.

        Raises:
            VideoError: the video cannot be read; of a damaged one the windows before the fault come first.
        """
        open_video = self.opener(video, fps)
        for chunk in StreamingDataset([""], [0], open_video, windows, self._maker, windows_per_chunk=1):
            if chunk.cause:
                raise VideoError(name_of(video), chunk.cause)
            yield chunk

    @torch.no_grad()
    def predict(self, batch: Batch) -> Prediction:
        """Return the prediction of a test for a batch, on the CPU; ValueError if scores are NaN or infinite."""
        with autocast(self.device, self.dtype):
            prediction = self.task.predict(self.model, batch.to(self.device)).on_cpu()
        _finite(prediction.scores)
        return prediction

    @torch.no_grad()
    def step_scores(self, inputs: list[Tensor], memory: Any) -> tuple[Tensor, Any]:
        """Return the scores (B, classes) of a window of streams, on the CPU, and the memory after it.

        Args:
            inputs: (B, 3, T, H, W), one per pathway.
            memory: result of the call for the window before; None for the first.
        """
        scores, memory = self._step(inputs, memory)
        return _finite(scores), memory

    @torch.no_grad()
    def joined_scores(self, inputs: Sequence[list[Tensor]], memories: Sequence[Any]) -> tuple[Tensor, list[Any]]:
        """Return the scores (B, classes) of a window of each of B streams, on the CPU, and each one's memory after it.

        One forward computes all. Scores may be NaN or infinite.

        Args:
            inputs: B times inputs (1, 3, T, H, W), one per pathway.
            memories: results of the calls for the windows before; None for the first.
        """
        joined = [torch.cat(pathway) for pathway in zip(*inputs, strict=True)]
        scores, memory = self._step(joined, self.task.join_memories(memories))
        return scores, self.task.split_memory(memory, len(inputs))

    def _step(self, inputs: list[Tensor], memory: Any) -> tuple[Tensor, Any]:
        with autocast(self.device, self.dtype):
            scores, memory = self.task.predict_step(self.model, [x.to(self.device) for x in inputs], memory)
        return scores.float().cpu(), memory

    def prepare(self, frames: np.ndarray) -> Tensor:
        """Return frames (T, H, W, 3) uint8 as the model reads them, resized, cropped and normalized: (3, T, H', W')."""
        video, window = ArrayVideo(frames, self.settings.target_fps), [range(len(frames))]
        (((clip,),),) = self._maker.window_crops(video, [window])
        return clip

    def answer(self, start: float, end: float, scores: Tensor, top: int) -> Answer:
        """Make the answer of scores (classes,) for a span of seconds."""
        values = scores.numpy()
        order = np.argsort(-values, kind="stable")
        best = order[np.isin(order, self.scored)][: max(top, 0)]
        return Answer(start, end, values[best], [self.class_names[number] for number in best], values)

    def opener(self, video: Video, fps: float | None) -> Callable[[str], VideoReader]:
        """Return a function that opens the video, whatever path it is given."""
        rate = self.settings.target_fps if fps is None else fps
        if isinstance(video, (str, os.PathLike)):
            open_path = VideoOpener.from_config(self.cfg, rate)
            return lambda _: open_path(os.fspath(video))
        frames = np.asarray(video)
        array = ArrayVideo(frames[None] if self.of_images and frames.ndim == 3 else frames, rate)
        return lambda _: array


def _finite(scores: Tensor) -> Tensor:
    check_finite(scores.numpy(), "clips", lambda number: f"clip {number}")
    return scores


def _one_crop(cfg: Any) -> Any:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.NUM_SPATIAL_CROPS = 1
    cfg.freeze()
    return cfg


def name_of(video: Video) -> str:
    return os.fspath(video) if isinstance(video, (str, os.PathLike)) else "array"
