"""Downloads from a server on this machine that breaks off, sends the wrong things, or refuses ranges."""

import hashlib
import json
import multiprocessing
import socket
import time

import pytest

from slowfast.checkpoint.zoo import download as module
from slowfast.checkpoint.zoo.download import DownloadError, FileDigest, download

NOTHING = FileDigest()


pytestmark = pytest.mark.usefixtures("hurry")


def facts(content):
    return FileDigest(len(content), hashlib.sha256(content).hexdigest())


def left_over(target):
    return sorted(path.name for path in target.parent.iterdir() if path.name not in (target.name, "some.pyth.lock"))


@pytest.mark.parametrize("known", [False, True])
def test_a_file_comes_once_and_is_recorded(file_server, target, known):
    given = facts(file_server.content) if known else NOTHING
    for _ in range(2):
        download(file_server.url, target, given, "some")
    assert target.read_bytes() == file_server.content
    assert file_server.seen == [""]
    assert FileDigest.recorded(target) == facts(file_server.content)
    assert left_over(target) == ["some.pyth.json"]


def test_what_broke_off_goes_on_where_it_was(file_server, target, caplog):
    file_server.cuts = [300_000, 200_000, 0, 1]
    download(file_server.url, target, NOTHING, "some")
    assert target.read_bytes() == file_server.content
    assert file_server.seen == ["", "bytes=300000-", "bytes=500000-", "bytes=500000-", "bytes=500001-"]
    assert "trying again" in caplog.text


def test_a_later_call_goes_on_where_an_earlier_one_ended(file_server, target, monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    file_server.cuts = [400_000, 0]
    with pytest.raises(DownloadError, match="400000 bytes are kept.*by hand"):
        download(file_server.url, target, NOTHING, "some")
    assert not target.exists()
    download(file_server.url, target, facts(file_server.content), "some")
    assert target.read_bytes() == file_server.content and file_server.seen[-1] == "bytes=400000-"


def test_a_server_that_refuses_ranges(file_server, target):
    file_server.ranges, file_server.cuts = False, [300_000, 500_000]
    download(file_server.url, target, facts(file_server.content), "some")
    assert target.read_bytes() == file_server.content
    assert file_server.seen == ["", "bytes=300000-", "bytes=500000-"]


def test_a_server_that_never_gets_further(file_server, target):
    file_server.ranges, file_server.cuts = False, [1000] * 20
    with pytest.raises(DownloadError, match="times in a row"):
        download(file_server.url, target, NOTHING, "some")
    assert len(file_server.seen) == module.ATTEMPTS + 1


def test_a_file_that_changed_between_two_parts_is_not_mixed(file_server, target, monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    file_server.cuts = [400_000, 0]
    with pytest.raises(DownloadError):
        download(file_server.url, target, NOTHING, "some")
    file_server.content, file_server.etag = bytes(reversed(file_server.content)), '"two"'
    download(file_server.url, target, NOTHING, "some")
    assert target.read_bytes() == file_server.content


def test_parts_of_two_files_without_any_sign_are_found_out_by_the_digest(file_server, target, monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    file_server.etag, file_server.cuts = "", [400_000, 0]
    new = bytes(reversed(file_server.content))
    with pytest.raises(DownloadError):
        download(file_server.url, target, facts(new), "some")
    file_server.content = new
    download(file_server.url, target, facts(new), "some")
    assert target.read_bytes() == file_server.content and file_server.seen[-2:] == ["bytes=400000-", ""]


def test_a_part_longer_than_the_file(file_server, target):
    target.parent.mkdir()
    (target.parent / "some.pyth.part").write_bytes(b"x" * 2_000_000)
    (target.parent / "some.pyth.part.json").write_text(
        json.dumps({"url": file_server.url, "total": 0, "etag": '"one"', "date": ""})
    )
    download(file_server.url, target, NOTHING, "some")
    assert target.read_bytes() == file_server.content


@pytest.mark.parametrize("wrong", ["bytes", "size"])
def test_wrong_content_is_not_kept(file_server, target, wrong):
    right = facts(file_server.content if wrong == "bytes" else file_server.content + b"more")
    if wrong == "bytes":
        file_server.content = file_server.content[:-1] + b"?"
    with pytest.raises(ValueError, match="should (be|have)"):
        download(file_server.url, target, right, "some")
    assert not target.exists()
    download(file_server.url, target, facts(file_server.content), "some")


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_server_that_says_no(file_server, target, status):
    file_server.status = status
    with pytest.raises(DownloadError, match=f"answers {status}.*put the file of {file_server.url} at {target}"):
        download(file_server.url, target, NOTHING, "some")
    assert len(file_server.seen) == (module.ATTEMPTS if status == 500 else 1)


def test_a_web_page_in_place_of_the_file(file_server, target):
    file_server.kind = "text/html; charset=utf-8"
    with pytest.raises(DownloadError, match="web page"):
        download(file_server.url, target, NOTHING, "some")
    assert not target.exists()


def test_no_connection(target):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/file.pyth"
        for url in (address, "http://nowhere.invalid/file.pyth"):
            with pytest.raises(DownloadError, match=f"no connection.*{url} at {target} by hand"):
                download(url, target, NOTHING, "some")


def test_a_file_put_there_by_hand_is_taken_and_recorded(target):
    target.parent.mkdir()
    target.write_bytes(b"by hand")
    download("http://nowhere.invalid/file.pyth", target, NOTHING, "some")
    assert FileDigest.recorded(target) == facts(b"by hand")


def test_damage_after_the_download_is_noticed(file_server, target):
    download(file_server.url, target, NOTHING, "some")
    target.write_bytes(file_server.content[:-1] + b"?")
    with pytest.raises(ValueError, match="damaged: its SHA-256.*Delete it"):
        download(file_server.url, target, NOTHING, "some")
    target.unlink()
    download(file_server.url, target, NOTHING, "some")


@pytest.fixture
def child(file_server, target):
    """Return a function that starts a process that downloads."""

    def start():
        process = multiprocessing.get_context("fork").Process(
            target=download, args=(file_server.url, target, NOTHING, "some"), daemon=True
        )
        process.start()
        return process

    return start


def test_two_processes_at_once(file_server, target, child):
    file_server.delay.clear()
    processes = [child(), child()]
    time.sleep(0.5)
    file_server.delay.set()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert file_server.seen == [""] and target.read_bytes() == file_server.content


def test_a_process_that_is_killed_holds_nobody_up(file_server, target, child):
    file_server.delay.clear()
    first = child()
    while not file_server.seen:
        time.sleep(0.05)
    second = child()
    first.kill()
    first.join(10)
    file_server.delay.set()
    second.join(30)
    assert second.exitcode == 0 and len(file_server.seen) == 2
    assert target.read_bytes() == file_server.content
