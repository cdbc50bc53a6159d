"""A trained model to call: `load(checkpoint)` returns a `Predictor`, which answers for videos, clips and streams.

A video is the path of a file or of a folder of images, or an array or tensor (T, H, W, 3) uint8, RGB. A picture is
a video of one frame; models of images take arrays (H, W, 3) too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slowfast.apps.people.sources import BoxSource, Detector, box_source
from slowfast.apps.predict.live import LiveSource
from slowfast.apps.predict.live_answers import LiveAnswers
from slowfast.apps.predict.people import PeopleAnswer, people_answers
from slowfast.apps.predict.pool import StreamPool
from slowfast.apps.predict.scorer import Answer, Scorer, Video, name_of
from slowfast.apps.predict.session import StreamSession
from slowfast.checkpoint.io import list_class_names, load_checkpoint
from slowfast.checkpoint.weights import load_weights
from slowfast.datasets.clips.streaming import ClipWindows, StepWindows
from slowfast.datasets.loading.batch import Batch
from slowfast.datasets.video.limits import MediaLimits
from slowfast.datasets.video.timing import Timeline
from slowfast.engine.ema import weights_to_test
from slowfast.engine.model_setup import ModelSetup, setup_model
from slowfast.engine.resume import checkpoint_config
from slowfast.evaluation.report import read_class_names
from slowfast.models import build_model
from slowfast.runtime.device import find_device
from slowfast.utils.errors import check_choice

_FULL_PRECISION = "fp32"
_DTYPES = {torch.float32: _FULL_PRECISION, torch.bfloat16: "bf16", torch.float16: "fp16"}


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


class Predictor(Scorer):
    """A `Scorer` that answers for videos. Nothing of one call is remembered in the next."""

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
            raise ValueError(
                f"this model scores images, and {name_of(video)} has {frames} frames: call clips or stream"
            )
        clips = self.dataset.maker(self.settings, open_video, self.dataset.sampling)
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
        return StreamSession(self, fps, stride, top)

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
        return people_answers(self, name_of(video), opener, source, top)

    def _clip_scores(self, inputs: list[Tensor]) -> Tensor:
        """Return the scores (B, classes) of clips, on the CPU; ValueError if they are NaN or infinite."""
        count = len(inputs[0])
        numbers = torch.arange(count)
        prediction = self.predict(Batch(inputs, torch.zeros_like(numbers), numbers, torch.zeros_like(numbers)))
        return prediction.scores / prediction.summed


def _dtype_overrides(dtype: str | torch.dtype | None) -> list[Any]:
    if dtype is None:
        return []
    name = _DTYPES.get(dtype, str(dtype))
    check_choice("dtype", name, list(_DTYPES.values()))
    if name == _FULL_PRECISION:
        return ["TRAIN.MIXED_PRECISION", False]
    return ["TRAIN.MIXED_PRECISION", True, "TRAIN.MIXED_PRECISION_DTYPE", name]


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
