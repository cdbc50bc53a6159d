"""The command line over live sources: what it prints and writes, stops, later starts, and mistakes."""

import csv
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading

import av
import numpy as np
import pytest
import torch

import slowfast
from slowfast.checkpoint.io import save_checkpoint
from slowfast.config import cfg_to_yaml
from slowfast.models import build_model

RATE = 30


@pytest.fixture
def checkpoint(tiny_cfg, tmp_path):
    """Checkpoint of a clip model of 4 frames, every second, without training; one name would act in a spreadsheet."""
    cfg = tiny_cfg()
    torch.manual_seed(0)
    path = str(tmp_path / "checkpoint.pyth")
    names = {0: "dark", 1: "=bright"}
    save_checkpoint({"model_state": build_model(cfg).state_dict(), "cfg": cfg_to_yaml(cfg), "class_names": names}, path)
    return path


@pytest.fixture
def film(tmp_path, encode, pictures):
    """MPEG-TS of 64 frames: eight clips of the model."""
    return encode(tmp_path / "film.ts", pictures(64), options={"g": "8", "bf": "0"}, rate=RATE)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_answers_are_printed(run_tool, checkpoint, film, serve, replies):
    heard, former = [], signal.getsignal(signal.SIGTERM)

    def reply(handler):
        heard.append(signal.getsignal(signal.SIGTERM))
        replies.whole(film.read_bytes())(handler)

    address = serve(reply)
    status, output = run_tool("predict", "--checkpoint", checkpoint, "--source", address, "--top", 1)
    assert status == 0, output
    # SIGTERM stops as Ctrl-C does, as long as the source lasts.
    assert (heard, signal.getsignal(signal.SIGTERM)) == ([signal.default_int_handler], former)
    wanted = [str(answer) for answer in slowfast.load(checkpoint).stream(film, top=1)]
    assert [line.rsplit(",", 1)[0] for line in output.splitlines() if " s behind" in line] == wanted
    summary = json.loads(output.splitlines()[-1])
    assert summary == {
        "source": address,
        "answers": 8,
        "video_seconds": pytest.approx(64 / RATE, abs=1e-3),
        "received": 64,
        "dropped": 0,
        "losses": 0,
        "resets": 0,
    }


def test_files_grow_from_start_to_start(run_tool, checkpoint, film, serve, replies, tmp_path):
    address, out = serve(replies.whole(film.read_bytes())), tmp_path / "out"
    command = ("predict", "--checkpoint", checkpoint, "--source", address, "--output", out)
    status, output = run_tool(*command, "--events", "--on", 0.4, "--off", 0.4)
    assert status == 0, output
    wanted = list(slowfast.load(checkpoint).stream(film))
    first = lines_of(out / "answers.jsonl")
    for line, answer in zip(first, wanted, strict=True):
        assert (line["video"], line["names"]) == (address, answer.names)
        assert line["scores"] == pytest.approx(answer.scores.tolist(), abs=1e-6)
        assert (line["start_s"], line["end_s"]) == pytest.approx((answer.start_s, answer.end_s), abs=1e-5)
        assert line["lag_s"] >= 0
        assert line["started"].endswith("+00:00")
    # Of two classes one always has 0.4 or more.
    events = lines_of(out / "events.jsonl")
    assert min(event["start_s"] for event in events) == 0
    assert max(event["end_s"] for event in events) == pytest.approx(64 / RATE, abs=1e-3)

    with (out / "answers.jsonl").open("a") as stream:
        stream.write('{"video": "cut o')  # by a power cut
    status, output = run_tool(*command, "--events", "--on", 0.4, "--off", 0.4)
    assert status == 0, output
    assert "line 9 of" in output
    assert (out / "answers.jsonl").read_text().startswith("".join(json.dumps(line) + "\n" for line in first))
    rows = list(csv.DictReader((out / "answers.csv").read_text().splitlines()))
    assert len(rows) == 2 * 2 * len(wanted)
    assert {row["name"] for row in rows} == {"dark", "'=bright"}
    assert {row["started"] for row in rows} >= {first[0]["started"]}
    assert len(list(csv.DictReader((out / "events.csv").read_text().splitlines()))) == 2 * len(events)

    status, output = run_tool("predict", "--checkpoint", checkpoint, "--source", film, "--output", out)
    assert status == 2
    assert "mode" in output


