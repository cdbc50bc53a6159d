"""Evidence as files: JSON, CSV, a picture, and a video with the heat drawn in."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np

from slowfast.apps.plot import style
from slowfast.apps.predict.drawn import ENCODER, ENCODER_SETTINGS, check_encoder
from slowfast.apps.predict.painter import Caption, Painter
from slowfast.apps.visualize.evidence import Evidence
from slowfast.utils.files import atomic_write_local, no_room_explained, replacing
from slowfast.utils.text import one_line, plot_label

if TYPE_CHECKING:  # an extra
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

COLUMNS = ("frame", "time_s", "step", "value", "attribution")
_SMALLEST, _LONGEST = 256, 1280  # pixels of the pictures' shorter and longer side
_MOST_HEAT = 0.8  # how much the hottest pixel covers its frame
_STRIP = 8  # frames in the picture, those with the most evidence
_BARS, _TEXT = 48, 64  # pixels of the curve, and of the text, under the video
_MOST_NUMBERS = 24  # steps, or operators, up to which each has its number in the picture
_RATE, _TIME_BASE = 4, Fraction(1, 90_000)
_BLUE, _ORANGE, _DARK, _BAR, _GRAY = "#2a6fbb", "#d9772b", (24, 24, 24), (240, 150, 40), (150, 150, 150)


def as_dict(found: Evidence, pictures: bool = False) -> dict[str, Any]:
    """Return the evidence as numbers and text, for JSON.

    Args:
        pictures: give each frame a `map`, the frame with its heat as a data URI of a PNG.
    """
    frames: list[dict[str, Any]] = [
        {"frame": frame.index, "time_s": frame.time_s, "value": frame.value, "attribution": frame.attribution}
        for frame in found.frames
    ]
    if pictures:
        for frame, picture in zip(frames, with_heat(found), strict=True):
            _, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            frame["map"] = "data:image/png;base64," + base64.b64encode(png.tobytes()).decode()
    return {
        "class": found.name,
        "label": found.label,
        "step": found.step,
        "score": found.score,
        "method": found.method,
        "change": found.change,
        "left_out": found.left_out,
        "steps": [vars(step) for step in found.steps],
        "frames": frames,
        "operators": [vars(operator) for operator in found.operators],
    }


def with_heat(found: Evidence) -> np.ndarray:
    """Return the frames with their heat, (T, H', W', 3) uint8 RGB; small ones are enlarged by a whole factor.

    The hottest pixel of all frames is yellow. Where there is no heat, the frame is gray.
    """
    height, width = found.pictures.shape[1:3]
    factor = max(1, min(-(-_SMALLEST // min(height, width)), _LONGEST // max(height, width)))
    size = (width * factor, height * factor)
    peak, out = float(found.maps.max()), []
    for picture, values in zip(found.pictures, found.maps, strict=True):
        gray = cv2.cvtColor(cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST), cv2.COLOR_RGB2GRAY)
        # The root shows weak heat too.
        heat = np.sqrt(np.clip(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR) / peak, 0, 1))
        colors = cv2.applyColorMap(np.rint(255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
        covers = _MOST_HEAT * heat[..., None]
        out.append(np.rint((1 - covers) * gray[..., None] + covers * colors).astype(np.uint8))
    return np.stack(out)


def write_evidence(found: Evidence, folder: str, about: dict[str, Any]) -> list[str]:
    """Write `evidence.json`, `evidence.csv`, `evidence.png` and `evidence.mp4`, and return their paths.

    Args:
        folder: made if it is missing.
        about: further entries of the JSON file, such as the names of the model and the video.

    Raises:
        ValueError: matplotlib or the encoder is missing.
        OSError: a file cannot be written.
    """
    style.require_matplotlib()
    check_encoder("videos are")
    os.makedirs(folder, exist_ok=True)
    paths = [os.path.join(folder, f"evidence.{ending}") for ending in ("json", "csv", "png", "mp4")]
    text = json.dumps({**about, **as_dict(found)}, indent=1, ensure_ascii=False) + "\n"
    atomic_write_local(paths[0], lambda stream: stream.write(text.encode()))
    atomic_write_local(paths[1], lambda stream: stream.write(_table(found).encode()))
    style.save(_picture(found), paths[2])
    _write_video(found, paths[3])
    return paths


def _table(found: Evidence) -> str:
    """Return one line for each frame, as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    first = found.step - len(found.steps) + 1
    for frame, place in zip(found.frames, _steps_of(found), strict=True):
        row = (frame.index, frame.time_s, first + place, frame.value, frame.attribution)
        writer.writerow(row)
    return stream.getvalue()


def _steps_of(found: Evidence) -> list[int]:
    """Return the place, among the steps, of the step that reads each frame as new."""
    ends = np.array([step.end_s for step in found.steps])
    times = [frame.time_s for frame in found.frames]
    return np.searchsorted(ends - 1e-6, times, side="right").clip(max=len(ends) - 1).tolist()


@style.styled
def _picture(found: Evidence) -> Figure:
    """Return the curve over time, the frames with the most evidence, and the memory that carried it, as one figure."""
    from matplotlib.figure import Figure

    rows = len(found.operators)
    heights = [1.5, 1.0, *([0.45 + 0.13 * rows] if rows else [])]
    figure = Figure(figsize=(style.WIDTHS["text"], 0.4 + sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), squeeze=False, height_ratios=heights)[:, 0]
    _draw_curve(parts[0].subplots(), found)
    _draw_strip(parts[1], found)
    if rows:
        _draw_operators(parts[2].subplots(), found)
    last = found.steps[-1]
    when = f"{last.start_s:.2f} to {last.end_s:.2f} s"
    style.set_title(figure, f"Where the evidence for {one_line(found.name)!r} at {when} lies (score {found.score:.2f})")
    return figure


