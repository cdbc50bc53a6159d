"""Benchmark of streams: speed and delay beside a clip model that answers as often, and persons frame by frame."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch.utils.flop_counter import FlopCounterMode

from slowfast.apps.benchmark.compare import clip_config, variant_settings
from slowfast.apps.benchmark.report import spread
from slowfast.apps.benchmark.stream_report import format_persons, format_speed
from slowfast.apps.benchmark.streams import config_of, heading, noise, random_predictor
from slowfast.apps.people.detector import PersonDetector
from slowfast.apps.people.tracker import PersonTracker
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.streaming import StepWindows
from slowfast.datasets.clips.temporal_sampling import clip_span
from slowfast.engine.task import build_task
from slowfast.models import build_model
from slowfast.models.complexity import complexity
from slowfast.runtime.device import find_device

_ANSWERS = 4  # of each candidate in a round
_MANY = 1000  # sampled frames, more than the first steps read
_PERSONS, _FRAME = 10, (480, 640)  # of the frames for detector and tracker


@dataclass
class _Way:
    """A way to answer about a stream.

    Attributes:
        model, reads, variant: names for the table.
        cfg: config of the model.
        stride: frames of the stream from one answer to the next.
        in_steps: the model reads in steps.
        cpu_ms, ms: per second of video, of each round.
        delays, cpu_delays: milliseconds from the push of the frame that completes a window to the answer.
    """

    model: str
    reads: str
    variant: str
    cfg: CfgNode
    stride: float
    in_steps: bool = False
    cpu_ms: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    cpu_delays: list[float] = field(default_factory=list)

    def start(self) -> None:
        """Build the model, and stream until it has answered twice: then its memory has its size."""
        predictor = random_predictor(self.cfg)
        self._session = predictor.session(fps=self.cfg.DATA.TARGET_FPS, stride=0.0 if self.in_steps else self.stride)
        self._noise, self._count = noise(predictor), 0
        self._answer(2)
        self.delays, self.cpu_delays = [], []

    def measure(self) -> None:
        """Stream for a round."""
        cpu, start = time.process_time(), time.perf_counter()
        seconds = self._answer(_ANSWERS) / self.cfg.DATA.TARGET_FPS
        self.ms.append(1000 * (time.perf_counter() - start) / seconds)
        self.cpu_ms.append(1000 * (time.process_time() - cpu) / seconds)

    def _answer(self, count: int) -> int:
        """Push frames one by one until there are `count` answers; return the number of frames."""
        first, found = self._count, 0
        while found < count:
            frame = self._noise[self._count % len(self._noise)]
            self._count += 1
            cpu, start = time.process_time(), time.perf_counter()
            if answers := self._session.push(frame):
                self.cpu_delays.append(1000 * (time.process_time() - cpu))
                self.delays.append(1000 * (time.perf_counter() - start))
                found += len(answers)
        return self._count - first


def compare_speed(models: Sequence[str], variants: Sequence[str] = ("fp32", "bf16"), rounds: int = 5) -> dict[str, Any]:
    """Measure speed and delay of streams of models with random weights, each beside clip models of its backbone.

    A model that reads in steps stands beside clips of a step's length, and clips of its training's length, which
    begin as often as it answers. Frames are pushed one by one. All ways of a model take turns.

    Args:
        models: `FILE|zoo://NAME [KEY VALUE ...]`, a checkpoint or a YAML file.
        variants: as of `compare.VARIANTS`.

    Returns:
        `machine`, and `rows`, a dict for each way: `model`, `reads`, `variant`; `every_s`, seconds of video between two
        answers; `gflops_per_s`, multiply-adds per second of video; spreads of `cpu_ms` and `ms` per second of video;
        `delay_cpu_ms` and `delay_ms`, median and 95th percentile; `answers` measured.

    Raises:
        ValueError: no model, no round, an unknown variant, or settings that do not fit.
    """
    if not models or rounds < 1:
        raise ValueError(f"{len(models)} models in {rounds} rounds cannot be measured; name a --model, in 1 or more")
    ways = {model: _ways(model, variants) for model in models}  # a mistake shows before the first measurement
    where, rows = heading(find_device(None)), []
    for mine in ways.values():
        for way in mine:
            way.start()
        for _ in range(rounds):
            for way in mine:
                way.measure()
        rows += [_row(way) for way in mine]
    print(format_speed(rows), flush=True)
    return {"machine": where, "rows": rows}


def measure_persons(detector: str, frames: int = 20, rounds: int = 5) -> dict[str, Any]:
    """Measure a detector on frames of noise, 480 x 640, and the tracker on ten persons who walk.

    Neither depends on what the frames show, apart from the number of persons.

    Returns:
        `machine`; `detector` and `tracker`, each lists of `cpu_ms` and `ms` per frame, of each round; `family` of the
        detector, `input`, its height and width.

    Raises:
        FileNotFoundError, ValueError: as of `PersonDetector`; or no frame, or no round.
    """
    if min(frames, rounds) < 1:
        raise ValueError(f"{frames} frames in {rounds} rounds cannot be measured; both have to be at least 1")
    find = PersonDetector(detector)
    where, rng = heading(torch.device("cpu")), np.random.default_rng(0)
    pictures = rng.integers(0, 256, (frames, *_FRAME, 3), dtype=np.uint8)
    tracker, walks = PersonTracker(), _walks(rng, frames * (rounds + 1))
    result: dict[str, Any] = {"machine": where, "family": find.family, "input": [find.height, find.width]}
    result |= {"detector": {"cpu_ms": [], "ms": []}, "tracker": {"cpu_ms": [], "ms": []}}
    for turn in range(rounds + 1):  # the first to warm up
        mine = walks[turn * frames : (turn + 1) * frames]
        measured = {
            "detector": _per_frame(find, [(picture,) for picture in pictures]),
            "tracker": _per_frame(tracker.update, mine),
        }
        for name, values in measured.items() if turn else ():
            result[name]["cpu_ms"].append(values[0])
            result[name]["ms"].append(values[1])
    print(format_persons(result), flush=True)
    return result


def step_multiply_adds(cfg: CfgNode) -> int:
    """Count the multiply-adds of a step of a model that reads in steps, after the first one."""
    task, crop, memory = build_task(cfg), cfg.DATA.TEST_CROP_SIZE, None
    with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
        model = build_model(cfg).eval()
        for step in task.stream_steps(_MANY)[:2]:
            shapes = zip(cfg.DATA.INPUT_CHANNEL_NUM, step, strict=True)
            inputs = [torch.empty(1, channels, len(places), crop, crop) for channels, places in shapes]
            with FlopCounterMode(display=False) as counter:
                _, memory = task.predict_step(model, inputs, memory)
    return counter.get_total_flops() // 2


def _ways(model: str, variants: Sequence[str]) -> list[_Way]:
    """Return the ways to stream with a model, its own first."""
    found = []
    for variant in variants:
        cfg = config_of(model, variant_settings(variant))
        settings, fps, task = ClipSettings.from_config(cfg, "test"), cfg.DATA.TARGET_FPS, build_task(cfg)
        name, steps = _name(model), task.stream_steps(_MANY)
        if steps is None:
            span = clip_span(settings.num_frames, settings.sampling_rate, fps, settings.target_fps)
            found.append(_Way(name, f"clips of {settings.num_frames}", variant, cfg, span))
            continue
        new = steps[2][-1][0] - steps[1][-1][0]
        stride = new * StepWindows(settings, task.stream_steps).spacing(fps)
        found.append(_Way(name, f"steps of {new}", variant, cfg, stride, in_steps=True))
        for frames in sorted({len(steps[0][-1]), settings.num_frames}):
            clips = clip_config(cfg).clone()
            clips.defrost()
            clips.DATA.NUM_FRAMES = frames
            clips.freeze()
            found.append(_Way(name, f"clips of {frames}", variant, clips, stride))
    return found


def _name(model: str) -> str:
    """Return a name for the table: that of the file or entry, without its folder and overrides."""
    return Path(shlex.split(model)[0]).name.removesuffix(".yaml")


def _row(way: _Way) -> dict[str, Any]:
    every_s = way.stride / way.cfg.DATA.TARGET_FPS
    crop = way.cfg.DATA.TEST_CROP_SIZE
    operations = step_multiply_adds(way.cfg) if way.in_steps else complexity(way.cfg, crop).multiply_adds
    return {
        "model": way.model,
        "reads": way.reads,
        "variant": way.variant,
        "every_s": every_s,
        "gflops_per_s": operations / 1e9 / every_s,
        "cpu_ms": spread(way.cpu_ms),
        "ms": spread(way.ms),
        "delay_cpu_ms": np.percentile(way.cpu_delays, [50, 95]).tolist(),
        "delay_ms": np.percentile(way.delays, [50, 95]).tolist(),
        "answers": len(way.delays),
    }


def _walks(rng: np.random.Generator, frames: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return boxes (n, 4) and scores (n,) of persons who walk at constant speed, each frame, off by some pixels."""
    start = rng.uniform(0, 400, (_PERSONS, 2))
    speed = rng.uniform(-2, 2, (_PERSONS, 2))
    found = []
    for number in range(frames):
        corner = start + number * speed + rng.normal(0, 1, (_PERSONS, 2))
        found.append((np.hstack([corner, corner + [40, 100]]), rng.uniform(0.3, 0.9, _PERSONS)))
    return found


def _per_frame(call: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> tuple[float, float]:
    """Return the milliseconds of CPU time, and of time, of a call."""
    cpu, start = time.process_time(), time.perf_counter()
    for each in arguments:
        call(*each)
    seconds = time.process_time() - cpu, time.perf_counter() - start
    return 1000 * seconds[0] / len(arguments), 1000 * seconds[1] / len(arguments)
