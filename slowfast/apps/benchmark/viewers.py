"""Benchmark of the page's server (`tools/serve.py`): many viewers at once, through real WebSockets."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from slowfast.apps.benchmark.data import resident_mib
from slowfast.apps.benchmark.stream_report import format_viewers
from slowfast.apps.benchmark.streams import heading
from slowfast.apps.synthetic.files import encode_video
from slowfast.apps.synthetic.render import render_video
from slowfast.runtime.device import find_device

_SIZE = 64  # pixels of the videos and cameras
_SHOTS = 50  # videos of `sweep` that follow each other in a viewer's video
_FPS = 12  # of the videos, and of the cameras
_READY = re.compile(r"http://127\.0\.0\.1:\d+/")
_OPEN_S, _END_S = 60.0, 60.0  # that the server may take to take in a viewer, and to end


@dataclass
class _Seen:
    """Hold what a viewer has seen.

    Attributes:
        delays_s: for each answer, seconds from the arrival of its last frame at the server, as that says.
        ahead_s: for each answer about a video, the seconds of the video at the end of its step, less the time of day.
        dropped: frames that the server left out.
        errors: messages of errors.
    """

    delays_s: list[float] = field(default_factory=list)
    ahead_s: list[float] = field(default_factory=list)
    dropped: int = 0
    sent: int = 0
    errors: list[str] = field(default_factory=list)


def watch_server(server: Path, model: str, viewers: int = 64, seconds: int = 120) -> dict[str, Any]:
    """Let viewers watch for a while, half of them videos as fast as these play, and half their cameras.

    The server is a process of its own. Each viewer uploads a video, or sends frames of a camera as JPEG; starts are
    spread over the first tenth of the time.

    Args:
        server: path of tools/serve.py.
        model: checkpoint, or zoo://NAME.
        viewers: their number.
        seconds: for which they watch.

    Returns:
        `model`, `machine`, `viewers`, `seconds`; `answers` and `answers_per_s`; `delay_s`, from the arrival of a step's
        last frame to the answer, and `late_s`, behind the viewer's least late answer about the same video, each with
        `median` and `p95`; `sent` and `dropped` frames of cameras; `memory`, for the start, the middle and the end: MiB
        of the server's process (`server`) and of its `decoders`; `cpu`, cores in use by the server and its decoders;
        `errors`, and `status`, with which the server ended.

    Raises:
        ValueError: too few viewers or seconds, or the server does not start.
    """
    if viewers < 2 or seconds < 1:
        raise ValueError(f"{viewers} viewers for {seconds} s cannot be measured; use 2 or more, and 1 s or more")
    where = heading(find_device(None))
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "shots.mp4"
        _write_video(video, seconds)
        command = [sys.executable, str(server), "--checkpoint", model, "--port", "0"]
        command += ["--max-sessions", str(viewers), "--max-videos", str(viewers)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            address = _address_of(process)
            ids = [_upload(address, video.read_bytes()) for _ in range(viewers - viewers // 2)]
            before = _cpu_seconds(process.pid)
            seen, memory = asyncio.run(_watch(address, ids, viewers // 2, seconds, process.pid))
            cpu = (_cpu_seconds(process.pid) - before) / seconds
        finally:
            process.send_signal(signal.SIGINT)
            try:
                output = process.communicate(timeout=_END_S)[0]
            except subprocess.TimeoutExpired:
                process.kill()
                output = process.communicate()[0] + "\nit did not end by itself"
    answers = sum(len(viewer.delays_s) for viewer in seen)
    result = {
        **{"model": model, "machine": where, "viewers": viewers, "seconds": seconds, "answers": answers},
        "answers_per_s": answers / seconds,
        "delay_s": _percentiles([delay for viewer in seen for delay in viewer.delays_s]),
        "late_s": _percentiles([max(viewer.ahead_s) - ahead for viewer in seen for ahead in viewer.ahead_s]),
        "sent": sum(viewer.sent for viewer in seen),
        "dropped": sum(viewer.dropped for viewer in seen),
        "memory": memory,
        "cpu": cpu,
        "errors": [error for viewer in seen for error in viewer.errors] + output.splitlines(),
        "status": process.returncode,
    }
    print(format_viewers(result), flush=True)
    return result


def _write_video(path: Path, seconds: int) -> None:
    """Write a video that is a little longer than the viewers watch."""
    shots = np.concatenate([render_video(0, "train", number, _SIZE)[0] for number in range(_SHOTS)])
    count = (seconds + 5) * _FPS
    encode_video(path, np.concatenate([shots] * (count // len(shots) + 1))[:count], _FPS)


def _address_of(process: subprocess.Popen) -> str:
    """Wait for the address that the server prints."""
    lines = []
    for line in process.stdout:
        if found := _READY.search(line):
            return found[0]
        lines.append(line)
    raise ValueError(f"the server does not start: {''.join(lines).strip()}")


def _upload(address: str, content: bytes) -> str:
    request = urllib.request.Request(f"{address}api/videos?name=shots.mp4", content, method="POST")
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)["id"]


async def _watch(
    address: str, videos: Sequence[str], cameras: int, seconds: int, server: int
) -> tuple[list[_Seen], list[dict[str, float]]]:
    """Let viewers of videos and of cameras watch; return what they have seen, and the memory at three times."""
    with urllib.request.urlopen(f"{address}api/info") as reply:
        model = json.load(reply)["models"][0]
    wishes = [{"video": video, "pace": "live"} for video in videos] + [{"camera": True}] * cameras
    jpegs = [
        cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes()
        for number in range(_SHOTS)
        for frame in render_video(0, "train", number, _SIZE)[0]
    ]
    end = time.monotonic() + seconds
    seen = [_Seen() for _ in wishes]
    tasks = []
    for number, (wish, viewer) in enumerate(zip(wishes, seen, strict=True)):
        wait_s = number / len(wishes) * seconds / 10
        wish = {"model": model["name"], **wish}
        tasks.append(asyncio.create_task(_view(address, wish, viewer, wait_s, end, jpegs)))
    memory = []
    for share in (0.2, 0.55, 0.95):
        await asyncio.sleep(max(end - (1 - share) * seconds - time.monotonic(), 0))
        memory.append(_memory(server))
    await asyncio.gather(*tasks)
    return seen, memory


async def _view(
    address: str, wish: dict[str, Any], seen: _Seen, wait_s: float, end: float, jpegs: Sequence[bytes]
) -> None:
    """Be one viewer until the end."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import WebSocketException

    await asyncio.sleep(wait_s)
    try:
        url = f"ws{address.removeprefix('http')}api/stream"
        async with connect(url, origin=address.rstrip("/"), open_timeout=_OPEN_S) as socket:
            await socket.send(json.dumps(wish))
            sending = asyncio.create_task(_send_frames(socket, seen, jpegs)) if "camera" in wish else None
            try:
                await asyncio.wait_for(_receive(socket, seen, "video" in wish), max(end - time.monotonic(), 0))
            except asyncio.TimeoutError:
                return
            finally:
                if sending:
                    sending.cancel()
            seen.errors.append("a stream ended before its viewer left")
    except (OSError, WebSocketException) as error:
        seen.errors.append(f"{type(error).__name__}: {error}")


