"""Benchmark of streams: the memory of a session over a day, and many streams at once beside one after the other.

A model is named as `FILE|zoo://NAME [KEY VALUE ...]`: a checkpoint, or a YAML file, whose model gets random weights.
"""

from __future__ import annotations

import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch.utils import _pytree as pytree

from slowfast.apps.benchmark.camera import Camera
from slowfast.apps.benchmark.data import resident_mib
from slowfast.apps.benchmark.report import machine, spread
from slowfast.apps.benchmark.stream_report import format_hours, format_pool
from slowfast.apps.predict.live import LiveSource
from slowfast.apps.predict.live_answers import LiveAnswers
from slowfast.apps.predict.predictor import Predictor, load
from slowfast.apps.predict.scorer import Answer
from slowfast.apps.predict.session import StreamSession
from slowfast.apps.synthetic.files import encode_video
from slowfast.apps.synthetic.render import render_video
from slowfast.config import load_config
from slowfast.datasets.video.pyav import PyAVReader
from slowfast.engine.model_setup import ModelSetup, setup_model
from slowfast.engine.resume import load_checkpoint_config
from slowfast.models import build_model
from slowfast.runtime.device import find_device
from slowfast.runtime.seed import seed_all

_LOOPED_VIDEOS, _LOOPED_SIZE = 20, 64  # videos of `sweep` that follow each other in the looped file; pixels
_READ_AT_A_TIME = 32  # frames
# Of the camera: seconds of a stall, seconds of silence after which it counts as lost, frames that come at once after a
# stall, and frames that wait at most, so that some are dropped then.
_STALL_S, _SILENCE_S, _BURST, _WAITING = 1.0, 2.0, 256, 128
_NOISE = 64  # frames of noise that are shown again and again
_WINDOWS = 10  # answers of each stream in a round of `compare_pool`
_MAX_BATCH = 32


def config_of(model: str, overrides: Sequence[Any] = ()) -> CfgNode:
    """Return the config of a model, with further overrides; raises as `load_config` and `load_checkpoint_config`."""
    path, *own = shlex.split(model)
    if path.endswith((".yaml", ".yml")):
        return load_config(path, [*own, *overrides])
    return load_checkpoint_config(path, [*own, *overrides])


def random_predictor(cfg: CfgNode) -> Predictor:
    """Return the model of a config with random weights, on the GPU if there is one."""
    seed_all(cfg.RNG_SEED)
    device = find_device(None)
    model = setup_model(build_model(cfg), device, ModelSetup.from_config(cfg), training=False)
    names = [str(number) for number in range(cfg.MODEL.NUM_CLASSES)]
    return Predictor(model.eval().requires_grad_(False), cfg, device, names)


