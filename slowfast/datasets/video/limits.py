"""Limit what a media file may ask of this program: its container format, what it opens, and the size of a frame."""

from __future__ import annotations

import contextlib
import re
import threading
from dataclasses import dataclass
from typing import Any, BinaryIO

import av
import av.logging

from slowfast.config.defaults.data import DATA
from slowfast.utils.errors import naming_keys

# FFmpeg's names of the container formats that are read. A file of any of them holds all its data itself. Others name
# files or addresses that FFmpeg would open (hls, dash, concat, sdp, image2 with a pattern), or are no videos (tty).
FORMATS = (
    # of cameras, phones, downloads and editors
    "mov", "mp4", "matroska", "webm", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "asf", "ogg", "mxf", "dv", "rm",
    "swf", "nut", "ivf", "wtv", "gxf", "cine", "dhav",
    # streams of one codec
    "h261", "h263", "h264", "hevc", "vvc", "evc", "av1", "obu", "m4v", "vc1", "vc1test", "dirac", "cavsvideo",
    "avs2", "avs3", "dnxhd", "apv", "mjpeg", "mpjpeg", "mjpeg_2000", "smjpeg", "yuv4mpegpipe",
    # pictures one after the other, and single ones, which are told apart later
    "gif", "apng", "jpegxl_anim", "ico", "png_pipe", "jpeg_pipe", "jpegls_pipe", "j2k_pipe", "jpegxl_pipe", "bmp_pipe",
    "webp_pipe", "tiff_pipe", "ppm_pipe", "pgm_pipe", "pam_pipe", "dpx_pipe", "exr_pipe", "qoi_pipe",
    # sound alone, which has a message of its own
    "wav", "mp3", "aac", "flac",
)  # fmt: skip

_OVERSIZED = re.compile(r"Picture size (\d+)x(\d+) exceeds")
_NOT_LISTED = "Format not on whitelist"
_capturing = threading.Lock()


@dataclass(frozen=True)
class MediaLimits:
    """Limits on media files.

    Args:
        extra_formats: FFmpeg's names of container formats that are read besides `FORMATS`.
        frame_pixels: greatest number of pixels of a frame or picture; 0 for no limit.
    """

    extra_formats: tuple[str, ...] = ()
    frame_pixels: int = DATA["MAX_FRAME_PIXELS"]

    @staticmethod
    def from_config(cfg: Any) -> MediaLimits:
        """Build from a configuration; ValueError for a format that FFmpeg cannot read."""
        with naming_keys(cfg, "DATA.MEDIA_FORMATS_EXTRA"):
            for name in cfg.DATA.MEDIA_FORMATS_EXTRA:
                try:
                    av.ContainerFormat(name, "r")
                except ValueError:
                    raise ValueError(
                        f"FFmpeg reads no container format {name!r}; ffmpeg -demuxers lists them"
                    ) from None
        return MediaLimits(tuple(cfg.DATA.MEDIA_FORMATS_EXTRA), cfg.DATA.MAX_FRAME_PIXELS)

    @property
    def options(self) -> dict[str, str]:
        """Options of FFmpeg for opening a file, which also hold for files that this file opens."""
        options = {"format_whitelist": ",".join(FORMATS + self.extra_formats), "protocol_whitelist": "file"}
        # Decoders, also those that look at the first frames during opening, refuse larger frames.
        return options | ({"max_pixels": str(self.frame_pixels)} if self.frame_pixels else {})

    def oversized(self, width: int, height: int) -> str:
        """Return the cause for not reading a frame of that size, or ""."""
        if not self.frame_pixels or width * height <= self.frame_pixels:
            return ""
        return (
            f"a frame of {width} x {height} has {width * height / 1e6:.1f} million pixels; DATA.MAX_FRAME_PIXELS "
            f"allows {self.frame_pixels / 1e6:g} million"
        )

    def why_refused(self, source: str | BinaryIO) -> str:
        """Open a file once more, to find out which limit it exceeds; return the cause, or "" if it exceeds none.

        FFmpeg tells its log alone.
        """
        with _capturing:
            level, skip = av.logging.get_level(), av.logging.get_skip_repeated()
            av.logging.set_skip_repeated(False)
            av.logging.set_level(av.logging.ERROR)
            try:
                with (
                    av.logging.Capture() as lines,
                    contextlib.suppress(av.FFmpegError, IndexError),
                    av.open(source, options=self.options, metadata_errors="replace") as container,
                ):
                    next(container.decode(video=0), None)
            finally:
                av.logging.set_level(level)
                av.logging.set_skip_repeated(skip)
        for _, source, text in lines:
            if text.startswith(_NOT_LISTED):
                return (
                    f"its format is {source}, which is not among the container formats that are read; "
                    f"DATA.MEDIA_FORMATS_EXTRA {[source.split(',')[0]]} adds it"
                )
            if size := _OVERSIZED.search(text):
                return self.oversized(int(size[1]), int(size[2]))
        return ""


USUAL_LIMITS = MediaLimits()
"""Limits without settings, as tools have that read none."""