async def _send_frames(socket: Any, seen: _Seen, jpegs: Sequence[bytes]) -> None:
    """Send the frames of a camera at its rate."""
    start = time.monotonic()
    while True:
        await socket.send(struct.pack("<d", seen.sent / _FPS) + jpegs[seen.sent % len(jpegs)])
        seen.sent += 1
        await asyncio.sleep(max(start + seen.sent / _FPS - time.monotonic(), 0))


async def _receive(socket: Any, seen: _Seen, is_video: bool) -> None:
    """Take in the messages of a stream up to its end."""
    async for text in socket:
        message = json.loads(text)
        if message["type"] == "answer":
            seen.delays_s.append(message["delay_s"])
            seen.dropped = message["dropped"]
            if is_video:
                seen.ahead_s.append(message["end_s"] - time.monotonic())
        elif message["type"] == "error":
            seen.errors.append(message["error"])


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "p95": float(np.percentile(values, 95))} if values else {}


def _memory(server: int) -> dict[str, float]:
    """Return MiB of the server, and of its children, in which what they share is divided among them."""
    decoders = 0.0
    for child in _children(server):
        try:
            rollup = Path(f"/proc/{child}/smaps_rollup").read_text()
        except OSError:  # it has ended
            continue
        decoders += int(re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[1]) / 1024
    return {"server": resident_mib(server), "decoders": decoders}


def _children(parent: int) -> list[int]:
    """Return the ids of the processes that a process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            if int(fields[1]) == parent:
                found.append(int(entry.name))
    return found


def _cpu_seconds(server: int) -> float:
    """Return the CPU seconds of a process and of its children, those that ended too."""
    total = 0
    for process in (server, *_children(server)):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15] if process == server else fields[11:13]))
    return total / os.sysconf("SC_CLK_TCK")
