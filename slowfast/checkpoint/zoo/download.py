"""Fetching a large file: resumable, checked, with a progress bar, by one process of many."""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from slowfast.checkpoint.zoo.kept_file import Facts, beside, difference, record, recorded
from slowfast.runtime.logging import get_logger
from slowfast.utils.files import file_lock

logger = get_logger(__name__)

TIMEOUT_S = 30  # without a byte
ATTEMPTS = 5  # in a row that bring nothing new
PAUSE_S = 1.0  # before the second of them, doubled for each further one
_CHUNK = 1 << 18
_RETRIED = {408, 425, 429, 500, 502, 503, 504}


class DownloadError(OSError):
    """A file that cannot be had; the message says why, and where to put it by hand."""


class _BrokenOff(Exception):
    """The connection ended early; what came is kept."""


def download(url: str, target: Path, known: Facts, name: str) -> None:
    """Make sure that `target` is the whole file of an address; one that is there already is only checked.

    It comes to `target.part`, where a later call goes on after a break, and is moved once it is whole and right. Its
    size and digest are recorded beside it, so that damage is noticed later even where none are known. One process of
    several works, the others wait for it.

    Args:
        known: size and digest, as far as they are known.
        name: what to call it in messages.

    Raises:
        DownloadError: it cannot be had.
        ValueError: the file there, or the one that came, is another than it should be.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(beside(target, ".lock"), name):
        if not target.exists():
            logger.info("downloading %s from %s to %s", name, url, target)
            try:
                _fetch(url, target, known, name)
            except DownloadError as error:
                raise DownloadError(f"{error}. To do without, put the file of {url} at {target} by hand") from error
        for facts in (known, recorded(target)):
            wrong = difference(target, facts)
            if wrong:
                raise ValueError(f"{name}: {target} is damaged: {wrong}. Delete it to download it again")
        if not recorded(target).sha256:
            record(target)


def _fetch(url: str, target: Path, known: Facts, name: str) -> None:
    part = beside(target, ".part")
    resumed = part.exists()
    _receive_all(url, part, known, name)
    wrong = difference(part, known)
    if wrong and resumed:
        # What an earlier call left may have been of another file.
        logger.warning("%s: of what came in several parts, %s; it is fetched anew", name, wrong)
        part.unlink()
        _receive_all(url, part, known, name)
        wrong = difference(part, known)
    if wrong:
        part.unlink()
        raise ValueError(f"{name}: {url} gives another file than it should: {wrong}. Nothing of it was kept")
    os.replace(part, target)
    beside(part, ".json").unlink(missing_ok=True)


def _receive_all(url: str, part: Path, known: Facts, name: str) -> None:
    """Fill `part`, going on after every break, until it is whole or nothing more comes."""
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


def _receive(url: str, part: Path, known: Facts, name: str) -> None:
    """One request, for what is missing of `part`.

    Raises:
        _BrokenOff: not all came, and it is worth another try.
        DownloadError: it is not.
        ValueError: the file there is of another size than it should be.
    """
    note = beside(part, ".json")
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
        if error.code == 416:  # there is nothing after what we have, so that is of another file
            part.unlink(missing_ok=True)
        if error.code in {416, *_RETRIED}:
            raise _BrokenOff(f"the server answers {error.code} {error.reason}") from error
        raise DownloadError(f"{name} cannot be downloaded: the server answers {error.code} {error.reason}") from error
    except (TimeoutError, ConnectionResetError, http.client.HTTPException) as error:
        raise _BrokenOff(f"the server does not answer ({type(error).__name__})") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, (TimeoutError, ConnectionResetError)):
            raise _BrokenOff(f"the server does not answer ({reason})") from error
        raise DownloadError(f"{name} cannot be downloaded: no connection to its server ({reason})") from error
    if "text/html" in response.headers.get("Content-Type", ""):
        response.close()
        raise DownloadError(f"{name} cannot be downloaded: the server sends a web page in its place")
    return response


def _range_of(response: http.client.HTTPResponse, part: Path) -> tuple[int, int]:
    """The place in the file that an answer starts at, and the length of the whole file (0 where it is not said).

    Raises:
        _BrokenOff: the answer does not continue `part`, which is gone then.
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
    """What tells one version of the file from another; "" for a server that says nothing."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _note(part: Path) -> dict:
    """What was noted of the answer that `part` began with."""
    try:
        return json.loads(beside(part, ".json").read_text())
    except (OSError, ValueError):
        return {}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