def test_a_drawn_video_grows_with_the_answers(run_tool, checkpoint, film, serve, replies, tmp_path, decode_all):
    """A frame shows the last answer before it: none up to frame 8, where the first answer comes."""
    address, out = serve(replies.whole(film.read_bytes())), tmp_path / "out"
    command = ("predict", "--checkpoint", checkpoint, "--source", address)
    status, output = run_tool(*command, "--video", "--output", out)
    assert status == 0, output
    (drawn,) = out.glob("*.mp4")
    assert json.loads(output.splitlines()[-1])["drawn"] == str(drawn)
    found, expected = np.array(decode_all(drawn), int), np.array(decode_all(film), int)
    assert len(found) == len(expected) == 64
    with av.open(str(drawn)) as container:
        times = [frame.time for frame in container.decode(video=0)]
        assert times == pytest.approx([number / RATE for number in range(64)], abs=1e-3)
    # The film's short side of 48 is enlarged to 240; the classes stand at the top left, over the left half.
    change = np.abs(found - expected.repeat(5, axis=1).repeat(5, axis=2))[:, 8:36, 8:120].mean(axis=(1, 2, 3))
    assert change[:8].max() < change[9:].min()


def test_no_frame_is_no_drawn_video(run_tool, checkpoint, serve, replies, tmp_path):
    command = ("predict", "--checkpoint", checkpoint, "--source", serve(replies.error(404)))
    assert run_tool(*command, "--video", "--output", tmp_path / "out")[0] == 2
    assert not list(tmp_path.rglob("*.mp4"))


def test_a_video_is_piped_in(tool, finish, checkpoint, film):
    with subprocess.Popen(["cat", film], stdout=subprocess.PIPE) as cat:
        status, output = finish(
            tool("predict", "--checkpoint", checkpoint, "--source", "-", "--top", "1", stdin=cat.stdout)
        )
    assert status == 0, output
    assert json.loads(output.splitlines()[-1])["answers"] == 8
    assert output.count(" s behind") == 8


def test_a_view_in_the_terminal_and_a_stop(hears_ctrl_c, repo, checkpoint, film, serve, replies, tmp_path, wait_for):
    """The source stalls, and is stopped: the files are whole."""
    address, out = serve(replies.live(film.read_bytes(), threading.Event())), tmp_path / "out"
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = ["--checkpoint", checkpoint, "--source", address.replace("//", "//me:secret@"), "--output", out]
    process = subprocess.Popen(
        [sys.executable, repo / "tools/predict.py", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=inside,
        stderr=inside,
    )
    os.close(inside)
    shown = bytearray()

    def look():
        try:
            while part := os.read(terminal, 4096):
                shown.extend(part)
        except OSError:
            pass  # how Linux tells that the process has ended

    looking = threading.Thread(target=look)
    looking.start()
    try:
        answers = out / "answers.jsonl"
        wait_for(lambda: process.poll() is not None or (answers.exists() and answers.read_text().count("\n") >= 2))
        process.send_signal(signal.SIGINT)
        status = process.wait(60)
    finally:
        process.kill()
        looking.join()
        os.close(terminal)
    text = shown.decode()
    assert status == 0, text
    assert "secret" not in text
    assert " frames dropped" in text
    assert "=bright" in text and "#####" in text
    lines = lines_of(answers)
    assert len(list(csv.DictReader((out / "answers.csv").read_text().splitlines()))) == 2 * len(lines)
    # The stop may come between the line and the count.
    assert len(lines) - json.loads(text.splitlines()[-1])["answers"] in (0, 1)


def test_mistakes_are_one_line(run_tool, checkpoint, film, serve, replies, encode, pictures, tmp_path):
    other = encode(tmp_path / "other.ts", pictures(8, 36, 40), options={"bf": "0"}, rate=RATE)
    address, boxes = serve(replies.error(404)), tmp_path / "boxes.csv"
    boxes.write_text("film,0901,0.1,0.2,0.5,0.7,,0.95\n")
    mistakes = {
        (address,): "404",
        ("99",): "/dev/video99",
        ("ftp://host/film.ts",): "no live source",
        (address, film): "2 sources",
        (address, "--mode", "clips"): "leave out --mode clips",
        (address, "--shard", "0/2"): "leave out --shard",
        (address, "--boxes", boxes): "leave out --boxes",
        (film, "--stride", 3): "live sources",
        (film, "TEST.NUM_ENSEMBLE_VIEWS", 1): "before --source",
        (serve(replies.whole(film.read_bytes() + other.read_bytes())), "--output", tmp_path / "out"): "48 to 40 x 36",
    }
    for words, reason in mistakes.items():
        status, output = run_tool("predict", "--checkpoint", checkpoint, "--source", *words)
        errors = [line for line in output.splitlines() if line.startswith("error: ")]
        assert (status, len(errors)) == (2, 1), output
        assert reason in errors[0]
        assert "Traceback" not in output
    assert len(lines_of(tmp_path / "out/answers.jsonl")) == 7  # the last clip may have gone on
    assert (tmp_path / "out/answers.csv").exists()
