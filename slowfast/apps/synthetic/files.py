"""Files of the `sweep` set: H.264 videos, CSV lists in the Kinetics format, and annotations of frames and boxes."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from slowfast.apps.synthetic.render import CLASS_NAMES, DIRECTIONS, EVENT_FRAMES, NUM_FRAMES, Event, disc_box

# An event lasts one second, so that the key frames of the box annotations, one a second, meet every event once.
FPS = EVENT_FRAMES
FIRST_SECOND = 900  # time stamp of frame 0 in AVA's box files
# Quality high enough for the disc's color to survive 4:2:0 chroma at 32 pixels; two groups of pictures with B-frames,
# so that readers meet what real files have.
# With cpu-independent=1 the same frames give the same bytes on every processor: without it, x264's AVX-512 code reads
# uninitialized memory on small pictures, and files differ from call to call.
X264_OPTIONS = {"crf": "16", "preset": "veryfast", "g": "18", "bf": "2", "x264-params": "cpu-independent=1"}
VP9_OPTIONS = {"crf": "20", "b": "0", "g": "18", "deadline": "realtime", "cpu-used": "8"}
CONTAINER_OPTIONS = {"fflags": "+bitexact"}  # or WebM files get random identifiers
JPEG_QUALITY = 95
FRAME_LIST_HEADER = "original_vido_id video_id frame_id path labels"  # the header as the published reader has it


def encode_video(path: Path, frames: np.ndarray, fps: int = FPS) -> None:
    """Write frames (T, H, W, 3) uint8 RGB, H and W even, of `fps` frames a second: H.264, or VP9 in a .webm (4:2:0)."""
    reformatter = VideoReformatter()
    codec, options = ("libvpx-vp9", VP9_OPTIONS) if path.suffix == ".webm" else ("libx264", X264_OPTIONS)
    with av.open(str(path), "w", options=CONTAINER_OPTIONS) as container:
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


def video_name(split: str, index: int) -> str:
    """Name of a video, unique over the splits."""
    return f"{split}_{index:06d}"


def video_path(root: Path, split: str, index: int) -> Path:
    """Where the video lies."""
    return root / "videos" / split / f"{video_name(split, index)}.mp4"


def write_list(root: Path, split: str, labels: Iterable[int]) -> None:
    """Write `{split}.csv`, lines `path label` with absolute paths: the Kinetics format."""
    lines = (f"{video_path(root, split, index)} {label}\n" for index, label in enumerate(labels))
    (root / f"{split}.csv").write_text("".join(lines))


def write_frames(root: Path, split: str, index: int, frames: np.ndarray) -> None:
    """Write the frames of a video as JPEG files, which the frame lists name."""
    write_images([root / "frames" / _frame_path(split, index, number) for number in range(len(frames))], frames)


def write_footage(video: Path, images: list[Path], frames: np.ndarray, fps: int) -> None:
    """Write frames (T, H, W, 3) uint8 RGB as a video, whose folder is made, and each as a JPEG file."""
    video.parent.mkdir(parents=True, exist_ok=True)
    encode_video(video, frames, fps)
    write_images(images, frames)


def write_images(paths: list[Path], frames: np.ndarray) -> None:
    """Write frames (T, H, W, 3) uint8 RGB as JPEG files, all in the folder of the first, which is made.

    Raises:
        OSError: if a file cannot be written.
    """
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for path, pixels in zip(paths, frames, strict=True):
        if not cv2.imwrite(str(path), pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
            raise OSError(f"could not write {path}")


def write_annotations(root: Path, split: str, events: list[tuple[Event, Event]], size: int) -> None:
    """Write the annotations of a split, `events` in the order of its videos.

    `annotations/{split}_frames.csv` lists every frame (paths under `frames/`) with the actions it shows, in the
    Charades format, actions counted from 0; `annotations/{split}_boxes.csv` the discs at key frames, one a second from
    second FIRST_SECOND, in the AVA format, actions counted from 1; `annotations/actions.pbtxt` names the latter.
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
    name = video_name(split, index)
    return f"{split}/{name}/{name}-{number + 1:06d}.jpg"


def _frame_lines(split: str, index: int, events: tuple[Event, Event]) -> list[str]:
    name = video_name(split, index)
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
                lines.append(f"{video_name(split, index)},{second:04d},{box},{event.direction + 1},{entity}")
    return lines


def write_class_names(root: Path) -> None:
    """Write `classes.txt`: the name of class i in line i."""
    (root / "classes.txt").write_text("\n".join(CLASS_NAMES) + "\n")
