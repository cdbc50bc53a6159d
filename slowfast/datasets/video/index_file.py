"""Index a file when it is first opened: its facts, from its packets or, if these cannot be trusted, by decoding it."""

from __future__ import annotations

import logging

import numpy as np

from slowfast.datasets.video.damage import lost_end, lost_frames
from slowfast.datasets.video.facts import FileFacts
from slowfast.datasets.video.index_cache import LONG_FILE
from slowfast.datasets.video.open_stream import HEADED_CONTAINERS, OpenStream, describe, until_error
from slowfast.datasets.video.packet_index import PacketIndex, index_packets
from slowfast.datasets.video.packet_places import PlaceRecorder
from slowfast.datasets.video.reader import VideoError
from slowfast.datasets.video.stamps import rate_of_packets, time_frames
from slowfast.datasets.video.streams import notes_of_streams, refuse_stills
from slowfast.datasets.video.timing import Timeline

logger = logging.getLogger(__name__)

# Containers whose stamps are, for FFmpeg, times of decoding alone; it guesses those of presentation.
DECODE_STAMPED = {"avi", "asf"}


def index_file(video: OpenStream, descriptor: int | None = None) -> FileFacts:
    """Open a file, and return its facts.

    Args:
        video: the file, not open yet.
        descriptor: of the same file; with it the places of the packets of a long file are among its facts.

    Raises:
        VideoError: the file cannot be read as video.
        OSError, ...: see `DECODE_ERRORS`.
    """
    video.reopen()
    stream, container = video.stream, video.container.format.name
    size = stream.codec_context.width, stream.codec_context.height  # before decoding: in mid-stream it may change
    if 0 in size and (refused := video.limits.why_refused(video.source())):
        raise VideoError(video.path, refused)
    notes = notes_of_streams(video.container, stream)
    packets = until_error(video.packets())
    recorder = None if descriptor is None else PlaceRecorder(video.container, stream, descriptor)
    index = index_packets(packets if recorder is None else recorder.recorded(packets), stream, container)
    end, lost, counted, places = lost_end(video.file or video.path, stream, index), [], None, None
    if index.doubt:
        stamps, corrupt = decode_stamps(video, index.doubt)
        counted, fps, more = time_frames(stamps, video.stream)
        lost = lost_frames(counted, corrupt, len(counted) / fps)
        end = end and (min(end[0], float(counted[-1] + 1 / fps)), end[1])
    else:
        fps, more = rate_of_packets(index.pts, index.last_duration, stream)
        if recorder is not None and len(index.pts) >= LONG_FILE:
            places = recorder.places()
    if end:
        notes["cut"] = f"it is cut off at second {end[0]:.2f} of {end[1]:.2f}"
    unit = float(video.stream.time_base)
    times = seconds_of(index, unit) if counted is None else np.array(counted)
    refuse_stills(video.container, video.stream, len(times), video.path)
    return FileFacts(
        video.stream.index,
        index,
        counted,
        unit,
        fps,
        size,
        counted is None and container in HEADED_CONTAINERS,
        notes | more,
        Timeline.of_times(times, fps).rhythm,
        places,
        end,
        lost,
    )


def decode_stamps(video: OpenStream, doubt: str) -> tuple[list[int | None], set[int]]:
    """Decode the whole file; return the stamps of its frames (None for none), and the places of damaged ones."""
    logger.debug("%s: counting frames by decoding (%s)", video.path, doubt)
    causes: list[Exception] = []
    by_decoding = video.container.format.name in DECODE_STAMPED
    stamps, corrupt = [], set()
    for place, frame in enumerate(video.decode_all(causes.append)):
        stamps.append(frame.dts if by_decoding else frame.pts)
        if frame.is_corrupt:
            corrupt.add(place)
    if not stamps:
        refused = video.limits.why_refused(video.source()) if causes else ""
        if refused:
            raise VideoError(video.path, refused)
        cause = describe(causes[0]) if causes else "the file ends before the first frame"
        raise VideoError(video.path, f"no frame of it decodes ({cause})")
    return stamps, corrupt


def seconds_of(index: PacketIndex, unit: float) -> np.ndarray:
    """Return the times of the frames of an index in seconds from the first one; `unit` is that of the stamps."""
    pts = np.array(index.pts)
    return (pts - pts[0]) * unit
