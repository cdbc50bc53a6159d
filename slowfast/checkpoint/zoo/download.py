"""Download a large file: resumable, verified, with a progress bar, by one process of several."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import short
from slowfast.utils.files import atomic_write_local, file_lock
from slowfast.utils.json_file import parse_json

logger = get_logger(__name__)

TIMEOUT_S = 30  # without receiving a byte, or until the head of an answer is whole
SPEED_VARIABLE = "SLOWFAST_DOWNLOAD_MIN_SPEED"  # environment: bytes per second; a slower download is given up
_SLOWEST = 1000.0  # its default
SPEED_WINDOW_S = 30  # over which the speed is averaged
LARGEST = 64 << 30  # bytes of a file whose size neither the zoo nor the server states
ATTEMPTS = 5  # in a row without new bytes
PAUSE_S = 1.0  # before the second attempt, doubled for each further one
_CHUNK = 1 << 18
_RETRIED = {408, 425, 429, 500, 502, 503, 504}


class DownloadError(OSError):
    """The download failed; the message says why, and where to put the file by hand."""


class _BrokenOff(Exception):
    """The connection ended early; the received bytes are kept."""


class _TooSlow(_BrokenOff):
    """The connection was closed because too few bytes came."""


@dataclasses.dataclass(frozen=True)
class FileDigest:
    """Size in bytes and SHA-256 (hexadecimal) of a file; 0 and "" if unknown."""

    size: int = 0
    sha256: str = ""

    @classmethod
    def of(cls, path: Path) -> FileDigest:
        """Compute size and SHA-256 of a file."""
        digest = hashlib.sha256()
        with open(path, "rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        return cls(path.stat().st_size, digest.hexdigest())

    @classmethod
    def recorded(cls, path: Path) -> FileDigest:
        """Return the digest recorded beside a file; an unknown one if there is none or it cannot be read."""
        noted = _read_json(_beside(path, ".json"))
        return cls(noted["size"], noted["sha256"]) if _has(noted, size=int, sha256=str) else cls()

    def record(self, path: Path) -> None:
        """Record this digest beside a file."""
        atomic_write_local(_beside(path, ".json"), json.dumps(dataclasses.asdict(self)) + "\n")

    def difference(self, path: Path) -> str | None:
        """Describe how a file differs from this size and SHA-256; None if it does not."""
        size = path.stat().st_size
        if self.size and size != self.size:
            return f"its size is {size} bytes, and should be {self.size}"
        if self.sha256:
            found = self.of(path).sha256
            if found != self.sha256:
                return f"its SHA-256 is {found}, and should be {self.sha256}"
        return None


def _beside(path: Path, ending: str) -> Path:
    """Return `path` with `ending` added to its name."""
    return path.with_name(path.name + ending)


def _read_json(path: Path) -> Any:
    """Return the content of a small JSON file; None if there is none or it cannot be read."""
    try:
        return parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def _has(noted: Any, **kinds: type) -> bool:
    """Return True if `noted` is a dict with values of these types."""
    return isinstance(noted, dict) and all(type(noted.get(key)) is kind for key, kind in kinds.items())


def download(url: str, target: Path, known: FileDigest, name: str) -> None:
    """Download a file to `target`; if it is there, only verify it.

    The bytes are written to `target.part`, where a later call resumes, if the server's file is still the same. The file
    is moved to `target` once it is complete and verified. Its size and SHA-256 are recorded beside it, so that later
    damage is found even if they were unknown. One process of several downloads, and the others wait. A server that
    sends fewer bytes per second than `SPEED_VARIABLE` says is given up.

    Args:
        known: size and SHA-256, if known.
        name: name of the file in messages.

    Raises:
        DownloadError: the download failed.
        ValueError: the file has another size or SHA-256 than it should, or `SPEED_VARIABLE` is no number.
    """
    _slowest()
    target.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(_beside(target, ".lock"), name):
        if not target.exists():
            logger.info("downloading %s from %s to %s", name, url, target)
            try:
                _fetch(url, target, known, name)
            except DownloadError as error:
                raise DownloadError(f"{error}. To do without, put the file of {url} at {target} by hand") from error
        for digest in (known, FileDigest.recorded(target)):
            wrong = digest.difference(target)
            if wrong:
                raise ValueError(f"{name}: {target} is damaged: {wrong}. Delete it to download it again")
        if not FileDigest.recorded(target).sha256:
            FileDigest.of(target).record(target)


def _fetch(url: str, target: Path, known: FileDigest, name: str) -> None:
    part = _beside(target, ".part")
    resumed = part.exists()
    _receive_all(url, part, known, name)
    wrong = known.difference(part)
    if wrong and resumed:
        # The part of an earlier call may be of another file.
        logger.warning("%s: downloaded in several parts, %s; downloading it again", name, wrong)
        part.unlink()
        _receive_all(url, part, known, name)
        wrong = known.difference(part)
    if wrong:
        part.unlink()
        raise ValueError(f"{name}: {url} gives another file than it should: {wrong}. Nothing of it was kept")
    os.replace(part, target)
    _beside(part, ".json").unlink(missing_ok=True)


def _receive_all(url: str, part: Path, known: FileDigest, name: str) -> None:
    """Fill `part`, resuming after each interruption, until it is complete or nothing more arrives."""
    if part.is_symlink() or (part.exists() and not part.is_file()):
        raise DownloadError(f"{name} cannot be downloaded: {part} is no regular file. Move it away")
    idle = 0
    while True:
        before = _size(part)
        try:
            return _receive(url, part, known, name)
        except _BrokenOff as error:
            idle = 0 if _size(part) > before and not isinstance(error, _TooSlow) else idle + 1
            if idle >= ATTEMPTS:
                raise DownloadError(
                    f"{name} could not be downloaded: {error}, {idle} times in a row. {_size(part)} bytes are kept, "
                    "and the same command goes on from there"
                ) from error
            logger.warning("%s: %s after %d bytes; trying again", name, error, _size(part))
        time.sleep(PAUSE_S * 2 ** max(0, idle - 1))


def _receive(url: str, part: Path, known: FileDigest, name: str) -> None:
    """Request the missing bytes of `part`.

    Raises:
        _BrokenOff: not all bytes arrived; another attempt may help.
        DownloadError: another attempt cannot help.
        ValueError: the server's file has another size than it should.
    """
    note = _note(part, url)
    if note["total"] and note["total"] == _size(part):
        return  # an earlier call was stopped between the last byte and the move
    with _open(url, part, note, known, name) as response:
        start, total = _range_of(response, part, note, name)
        if known.size and total and total != known.size:
            raise ValueError(f"{name}: the file at {url} has {total} bytes, and should have {known.size}")
        free = shutil.disk_usage(part.parent).free
        if (total or known.size) - start > free:
            raise DownloadError(
                f"{name} cannot be downloaded: it needs {(total or known.size) - start:,} bytes, and {free:,} are free "
                f"in {part.parent}"
            )
        try:
            if start == 0:
                signs = {"etag": response.headers.get("ETag", ""), "date": response.headers.get("Last-Modified", "")}
                atomic_write_local(_beside(part, ".json"), json.dumps({"url": url, "total": total, **signs}))
            bar = tqdm(total=total or None, initial=start, unit="B", unit_scale=True, desc=name, disable=None)
            with open(part, "ab" if start else "wb") as stream, bar:
                try:
                    for chunk in _chunks(response):
                        stream.write(chunk)
                        bar.update(len(chunk))
                        if stream.tell() > (total or known.size or LARGEST):
                            break
                finally:
                    stream.flush()
                    os.fsync(stream.fileno())
        except OSError as error:
            raise DownloadError(f"{name} cannot be written to {part}: {error.strerror or error}") from error
    size = _size(part)
    if size > (total or known.size or LARGEST):
        part.unlink()
        raise ValueError(f"{name}: {url} sends more than the {total or known.size or LARGEST} bytes that it should")
    if size < total:
        raise _BrokenOff(f"the connection ended {total - size} bytes early")
    if not size:
        raise DownloadError(f"{name} cannot be downloaded: the server sends an empty file")


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the body of a response as it arrives; _BrokenOff if it breaks off or is too slow."""
    slowest = _slowest()
    since, count = time.monotonic(), 0
    while True:
        try:
            # Not `read`, which waits for all of its bytes, however slowly they come.
            chunk = response.read1(_CHUNK)
        except (http.client.HTTPException, OSError) as error:
            raise _BrokenOff(f"the connection broke ({type(error).__name__})") from error
        if not chunk:
            return
        yield chunk
        count += len(chunk)
        passed = time.monotonic() - since
        if passed >= SPEED_WINDOW_S:
            if count < slowest * passed:
                raise _TooSlow(
                    f"only {count / passed:.0f} bytes a second came, fewer than {slowest:.0f} (the environment "
                    f"variable {SPEED_VARIABLE} sets another limit, 0 none)"
                )
            since, count = time.monotonic(), 0


