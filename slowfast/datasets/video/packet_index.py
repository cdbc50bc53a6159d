"""Index the frames of a video file from its packets, without decoding them.

Reading the packets of a ten-second clip takes a few milliseconds, decoding it a hundred times as long. But packets are
not frames: some containers reorder or invent time stamps, some codecs have packets without a picture, and a truncated
file ends in a packet that does not decode. Then `PacketIndex.doubt` is set, and the reader counts frames by decoding.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from slowfast.datasets.video.stamps import MAX_FPS, STAMPED_CONTAINERS, longest_gap

if TYPE_CHECKING:
    from av import Packet
    from av.video.stream import VideoStream

# One packet, one frame shown, in the containers above, also with reordered frames.
ONE_FRAME_CODECS = {"h264", "hevc", "vp9", "av1", "libdav1d"}
# One packet, one frame shown, in any container, as long as no frame is reordered (unlike VP8 and Theora).
UNORDERED_CODECS = {"mpeg4", "msmpeg4v3", "mjpeg", "cinepak", "prores"}
# Seeking forward costs about as much as decoding this many frames.
_SEEK_COST = 8
# Stands for a missing time stamp, as in FFmpeg (AV_NOPTS_VALUE).
NO_STAMP = -(2**63)
# An MPEG-4 packet under this many bytes may be a mere header, "not coded", which shows nothing.
SMALLEST_MPEG4_FRAME = 12


@dataclass(slots=True)
class PacketIndex:
    """Time stamps and key packets of a stream, in arrays, since many indices are kept.

    Attributes:
        pts: time stamp of every frame shown, sorted; empty if packets carry none.
        key_pts: time stamps of the packets at which decoding can start, in file order.
        key_dts: times of decoding of these packets; `NO_STAMP` for none.
        last_duration: of the last packet, and so of the last frame; 0 if unknown. (Durations of other packets may be
            differences of decode times.)
        cut_off: a packet is shorter than it should be.
        doubt: why packets may not be frames; "" if they are.
    """

    pts: array[int] = field(default_factory=lambda: array("q"))
    key_pts: array[int] = field(default_factory=lambda: array("q"))
    key_dts: array[int] = field(default_factory=lambda: array("q"))
    last_duration: int = 0
    cut_off: bool = False
    doubt: str = ""

    def key_of(self, pts: int) -> int:
        """Return the number of the key packet where decoding must start to get the frame at `pts`.

        Frames that follow a key packet in the file but precede it on screen (open GOP) belong to the key
        before.
        """
        return max(bisect_right(self.key_pts, pts) - 1, 0)

    def starts_by(self, pts: int | None, key: int) -> bool:
        """Return True if the key packet with time stamp `pts` is at or before key packet number `key`."""
        if pts is None:
            return False
        place = bisect_left(self.key_pts, pts, hi=key + 1)
        return place <= key and self.key_pts[place] == pts

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays; 8 for each frame and 16 for each key packet, 8 in all if every frame is a key frame."""
        arrays = {id(stamps): stamps for stamps in (self.pts, self.key_pts, self.key_dts)}
        return sum(stamps.itemsize * len(stamps) for stamps in arrays.values())


def index_packets(packets: Iterable[Packet], stream: VideoStream, container: str) -> PacketIndex:
    """Index the packets of one video stream.

    Args:
        packets: all packets of `stream` in file order.
        stream: the stream, for its codec and the number of frames its header claims.
        container: FFmpeg's name of the container format.
    """
    index = PacketIndex()
    smallest, count, decoded = 1 << 62, 0, None
    stamped = container in STAMPED_CONTAINERS
    seen: set[int] = set()
    shown, starts_with_key = array("q"), False
    key_pts, key_dts = array("q"), array("q")
    for packet in packets:
        if packet.size == 0:
            continue
        if packet.is_corrupt:
            index.cut_off = True
            index.doubt = index.doubt or "a packet is cut off"
        if packet.pts is None or packet.pts in seen:
            index.doubt = index.doubt or "packets without time stamps, or with equal ones"
            return index
        seen.add(packet.pts)
        if not stamped and packet.dts is not None:
            if decoded is not None and packet.dts < decoded:
                index.doubt = index.doubt or "time stamps step back"
            decoded = packet.dts
        if packet.is_keyframe:
            key_pts.append(packet.pts)
            key_dts.append(NO_STAMP if packet.dts is None else packet.dts)
            starts_with_key = starts_with_key or count == 0
        if not packet.is_discard:
            index.last_duration = packet.duration or 0
            shown.append(packet.pts)
        smallest = min(smallest, packet.size)
        count += 1
    index.pts = array("q", sorted(shown))
    # Where all frames are key frames, one array is enough. A slice has no room for more, as an array that grew has.
    index.key_pts = index.pts if key_pts == index.pts else key_pts[:]
    index.key_dts = index.key_pts if key_dts == index.key_pts else key_dts[:]
    index.doubt = index.doubt or _doubt(index, stream, container, count, smallest)
    if not index.doubt and not (starts_with_key and index.pts[0] >= index.key_pts[0]):
        index.doubt = "the file does not start with a key frame"
    return index


def _doubt(index: PacketIndex, stream: VideoStream, container: str, count: int, smallest: int) -> str:
    """Return why packets may not be frames; "" if they are."""
    codec = stream.codec_context
    stamped = container in STAMPED_CONTAINERS
    if not index.pts:
        return "no packets"
    if codec.name in ONE_FRAME_CODECS:
        if not stamped and codec.has_b_frames:
            return f"{codec.name} with reordered frames in a container without presentation times"
    elif codec.name not in UNORDERED_CODECS or codec.has_b_frames:
        return f"{codec.name} packets need not show a frame each"
    if codec.name in ("mpeg4", "msmpeg4v3") and smallest < SMALLEST_MPEG4_FRAME:
        return "packets too small to hold a frame"
    if stamped and stream.frames and stream.frames != count:
        return f"{count} packets where the header says {stream.frames}"
    if any(after < before for before, after in pairwise(index.key_pts)):
        return "key frames out of order"
    span = float((index.pts[-1] - index.pts[0]) * stream.time_base)
    if len(index.pts) - 1 > MAX_FPS * span:
        return "time stamps too close together"
    gap = longest_gap(stream)
    if span > gap and any((after - before) * stream.time_base > gap for before, after in pairwise(index.pts)):
        return "time stamps jump"
    return ""


def decoding_runs(index: PacketIndex, positions: list[int]) -> list[tuple[int, list[int]]]:
    """Group sorted positions into (key packet, positions) to decode in one go; seek only where that is cheaper."""
    runs: list[tuple[int, list[int]]] = []
    for position in positions:
        key = index.key_of(index.pts[position])
        if runs:
            last = runs[-1][1][-1]
            if _frames_between(index, last, index.key_pts[key]) <= _SEEK_COST:
                runs[-1][1].append(position)
                continue
        runs.append((key, [position]))
    return runs


def _frames_between(index: PacketIndex, position: int, pts: int) -> int:
    """Count the frames after `position` and before time stamp `pts`, up to `_SEEK_COST` + 1."""
    ahead = index.pts[position + 1 : position + 2 + _SEEK_COST]
    return sum(1 for stamp in ahead if stamp < pts)
