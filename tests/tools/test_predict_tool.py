"""The command line: printed answers, the files of a run, stops, shares, and mistakes."""

import csv
import json
import shutil

import cv2
import pytest

import slowfast
from slowfast.checkpoint.io import find_checkpoints
from slowfast.datasets.video import open as decode
from slowfast.engine.train import train


@pytest.fixture
def checkpoint(tiny_data, tiny_cfg):
    """Checkpoint of a model of two classes; one name is a formula, and would act in a spreadsheet."""
    names = tiny_data / "classes.txt"
    names.write_text("dark\n=bright\n")
    try:
        cfg = tiny_cfg("SOLVER.MAX_EPOCH", 1)
        train(cfg)
    finally:
        names.unlink()
    return find_checkpoints(cfg.OUTPUT_DIR)[-1].path


def files_of(folder):
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


def test_answers_are_printed(run_tool, checkpoint, tiny_data):
    video = tiny_data / "test 0.mp4"
    status, output = run_tool("predict", "--checkpoint", checkpoint, "--source", video, "--top", 1)
    assert status == 0, output
    lines = output.splitlines()
    answers = list(slowfast.load(checkpoint).stream(str(video), top=1))
    assert lines[lines.index(str(video)) + 1 :][: len(answers)] == [f"  {answer}" for answer in answers]


def test_a_folder_becomes_tables(run_tool, checkpoint, tiny_data, tmp_path):
    pytest.importorskip("matplotlib")
    out, listed = tmp_path / "out", tmp_path / "list.txt"
    listed.write_text("".join(f"{tiny_data}/test {number}.mp4\n" for number in range(4)))
    command = ("predict", "--checkpoint", checkpoint, "--source", listed, tiny_data / "test 0.mp4", "--output", out)
    settings = ("--events", "--on", 0.4, "--off", 0.4)
    status, output = run_tool(*command, *settings)
    assert status == 0, output
    summary = json.loads(output.splitlines()[-1])
    assert {name: summary[name] for name in ("videos", "answered", "already_there", "unreadable", "complete")} == {
        "videos": 4,  # one of them was named twice
        "answered": 4,
        "already_there": 0,
        "unreadable": {},
        "complete": True,
    }
    predictor = slowfast.load(checkpoint)
    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    wanted = [
        (video, answer)
        for video in (f"{tiny_data}/test {number}.mp4" for number in range(4))
        for answer in predictor.stream(video)
    ]
    for line, (video, answer) in zip(lines, wanted, strict=True):
        assert (line["video"], line["names"]) == (video, answer.names)
        assert line["scores"] == pytest.approx(answer.scores.tolist())
        assert (line["start_s"], line["end_s"]) == pytest.approx((answer.start_s, answer.end_s), abs=1e-5)
    rows = list(csv.DictReader((out / "answers.csv").read_text().splitlines()))
    assert len(rows) == 2 * len(lines)
    assert {row["name"] for row in rows} == {"dark", "'=bright"}
    assert [float(row["score"]) for row in rows] == pytest.approx([s for line in lines for s in line["scores"]])
    # Of two classes one always has 0.4 or more, so events cover every video.
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    for number in range(4):
        spans = [(e["start_s"], e["end_s"]) for e in events if e["video"].endswith(f"test {number}.mp4")]
        assert min(spans)[0] == 0
        assert max(end for _, end in spans) == pytest.approx(16 / 30)
    assert not (out / "subtitles.vtt").exists()
    (vtt, *_) = sorted(out.rglob("*.vtt"))
    assert vtt.read_text().startswith("WEBVTT\n\n00:00:00.000 --> 00:00:00.")
    assert len(list(out.rglob("*.png"))) == 4

    before = {name: path.read_bytes() for name, path in files_of(out).items()}
    status, output = run_tool(*command, *settings)
    assert status == 0
    assert json.loads(output.splitlines()[-1])["already_there"] == 4
    assert {name: path.read_bytes() for name, path in files_of(out).items()} == before
    status, output = run_tool(*command, "--mode", "clips")
    assert status == 2
    assert "mode, events" in output


def test_shares_and_unreadable_videos(run_tool, checkpoint, tiny_data, tmp_path):
    out = tmp_path / "out"
    sources = [tiny_data / "test 0.mp4", tmp_path / "broken.mp4", tiny_data / "test 1.mp4"]
    sources[1].write_text("no video")
    command = ("predict", "--checkpoint", checkpoint, "--source", *sources, "--output", out, "--no-pictures")
    status, output = run_tool(*command, "--shard", "1/2")
    assert status == 1, output
    assert list(json.loads(output.splitlines()[-1])["unreadable"]) == [str(sources[1])]
    assert not (out / "answers.jsonl").exists()
    status, output = run_tool(*command, "--shard", "0/2")
    assert status == 0, output
    # The broken video has no answers, and no other process knows why: the tables wait for a run that does.
    assert not json.loads(output.splitlines()[-1])["complete"]
    status, output = run_tool(*command)
    assert status == 1
    summary = json.loads(output.splitlines()[-1])
    assert (summary["answered"], summary["already_there"], summary["complete"]) == (0, 2, True)
    videos = {json.loads(line)["video"] for line in (out / "answers.jsonl").read_text().splitlines()}
    assert videos == {str(sources[0]), str(sources[2])}