def _slowest() -> float:
    text = os.environ.get(SPEED_VARIABLE, "")
    try:
        speed = float(text) if text else _SLOWEST
    except ValueError:
        speed = -1.0
    if not 0 <= speed < float("inf"):
        raise ValueError(f"{SPEED_VARIABLE} is {short(text)!r}; it is a number of bytes a second, or 0 for no limit")
    return speed


def _open(url: str, part: Path, note: dict, known: FileDigest, name: str) -> http.client.HTTPResponse:
    headers = {"User-Agent": "slowfast-zoo", "Accept-Encoding": "identity"}
    sign = _validator(note)
    if not sign and not (note["url"] and known.sha256):
        part.unlink(missing_ok=True)  # nothing would tell whether the rest is of the same file
    if _size(part):
        headers["Range"] = f"bytes={_size(part)}-"
        if sign and not sign.startswith("W/"):
            headers["If-Range"] = sign
    try:
        _check_address(url)
        response = _OPENER.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        told = f"the server answers {error.code} {short(error.reason, 200)}"
        if error.code == 416:  # the part is as long as the file or longer, so it is of another file
            part.unlink(missing_ok=True)
        if error.code in {416, *_RETRIED}:
            raise _BrokenOff(told) from error
        raise DownloadError(f"{name} cannot be downloaded: {told}") from error
    except (http.client.InvalidURL, ValueError) as error:
        raise DownloadError(f"{name} cannot be downloaded: {short(error)}") from error
    except (TimeoutError, ConnectionResetError, http.client.HTTPException) as error:
        raise _BrokenOff(f"the server does not answer ({type(error).__name__})") from error
    except OSError as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, (TimeoutError, ConnectionResetError)):
            raise _BrokenOff(f"the server does not answer ({reason})") from error
        raise DownloadError(f"{name} cannot be downloaded: no connection to its server ({reason})") from error
    problem = _unusable(response)
    if problem:
        response.close()
        raise DownloadError(f"{name} cannot be downloaded: the server {problem}")
    return response


