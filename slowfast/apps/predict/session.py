"""A stream of frames, pushed as they come: frames in, answers out, with a state that can be saved and continued."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from slowfast.apps.predict.scorer import Answer, Scorer
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.streaming import FrameIndices, StepPositions, StepWindows, pathways_of
from slowfast.datasets.clips.temporal_sampling import clip_span, span_indices
from slowfast.datasets.video.cache import ArrayVideo

_VERSION = 1  # of the state
_PREPARED_AT_A_TIME = 8  # frames; as float32 of full size they are large


class StreamSession:
    """Answers about one stream of frames at a constant rate; `Predictor.session` makes one.

    A model that reads in steps answers as soon as a step is complete, with the memory of all steps before. A clip model
    answers for clips that start every `stride` frames. A frame is transformed once, and only if a window reads it.
    Sessions of one predictor may be interleaved. A `StreamPool` computes many at once; for it `push` comes in parts:
    `receive`, and for each window that is `ready`, its `inputs` and what `arrived`.

    Args:
        scorer: the model.
        fps: frames a second that are pushed; None for `DATA.TARGET_FPS`.
        stride: frames from the start of a clip to that of the next, for clip models; 0 for clips without overlap.
        top: number of best classes in an answer.

    Attributes:
        memory: memory after the windows before; None before the first window, and in clip models.

    Raises:
        ValueError: a rate or stride that is impossible, or a stride for a model that reads in steps.
    """

    def __init__(self, scorer: Scorer, fps: float | None = None, stride: float = 0.0, top: int = 5) -> None:
        fps = scorer.settings.target_fps if fps is None else fps
        if not fps > 0 or not stride >= 0:
            raise ValueError(f"a stream of {fps} frames a second with a stride of {stride} frames is impossible")
        if stride and scorer.step_positions:
            raise ValueError(f"stride is {stride}, but this model reads in steps of a fixed length; leave it out")
        self._scorer, self._fps, self._stride, self._top = scorer, float(fps), float(stride), top
        settings, steps = scorer.stream_settings, scorer.step_positions
        self._windows = _Steps(settings, steps, fps) if steps else _Clips(settings, fps, stride)
        self.reset()

    def reset(self) -> None:
        """Start anew: the next frame is the first of another stream."""
        self._count = 0  # frames so far
        self._number = 0  # of the next window
        self._ended = False
        self.memory: Any = None
        self._frames: dict[int, Tensor] = {}  # frame that windows to come read -> (3, 1, H, W)
        self._last: np.ndarray | None = None  # (1, H, W, 3), which fills up an incomplete window at the end

    def push(self, frames: np.ndarray | Tensor) -> list[Answer]:
        """Take in the next frames, and return the answers that they complete; see `checked`."""
        self.receive(self.checked(frames))
        return self._answers()

    def finish(self) -> list[Answer]:
        """Return the answer for the end of the stream, if there is one.

        A last step that is not complete repeats the last frame, as at the end of a file. So does the first clip of a
        stream that is shorter than a clip. Other clips that are not complete have no answer. `reset` starts anew.
        """
        self.end()
        return self._answers()

    def checked(self, frames: np.ndarray | Tensor) -> np.ndarray:
        """Return the next frames as (n, H, W, 3); nothing is taken in.

        Args:
            frames: (n, H, W, 3) uint8, RGB; or one frame, (H, W, 3).

        Raises:
            ValueError: another shape or type, frames of another size than those before, or frames after the end.
        """
        pixels = np.asarray(frames)
        pixels = pixels[None] if pixels.ndim == 3 else pixels
        if self._ended:
            raise ValueError("frames follow the end of the stream: reset the session, or start another")
        if self._last is not None and pixels.shape[1:] != self._last.shape[1:]:
            raise ValueError(
                f"frames of shape {pixels.shape[1:]} follow frames of shape {self._last.shape[1:]} (H, W, channels); "
                "a stream has one size: reset the session, or resize the frames"
            )
        return ArrayVideo(pixels, self._fps, path="stream").pixels

    def receive(self, pixels: np.ndarray) -> None:
        """Take in the next frames, a result of `checked`, and prepare those that windows read."""
        first, self._count = self._count, self._count + len(pixels)
        number, wanted = self._number, set()
        while min(map(min, window := self._windows.frames(number))) < self._count:
            wanted.update(index for pathway in window for index in pathway if first <= index < self._count)
            number += 1
        indices = sorted(wanted)
        for start in range(0, len(indices), _PREPARED_AT_A_TIME):
            some = indices[start : start + _PREPARED_AT_A_TIME]
            prepared = self._scorer.prepare(pixels[[index - first for index in some]])
            # Copies, since one frame that is kept would keep all of them.
            self._frames.update((index, prepared[:, [number]]) for number, index in enumerate(some))
        self._last = pixels[-1:].copy()

    def end(self) -> None:
        """Take note that no frames follow: the last window need not be complete."""
        self._ended = True
        if self._count:
            self._frames[self._count - 1] = self._scorer.prepare(self._last)

    def ready(self) -> FrameIndices | None:
        """Return the next window, per pathway, if all that it reads is there."""
        window, last = self._windows.frames(self._number), self._count - 1
        if not self._count or not (self._ended or max(map(max, window)) <= last):
            return None
        if not self._windows.has(self._number, self._count):
            return None
        return [[min(index, last) for index in pathway] for pathway in window]

    def num_ready(self, more: int = 0) -> int:
        """Return the number of complete windows without an answer, after `more` more frames."""
        number, count = self._number, self._count + more
        while max(map(max, self._windows.frames(number))) < count and self._windows.has(number, count):
            number += 1
        return number - self._number

    def inputs(self, window: FrameIndices) -> list[Tensor]:
        """Return the model's inputs for a result of `ready`, (1, 3, T, H, W) per pathway."""
        return [torch.cat([self._frames[index] for index in pathway], dim=1)[None] for pathway in window]

    def arrived(self, window: FrameIndices, scores: Tensor, memory: Any) -> Answer:
        """Go on to the next window, and return the answer for this one.

        Args:
            window: result of `ready`.
            scores: (classes,), on the CPU.
            memory: memory after the window.
        """
        self.memory = memory
        self._number += 1
        needed = min(map(min, self._windows.frames(self._number)))
        self._frames = {index: frame for index, frame in self._frames.items() if index >= needed}
        start, end = min(map(min, window)) / self._fps, (max(map(max, window)) + 1) / self._fps
        return self._scorer.answer(start, end, scores, self._top)

    def window_end_s(self, number: int) -> float:
        """Return the second at which a window ends, from 0."""
        return (max(map(max, self._windows.frames(number))) + 1) / self._fps

    @property
    def state_bytes(self) -> int:
        """Bytes of the tensors that the session remembers."""
        tensors = [*pytree.tree_leaves(self.memory), *self._frames.values()]
        return sum(x.numel() * x.element_size() for x in tensors if isinstance(x, Tensor))

    def state(self) -> dict[str, Any]:
        """Return all that the session remembers, as numbers and copies of tensors on the CPU; `torch.save` writes it.

        A session of the same model continues from it with the same answers, bitwise where both machines compute alike.
        """
        return {
            "version": _VERSION,
            "fps": self._fps,
            "stride": self._stride,
            "count": self._count,
            "number": self._number,
            "memory": _copy(self.memory, "cpu"),
            "frames": _copy(self._frames, "cpu"),
            "last": None if self._last is None else torch.from_numpy(self._last.copy()),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from the result of `state`.

        Raises:
            ValueError: it is no such state, or of another version, rate or stride.
        """
        wanted = {"version": _VERSION, "fps": self._fps, "stride": self._stride}
        found = {name: state.get(name) for name in wanted}
        if found != wanted:
            raise ValueError(f"the state is of a session with {found}, and this one has {wanted}")
        self._count, self._number = int(state["count"]), int(state["number"])
        self._ended = False
        self.memory = _copy(state["memory"], self._scorer.device)
        self._frames = _copy(state["frames"], "cpu")
        self._last = None if state["last"] is None else state["last"].numpy().copy()

    def _answers(self) -> list[Answer]:
        answers = []
        while window := self.ready():
            scores, memory = self._scorer.step_scores(self.inputs(window), self.memory)
            answers.append(self.arrived(window, scores[0], memory))
        return answers


class _Steps:
    """Steps through a stream of any length. From the second step on they are equal steps, one after the other."""

    def __init__(self, settings: ClipSettings, positions: StepPositions, fps: float) -> None:
        self._spacing = StepWindows(settings, positions).spacing(fps)
        sampled = 1
        while len(steps := positions(sampled)) < 3:
            sampled += 1
        self._first, self._second, third = steps[:3]
        self._new = third[-1][0] - self._second[-1][0]

    def _positions(self, number: int) -> list[list[int]]:
        if number == 0:
            return self._first
        return [[place + (number - 1) * self._new for place in pathway] for pathway in self._second]

    def frames(self, number: int) -> FrameIndices:
        """Return the frames of a step."""
        return StepWindows.frames_at(self._positions(number), self._spacing)

    def has(self, number: int, count: int) -> bool:
        """Return True if a stream of `count` frames has this step, complete or not."""
        return self._positions(number)[-1][0] < StepWindows.num_positions(count, self._spacing)


class _Clips:
    """Clips that start every `stride` frames."""

    def __init__(self, settings: ClipSettings, fps: float, stride: float) -> None:
        self._settings = settings
        self._span = clip_span(settings.num_frames, settings.sampling_rate, fps, settings.target_fps)
        self._stride = stride or self._span

    def frames(self, number: int) -> FrameIndices:
        """Return the frames of a clip."""
        rest, whole = math.modf(number * self._stride)
        # Counted from the clip's own start, since float32 cannot count the frames of a week.
        indices = span_indices((rest, rest + self._span - 1), self._settings.num_frames, math.ceil(self._span) + 1)
        return pathways_of([int(whole) + index for index in indices], self._settings)

    def has(self, number: int, count: int) -> bool:
        """Return True if a stream of `count` frames has this clip; only the first one may be incomplete."""
        return number == 0 or max(map(max, self.frames(number))) < count


def _copy(value: Any, device: torch.device | str) -> Any:
    """Copy the tensors in dicts and lists to a device."""
    return pytree.tree_map(lambda x: x.to(device, copy=True) if isinstance(x, Tensor) else x, value)
