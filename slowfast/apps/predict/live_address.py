"""Addresses of live sources, and how FFmpeg opens them.

An address is opened because a user names it, and what comes from it can open no files: of FFmpeg's protocols each
scheme may use those that it needs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import socket
import stat
import sys
import threading
from urllib.parse import urlsplit

import av
from av.container import InputContainer

from slowfast.datasets.video.limits import MediaLimits
from slowfast.datasets.video.open_stream import DECODE_ERRORS

_STANDARD_INPUT = "-"
# Protocols of FFmpeg that an address of a scheme may use, also by redirection or in a playlist.
_HTTP = "http,https,httpproxy,tcp,tls,crypto"
_RTSP = "rtsp,rtsps,rtp,srtp,udp,tcp,tls"
_RTMP = "rtmp,rtmps,tcp,tls"
_PROTOCOLS = {
    **{"http": _HTTP, "https": _HTTP, "rtsp": _RTSP, "rtsps": _RTSP, "rtmp": _RTMP, "rtmps": _RTMP},
    **{"udp": "udp", "tcp": "tcp"},
}
# Container formats of addresses besides those of files.
_FORMATS = ("hls", "rtsp")
# Through TCP no packets are lost. A burst of datagrams that is too long loses some, and does not end the stream.
_OPTIONS = {"rtsp_flags": "prefer_tcp", "overrun_nonfatal": "1"}
# Live sources that tell their end. Of the others FFmpeg cannot tell an end from a broken connection.
_ENDING_SCHEMES, _ENDING_FORMATS = ("tcp",), ("hls",)
_CAMERA = re.compile(r"/dev/video[0-9]+|[0-9]{1,3}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_CAMERA_FORMAT = "v4l2"


def is_live(source: str) -> bool:
    """Return True for standard input ("-"), a camera ("/dev/video0", or its number) and an address ("rtsp://...").

    A name that a file or folder has, such as 0, is none of these, apart from that of a device.
    """
    if source.isdigit() and os.path.exists(source):
        return False
    return source == _STANDARD_INPUT or bool(_CAMERA.fullmatch(source) or _SCHEME.match(source))


class LiveAddress:
    """Address of a live source.

    Args:
        text: "-", "/dev/video0", the number of a camera, or an address such as "rtsp://camera/stream".

    Attributes:
        name: the address for people, without the user's name and password.
        is_pipe: it is standard input.

    Raises:
        ValueError: no such kind of source; or standard input is a terminal.
    """

    def __init__(self, text: str) -> None:
        self.is_pipe = text == _STANDARD_INPUT
        self._scheme = ""
        if self.is_pipe:
            if sys.stdin is None or sys.stdin.isatty():
                raise ValueError("standard input is a terminal, and a video is needed: cat video.ts | ...")
            self.name = "standard input"
        elif _CAMERA.fullmatch(text):
            self.name = f"/dev/video{text}" if text.isdigit() else text
        else:
            self.name, scheme = re.sub(r"(?<=://)[^/?#]*@", "", text), _SCHEME.match(text)
            self._scheme = scheme[1].lower() if scheme else ""
            if self._scheme not in _PROTOCOLS:
                raise ValueError(
                    f"{self.name} is no live source: it must be -, /dev/video0, a camera's number, or an address that "
                    f"begins with one of {', '.join(f'{name}://' for name in _PROTOCOLS)}"
                )
        self._url = text if self._scheme else self.name
        self._host = urlsplit(text).hostname if self._scheme else None

    def open(self, limits: MediaLimits, timeout_s: float, closing: threading.Event) -> InputContainer:
        """Open it by FFmpeg.

        Args:
            limits: on the size of frames, and formats besides the usual ones.
            timeout_s: seconds without data after which opening, or later reading, fails.
            closing: ends the wait for standard input.

        Raises:
            DECODE_ERRORS: it cannot be opened, see `cause`.
        """
        if self.is_pipe:
            options = limits.options | {"protocol_whitelist": "pipe"}
            return av.open(_StandardInput(closing), options=options, metadata_errors="replace")
        timeout = timeout_s, timeout_s
        if not self._scheme:
            return av.open(self._url, format=_CAMERA_FORMAT, timeout=timeout)
        options = MediaLimits(limits.extra_formats + _FORMATS, limits.frame_pixels).options
        options |= _OPTIONS | {"protocol_whitelist": _PROTOCOLS[self._scheme]}
        return av.open(self._url, options=options, timeout=timeout, metadata_errors="replace")

    def cause(self, error: Exception, timeout_s: float) -> str:
        """Return why opening or reading failed; FFmpeg's own words have no host, or a password in the address."""
        if isinstance(error, av.ExitError):
            return f"no data for {timeout_s:g} s"
        if self._host:
            try:
                socket.getaddrinfo(self._host, 0)
            except (OSError, UnicodeError):
                return f"there is no host {self._host}"
        if isinstance(error, EOFError):
            return "it ends before the first frame"
        if not isinstance(error, av.FFmpegError):
            return f"its data are damaged ({error})"
        if self._scheme and error.errno == errno.EIO:
            return "the connection broke"
        if self.is_pipe and isinstance(error, av.InvalidDataError):
            return f"{error.strerror}; a pipe takes MPEG-TS, Matroska or AVI, and mp4 only if its index comes first"
        return error.strerror

    def tells_end(self, container: InputContainer) -> bool:
        """Return True if the end of a live connection is that of the source."""
        return self._scheme in _ENDING_SCHEMES or container.format.name in _ENDING_FORMATS


class _StandardInput:
    """Standard input as FFmpeg reads it: as much as is there; it ends when the source is closed."""

    name = "standard input"

    def __init__(self, closing: threading.Event) -> None:
        self._descriptor, self._closing = sys.stdin.fileno(), closing

    def read(self, size: int) -> bytes:
        """Wait for bytes, and return at most `size` of them; none at the end."""
        while not self._closing.is_set():
            if select.select([self._descriptor], [], [], 0.1)[0]:
                return os.read(self._descriptor, size)
        return b""

    def seekable(self) -> bool:
        """Return True if it is a file."""
        return stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place of a file."""
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        """Return the place in a file."""
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)


def has_an_end(container: InputContainer) -> bool:
    """Return True if a source tells its length, in seconds or, unless it is a playlist, in bytes."""
    if container.duration:
        return True
    with contextlib.suppress(*DECODE_ERRORS):
        return container.format.name != "hls" and container.size > 0
    return False
