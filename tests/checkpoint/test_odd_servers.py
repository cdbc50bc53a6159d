"""Downloads from servers that lie, never end, or change the file meanwhile: real HTTP on this machine."""

import contextlib
import errno
import gzip
import json
import os
import shutil
import socket
import time
from collections import namedtuple

import pytest

from slowfast.checkpoint.zoo import download as module
from slowfast.checkpoint.zoo.download import SPEED_VARIABLE, DownloadError, FileDigest, download

NOTHING = FileDigest()


pytestmark = pytest.mark.usefixtures("hurry")


@pytest.fixture
def fails(file_server, target):
    """Function: download in vain and return the message, which is one line; nothing is taken for the file."""

    def fail(known: FileDigest = NOTHING, url: str = "") -> str:
        with pytest.raises((DownloadError, ValueError)) as caught:
            download(url or file_server.url, target, known, "some")
        message = str(caught.value)
        assert not target.exists() and "\n" not in message and len(message) < 1000
        return message

    return fail


def raw(head: str, body: bytes = b"", repeats: int = 1, pause: float = 0.0):
    """Return an answer of these bytes; it ends early when the client has had enough."""

    def answer(handler) -> None:
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.wfile.write(head.replace("\n", "\r\n").encode())
            for _ in range(repeats):
                handler.wfile.write(body)
                time.sleep(pause)

    return answer


def started(file_server, target, monkeypatch, length: int = 400_000) -> None:
    """Download the first part of the file."""
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    file_server.cuts = [length, 0]
    with pytest.raises(DownloadError, match="bytes are kept"):
        download(file_server.url, target, NOTHING, "some")
    monkeypatch.setattr(module, "ATTEMPTS", 5)


def ranged(signs: str, body: bytes, first: int = 400_000, total: int = 1 << 20):
    """Return the answer of a server that obeys a range whatever If-Range says."""
    return raw(
        f"HTTP/1.1 206 Partial Content\nContent-Range: bytes {first}-{total - 1}/{total}\n"
        f"Content-Length: {len(body)}\n{signs}\n\n",
        body,
    )


@pytest.mark.parametrize("signs", ['ETag: "two"', 'ETag: W/"two"', "Last-Modified: Sat, 28 Nov 2026 10:00:00 GMT"])
def test_a_range_of_a_file_that_changed_is_not_joined(file_server, target, monkeypatch, signs):
    if signs.startswith("Last"):
        head = f"HTTP/1.1 200 OK\nContent-Length: {1 << 20}\nLast-Modified: Fri, 27 Nov 2026 10:00:00 GMT\n\n"
        file_server.answers = [raw(head, bytes(400_000)), raw("")]
    started(file_server, target, monkeypatch)
    new = bytes(reversed(file_server.content))
    file_server.content, file_server.cuts = new, []
    file_server.answers = [ranged(signs, new[400_000:])]
    download(file_server.url, target, NOTHING, "some")
    assert target.read_bytes() == new
    assert file_server.seen[-2:] == ["bytes=400000-", ""]


def test_a_part_without_any_sign_of_its_version_is_not_continued(file_server, target, monkeypatch):
    file_server.etag = ""
    started(file_server, target, monkeypatch)
    file_server.content, file_server.cuts = bytes(reversed(file_server.content)), []
    download(file_server.url, target, NOTHING, "some")
    assert target.read_bytes() == file_server.content and file_server.seen[-1] == ""


@pytest.mark.parametrize(
    "answer",
    [
        ranged("", b"x" * 100, first=5),
        ranged("", b"x" * 100, total=300),
        ranged("", b"x" * 100, total=(1 << 20) + 5),
        raw("HTTP/1.1 206 Partial Content\nContent-Length: 3\n\n", b"abc"),
        raw("HTTP/1.1 206 Partial Content\nContent-Range: bytes x-y/z\nContent-Length: 3\n\n", b"abc"),
        raw("HTTP/1.1 416 Range Not Satisfiable\nContent-Length: 0\n\n"),
    ],
)
def test_a_range_that_does_not_fit_is_not_joined(file_server, target, monkeypatch, answer):
    started(file_server, target, monkeypatch)
    file_server.cuts, file_server.answers = [], [answer]
    download(file_server.url, target, NOTHING, "some")
    assert target.read_bytes() == file_server.content


def test_a_file_whose_move_was_cut_off_is_not_downloaded_again(file_server, target, monkeypatch):
    started(file_server, target, monkeypatch)
    target.with_name("some.pyth.part").write_bytes(file_server.content)
    before = len(file_server.seen)
    download(file_server.url, target, NOTHING, "some")
    assert target.read_bytes() == file_server.content and len(file_server.seen) == before


