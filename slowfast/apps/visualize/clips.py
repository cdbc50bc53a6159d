"""Pictures of clips: heat maps over frames, the best classes below them, as GIF and MP4."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from fractions import Fraction

import av
import cv2
import numpy as np
from torch import Tensor

from slowfast.apps.demo.drawing import Mark, draw_marks
from slowfast.apps.predict.drawn import ENCODER, ENCODER_SETTINGS
from slowfast.apps.visualize.layers import class_colors, color_map
from slowfast.utils.files import no_room_explained, replacing
from slowfast.utils.fonts import add_fonts
from slowfast.utils.text import plot_label

FRAMES_PER_SECOND = 4  # as PySlowFast shows clips
_HEAT_COVERS = 0.5
_SMALLEST = 200  # pixels of the short side; smaller clips are scaled up by a whole factor
_LINE = 22  # pixels of a class below the clip
_WHITE = 255
_PALETTE_FRAMES = 8


def clip_frames(clip: Tensor, mean: Sequence[float], std: Sequence[float], reverse: bool) -> np.ndarray:
    """Return the frames (T, H, W, 3) uint8, RGB, that a model's clip (3, T, H, W) was made of.

    Args:
        mean, std: of the normalization, R, G, B.
        reverse: the clip has the channels B, G, R.
    """
    frames = clip.detach().float().cpu().numpy().transpose(1, 2, 3, 0)
    frames = frames[..., ::-1] if reverse else frames
    return np.rint(255 * np.clip(frames * np.asarray(std) + np.asarray(mean), 0, 1)).astype(np.uint8)


def with_heat(frames: np.ndarray, heat: Tensor, colormap: str) -> np.ndarray:
    """Blend heat (T, H, W), 0..1, into frames (T, H, W, 3) uint8 by a color map of matplotlib.

    Raises:
        ValueError: there is no such map.
    """
    colors = 255 * color_map(colormap)(heat.float().cpu().numpy())
    return np.rint((1 - _HEAT_COVERS) * frames + _HEAT_COVERS * colors).astype(np.uint8)


def with_boxes(frames: np.ndarray, marks: Sequence[Mark]) -> np.ndarray:
    """Draw boxes with labels into every frame; see `draw_marks`."""
    return np.stack([draw_marks(frame, marks) for frame in frames])


def enlarged(frames: np.ndarray) -> np.ndarray:
    """Scale small frames (T, H, W, 3) up by a whole factor, so that text below them can be read."""
    factor = -(-_SMALLEST // min(frames.shape[1:3]))
    size = (frames.shape[2] * factor, frames.shape[1] * factor)
    return frames if factor == 1 else np.stack([cv2.resize(f, size, interpolation=cv2.INTER_LINEAR) for f in frames])


def with_classes(
    frames: np.ndarray, names: Sequence[str], scores: np.ndarray, most: int, colormap: str, title: str = ""
) -> np.ndarray:
    """Put the best classes below frames (T, H, W, 3) uint8: a bar each, as long as the score, in the class's color.

    Args:
        names: name of each class.
        scores: (classes,).
        most: number of classes shown.
        colormap: map of matplotlib whose colors the classes have in turn.
        title: a line above the classes.

    Raises:
        ValueError: there is no such map.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colors = class_colors(colormap, len(names))
    width, best = frames.shape[2], np.argsort(-scores, kind="stable")[:most]
    lines = [*([(title, None, 0.0)] if title else []), *((names[n], n, float(scores[n])) for n in best)]
    figure = Figure(figsize=(width / 100, _LINE * len(lines) / 100), dpi=100)
    panel = figure.add_axes((0, 0, 1, 1))
    panel.set_axis_off()
    panel.set_xlim(0, 1)
    panel.set_ylim(len(lines) - 0.5, -0.5)
    for row, (name, number, score) in enumerate(lines):
        if number is not None:
            panel.barh(row, min(max(score, 0.0), 1.0), height=0.86, color=colors(int(number)))
            panel.text(0.985, row, f"{score:.2f}", ha="right", va="center_baseline", fontsize=8)
        longest = max(8, width // 8)
        name = name if len(name) <= longest else f"{name[: longest - 1]}…"
        panel.text(0.02, row, plot_label(name), va="center_baseline", fontsize=8)
    add_fonts(figure)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    band = np.asarray(canvas.buffer_rgba())[..., :3]
    below = np.full((len(frames), band.shape[0], width, 3), _WHITE, np.uint8)
    below[:, :, : band.shape[1]] = band[:, :width]
    return np.concatenate([frames, below], axis=1)


def gif(frames: np.ndarray) -> bytes:
    """Encode frames (T, H, W, 3) uint8 as an animated GIF."""
    from PIL import Image  # comes with matplotlib

    stream = io.BytesIO()
    # One palette for all frames, of every few of them at half the size: finding it takes longer than all the rest.
    some = np.concatenate(frames[:: -(-len(frames) // _PALETTE_FRAMES), ::2, ::2])
    palette, no = Image.fromarray(some).quantize(), Image.Dither.NONE
    first, *rest = (Image.fromarray(frame).quantize(palette=palette, dither=no) for frame in frames)
    first.save(stream, "GIF", save_all=True, append_images=rest, duration=1000 // FRAMES_PER_SECOND, loop=0)
    return stream.getvalue()


def write_mp4(path: str, frames: np.ndarray) -> None:
    """Write frames (T, H, W, 3) uint8 as H.264, atomically; odd sides get a row or column more.

    Raises:
        OSError: the file cannot be written.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    with no_room_explained(path), replacing(path) as temporary, av.open(f"file:{temporary}", "w", format="mp4") as file:
        stream = file.add_stream(ENCODER, rate=Fraction(FRAMES_PER_SECOND), options=ENCODER_SETTINGS)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode(None))