def test_a_video_that_is_cut_off_is_answered_as_far_as_it_goes(
    run_tool, checkpoint, tiny_data, tmp_path, encode, pictures
):
    out, video = tmp_path / "out", tmp_path / "cut.mp4"
    fast = {"options": {"movflags": "faststart"}}
    whole = encode(tmp_path / "whole.mp4", pictures(60), options={"g": "12", "bf": "0"}, container=fast).read_bytes()
    video.write_bytes(whole[: int(0.7 * len(whole))])
    with decode.open(str(video)) as reader:
        end = reader.num_frames / 30
    assert 0.5 < end < 1.8
    part = {"start_s": pytest.approx(end), "end_s": pytest.approx(2)}

    told = f"unreadable from 00:00:0{end:.3f} to 00:00:02.000"
    status, output = run_tool("predict", "--checkpoint", checkpoint, "--source", video, "--top", 1)
    assert (status, told in output) == (1, True), output

    command = ("predict", "--checkpoint", checkpoint, "--source", video, tiny_data / "test 0.mp4", "--output", out)
    for answered in (2, 0):  # the second run makes nothing anew, and still tells that a part is missing
        status, output = run_tool(*command, "--no-pictures")
        assert (status, told in output) == (1, True), output
        summary = json.loads(output.splitlines()[-1])
        assert (summary["answered"], summary["already_there"]) == (answered, 2 - answered)
        assert (summary["unreadable"], summary["complete"]) == ({}, True)
        ((name, (found,)),) = summary["unreadable_parts"].items()
        assert (name, found) == (str(video), part | {"cause": found["cause"]})
        (line,) = map(json.loads, (out / "unreadable.jsonl").read_text().splitlines())
        assert line == {"video": str(video), **found}
    answers = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert max(line["end_s"] for line in answers if line["video"] == str(video)) == pytest.approx(end, abs=1e-5)

    video.write_bytes(whole)  # the file was got anew, so its answers are made anew
    status, output = run_tool(*command, "--no-pictures")
    assert status == 0, output
    assert not list(out.rglob("*unreadable*"))
    answers = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert max(line["end_s"] for line in answers if line["video"] == str(video)) == pytest.approx(2)


@pytest.mark.parametrize("mode", ["stream", "clips"])
def test_answers_before_a_fault_are_kept(run_tool, checkpoint, tmp_path, pictures, mode):
    out, images = tmp_path / "out", tmp_path / "images"
    images.mkdir()
    for number, picture in enumerate(pictures(32)):
        cv2.imwrite(str(images / f"{number:05d}.png"), picture)
    (images / "00020.png").write_text("no picture")
    command = ("predict", "--checkpoint", checkpoint, "--source", images, "--fps", 30, "--mode", mode)
    status, output = run_tool(*command, "--output", out, "--no-pictures", "--events", "--on", 0.4, "--off", 0.4)
    assert status == 1, output
    answers = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    # A clip has 8 images, and the third the broken one.
    assert [line["end_s"] for line in answers] == pytest.approx([8 / 30, 16 / 30], abs=1e-5)
    ((found,),) = json.loads(output.splitlines()[-1])["unreadable_parts"].values()
    assert (found["start_s"], found["end_s"]) == pytest.approx((16 / 30, 32 / 30), abs=1e-5)
    assert "00020.png" in found["cause"]
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert max(event["end_s"] for event in events) == pytest.approx(16 / 30, abs=1e-5)
    status, output = run_tool(*command)
    assert (status, output.count(" s: ")) == (1, 2), output
    assert "unreadable from 00:00:00.533 to 00:00:01.067" in output


def test_videos_are_drawn_beside_answers(run_tool, checkpoint, tiny_data, decode_all, tmp_path):
    pytest.importorskip("matplotlib")
    source = tmp_path / "videos"
    source.mkdir()
    shutil.copy(tiny_data / "test 0.mp4", source / "a.mp4")
    # The folder of the answers lies among the videos: what is drawn there is no further source.
    out = source / "out"
    command = ("predict", "--checkpoint", checkpoint, "--source", source, "--output", out)
    assert run_tool(*command)[0] == 0
    before = {name: path.read_bytes() for name, path in files_of(out).items()}
    status, output = run_tool(*command, "--video")
    assert status == 0, output
    assert "x real time" in output
    (video,) = out.rglob("*.mp4")
    for copy, own in (("subtitles.vtt", ".vtt"), ("timeline.png", ".png")):  # there is one video
        assert (out / copy).read_bytes() == video.with_suffix(own).read_bytes()
    assert len(decode_all(video)) == len(decode_all(source / "a.mp4"))
    assert {name: path.read_bytes() for name, path in files_of(out).items() if path != video} == before
    made = video.stat()
    status, output = run_tool(*command, "--video")
    summary = json.loads(output.splitlines()[-1])
    assert (status, summary["videos"], summary["already_there"]) == (0, 1, 1)
    assert (video.stat().st_ino, video.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--source", "no such.mp4"), "no such.mp4"),
        (("--shard", "2/2"), "shard 2 of 2"),
        (("--shard", "two"), "like 0/4"),
        (("--top", "0"), "1 or more"),
        (("--events", "--off", "0.9"), "off <= on"),
        (("--dtype", "int8"), "fp32, bf16, fp16"),
        (("--video",), "--output"),
    ],
)
def test_mistakes_are_one_line(run_tool, checkpoint, tiny_data, words, reason):
    video = () if "--source" in words else ("--source", tiny_data / "test 0.mp4")
    status, output = run_tool("predict", "--checkpoint", checkpoint, *video, *words)
    assert status == 2
    assert reason in output
    assert "Traceback" not in output


def test_an_empty_folder_is_a_mistake(run_tool, checkpoint, tmp_path):
    (tmp_path / "empty").mkdir()
    status, output = run_tool("predict", "--checkpoint", checkpoint, "--source", tmp_path / "empty")
    assert status == 2
    assert "neither videos nor images" in output
