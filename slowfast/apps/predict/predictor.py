"""A trained model to call: `load(checkpoint)` returns a `Predictor`, which answers for videos, clips and streams.

A video is the path of a file or of a folder of images, or an array or tensor (T, H, W, 3) uint8, RGB. A picture is
a video of one frame; models of images take arrays (H, W, 3) too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from slowfast.apps.people.sources import BoxSource, Detector, box_source
from slowfast.apps.predict.live import LiveSource
from slowfast.apps.predict.live_answers import LiveAnswers
from slowfast.apps.predict.people import PeopleAnswer, people_answers
from slowfast.apps.predict.pool import StreamPool
from slowfast.apps.predict.session import StreamSession
from slowfast.checkpoint.io import list_class_names, load_checkpoint
from slowfast.checkpoint.weights import load_weights
from slowfast.datasets.build import clip_class
from slowfast.datasets.clips.streaming import Chunk, ClipWindows, FrameIndices, StepWindows, StreamingDataset
from slowfast.datasets.clips.temporal_sampling import SpanSampling
from slowfast.datasets.loading.batch import Batch
from slowfast.datasets.video.cache import ArrayVideo
from slowfast.datasets.video.find import VideoOpener
from slowfast.datasets.video.limits import MediaLimits
from slowfast.datasets.video.open import video_opener
from slowfast.datasets.video.reader import VideoError, VideoReader
from slowfast.datasets.video.timing import Timeline
from slowfast.engine.ema import weights_to_test
from slowfast.engine.model_setup import ModelSetup, setup_model
from slowfast.engine.optim_step import autocast, autocast_dtype
from slowfast.engine.resume import checkpoint_config
from slowfast.engine.task import build_classifying_task
from slowfast.evaluation.evaluators import Prediction
from slowfast.evaluation.finite import check_finite
from slowfast.evaluation.report import read_class_names
from slowfast.models import build_model
from slowfast.runtime.device import find_device
from slowfast.utils.errors import check_choice

Video = str | os.PathLike | np.ndarray | Tensor

_FULL_PRECISION = "fp32"
_DTYPES = {torch.float32: _FULL_PRECISION, torch.bfloat16: "bf16", torch.float16: "fp16"}


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
        best = ", ".join(f"{name} {score:.3f}" for name, score in zip(self.names, self.scores, strict=True))
        return f"{self.start_s:.2f} to {self.end_s:.2f} s: {best}"


def load(
    path: str | os.PathLike,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    classes: str | os.PathLike | Sequence[str] | None = None,
    overrides: Sequence[Any] = (),
) -> Predictor:
    """Load a trained model, with its config, projects and class names, from one file.

    Args:
        path: checkpoint file, or `zoo://NAME`. It must hold its config, as files that are written here do.
        device: such as "cpu" or "cuda:1"; None for the GPU if there is one.
        dtype: "fp32", "bf16" or "fp16", or PyTorch's dtype, of the model's calls; None for that of its training.
        classes: class names, or a file of them (see `read_class_names`), in place of those in the checkpoint.
        overrides: KEY, VALUE, ... of the config, such as `["TEST.NUM_ENSEMBLE_VIEWS", 1]`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or holds no config; class names do not fit; no such device or dtype.
        DownloadError: a file of the zoo cannot be downloaded.
    """
    path = os.fspath(path)
    saved = load_checkpoint(path)
    cfg = checkpoint_config(saved, path, [*_dtype_overrides(dtype), *overrides])
    place = find_device(device)
    model = build_model(cfg)
    load_weights(model, weights_to_test(saved, cfg.EMA.ENABLE, path), path, strict=cfg.TEST.CHECKPOINT_STRICT)
    setup_model(model, place, ModelSetup.from_config(cfg), training=False).eval().requires_grad_(False)
    return Predictor(model, cfg, place, _class_names(classes, saved, cfg))


class Predictor:
    """A model that answers for videos. Nothing of one call is remembered in the next.

    Args:
        model: set up and in eval mode, on `device`.
        cfg: its config.
        device: of the model.
        class_names: one name per output of the model.

    Attributes:
        model, cfg, device, class_names: see above.
        scored: numbers of the outputs among which an answer's best are: all; of a model of boxes those with a name, if
            any has one (AVA names 60 of 80).
        of_images: the model scores images, and each picture or frame on its own.
        settings: how clips are made of a video; `settings.facts()` describes it for other programs.
        stream_settings: the same for streams, which have one crop, the center.
        step_positions: steps of a stream, see `Task.stream_steps`; None for a model that reads clips.
        task, dtype: of the calls of the model; the dtype is None for full precision, see `autocast`.
    """

    def __init__(self, model: nn.Module, cfg: Any, device: torch.device, class_names: Sequence[str]) -> None:
        self.model, self.cfg, self.device, self.class_names = model, cfg, device, list(class_names)
        self.scored = list(range(len(self.class_names)))
        if cfg.DETECTION.ENABLE:
            self.scored = [number for number in self.scored if self.class_names[number] != str(number)] or self.scored
        self._clips = clip_class(cfg.TEST.DATASET)
        self.of_images = self._clips.unit == "images"
        self.settings = self._clips.clip_settings(cfg, "test")
        self.task, self.dtype = build_classifying_task(cfg), autocast_dtype(cfg)
        self.step_positions = None if self.task.stream_steps(1) is None else self.task.stream_steps
        self.stream_settings = self._clips.clip_settings(_one_crop(cfg), "test")
        self._maker = self._clips.maker(self.stream_settings, video_opener(cfg), SpanSampling())

    @torch.no_grad()
    def __call__(self, video: Video, top: int = 5, fps: float | None = None) -> Answer:
        """Answer for a whole video, as a test does: the mean (or, by `DATA.ENSEMBLE_METHOD`, the maximum) of its views.

        Args:
            video: see the module; of an array and of a folder of images `fps` is the rate.
            top: number of best classes in the answer.
            fps: frames a second; None for `DATA.TARGET_FPS`.

        Raises:
            VideoError: the video cannot be read.
            ValueError: an array of another shape or type, scores that are NaN or infinite, a model of boxes, or a
                model of images and several frames.
        """
        self.check_kind(boxes=False)
        open_video = self.opener(video, fps)
        with open_video("") as reader:
            frames = reader.num_frames
        if self.of_images and frames > 1:
            raise ValueError(f"this model scores images, and {_name(video)} has {frames} frames: call clips or stream")
        clips = self._clips.maker(self.settings, open_video, self._clips.sampling)
        views = range(self.settings.num_views)
        scores = torch.cat([self._clip_scores([x[None] for x in clips.view_clip("", view).inputs]) for view in views])
        joined = scores.amax(dim=0) if self.cfg.DATA.ENSEMBLE_METHOD == "max" else scores.mean(dim=0)
        with open_video("") as reader:
            ((start, end),) = Timeline.of(reader).spans(np.array([0]), np.array([reader.num_frames - 1])).tolist()
        return self.answer(start, end, joined, top)

    def clips(self, video: Video, top: int = 5, fps: float | None = None) -> list[Answer]:
        """Answer for each of the consecutive clips that cover a video, each on its own; arguments as of a call.

        The last clip is moved back to end with the video.
        """
        return list(self.each_clip(video, top, fps))

    def each_clip(self, video: Video, top: int = 5, fps: float | None = None) -> Iterator[Answer]:
        """Yield the answers of `clips`, as the video is read; arguments as of a call."""
        self.check_kind(boxes=False)
        for chunk in self.chunks(video, fps, ClipWindows(self.stream_settings)):
            yield self.answer(*chunk.times[0], self._clip_scores(chunk.inputs)[0], top)

    def stream(self, video: Video, top: int = 5, fps: float | None = None) -> Iterator[Answer]:
        """Yield the answers over a video from its start, as it is read; arguments as of a call.

        A model that reads in steps answers after each step, with the memory of all steps before. A clip model answers
        for each clip, as `clips`. Memory does not grow with the video.
        """
        self.check_kind(boxes=False)
        settings, steps = self.stream_settings, self.step_positions
        windows = StepWindows(settings, steps) if steps else ClipWindows(settings)
        memory = None
        for chunk in self.chunks(video, fps, windows):
            scores, memory = self.step_scores(chunk.inputs, memory)
            yield self.answer(*chunk.times[0], scores[0], top)

    def session(self, fps: float | None = None, stride: float = 0.0, top: int = 5) -> StreamSession:
        """Start a stream whose frames are pushed as they come; see `StreamSession`. `fps`: as of a call."""
        self.check_kind(boxes=False)
        return StreamSession(self, self.settings.target_fps if fps is None else fps, stride, top)

    def live(
        self, source: str | LiveSource, top: int = 5, fps: float | None = None, stride: float = 0.0
    ) -> LiveAnswers:
        """Answer about a camera, an address or standard input, as its frames come; see `LiveAnswers`.

        Args:
            source: a live source, or the address of one, see `LiveSource`.
            top: number of best classes in an answer.
            fps: frames a second for the model; None for the rate that the source claims, or else `DATA.TARGET_FPS`.
            stride: as of a session.

        Raises:
            VideoError: the source cannot be opened; or, while answers are taken, it cannot be read any more.
            ValueError: no such kind of source, or a rate or stride that is impossible.
        """
        self.check_kind(boxes=False)
        if isinstance(source, str):
            source = LiveSource(source, limits=MediaLimits.from_config(self.cfg))
        try:
            return LiveAnswers(self, source, fps, stride, top)
        except ValueError:
            source.close()
            raise

    def pool(self, max_streams: int, max_batch: int = 32, max_waiting: int = 4) -> StreamPool:
        """Answer about many streams at once; see `StreamPool`."""
        self.check_kind(boxes=False)
        return StreamPool(self, max_streams, max_batch, max_waiting)

    def people(
        self,
        video: Video,
        boxes: str | os.PathLike | Detector | BoxSource,
        every: float | None = None,
        top: int = 5,
        fps: float | None = None,
        least_score: float | None = None,
    ) -> Iterator[PeopleAnswer]:
        """Answer about the persons in a video, moment by moment, as a test on AVA does. For models that score boxes.

        A file of boxes names moments; a detector is asked once a second. A model that reads in steps reads the clip
        around a moment in steps, with memory. The boxes of a file name the video by its file without the suffix.

        Args:
            video, top, fps: as of a call.
            boxes, every, least_score: see `box_source`.

        Raises:
            VideoError: the video cannot be read.
            ValueError: see `box_source`; or a model of whole clips.
        """
        self.check_kind(boxes=True)
        source = box_source(boxes, self.cfg, every, least_score)
        opener = self.opener(video, self.cfg.AVA.FPS if fps is None else fps)
        return people_answers(self, _name(video), opener, source, top)

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
                raise VideoError(_name(video), chunk.cause)
            yield chunk

    def _clip_scores(self, inputs: list[Tensor]) -> Tensor:
        """Return the scores (B, classes) of clips, on the CPU; ValueError if they are NaN or infinite."""
        count = len(inputs[0])
        numbers = torch.arange(count)
        prediction = self.predict(Batch(inputs, torch.zeros_like(numbers), numbers, torch.zeros_like(numbers)))
        return prediction.scores / prediction.summed

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


def _dtype_overrides(dtype: str | torch.dtype | None) -> list[Any]:
    if dtype is None:
        return []
    name = _DTYPES.get(dtype, str(dtype))
    check_choice("dtype", name, list(_DTYPES.values()))
    if name == _FULL_PRECISION:
        return ["TRAIN.MIXED_PRECISION", False]
    return ["TRAIN.MIXED_PRECISION", True, "TRAIN.MIXED_PRECISION_DTYPE", name]


def _one_crop(cfg: Any) -> Any:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.NUM_SPATIAL_CROPS = 1
    cfg.freeze()
    return cfg


def _class_names(classes: str | os.PathLike | Sequence[str] | None, saved: Mapping[str, Any], cfg: Any) -> list[str]:
    """Return one name per class: the ones given, else those in the checkpoint, else the numbers.

    Ids of a label map count from 1. A model of boxes may have outputs without a name, as AVA has.

    Raises:
        ValueError: another number of names is given.
    """
    count = cfg.MODEL.NUM_CLASSES
    if classes is None:
        return list_class_names(saved, count)
    if not isinstance(classes, (str, os.PathLike)):
        given = dict(enumerate(classes))
    else:
        given = read_class_names(os.fspath(classes))
        if os.fspath(classes).endswith((".pbtxt", ".prototxt")):
            given = {number - 1: name for number, name in given.items()}
    unknown = given.keys() ^ set(range(count))
    if (unknown - set(range(count))) if cfg.DETECTION.ENABLE else unknown:
        raise ValueError(f"{len(given)} class names are given, and the model has {count} classes; give one for each")
    return [given.get(number, str(number)) for number in range(count)]


def _name(video: Video) -> str:
    return os.fspath(video) if isinstance(video, (str, os.PathLike)) else "array"