def noise(model: Predictor, count: int = _NOISE, seed: int = 0) -> np.ndarray:
    """Return frames (count, H, W, 3) uint8 of noise, 4:3, of the short side to which the model's settings resize."""
    short = model.stream_settings.facts()["short_side"]
    return np.random.default_rng(seed).integers(0, 256, (count, short, short * 4 // 3, 3), dtype=np.uint8)


def heading(device: torch.device) -> dict[str, Any]:
    """Print and return the machine, and its load in the last minute, which slows down what is measured."""
    where = machine(device) | {"load": round(os.getloadavg()[0], 2)}
    print(", ".join(f"{key} {value}" for key, value in where.items()), flush=True)
    return where


def watch_day(model: str, hours: int = 24) -> dict[str, Any]:
    """Push a looped file into one session, as fast as it goes, and read the memory of this process every hour.

    The file is H.264, of the rate of the model, and is opened anew for each turn.

    Returns:
        `model`, `machine`, `fps`, and `points`, see `watch`.

    Raises:
        ValueError: as of `watch`.
    """
    predictor = _predictor(model)
    where, fps = heading(predictor.device), round(predictor.settings.target_fps)
    with tempfile.TemporaryDirectory() as folder:
        session, frames = predictor.session(fps=fps), _looped(_write_loop(folder, "loop.mp4", fps))
        points = watch(_pushed(session, frames, fps), hours, session.state)
    result = {"model": model, "machine": where, "fps": fps, "points": points}
    print(format_hours(points), flush=True)
    return result


def watch_camera(model: str, hours: int = 24) -> dict[str, Any]:
    """Answer about a source like a camera, faster than real time, and read the memory of this process every hour.

    The source stalls, falls silent and hangs up, see `Camera`, each about once an hour.

    Returns:
        As `watch_day`; and of the source `received`, `dropped`, `losses`, and `resets` of the model's memory.

    Raises:
        ValueError: as of `watch`.
    """
    predictor = _predictor(model)
    where, fps = heading(predictor.device), round(predictor.settings.target_fps)
    with tempfile.TemporaryDirectory() as folder:
        path = _write_loop(folder, "loop.ts", fps)
        with (
            Camera(path, 1800 * fps, _BURST, _STALL_S) as camera,
            predictor.live(LiveSource(camera.address, timeout_s=_SILENCE_S, max_waiting=_WAITING), fps=fps) as answers,
        ):
            points = watch(_followed(answers, camera), hours)
            source = answers.source
            counts = {name: getattr(source, name) for name in ("received", "dropped", "losses")}
            counts["resets"] = answers.resets
    result = {"model": model, "machine": where, "fps": fps, "points": points, **counts}
    print(format_hours(points))
    print(", ".join(f"{key} {value}" for key, value in counts.items()), flush=True)
    return result


def watch(
    progress: Iterator[tuple[float, int]], hours: int, state: Callable[[], dict[str, Any]] | None = None
) -> list[dict[str, float]]:
    """Read the memory of this process after each hour of a stream.

    Args:
        progress: pairs of the seconds of the stream so far, and the number of answers that are new.
        state: returns the state of the stream.

    Returns:
        A dict for each hour: `hour`; `mib`, resident; with a state, `state_bytes`; `answers`, `cpu_seconds` and
        `seconds` so far.

    Raises:
        ValueError: no hour passes, or the system does not tell the memory of a process.
    """
    if hours < 1:
        raise ValueError(f"a stream of {hours} hours has no memory at hour 1; use 1 hour or more")
    if not Path("/proc/self/statm").exists():
        raise ValueError("the memory of this process is read from /proc, which this system does not have")
    points: list[dict[str, float]] = []
    answers, cpu, start = 0, time.process_time(), time.monotonic()
    for second, new in progress:
        answers += new
        if second < (len(points) + 1) * 3600:
            continue
        sizes = {"state_bytes": state_bytes(state())} if state else {}
        spent = {"cpu_seconds": time.process_time() - cpu, "seconds": time.monotonic() - start}
        points.append({"hour": len(points) + 1, "mib": resident_mib(os.getpid()), "answers": answers} | sizes | spent)
        if len(points) >= hours:
            break
    return points


def state_bytes(state: dict[str, Any]) -> int:
    """Return the bytes of the tensors of a state."""
    return sum(x.numel() * x.element_size() for x in pytree.tree_leaves(state) if isinstance(x, torch.Tensor))


def compare_pool(model: str, streams: int = 64, rounds: int = 5) -> dict[str, Any]:
    """Answer about streams at once in a pool, and about the same streams one after the other, in turn.

    Each stream has other frames. Stream n starts n windows after the first, modulo 8. Frames come as many at a time as
    a window brings, and both ways prepare them.

    Returns:
        `model`, `machine`, `streams`, `answers` of a round; `alone` and `pool`, each a spread of `cpu` and `wall`
        answers per second; `ratio`, the spread of the ratios of `cpu` and `wall` in the same round; `difference`, the
        largest of any score; `state_bytes`, the largest state of a stream; `mib`, by which the memory of the process
        grew when the streams were opened and had answered once.

    Raises:
        ValueError: no stream, or no round.
    """
    if min(streams, rounds) < 1:
        raise ValueError(f"{streams} streams in {rounds} rounds cannot be measured; both have to be at least 1")
    predictor = _predictor(model)
    where, fps = heading(predictor.device), predictor.settings.target_fps
    new = _frames_of_a_window(predictor, fps)
    videos = [noise(predictor, new * _WINDOWS, seed) for seed in range(streams)]
    parts = [[video[first : first + new] for first in range(0, len(video), new)] for video in videos]
    ways = {"alone": _one_after_the_other, "pool": _at_once}
    rates: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for way in ways.values():  # to warm up
        way(predictor, parts, fps)
    for _ in range(rounds):
        found = {}
        for name, way in ways.items():
            cpu, start = time.process_time(), time.perf_counter()
            found[name] = way(predictor, parts, fps)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - start
            count = sum(map(len, found[name]))
            rates[name].append({"cpu": count / cpu, "wall": count / wall})
    result: dict[str, Any] = {"model": model, "machine": where, "streams": streams, "answers": count}
    for name in ways:
        result[name] = {clock: spread([rate[clock] for rate in rates[name]]) for clock in ("cpu", "wall")}
    pairs = list(zip(rates["pool"], rates["alone"], strict=True))
    result["ratio"] = {clock: spread([a[clock] / b[clock] for a, b in pairs]) for clock in ("cpu", "wall")}
    result["difference"] = _difference(found["pool"], found["alone"])
    result |= _memory_of_streams(predictor, parts, fps)
    print(format_pool(result), flush=True)
    return result


def _predictor(model: str) -> Predictor:
    path, *overrides = shlex.split(model)
    if path.endswith((".yaml", ".yml")):
        return random_predictor(config_of(model))
    return load(path, overrides=overrides)


def _pushed(session: StreamSession, source: Iterator[np.ndarray], fps: float) -> Iterator[tuple[float, int]]:
    """Push the frames of a source; yield the seconds so far and the number of new answers."""
    count = 0
    for frames in source:
        answers = session.push(frames)
        count += len(frames)
        yield count / fps, len(answers)


def _followed(answers: LiveAnswers, camera: Camera) -> Iterator[tuple[float, int]]:
    """Yield the second and the number of each answer; tell the camera what was taken."""
    for answer in answers:
        camera.take(answers.source.received - answers.source.num_waiting)
        yield answer.end_s, 1


def _write_loop(folder: str, name: str, fps: int) -> str:
    """Write a video of about three minutes; return its path."""
    path = Path(folder) / name
    videos = [render_video(0, "train", number, _LOOPED_SIZE)[0] for number in range(_LOOPED_VIDEOS)]
    encode_video(path, np.concatenate(videos), fps)
    return str(path)


def _looped(path: str) -> Iterator[np.ndarray]:
    """Yield the frames of a file, over and over, some at a time."""
    while True:
        with PyAVReader(path) as reader:
            for first in range(0, reader.num_frames, _READ_AT_A_TIME):
                yield reader.frames(range(first, min(first + _READ_AT_A_TIME, reader.num_frames)))


def _frames_of_a_window(model: Predictor, fps: float) -> int:
    """Return the frames between two answers, rounded up."""
    session, count, last = model.session(fps=fps), 0, 0
    ends: list[int] = []
    frame = noise(model, 1)
    while len(ends) < 3:
        count += 1
        if session.push(frame):
            ends, last = [*ends, count - last], count
    return ends[-1]


def _one_after_the_other(model: Predictor, parts: Sequence[Sequence[np.ndarray]], fps: float) -> list[list[Answer]]:
    found = []
    for stream in parts:
        session = model.session(fps=fps)
        found.append([answer for frames in stream for answer in session.push(frames)])
    return found


def _at_once(model: Predictor, parts: Sequence[Sequence[np.ndarray]], fps: float) -> list[list[Answer]]:
    pool = model.pool(len(parts), max_batch=_MAX_BATCH)
    streams = [pool.open(fps=fps) for _ in parts]
    found: dict[Any, list[Answer]] = {stream: [] for stream in streams}
    for turn in range(max(map(len, parts)) + 7):
        for number, (stream, mine) in enumerate(zip(streams, parts, strict=True)):
            if 0 <= turn - number % 8 < len(mine):
                stream.push(mine[turn - number % 8])
        while pool.num_waiting:
            for stream, answer in pool.step():
                found[stream].append(answer)
    return list(found.values())


def _difference(some: Sequence[Sequence[Answer]], others: Sequence[Sequence[Answer]]) -> float:
    """Return the largest difference of any score; AssertionError if the answers are about other times."""
    differences = []
    for a, b in zip(some, others, strict=True):
        for one, other in zip(a, b, strict=True):
            assert (one.start_s, one.end_s) == (other.start_s, other.end_s)
            differences.append(float(np.abs(one.all_scores - other.all_scores).max()))
    return max(differences)


def _memory_of_streams(model: Predictor, parts: Sequence[Sequence[np.ndarray]], fps: float) -> dict[str, float]:
    """Return `state_bytes`, the largest of a stream's states, and `mib` that open streams take in this process."""
    before = resident_mib(os.getpid())
    pool = model.pool(len(parts), max_batch=_MAX_BATCH)
    streams = [pool.open(fps=fps) for _ in parts]
    for turn in range(min(map(len, parts))):
        for stream, mine in zip(streams, parts, strict=True):
            stream.push(mine[turn])
        while pool.num_waiting:
            pool.step()
    mib = resident_mib(os.getpid()) - before
    largest = max(state_bytes(stream.state()) for stream in streams)
    return {"state_bytes": largest, "mib": mib}
