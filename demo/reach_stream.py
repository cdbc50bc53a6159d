"""Test a trained model on endless streams: does it still know an event that it saw minutes ago?

    python demo/reach_stream.py --checkpoint FILE --gaps 1 16 256 --streams 12 --forks 4 --output FILE.json

A stream shows the first event, and then nothing but the background. At every gap it is forked: a copy of the session's
state goes on with the second event, and answers. The stream itself goes on without. Frames are drawn as they are
pushed, so an hour of video needs no file.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from reach_score import right_answers

from pgt import StepPlan
from slowfast.apps.predict.pool import PooledStream, StreamPool
from slowfast.apps.predict.predictor import Predictor, load
from slowfast.apps.synthetic.render import (
    CLASSES,
    DIRECTIONS,
    EVENT_FRAMES,
    Background,
    Event,
    draw_event,
    finish,
    sample_event,
)
from slowfast.utils.files import atomic_write_local

LEAD_STEPS = 8  # before the first event
SEED = 17


class Scene:
    """One stream's frames, drawn a step at a time.

    Args:
        number: of the stream; the direction of the first event goes with it.
        size: of the frames, in pixels.
    """

    def __init__(self, number: int, size: int):
        self.rng = np.random.default_rng([SEED, number])
        self.direction, self.size = number % len(DIRECTIONS), size
        self.background = Background(self.rng, size, size)

    def event(self, frames: range, direction: int) -> Event:
        """Sample an event within a step."""
        start = int(self.rng.integers(frames.start, frames.stop - EVENT_FRAMES + 1))
        return sample_event(self.rng, start, direction, self.size)

    def draw(self, frames: range, event: Event | None = None) -> np.ndarray:
        """Draw the frames of a step, with an event or without: (T, size, size, 3) uint8."""
        pixels = self.background.draw(frames.start, len(frames))
        if event is not None:
            draw_event(pixels, event, frames.start)
        return finish(self.rng, pixels)

    def other_directions(self, count: int) -> list[int]:
        """Return the directions of second events: the two others in turn."""
        others = [way for way in range(len(DIRECTIONS)) if way != self.direction]
        return [others[number % len(others)] for number in range(count)]


def steps_of(plan: StepPlan) -> Iterator[range]:
    """Yield the frames of the steps of a stream without an end."""
    first, second = replace(plan, steps=2).frame_ranges()
    yield first
    while True:
        yield second
        second = range(second.stop, second.stop + len(second))


def run_streams(predictor: Predictor, gaps: Sequence[int], count: int, forks: int) -> list[dict]:
    """Run `count` streams up to the longest gap, with `forks` second events for each at each gap.

    Returns:
        Rows of `gap` in steps, `minutes` of video, `answers`, and the percentages of answers with `both` events, the
        `first` and the `second` right.
    """
    scenes = [Scene(number, predictor.cfg.DATA.TEST_CROP_SIZE) for number in range(count)]
    pool = predictor.pool(max_streams=count * (1 + forks), max_batch=count * forks)
    streams = [pool.open() for _ in scenes]
    plan, rows = predictor.task.plan, []
    for step, frames in enumerate(steps_of(plan)):
        gap = step - LEAD_STEPS
        if gap in gaps:
            seconds = gap * len(frames) / predictor.settings.target_fps
            right = _right_forks(pool, streams, scenes, frames, forks)
            rows.append({"gap": gap, "minutes": round(seconds / 60, 3), **right})
        if gap >= max(gaps):
            return rows
        for stream, scene in zip(streams, scenes, strict=True):
            stream.push(scene.draw(frames, scene.event(frames, scene.direction) if gap == 0 else None))
        while pool.num_waiting:
            pool.step()
    raise AssertionError("steps have no end")


def _right_forks(pool: StreamPool, streams: list[PooledStream], scenes: list[Scene], frames: range, forks: int) -> dict:
    """Show copies of the streams a second event in the step `frames`; return the percentages of right answers."""
    labels = {}
    for stream, scene in zip(streams, scenes, strict=True):
        state = stream.state()
        for direction in scene.other_directions(forks):
            fork = pool.open(state=state)
            fork.push(scene.draw(frames, scene.event(frames, direction)))
            labels[fork] = CLASSES.index((scene.direction, direction))
    answers = dict(pool.step())
    for fork in labels:
        fork.close()
    scores = torch.tensor(np.stack([answers[fork].all_scores for fork in labels]))
    hits = right_answers(scores, torch.tensor(list(labels.values())))
    return {"answers": len(labels), **{name: round(100 * right / len(labels), 2) for name, right in hits.items()}}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--gaps", type=int, nargs="+", required=True, help="steps between the two events")
    parser.add_argument("--streams", type=int, required=True, help="number of streams")
    parser.add_argument("--forks", type=int, required=True, help="second events of a stream at each gap")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    started = time.process_time()
    rows = run_streams(load(arguments.checkpoint), arguments.gaps, arguments.streams, arguments.forks)
    results = {"streams": arguments.streams, "cpu_seconds": round(time.process_time() - started, 1), "gaps": rows}
    atomic_write_local(arguments.output, json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
