"""An animated picture of one video of the demo: both models' answers as it plays, and what PGT's memory kept of it.

python demo/sweep_montage.py --output docs/montage.gif        of the models that ship with the code
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import slowfast
from slowfast.apps.predict.predictor import Predictor
from slowfast.apps.predict.scorer import Answer
from slowfast.apps.synthetic import render
from slowfast.apps.visualize.evidence import Evidence, evidence
from slowfast.apps.visualize.evidence_files import with_heat
from slowfast.utils.files import atomic_write_local

SIZE, FPS = 32, 4  # pixels of a frame, and frames a second
MOST_CANDIDATES = 120  # test videos to choose from
_LEAST = 0.3  # share of the evidence on each crossing
_ARROWS = dict(zip(render.DIRECTIONS, "→←↓", strict=True))
_WIDTH, _HEIGHT = 800, 400
_VIDEO = (20, 58, 192)  # left, top, side
_LEFT, _RIGHT = 240, 780  # of the time axis
_TOPS = {"video": 58, "clip": 126, "pgt": 200, "evidence": 274}  # of the rows' titles
_TITLE, _CELL, _BARS = 20, 34, 74  # heights: a row's title, its cells, the bars of the evidence
_INK, _GRAY, _LINE, _PALE = "#1f2328", "#6e7781", "#d0d7de", "#f3f4f6"
_GREEN, _RED, _YELLOW, _BLUE = "#1a7f37", "#cf222e", "#f0dc28", "#2a6fbb"
_PALE_GREEN, _PALE_RED = "#dafbe1", "#ffebe9"
_PLAY_MS, _GROW_MS, _HEAT_MS, _HOLD_MS = 180, 80, 600, 3000
_COLORS = 96
_GROWING, _HOT = 5, 5  # pictures in which the bars grow, and frames shown with heat


@dataclass(frozen=True)
class Story:
    """A video, what both models say about it, and PGT's evidence at its end.

    Attributes:
        frames: (T, H, W, 3) uint8.
        events: the two crossings.
        label: name of the video's class.
        clips, steps: answers of the clip model and of PGT over time.
        clip_answer, pgt_answer: name of the class that each says about the whole video.
        found: evidence for PGT's last answer.
    """

    frames: np.ndarray
    events: tuple[render.Event, render.Event]
    label: str
    clips: list[Answer]
    steps: list[Answer]
    clip_answer: str
    pgt_answer: str
    found: Evidence


def find_story(pgt: Predictor, clip: Predictor, candidates: int) -> Story:
    """Return the first of some test videos, of seed 0, that tells the models apart; the very first if none does."""
    first = None
    for index in range(candidates):
        frames, events = render.render_video(0, "test", index, SIZE)
        label = render.CLASS_NAMES[render.label_of(index)]
        clips, steps = clip.clips(frames, fps=FPS), list(pgt.stream(frames, fps=FPS))
        said = clip(frames, fps=FPS).names[0], pgt(frames, fps=FPS).names[0]
        if first is None or _tells(label, events, clips, steps, said):
            story = Story(frames, events, label, clips, steps, *said, evidence(pgt, frames, fps=FPS))
            first = first or story
            if _tells(label, events, clips, steps, said) and _is_balanced(story):
                return story
    return first


def _tells(
    label: str, events: Sequence[render.Event], clips: list[Answer], steps: list[Answer], said: tuple[str, str]
) -> bool:
    """Return True if PGT is right, the clip model wrong, and both crossings are over before PGT's last step."""
    over = (events[1].frames[-1] + 1) / FPS
    late = [answer.names[0] for answer in clips if answer.end_s >= over]
    return over <= steps[-1].start_s and label not in (said[0], *late) and {said[1], steps[-1].names[0]} == {label}


def _is_balanced(story: Story) -> bool:
    """Return True if each crossing has a good part of the evidence."""
    values = [frame.value for frame in story.found.frames]
    return all(sum(values[number] for number in event.frames) > _LEAST for event in story.events)


def write_montage(
    path: Path, pgt: str, clip: str, accuracy: dict[str, float], candidates: int = MOST_CANDIDATES
) -> None:
    """Write the picture as GIF. The same models give the same bytes.

    Args:
        pgt, clip: checkpoints of the two models, or zoo://NAME.
        accuracy: percent of test videos that "pgt" and "clip" get right.
        candidates: number of test videos to choose from.

    Raises:
        ImportError: matplotlib, which brings Pillow, is missing.
    """
    story = find_story(slowfast.load(pgt, device="cpu"), slowfast.load(clip, device="cpu"), candidates)
    pictures, durations = draw_story(story, accuracy)
    first, *rest = _with_one_palette(pictures)
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"save_all": True, "append_images": rest, "duration": durations, "loop": 0, "optimize": False}
    atomic_write_local(path, lambda stream: first.save(stream, "GIF", **options))