def _draw_curve(axis: Axes, found: Evidence) -> None:
    """Draw the share of each frame as a bar, and of each step as a number over its time."""
    times = np.array([frame.time_s for frame in found.frames])
    values = np.array([frame.value for frame in found.frames])
    width = 0.85 * (np.diff(times).min() if len(times) > 1 else found.steps[-1].end_s - times[0])
    axis.bar(times, 100 * values, width=width, align="edge", color=_BLUE)
    top = 118 * values.max()
    for number, step in enumerate(found.steps):
        start = max(step.start_s, times[0])
        axis.axvspan(start, step.end_s, color="#f3f3f3" if number % 2 else "white", zorder=0)
        if 1 < len(found.steps) <= _MOST_NUMBERS:
            place = (start + step.end_s) / 2
            axis.text(place, top, f"{100 * step.value:.0f} %", ha="center", va="top", fontsize=style.SMALL)
    last = found.steps[-1]
    axis.axvspan(last.start_s, last.end_s, facecolor="none", edgecolor=_ORANGE, linewidth=1.2)
    axis.set(xlim=(times[0], last.end_s), ylim=(0, top), xlabel="seconds", ylabel="evidence in\na frame, %")
    left_out = f"; {found.left_out} steps before them are not explained" if found.left_out else ""
    if len(found.steps) > 1:
        axis.set_title(f"share of each step over its frames{left_out}; the answer is about the one in orange")


def _draw_strip(part: SubFigure, found: Evidence) -> None:
    """Draw the frames with the most evidence, in order of time, with their heat."""
    best = sorted(np.argsort([-frame.value for frame in found.frames], kind="stable")[:_STRIP].tolist())
    pictures = with_heat(found)
    for axis, number in zip(part.subplots(1, _STRIP, squeeze=False)[0], [*best, *[None] * _STRIP], strict=False):
        axis.axis("off")
        if number is not None:
            frame = found.frames[number]
            axis.imshow(pictures[number])
            axis.set_title(f"{frame.time_s:.2f} s: {100 * frame.value:.0f} %", fontsize=style.SMALL)


def _draw_operators(axis: Axes, found: Evidence) -> None:
    """Draw how much of the evidence is in the memory of each operator after each step, deepest operators last."""
    values = 100 * np.array([operator.steps[:-1] for operator in found.operators])
    axis.imshow(values, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    names = [plot_label(operator.name) for operator in found.operators]
    axis.set_yticks(range(len(names)), names, fontsize=style.TINY if len(names) > _MOST_NUMBERS else style.SMALL)
    axis.set_xticks(range(values.shape[1]), [f"{step.end_s:.2f} s" for step in found.steps[:-1]])
    axis.tick_params(length=0)
    axis.grid(False)
    if max(values.shape) <= _MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(values):
            color = "white" if value > 50 else "black"
            axis.text(column, row, f"{value:.0f}", ha="center", va="center", color=color, fontsize=style.SMALL)
    axis.set_title("evidence of all frames so far in the memory of each operator, %")


def _write_video(found: Evidence, path: str) -> None:
    """Write the frames with their heat as H.264, each at its time, over a curve of the evidence."""
    pictures = with_heat(found)
    times = np.array([frame.time_s for frame in found.frames]) - found.frames[0].time_s
    height, width = (size + size % 2 for size in pictures.shape[1:3])
    pictures = np.pad(
        pictures, ((0, 0), (0, height - pictures.shape[1]), (0, width - pictures.shape[2]), (0, 0)), mode="edge"
    )
    painter, curve = Painter(_TEXT, width), _curve(found, width)
    with no_room_explained(path), replacing(path) as temporary, av.open(f"file:{temporary}", "w", format="mp4") as file:
        stream = file.add_stream(ENCODER, rate=_RATE, options=ENCODER_SETTINGS)
        stream.height, stream.width, stream.pix_fmt = height + _BARS + _TEXT, width, "yuv420p"
        stream.codec_context.time_base = stream.time_base = _TIME_BASE
        for number, (frame, step) in enumerate(zip(found.frames, _steps_of(found), strict=True)):
            names = [f"{one_line(found.name)}, this step", "this frame"]
            caption = Caption(frame.time_s, names, [found.steps[step].value, frame.value])
            text = np.full((_TEXT, width, 3), _DARK, np.uint8)
            painter.draw(text, caption, frame.time_s)
            below = curve.copy()
            left = number * width // len(times)
            below[:, left : max((number + 1) * width // len(times), left + 2)] |= 96
            shown = av.VideoFrame.from_ndarray(np.concatenate([pictures[number], below, text]), format="rgb24")
            shown.pts, shown.time_base = round(times[number] / _TIME_BASE), _TIME_BASE
            file.mux(stream.encode(shown))
        file.mux(stream.encode(None))


def _curve(found: Evidence, width: int) -> np.ndarray:
    """Return the curve of the evidence as bars (_BARS, width, 3) uint8; a line is over each step."""
    values = np.array([frame.value for frame in found.frames])
    bars = np.full((_BARS, width, 3), _DARK, np.uint8)
    steps = _steps_of(found)
    for number, value in enumerate(values / values.max()):
        left, right = number * width // len(values), (number + 1) * width // len(values)
        bars[_BARS - round(float(value) * (_BARS - 6)) :, left:right] = _BAR
        if number and steps[number] != steps[number - 1]:
            bars[:, left] = _GRAY
    return bars
