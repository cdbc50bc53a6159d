"""Files of synthetic sets: videos, JPEG frames, and the manifest of a set."""

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from slowfast.apps.synthetic.render import EVENT_FRAMES
from slowfast.utils.files import atomic_write_local

Item, Made = TypeVar("Item"), TypeVar("Made")

# An event lasts one second, so that exactly one key frame of the box annotations shows it.
FPS = EVENT_FRAMES
# The quality keeps the disc's color through 4:2:0 chroma at 32 pixels. As in real files there are B-frames and
# several groups of pictures.
# With cpu-independent=1 the same frames give the same bytes on every processor: without it, x264's AVX-512 code reads
# uninitialized memory on small pictures, and files differ from call to call.
_X264_OPTIONS = {"crf": "16", "preset": "veryfast", "g": "18", "bf": "2", "x264-params": "cpu-independent=1"}
_VP9_OPTIONS = {"crf": "20", "b": "0", "g": "18", "deadline": "realtime", "cpu-used": "8"}
_CONTAINER_OPTIONS = {"fflags": "+bitexact"}  # or WebM files get random identifiers
_JPEG_QUALITY = 95
FRAME_LIST_HEADER = "original_vido_id video_id frame_id path labels"  # the header as the published reader has it


def check_set(counts: dict[str, int], seed: int) -> None:
    """Raise ValueError for a split without a video, or a negative seed.

    Args:
        counts: videos of each split.
    """
    for split, count in counts.items():
        if count < 1:
            raise ValueError(f"{split} {count}: a split needs at least one video")
    if seed < 0:
        raise ValueError(f"seed {seed}: must not be negative")


def encode_video(path: Path, frames: np.ndarray, fps: int = FPS) -> None:
    """Encode frames (T, H, W, 3) uint8 RGB, H and W even, as H.264, or as VP9 in a .webm file (4:2:0)."""
    reformatter = VideoReformatter()
    codec, options = ("libvpx-vp9", _VP9_OPTIONS) if path.suffix == ".webm" else ("libx264", _X264_OPTIONS)
    with av.open(str(path), "w", options=_CONTAINER_OPTIONS) as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, fps)
        for number, pixels in enumerate(frames):
            frame = reformatter.reformat(av.VideoFrame.from_ndarray(pixels, format="rgb24"), format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def make_videos(make: Callable[[Item], Made], items: Sequence[Item], workers: int, chunk: int) -> list[Made]:
    """Call `make` on every item in `workers` processes (0: in this one), `chunk` items at a time; keep the order."""
    if workers < 1:
        return list(map(make, items))
    # Spawned, not forked: a fork of a process that runs threads (PyTorch, OpenCV) may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_watch_parent) as pool:
        return list(pool.map(make, items, chunksize=chunk))


def _watch_parent() -> None:
    """Let this worker end when its parent does. It would wait for work forever if the parent was killed."""
    parent = multiprocessing.parent_process()

    def end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def read_manifest(path: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """Read the parameters that a set was made with; None if there is no complete set, or if it was moved.

    Lists hold absolute paths, so a set that was moved has to be made again.

    Raises:
        ValueError: a parameter differs from `wanted`.
    """
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    differing = sorted(key for key in wanted if found.get(key) != wanted[key])
    if differing:
        pairs = ", ".join(f"{key} {found.get(key)} (asked: {wanted[key]})" for key in differing)
        raise ValueError(
            f"{path.parent} holds a set made with other parameters: {pairs}. Remove it or name another folder"
        )
    return found if found["root"] == str(path.parent) else None


def write_manifest(path: Path, parameters: dict[str, Any]) -> None:
    """Write the parameters of a set. Written last and atomically, the file says that the set is complete."""
    atomic_write_local(path, json.dumps(parameters, indent=2) + "\n")


def write_footage(video: Path, images: list[Path], frames: np.ndarray, fps: int) -> None:
    """Write frames (T, H, W, 3) uint8 RGB as a video and as JPEG files; make the folders."""
    video.parent.mkdir(parents=True, exist_ok=True)
    encode_video(video, frames, fps)
    write_images(images, frames)


def write_images(paths: list[Path], frames: np.ndarray) -> None:
    """Write frames (T, H, W, 3) uint8 RGB as JPEG files in one folder, which is made.

    Raises:
        OSError: a file cannot be written.
    """
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for path, pixels in zip(paths, frames, strict=True):
        if not cv2.imwrite(str(path), pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]):
            raise OSError(f"{path} cannot be written")
