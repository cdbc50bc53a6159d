"""Files of synthetic sets: videos, JPEG frames, the manifest of a set, and the lists and annotations of `sweep`."""

import json
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from slowfast.apps.synthetic.render import CLASS_NAMES, DIRECTIONS, EVENT_FRAMES, NUM_FRAMES, Event, disc_box
from slowfast.utils.files import atomic_write_local

Item, Made = TypeVar("Item"), TypeVar("Made")

# An event lasts one second, so that exactly one key frame of the box annotations shows it.
FPS = EVENT_FRAMES
FIRST_SECOND = 900  # time stamp of frame 0 in AVA's box files
# The quality keeps the disc's color through 4:2:0 chroma at 32 pixels. As in real files there are B-frames and
# several groups of pictures.
# With cpu-independent=1 the same frames give the same bytes on every processor: without it, x264's AVX-512 code reads
# uninitialized memory on small pictures, and files differ from call to call.
_X264_OPTIONS = {"crf": "16", "preset": "veryfast", "g": "18", "bf": "2", "x264-params": "cpu-independent=1"}
_VP9_OPTIONS = {"crf": "20", "b": "0", "g": "18", "deadline": "realtime", "cpu-used": "8"}
_CONTAINER_OPTIONS = {"fflags": "+bitexact"}  # or WebM files get random identifiers
_JPEG_QUALITY = 95
FRAME_LIST_HEADER = "original_vido_id video_id frame_id path labels"  # the header as the published reader has it


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
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(make, items, chunksize=chunk))


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


def _video_name(split: str, index: int) -> str:
    """Return the name of a video, unique over the splits."""
    return f"{split}_{index:06d}"


def video_path(root: Path, split: str, index: int) -> Path:
    """Return the path of a video."""
    return root / "videos" / split / f"{_video_name(split, index)}.mp4"


def write_list(root: Path, split: str, labels: Iterable[int]) -> None:
    """Write `{split}.csv` in the Kinetics format: lines `path label` with absolute paths."""
    lines = (f"{video_path(root, split, index)} {label}\n" for index, label in enumerate(labels))
    (root / f"{split}.csv").write_text("".join(lines))


def write_frames(root: Path, split: str, index: int, frames: np.ndarray) -> None:
    """Write the frames of a video as the JPEG files that the frame lists name."""
    write_images([root / "frames" / _frame_path(split, index, number) for number in range(len(frames))], frames)


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


def write_annotations(root: Path, split: str, events: list[tuple[Event, Event]], size: int) -> None:
    """Write the annotations of a split; `events` are in the order of its videos.

    - `annotations/{split}_frames.csv`: every frame (path below `frames/`) and its actions, numbered from 0, in the
      Charades format.
    - `annotations/{split}_boxes.csv`: boxes of the discs at key frames, one a second from second FIRST_SECOND, in the
      AVA format; actions are numbered from 1.
    - `annotations/actions.pbtxt`: names of the actions of the boxes.
    """
    folder = root / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    frame_lines = [FRAME_LIST_HEADER]
    box_lines = []
    for index, pair in enumerate(events):
        frame_lines += _frame_lines(split, index, pair)
        box_lines += _box_lines(split, index, pair, size)
    (folder / f"{split}_frames.csv").write_text("\n".join(frame_lines) + "\n")
    (folder / f"{split}_boxes.csv").write_text("\n".join(box_lines) + "\n")
    names = (f'item {{\n  name: "{name}"\n  id: {i}\n}}\n' for i, name in enumerate(DIRECTIONS, start=1))
    (folder / "actions.pbtxt").write_text("".join(names))


def _frame_path(split: str, index: int, number: int) -> str:
    name = _video_name(split, index)
    return f"{split}/{name}/{name}-{number + 1:06d}.jpg"


def _frame_lines(split: str, index: int, events: tuple[Event, Event]) -> list[str]:
    name = _video_name(split, index)
    lines = []
    for number in range(NUM_FRAMES):
        actions = ",".join(str(event.direction) for event in events if number in event.frames)
        lines.append(f'{name} {index} {number} {_frame_path(split, index, number)} "{actions}"')
    return lines


def _box_lines(split: str, index: int, events: tuple[Event, Event], size: int) -> list[str]:
    lines = []
    for entity, event in enumerate(events):
        for frame in event.frames:
            if frame % FPS == 0:
                box = ",".join(f"{edge:.4f}" for edge in disc_box(event, frame, size))
                second = FIRST_SECOND + frame // FPS
                lines.append(f"{_video_name(split, index)},{second:04d},{box},{event.direction + 1},{entity}")
    return lines


def write_class_names(root: Path) -> None:
    """Write `classes.txt`, the name of class i in line i."""
    (root / "classes.txt").write_text("\n".join(CLASS_NAMES) + "\n")
