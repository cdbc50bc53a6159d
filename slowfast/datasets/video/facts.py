"""What the first opening of a file finds out, and later ones use."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from slowfast.datasets.video.damage import Span
from slowfast.datasets.video.packet_index import PacketIndex
from slowfast.datasets.video.packet_places import PacketPlaces
from slowfast.datasets.video.reader import Rhythm

# Bytes of the facts of a file without its frames.
_FIXED_BYTES = 2**11
# What a mapping counts as. It is an open file too, so that a process should not have thousands.
MAPPED_BYTES = 2**19


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Facts of a file, so that every opening reads the same frames.

    Attributes:
        stream: its index in the container.
        index: of its packets.
        counted: times of the frames of a file whose packets cannot be trusted; None of others.
        unit: seconds per unit of time stamps.
        fps: mean frame rate.
        size: (width, height) of the frames.
        headed: the header suffices to reopen the file.
        notes: remarks for the user, kind -> text.
        rhythm: see `VideoReader.rhythm`.
        places: where the packets lie in the file; None if FFmpeg has to find them.
        lost_end: span at the end that the header promises, and the file does not hold.
        lost_frames: spans that do not decode. They alone change, as decoding finds them out.
        mapped: the arrays lie in a file, of which memory holds what is used.
    """

    stream: int
    index: PacketIndex
    counted: array[float] | None
    unit: float
    fps: float
    size: tuple[int, int]
    headed: bool
    notes: dict[str, str]
    rhythm: Rhythm | None = None
    places: PacketPlaces | None = None
    lost_end: Span | None = None
    lost_frames: list[Span] = field(default_factory=list)
    mapped: bool = False

    @property
    def count(self) -> int:
        """Number of frames."""
        return len(self.index.pts if self.counted is None else self.counted)

    @property
    def nbytes(self) -> int:
        """Bytes that the facts take in memory, about."""
        if self.mapped:
            return MAPPED_BYTES
        arrays = [self.counted] if self.places is None else self.places.arrays
        rest = sum(numbers.itemsize * len(numbers) for numbers in arrays if numbers is not None)
        return _FIXED_BYTES + self.index.nbytes + rest
