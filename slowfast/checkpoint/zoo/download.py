"""Download a large file: resumable, verified, with a progress bar, by one process of several."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from slowfast.runtime.logging import get_logger
from slowfast.utils.files import atomic_write_local, file_lock
from slowfast.utils.json_file import parse_json

logger = get_logger(__name__)

TIMEOUT_S = 30  # without receiving a byte
ATTEMPTS = 5  # in a row without new bytes
PAUSE_S = 1.0  # before the second attempt, doubled for each further one
_CHUNK = 1 << 18
_RETRIED = {408, 425, 429, 500, 502, 503, 504}


class DownloadError(OSError):
    """The download failed; the message says why, and where to put the file by hand."""


class _BrokenOff(Exception):
    """The connection ended early; the received bytes are kept."""


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
        try:
            known = cls(**parse_json(_beside(path, ".json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return cls()
        return known if isinstance(known.size, int) and isinstance(known.sha256, str) else cls()

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


def download(url: str, target: Path, known: FileDigest, name: str) -> None:
    """Download a file to `target`; if it is there, only verify it.

    The bytes are written to `target.part`, where a later call resumes. The file is moved to `target` once it is
    complete and verified. Its size and SHA-256 are recorded beside it, so that later damage is found even if they
    were unknown. One process of several downloads, and the others wait.

    Args:
        known: size and SHA-256, if known.
        name: name of the file in messages.

    Raises:
        DownloadError: the download failed.
        ValueError: the file has another size or SHA-256 than it should.
    """
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
    idle = 0
    while True:
        before = _size(part)
        try:
            return _receive(url, part, known, name)
        except _BrokenOff as error:
            idle = 0 if _size(part) > before else idle + 1
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
    note = _beside(part, ".json")
    with _open(url, part, name) as response:
        start, total = _range_of(response, part)
        if known.size and total and total != known.size:
            raise ValueError(f"{name}: the file at {url} has {total} bytes, and should have {known.size}")
        if start == 0:
            note.write_text(json.dumps({"url": url, "total": total, "validator": _validator(response)}))
        bar = tqdm(total=total or None, initial=start, unit="B", unit_scale=True, desc=name, disable=None)
        with open(part, "ab" if start else "wb") as stream, bar:
            try:
                while chunk := response.read(_CHUNK):
                    stream.write(chunk)
                    bar.update(len(chunk))
            except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
                raise _BrokenOff(f"the connection broke ({type(error).__name__})") from error
            finally:
                stream.flush()
                os.fsync(stream.fileno())
    if _size(part) < total:
        raise _BrokenOff(f"the connection ended {total - _size(part)} bytes early")


def _open(url: str, part: Path, name: str) -> http.client.HTTPResponse:
    headers = {"User-Agent": "slowfast-zoo", "Accept-Encoding": "identity"}
    before = _note(part)
    if before.get("url") != url:
        part.unlink(missing_ok=True)
    if _size(part):
        headers["Range"] = f"bytes={_size(part)}-"
        if before.get("validator"):
            headers["If-Range"] = before["validator"]
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is as long as the file or longer, so it is of another file
            part.unlink(missing_ok=True)
        if error.code in {416, *_RETRIED}:
            raise _BrokenOff(f"the server answers {error.code} {error.reason}") from error
        raise DownloadError(f"{name} cannot be downloaded: the server answers {error.code} {error.reason}") from error
    except (TimeoutError, ConnectionResetError, http.client.HTTPException) as error:
        raise _BrokenOff(f"the server does not answer ({type(error).__name__})") from error
    except OSError as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, (TimeoutError, ConnectionResetError)):
            raise _BrokenOff(f"the server does not answer ({reason})") from error
        raise DownloadError(f"{name} cannot be downloaded: no connection to its server ({reason})") from error
    if "text/html" in response.headers.get("Content-Type", ""):
        response.close()
        raise DownloadError(f"{name} cannot be downloaded: the server sends a web page in its place")
    return response


def _range_of(response: http.client.HTTPResponse, part: Path) -> tuple[int, int]:
    """Return the offset at which a response starts, and the size of the whole file (0 if unknown).

    Raises:
        _BrokenOff: the response does not continue `part`, which is then removed.
    """
    length = int(response.headers.get("Content-Length") or 0)
    if response.status != 206:
        return 0, length
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    total = int(match[2]) if match and match[2] != "*" else _size(part) + length
    if match is None or int(match[1]) != _size(part) or _note(part).get("total") not in (0, total):
        part.unlink(missing_ok=True)
        raise _BrokenOff("the server's file changed, or it answers with another part of it")
    return _size(part), total


def _validator(response: http.client.HTTPResponse) -> str:
    """Return the strong ETag or the modification date of a response; "" if it has neither."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _note(part: Path) -> dict:
    """Return the note on the first response for `part`; {} without one."""
    try:
        note = parse_json(_beside(part, ".json").read_bytes())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
