"""The least that a loader does: a bare loop over FFmpeg's decoder, for the frames that a loader asked for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np

from slowfast.datasets.video.packet_index import NO_STAMP, PacketIndex, decoding_runs
from slowfast.datasets.video.pyav import SKIPPING_CODECS, PyAVReader


@dataclass(frozen=True)
class Request:
    """Frames of a file that were asked for together: their sorted indices, and the index of its packets."""

    path: str
    index: PacketIndex
    wanted: tuple[int, ...]


@contextlib.contextmanager
def recorded_requests() -> Iterator[list[Request]]:
    """Yield a list that takes what is asked of files inside; only of those whose frames are found by seeking."""
    requests: list[Request] = []
    original = PyAVReader.each

    def each(self: PyAVReader, wanted: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        if self.facts.counted is None:
            requests.append(Request(self.path, self.index, tuple(wanted)))
        return original(self, wanted)

    PyAVReader.each = each
    try:
        yield requests
    finally:
        PyAVReader.each = original


def decode_barely(request: Request) -> Iterator[np.ndarray]:
    """Open a file, seek, decode as little as the frames need, and yield them as RGB, in the order of time."""
    index = request.index
    with av.open(f"file:{request.path}", metadata_errors="replace") as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        codec.thread_count, codec.thread_type = 1, "NONE"
        skips = codec.name in SKIPPING_CODECS
        for key, positions in decoding_runs(index, list(request.wanted)):
            needed = {index.pts[position] for position in positions}
            missing = set(needed)
            goal = index.key_pts[key] if index.key_dts[key] == NO_STAMP else index.key_dts[key]
            container.seek(goal, stream=stream)
            codec.skip_frame = "DEFAULT"
            for packet in container.demux(stream):
                if skips:
                    codec.skip_frame = "DEFAULT" if packet.pts in needed else "NONREF"
                frames = packet.decode()
                needed.discard(packet.pts)
                if not needed and packet.size:
                    codec.skip_frame = "DEFAULT"
                    frames += codec.decode(None)
                for frame in frames:
                    if frame.pts in missing:
                        missing.discard(frame.pts)
                        yield frame.to_ndarray(format="rgb24")
                if not needed:
                    break


def bare_ms(requests: list[Request]) -> float:
    """Return the milliseconds of processor time that the bare loop takes for all requests."""
    start = time.process_time()
    for request in requests:
        for _ in decode_barely(request):
            pass
    return 1000 * (time.process_time() - start)