def test_a_range_in_place_of_the_whole_file(file_server, fails):
    file_server.answers = [ranged("", b"x" * 100, first=0, total=100)]
    assert "a part of it" in fails()


@pytest.mark.parametrize(
    ("answer", "fact"),
    [
        (raw("HTTP/1.1 200 OK\nContent-Length: 0\n\n"), "empty file"),
        (raw("HTTP/1.1 200 OK\n\n"), "empty file"),
        (raw("HTTP/1.1 204 No Content\n\n"), "answers 204"),
        (raw("HTTP/1.1 202 Accepted\nContent-Length: 2\n\n", b"ok"), "answers 202"),
        (raw("HTTP/1.1 200 OK\nContent-Type: TEXT/HTML\nContent-Length: 2\n\n", b"hi"), "web page"),
        (raw("HTTP/1.1 200 OK\nContent-Type: Application/XHTML+xml; q=1\nContent-Length: 2\n\n", b"hi"), "web page"),
        (raw("HTTP/1.1 200 OK\nContent-Length: ten\n\n", b"x"), "Content-Length 'ten'"),
        (raw("HTTP/1.1 200 OK\nContent-Length: -1\n\n", b"x"), "Content-Length '-1'"),
        (raw(f"HTTP/1.1 200 OK\nContent-Length: {'9' * 5000}\n\n", b"x"), "Content-Length '999"),
        (raw(f"HTTP/1.1 200 OK\nContent-Length: {10**17}\n\n", b"x"), "are free"),
        (raw("HTTP/1.1 200 OK\nContent-Encoding: GZip\n\n", gzip.compress(b"x")), "packed"),
        (raw("HTTP/1.1 404 \x1b[31mgone\nContent-Length: 0\n\n"), "answers 404"),
        (raw("HTTP/1.1 302 Found\nLocation: file:///etc/hostname\nContent-Length: 0\n\n"), "file:///etc/hostname"),
        (raw("HTTP/1.1 302 Found\nLocation: ftp://127.0.0.1/x\nContent-Length: 0\n\n"), "ftp://127.0.0.1/x"),
        (raw("HTTP/1.1 302 Found\nContent-Length: 0\n\n"), "answers 302"),
    ],
)
def test_answers_that_hold_no_file(file_server, fails, answer, fact):
    file_server.answers = [answer]
    assert fact in fails() and len(file_server.seen) == 1


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x", "nowhere", "http://127.0.0.1:x/"]
)
def test_addresses_that_are_not_of_the_web(fails, url):
    assert "by hand" in fails(url=url)


def test_encryption_is_not_dropped_by_a_redirect():
    with pytest.raises(ValueError, match="http://a.example/x is not an address of https"):
        module._check_address("http://a.example/x", "HTTPS://a.example/y")


def test_redirects_in_a_circle(file_server, fails):
    around = raw(f"HTTP/1.1 302 Found\nLocation: {file_server.url}\nContent-Length: 0\n\n")
    file_server.answers = [around] * 50
    assert "redirect" in fails() and len(file_server.seen) < 15


def test_a_redirect_is_followed_without_its_body(file_server, target):
    head = f"HTTP/1.1 302 Found\nLocation: {file_server.url}\n\n"
    file_server.answers = [raw(head, b"x" * 1000, repeats=100_000, pause=0.01)]  # 1,000 s, if it were read
    download(file_server.url, target, NOTHING, "some")
    assert target.read_bytes() == file_server.content


def test_endless_data_ends_at_the_known_size(file_server, fails, target, monkeypatch):
    endless = raw("HTTP/1.1 200 OK\n\n", b"x" * 65536, repeats=100_000)
    file_server.answers = [endless]
    assert "more than the 1000000 bytes" in fails(FileDigest(1_000_000, ""))
    monkeypatch.setattr(module, "LARGEST", 2_000_000)
    file_server.answers = [endless]
    assert "more than the 2000000 bytes" in fails()
    assert sorted(path.name for path in target.parent.iterdir()) == ["some.pyth.lock", "some.pyth.part.json"]


def test_a_server_that_sends_a_byte_at_a_time_is_given_up(file_server, fails, monkeypatch):
    monkeypatch.setattr(module, "SPEED_WINDOW_S", 0.2)
    slow = raw(f'HTTP/1.1 200 OK\nETag: "one"\nContent-Length: {1 << 20}\n\n', b"x", repeats=1000, pause=0.02)
    file_server.answers = [slow] * module.ATTEMPTS
    message = fails()
    assert "bytes a second came, fewer than 1000" in message and SPEED_VARIABLE in message
    assert len(file_server.seen) == module.ATTEMPTS