def _unusable(response: http.client.HTTPResponse) -> str:
    """Return what is wrong with an answer before its first byte is read; "" if nothing is."""
    headers = response.headers
    length, packed = headers.get("Content-Length", "0").strip(), headers.get("Content-Encoding", "").strip()
    if response.status not in (200, 206):
        return f"answers {response.status} {short(response.reason)}, without the file"
    if headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        return "sends a web page in its place"
    if packed.lower() not in ("", "identity"):
        return f"sends it packed (Content-Encoding {short(packed)!r}), though it was asked not to"
    if not re.fullmatch("[0-9]{1,18}", length):
        return f"states an impossible size (Content-Length {short(length)!r})"
    return ""


def _range_of(response: http.client.HTTPResponse, part: Path, note: dict, name: str) -> tuple[int, int]:
    """Return the offset at which a response starts, and the size of the whole file (0 if unknown).

    Raises:
        _BrokenOff: the response does not continue `part`, which is then removed.
        DownloadError: a part of the file came though all of it was requested.
    """
    length = int(response.headers.get("Content-Length") or 0)
    if response.status != 206:
        return 0, length
    size = _size(part)
    if not size:
        raise DownloadError(f"{name} cannot be downloaded: the server sends a part of it in place of the whole")
    match = re.fullmatch(
        r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", response.headers.get("Content-Range", "").strip()
    )
    total = int(match[2]) if match and match[2] != "*" else size + length
    signs = {"etag": response.headers.get("ETag", ""), "date": response.headers.get("Last-Modified", "")}
    changed = any(note[key] and sign and note[key] != sign for key, sign in signs.items())
    if match is None or int(match[1]) != size or total < size or note["total"] not in (0, total) or changed:
        part.unlink(missing_ok=True)
        raise _BrokenOff("the server's file changed, or it answers with another part of it")
    return size, total


def _validator(note: dict) -> str:
    """Return what tells versions of the server's file apart, its ETag or its date; "" if it has neither."""
    tag = note["etag"]
    return note["date"] or tag if tag.startswith("W/") else tag or note["date"]


def _note(part: Path, url: str) -> dict:
    """Return the note on the first response for `part`; without one for this address, remove the part."""
    note = _read_json(_beside(part, ".json"))
    if _has(note, url=str, total=int, etag=str, date=str) and note["url"] == url:
        return note
    part.unlink(missing_ok=True)
    return {"url": "", "total": 0, "etag": "", "date": ""}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check_address(url: str, before: str = "") -> None:
    """Check that an address, to which `before` leads, is of the web.

    Raises:
        ValueError: it is of another kind, such as a file, or drops the encryption that `before` has.
    """
    kinds = ("https",) if before.lower().startswith("https:") else ("http", "https")
    if urlsplit(url).scheme.lower() not in kinds:
        raise ValueError(f"{short(url)} is not an address of {' or '.join(kinds)}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        fp.close()  # urllib would read the whole body, however long
        _check_address(newurl, req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _HeadInTime:
    """Connection that waits `TIMEOUT_S` for the whole head of an answer, not for each byte of it."""

    def getresponse(self) -> http.client.HTTPResponse:
        late = threading.Event()

        def stop() -> None:
            late.set()
            self.sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(TIMEOUT_S, stop)
        timer.daemon = True
        timer.start()
        try:
            response = super().getresponse()
        except Exception:
            if not late.is_set():
                raise
        finally:
            timer.cancel()
        if late.is_set():
            raise TimeoutError("no answer in time")
        return response


class _HttpConnection(_HeadInTime, http.client.HTTPConnection):
    pass


class _HttpsConnection(_HeadInTime, http.client.HTTPSConnection):
    pass


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, req: Any) -> Any:
        return self.do_open(_HttpConnection, req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: Any) -> Any:
        return self.do_open(_HttpsConnection, req)


_OPENER = urllib.request.build_opener(_Redirects, _HttpHandler, _HttpsHandler)
