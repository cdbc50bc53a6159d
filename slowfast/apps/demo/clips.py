"""Frames of the demo's source, and the clips that are made of them."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from slowfast.apps.predict.live import LiveSource
from slowfast.datasets.video.find import VideoOpener
from slowfast.datasets.video.in_order import frames_in_order
from slowfast.datasets.video.limits import MediaLimits
from slowfast.datasets.video.reader import VideoError

_MOST_WAITING = 2  # clips that are read ahead


@dataclass(frozen=True)
class Source:
    """Frames to be answered about.

    Attributes:
        name: of the file, folder or camera, for messages.
        fps: frames a second.
        frames: (H, W, 3) uint8, RGB, all of one size.
        num_frames: their number; None for a camera.
    """

    name: str
    fps: float
    frames: Iterator[np.ndarray]
    num_frames: int | None = None


@contextlib.contextmanager
def open_source(cfg: Any) -> Iterator[Source]:
    """Open what the section DEMO names: the camera `WEBCAM`, else `INPUT_VIDEO`, else the camera `DATA_SOURCE`.

    Raises:
        ValueError: neither is set.
        VideoError: it cannot be opened; frames raise it later, if the rest cannot be read.
    """
    demo = cfg.DEMO
    if demo.WEBCAM < 0 and demo.INPUT_VIDEO:
        with _open_video(cfg) as source:
            yield source
        return
    number = demo.WEBCAM if demo.WEBCAM >= 0 else demo.DATA_SOURCE
    if number < 0:
        raise ValueError("DEMO.INPUT_VIDEO is empty; set it to a video file or a folder of images, or DEMO.WEBCAM to 0")
    with _open_camera(f"/dev/video{number}", MediaLimits.from_config(cfg)) as camera:
        frames = of_size((frame.pixels for frame in camera), demo.DISPLAY_WIDTH, demo.DISPLAY_HEIGHT)
        yield Source(camera.name, camera.fps or demo.FPS, frames)


def _open_camera(name: str, limits: MediaLimits) -> LiveSource:
    """Open a camera; VideoError with what may be set instead if it cannot be opened."""
    try:
        return LiveSource(name, limits=limits)
    except VideoError as error:
        raise VideoError(name, f"{error.cause}; DEMO.WEBCAM -1 and DEMO.INPUT_VIDEO FILE take a file") from error


@contextlib.contextmanager
def _open_video(cfg: Any) -> Iterator[Source]:
    demo, path = cfg.DEMO, cfg.DEMO.INPUT_VIDEO
    opener = VideoOpener.from_config(cfg, demo.FPS)
    with opener(path) as video:
        if os.path.isdir(path):
            frames = (video.frames([number])[0] for number in range(video.num_frames))
        else:
            frames = _pictures_of(path)
        yield Source(path, video.fps, of_size(frames, demo.DISPLAY_WIDTH, demo.DISPLAY_HEIGHT), video.num_frames)


def _pictures_of(path: str) -> Iterator[np.ndarray]:
    """Decode a file in order, each frame once."""
    reformatter = VideoReformatter()
    for ordered in frames_in_order(path):
        yield ordered.scaled(0, "rgb24", reformatter).to_ndarray()


def of_size(frames: Iterable[np.ndarray], width: int, height: int) -> Iterator[np.ndarray]:
    """Scale frames (H, W, 3) to a width and height; 0 keeps that of the first frame, or its ratio to the other."""
    size = None
    for frame in frames:
        if size is None:
            rows, columns = frame.shape[:2]
            size = (
                width or (max(1, round(columns * height / rows)) if height else columns),
                height or (max(1, round(rows * width / columns)) if width else rows),
            )
        if size != frame.shape[1::-1]:
            shrinks = size[0] * size[1] < frame.shape[0] * frame.shape[1]
            frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        yield frame


@dataclass(frozen=True)
class DemoClip:
    """Consecutive frames of a source that are answered about together.

    Attributes:
        first: number of the first frame in the source.
        frames: (H, W, 3) uint8, RGB.
        key: position in the clip of the frame around which its answer is drawn.
        num_shared: frames at the start that the clip before had too; they are shown with that one.
    """

    first: int
    frames: list[np.ndarray]
    key: int
    num_shared: int = 0


def cut_clips(frames: Iterable[np.ndarray], length: int, shared: int = 0, key: int | None = None) -> Iterator[DemoClip]:
    """Cut a source into clips of `length` frames, of which each has the last `shared` frames of the clip before.

    The rest at the end makes a shorter clip, with a key at the same share of it.

    Args:
        key: position of the key frame; None for the middle.
    """
    key = length // 2 if key is None else key
    first, held, num_shared = 0, [], 0
    for frame in frames:
        held.append(frame)
        if len(held) == length:
            yield DemoClip(first, held, key, num_shared)
            first, held, num_shared = first + length - shared, held[length - shared :], shared
    if len(held) > num_shared:
        yield DemoClip(first, held, key * len(held) // length, num_shared)


class ReadAhead:
    """Iterate over clips that a thread reads.

    The thread waits while `most` clips wait to be taken. With `newest` it never waits: a clip that was not taken in
    time is dropped. Use it as a context manager.
    """

    def __init__(self, clips: Iterable[DemoClip], newest: bool = False, most: int = _MOST_WAITING) -> None:
        self._clips, self._newest, self._most = clips, newest, most
        self._waiting: deque[DemoClip] = deque(maxlen=1 if newest else None)
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="reader of the demo", daemon=True)

    def __enter__(self) -> ReadAhead:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def __iter__(self) -> Iterator[DemoClip]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    if self._error is not None:
                        raise self._error
                    return
                clip = self._waiting.popleft()
                self._changed.notify_all()
            yield clip

    def _read(self) -> None:
        try:
            for clip in self._clips:
                with self._changed:
                    if not self._newest:
                        self._changed.wait_for(lambda: len(self._waiting) < self._most or self._closed)
                    if self._closed:
                        return
                    self._waiting.append(clip)
                    self._changed.notify_all()
        except BaseException as error:  # raised where the clips are taken
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()


def at_their_rate(
    frames: Iterable[np.ndarray],
    fps: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[np.ndarray]:
    """Yield frames no earlier than a camera of `fps` would."""
    start = clock()
    for number, frame in enumerate(frames):
        sleep(max(0.0, start + number / fps - clock()))
        yield frame


@contextlib.contextmanager
def read_clips(cfg: Any, source: Source, key: int) -> Iterator[Iterable[DemoClip]]:
    """Yield the clips of a source, by the settings `BUFFER_SIZE`, `NUM_CLIPS_SKIP` and `THREAD_ENABLE`.

    Args:
        key: position of a clip's key frame.
    """
    demo, newest = cfg.DEMO, cfg.DEMO.NUM_CLIPS_SKIP < 0
    frames = source.frames
    if newest and source.num_frames is not None:
        frames = at_their_rate(frames, source.fps)
    clips = cut_clips(frames, cfg.DATA.NUM_FRAMES * cfg.DATA.SAMPLING_RATE, demo.BUFFER_SIZE, key)
    clips = itertools.islice(clips, 0, None, 1 if newest else demo.NUM_CLIPS_SKIP + 1)
    if not demo.THREAD_ENABLE:
        yield clips
        return
    with ReadAhead(clips, newest) as ahead:
        yield ahead