def draw_story(story: Story, accuracy: dict[str, float]) -> tuple[list[Any], list[int]]:
    """Return the pictures (Pillow, RGB) and how long each is shown, in ms: the video plays, then the evidence."""
    canvas = _Canvas(story, accuracy)
    pictures = [canvas.draw(number, story.frames[number], 0.0) for number in range(len(story.frames))]
    durations = [_PLAY_MS] * len(pictures)
    last = len(story.frames)
    for number in range(1, _GROWING + 1):
        pictures.append(canvas.draw(last, story.frames[-1], number / _GROWING))
        durations.append(_GROW_MS)
    heat = with_heat(story.found)
    best = np.argsort([-frame.value for frame in story.found.frames], kind="stable")[:_HOT].tolist()
    for place in [*sorted(best), best[0]]:
        pictures.append(canvas.draw(last, heat[place], 1.0, place))
        durations.append(_HEAT_MS)
    durations[-1] = _HOLD_MS
    return pictures, durations


class _Canvas:
    """Draws the pictures of a story."""

    def __init__(self, story: Story, accuracy: dict[str, float]) -> None:
        from PIL import Image, ImageDraw

        self._story, self._accuracy, self._fonts = story, accuracy, _fonts()
        self._image, self._draw = Image, ImageDraw

    def draw(self, number: int, frame: np.ndarray, grown: float, hot: int | None = None) -> Any:
        """Draw the picture at frame `number` of the video.

        Args:
            frame: shown at the left.
            grown: share of the height of the bars of the evidence, 0 to 1.
            hot: place, in the evidence, of the frame that is shown with its heat.
        """
        picture = self._image.new("RGB", (_WIDTH, _HEIGHT), "white")
        pen, story = self._draw.Draw(picture), self._story
        pen.rectangle((0, 0, _WIDTH - 1, _HEIGHT - 1), outline=_LINE)
        question = "A yellow disc crosses the picture twice. In which order?"
        if grown:
            first, second = _arrows(story.label).split()
            question += f"  First {first}, then {second}."
        pen.text((20, 16), question, _INK, self._fonts.large)
        left, top, side = _VIDEO
        picture.paste(self._image.fromarray(frame).resize((side, side), self._image.Resampling.NEAREST), (left, top))
        now = min(number / FPS, len(story.frames) / FPS)
        self._draw_events(pen, number)
        self._draw_answers(pen, "clip", "Clip model, sees 2 s at a time", story.clips, now)
        self._draw_answers(pen, "pgt", "PGT, reads on with memory", story.steps, now)
        self._draw_evidence(pen, grown, hot)
        if number < len(story.frames):
            x = _at(now, story)
            pen.line((x, _TOPS["video"] + _TITLE, x, _TOPS["pgt"] + _TITLE + _CELL), _INK, 2)
        below = (left, top + side + 10)
        if hot is None:
            pen.text(below, f"the video, {now:.2f} s", _GRAY, self._fonts.small)
        else:
            shown = story.found.frames[hot]
            pen.text(below, f"remembered: {100 * shown.value:.0f} % of the", _BLUE, self._fonts.bold)
            pen.text((left, below[1] + 20), f"evidence, at {shown.time_s:.2f} s", _BLUE, self._fonts.bold)
        return picture

    def _draw_events(self, pen: Any, number: int) -> None:
        """Draw the crossings that have begun on the time axis."""
        top = _TOPS["video"]
        pen.text((_LEFT, top), "The video", _INK, self._fonts.bold)
        legend = "gray answers: too early to know"
        pen.text((_RIGHT, top + 1), legend, _GRAY, self._fonts.small, anchor="ra")
        middle = top + _TITLE + _CELL // 2
        pen.line((_LEFT, middle, _RIGHT, middle), _LINE, 2)
        for event in self._story.events:
            if event.start <= number:
                x = _at((event.start + len(event.frames) / 2) / FPS, self._story)
                pen.ellipse((x - 15, middle - 15, x + 15, middle + 15), _YELLOW, _INK)
                arrow = _ARROWS[render.DIRECTIONS[event.direction]]
                pen.text((x, middle), arrow, _INK, self._fonts.large, anchor="mm")

    def _draw_answers(self, pen: Any, row: str, title: str, answers: Sequence[Answer], now: float) -> None:
        """Draw the answers up to now, each over its time; gray before both crossings are over, then green or red."""
        story, top = self._story, _TOPS[row]
        pen.text((_LEFT, top), title, _INK, self._fonts.bold)
        over, end = (story.events[1].frames[-1] + 1) / FPS, 0.0
        for answer in answers:
            start, end = max(answer.start_s, end), answer.end_s
            box = (_at(start, story) + 1, top + _TITLE, _at(end, story) - 1, top + _TITLE + _CELL)
            pen.rectangle(box, _PALE)
            if answer.end_s <= now + 1e-6:
                is_right = answer.names[0] == story.label
                fill, ink = (_PALE_GREEN, _GREEN) if is_right else (_PALE_RED, _RED)
                if answer.end_s < over:
                    fill, ink = _PALE, _GRAY
                pen.rectangle(box, fill, ink)
                middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
                pen.text(middle, _arrows(answer.names[0]), ink, self._fonts.large, anchor="mm")
        if now * FPS >= len(story.frames):
            said = {"clip": story.clip_answer, "pgt": story.pgt_answer}[row]
            is_right = said == story.label
            words = f"{'✓' if is_right else '✗'}  right in {self._accuracy[row]:.1f} % of videos"
            pen.text((_RIGHT, top), words, _GREEN if is_right else _RED, self._fonts.bold, anchor="ra")

    def _draw_evidence(self, pen: Any, grown: float, hot: int | None) -> None:
        """Draw the evidence of each frame as a bar."""
        top, story = _TOPS["evidence"], self._story
        bottom = top + _TITLE + _BARS
        pen.text((_LEFT, top), "What PGT's memory kept: the frames behind its last answer", _INK, self._fonts.bold)
        most = max(frame.value for frame in story.found.frames)
        for place, frame in enumerate(story.found.frames):
            x, height = _at(frame.time_s, story), grown * frame.value / most * (_BARS - 4)
            if height >= 1:
                color = "#f0962d" if place == hot else _BLUE
                pen.rectangle((x + 1, bottom - height, _at(frame.time_s + 1 / FPS, story) - 1, bottom), color)
        pen.line((_LEFT, bottom, _RIGHT, bottom), _GRAY)
        for second in range(len(story.frames) // FPS + 1):
            pen.text((_at(second, story), bottom + 4), f"{second} s", _GRAY, self._fonts.small, anchor="ma")


def _at(seconds: float, story: Story) -> float:
    """Return the place of a second on the time axis, in pixels."""
    return _LEFT + (_RIGHT - _LEFT) * seconds * FPS / len(story.frames)


def _arrows(name: str) -> str:
    """Return a class, such as right-down, as arrows."""
    return " ".join(_ARROWS[direction] for direction in name.split("-"))


def _fonts() -> SimpleNamespace:
    """Return fonts that matplotlib brings, which have arrows."""
    import matplotlib
    from PIL import ImageFont

    folder = Path(matplotlib.get_data_path()) / "fonts/ttf"
    sizes = {"large": ("DejaVuSans-Bold", 18), "bold": ("DejaVuSans-Bold", 14), "small": ("DejaVuSans", 13)}
    return SimpleNamespace(
        **{key: ImageFont.truetype(str(folder / f"{name}.ttf"), size) for key, (name, size) in sizes.items()}
    )


def _with_one_palette(pictures: Sequence[Any]) -> list[Any]:
    """Convert pictures to the same colors, without dithering: what stays the same is then stored once."""
    from PIL import Image

    chosen = [pictures[0], pictures[len(pictures) // 2], *pictures[-_HOT:]]
    sheet = Image.new("RGB", (_WIDTH, _HEIGHT * len(chosen)))
    for number, picture in enumerate(chosen):
        sheet.paste(picture, (0, _HEIGHT * number))
    for gray in range(0, 256, 8):
        sheet.paste((gray, gray, gray), (gray, 0, gray + 8, 8))
    palette = sheet.quantize(_COLORS, Image.Quantize.MAXCOVERAGE)
    return [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="GIF file")
    arguments = parser.parse_args(argv)
    # Measured of these two files, see projects/pgt/pgt/zoo/sweep.md.
    accuracy = {"pgt": 99.79, "clip": 60.21}
    write_montage(arguments.output, "zoo://sweep_pgt_36x1", "zoo://sweep_slow_8x1", accuracy)
    return 0


if __name__ == "__main__":
    sys.exit(main())