def test_a_slow_server_is_waited_for_if_that_is_wanted(file_server, target, monkeypatch):
    monkeypatch.setattr(module, "SPEED_WINDOW_S", 0.05)
    monkeypatch.setenv(SPEED_VARIABLE, "0")
    file_server.answers = [raw("HTTP/1.1 200 OK\nContent-Length: 20\n\n", b"x", repeats=20, pause=0.02)]
    download(file_server.url, target, NOTHING, "some")
    assert target.read_bytes() == b"x" * 20


@pytest.mark.parametrize("value", ["fast", "nan", "-1", "inf"])
def test_a_wrong_limit_of_the_speed(fails, monkeypatch, value):
    monkeypatch.setenv(SPEED_VARIABLE, value)
    assert SPEED_VARIABLE in fails()


def test_a_head_that_comes_a_byte_at_a_time_is_given_up(file_server, fails, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(module, "ATTEMPTS", 2)
    file_server.answers = [raw("HTTP/1.1 200 OK\nX-Long: ", b"x", repeats=1000, pause=0.02)] * 2
    assert "does not answer (TimeoutError), 2 times" in fails()


@pytest.mark.parametrize(
    "answer",
    [
        raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", b"5\r\nabcde\r\nzz\r\n"),
        raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", b"ffffffffff\r\nabc"),
        raw("HTTP/1.1 200 OK\nContent-Length: 1048576\n\n", b"abc"),
        raw("SSH-2.0-OpenSSH\n\n"),
        raw(""),
    ],
)
def test_a_connection_that_breaks_is_tried_again(file_server, target, answer):
    file_server.answers = [answer] * 2
    download(file_server.url, target, NOTHING, "some")
    assert target.read_bytes() == file_server.content and len(file_server.seen) == 3


def test_a_connection_that_is_reset_is_tried_again(file_server, target):
    def reset(handler) -> None:
        handler.wfile.write(b'HTTP/1.1 200 OK\r\nETag: "one"\r\nContent-Length: 1048576\r\n\r\n' + bytes(1000))
        linger = (1).to_bytes(4, "little") + bytes(4)  # closed by a reset
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        handler.connection.close()
        handler.close_connection = True

    file_server.answers = [reset]
    file_server.content = bytes(1 << 20)
    download(file_server.url, target, NOTHING, "some")
    assert target.read_bytes() == file_server.content


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_is_busy_is_asked_again(file_server, target, status):
    file_server.answers = [raw(f"HTTP/1.1 {status} Busy\nContent-Length: 0\n\n")] * 3
    download(file_server.url, target, NOTHING, "some")
    assert target.read_bytes() == file_server.content and len(file_server.seen) == 4


def test_a_disk_that_is_full(file_server, fails, target, monkeypatch):
    usage = namedtuple("usage", "free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(1000))
        assert "needs 1,048,576 bytes, and 1,000 are free" in fails()
    if not os.path.exists("/dev/full"):
        return
    real = open
    full = os.strerror(errno.ENOSPC)
    with monkeypatch.context() as patch:
        patch.setattr(module, "open", lambda path, mode: real("/dev/full", mode), raising=False)
        patch.setattr(os, "fsync", lambda descriptor: None)
        assert full in fails()
    download(file_server.url, target, NOTHING, "some")
    assert target.read_bytes() == file_server.content


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_part_that_is_not_ours(tmp_path, file_server, fails, target, kind):
    target.parent.mkdir()
    part, other = target.with_name("some.pyth.part"), tmp_path / "other"
    other.write_text("precious")
    {"link": lambda: part.symlink_to(other), "pipe": lambda: os.mkfifo(part), "folder": part.mkdir}[kind]()
    assert "no regular file" in fails() and not file_server.seen
    assert other.read_text() == "precious"


@pytest.mark.parametrize(
    "note",
    ["[]", "3", '{"url": 3}', "[" * 100_000, '{"size": "a", "sha256": 5}', "\udcff", '{"url": "URL", "total": "x"}'],
)
def test_odd_notes_are_as_good_as_none(file_server, target, note):
    target.parent.mkdir()
    target.with_name("some.pyth.part").write_bytes(b"rest of something")
    for name in ("some.pyth.part.json", "some.pyth.json"):
        text = note.replace("URL", file_server.url)
        target.with_name(name).write_bytes(text.encode("utf-8", "surrogateescape"))
    download(file_server.url, target, NOTHING, "some")
    assert target.read_bytes() == file_server.content and file_server.seen == [""]
    assert json.loads(target.with_name("some.pyth.json").read_text())["size"] == len(file_server.content)
