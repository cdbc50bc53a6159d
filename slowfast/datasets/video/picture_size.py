"""Read the size of a picture from the header of its file, before a decoder makes room for it."""

from __future__ import annotations

import re
import struct

# Comments end with a line, as in OpenCV.
_PNM = re.compile(rb"P[1-6](?:\s|#[^\r\n]*[\r\n])+(\d+)(?:\s|#[^\r\n]*[\r\n])+(\d+)\s")
_PNM_HEADER_BYTES = 1000
# Chunks of a PNG file; the largest pictures have some ten thousand of 8 KiB.
_PNG_CHUNKS = 2**18
# TIFF: tags of width and height, and letters of `struct` for the types of their values.
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_TYPES = 256, 257, {1: "B", 3: "H", 4: "I"}


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) of a JPEG, PNG, BMP, WebP, TIFF or PNM file; None for other or damaged ones.

    Where a file could be read in two ways, the size is the one that OpenCV's decoder would take.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg_size(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png_size(data)
        if data.startswith(b"BM"):
            (header_bytes,) = struct.unpack_from("<I", data, 14)
            width, height = struct.unpack_from("<HH" if header_bytes == 12 else "<ii", data, 18)
            return abs(width), abs(height)  # a negative height stands for rows from the top
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp_size(data)
        if data.startswith((b"II*\0", b"MM\0*")):
            return _tiff_size(data)
    except (struct.error, IndexError, KeyError):
        return None
    header = _PNM.match(data[:_PNM_HEADER_BYTES])
    return (int(header[1]), int(header[2])) if header else None


def _png_size(data: bytes) -> tuple[int, int] | None:
    """Return the size in the header; None if a chunk claims more than the file holds, for which OpenCV makes room."""
    place = 8
    for _ in range(_PNG_CHUNKS):
        if place + 8 > len(data) or data[place + 4 : place + 8] == b"IEND":
            return struct.unpack_from(">II", data, 16)
        place += 12 + struct.unpack_from(">I", data, place)[0]
        if place > len(data):
            return None
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return the size in the first frame header (SOF); segments before it are passed over by their lengths."""
    place = 2
    while True:
        # Like libjpeg, go to the next marker: any number of 0xFF, and another byte that is not 0.
        place = data.find(b"\xff", place)
        if place < 0:
            return None
        while data[place] == 0xFF:
            place += 1
        marker, place = data[place], place + 1
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, place + 3)
            return width, height
        if marker in (0xD9, 0xDA):  # the end, or pixels without a frame header
            return None
        if marker not in (0, 1) and not 0xD0 <= marker <= 0xD8:
            place += struct.unpack_from(">H", data, place)[0]


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return None


def _tiff_size(data: bytes) -> tuple[int, int]:
    order = "<" if data.startswith(b"II") else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    values: dict[int, int] = {}
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in (_TIFF_WIDTH, _TIFF_HEIGHT):
            values.setdefault(tag, *struct.unpack_from(order + _TIFF_TYPES[kind], data, entry + 8))
    return values[_TIFF_WIDTH], values[_TIFF_HEIGHT]
