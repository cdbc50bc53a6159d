"""Benchmarks of streams on small models, and the example of docs/streaming.md."""

import re

import av
import numpy as np
import pytest
import torch

from slowfast.apps.benchmark.camera import Camera
from slowfast.apps.benchmark.stream_report import format_hours, format_pool, format_speed
from slowfast.apps.benchmark.stream_speed import compare_speed, step_multiply_adds
from slowfast.apps.benchmark.streams import compare_pool, state_bytes, watch
from slowfast.apps.predict.live import LiveSource
from slowfast.apps.synthetic.files import encode_video
from slowfast.config import load_config
from slowfast.config.load import cfg_to_yaml
from slowfast.models.complexity import complexity

ZOO = "zoo://sweep_pgt_36x1"
# Blocks of Markdown's tables.
CELLS = re.compile(r"^\|.*\|$", re.MULTILINE)


def test_memory_is_read_each_hour_of_the_stream():
    progress = iter([(1800, 2), (3600, 1), (7300, 0), (7400, 5), (99999, 1)])
    points = watch(progress, 3, lambda: {"count": 3, "frames": {0: torch.zeros(100, 256)}})
    assert [(point["hour"], point["answers"], point["state_bytes"]) for point in points] == [
        (1, 3, 102400), (2, 3, 102400), (3, 9, 102400)
    ]  # fmt: skip
    assert all(point["mib"] > 50 and point["seconds"] >= 0 for point in points)
    spent = [{"seconds": 36.0 * hour, "cpu_seconds": 18.0 * hour, "answers": hour, "hour": hour} for hour in (1, 2)]
    text = format_hours([spent[0] | {"mib": 100.0}, spent[1] | {"mib": 103.0}])
    assert "1.0300 of the memory" in text and "NOT within" in text and "5.00 ms per second of video" in text
    assert len(CELLS.findall(text)) == 4


def test_streams_at_once_have_the_answers_of_each_alone(capsys):
    result = compare_pool(ZOO, streams=5, rounds=1)
    assert result["answers"] == 5 * 9  # of 70 frames, in steps of 8, 7, 7, ...
    assert result["difference"] < 1e-5
    ratio, alone, pool = (result[name]["cpu"]["median"] for name in ("ratio", "alone", "pool"))
    assert ratio == pytest.approx(pool / alone)
    assert result["state_bytes"] > 8 * 1024
    assert format_pool(result) in capsys.readouterr().out


@pytest.fixture
def file(tmp_path, tiny_model):
    """YAML file of a small PGT model: steps of 8 frames, then of 7, clips of 15."""
    steps = ["PROJECTS", ["pgt"], "PGT.ENABLE", True, "PGT.STEPS", 2, "PGT.STEP_LEN", [8], "DATA.NUM_FRAMES", 15]
    path = tmp_path / "small.yaml"
    path.write_text(cfg_to_yaml(load_config(None, [*tiny_model, *steps, "DATA.TARGET_FPS", 30])))
    return path


def test_speed_beside_clips_that_answer_as_often(file, capsys):
    result = compare_speed([f"{file} DATA.SAMPLING_RATE 2"], ["fp32"], rounds=1)
    rows = result["rows"]
    assert [row["reads"] for row in rows] == ["steps of 7", "clips of 8", "clips of 15"]
    # The frames of a clip of 15 are (15 x 2 - 1) / 14 frames apart.
    assert [row["every_s"] for row in rows] == pytest.approx([7 * 29 / 14 / 30] * 3)
    clips = load_config(file, ["TASK", "", "MODEL.ADAPTER", "", "PGT.ENABLE", False, "DATA.NUM_FRAMES", 8])
    assert rows[1]["gflops_per_s"] == pytest.approx(complexity(clips, 32).multiply_adds / 1e9 / rows[1]["every_s"])
    assert 7 / 8 < rows[0]["gflops_per_s"] / rows[1]["gflops_per_s"] < 1
    for row in rows:
        assert row["answers"] == 4 and 0 < row["delay_ms"][0] <= row["delay_ms"][1]
        assert 0 < row["delay_cpu_ms"][0] <= row["delay_cpu_ms"][1]
        assert row["ms"]["median"] > 0 and row["cpu_ms"]["median"] > 0
    printed = capsys.readouterr().out
    assert format_speed(rows) in printed and len(CELLS.findall(printed)) == 5


def test_multiply_adds_of_a_step_are_those_of_its_convolutions(file):
    """Of 7 new frames, and of the memory's frame at the first of three taps in time."""
    cfg = load_config(file)
    clip = load_config(file, ["PGT.ENABLE", False, "TASK", "", "MODEL.ADAPTER", "", "DATA.NUM_FRAMES", 7])
    new = complexity(clip, 32).multiply_adds
    assert new < step_multiply_adds(cfg) < new * (1 + 1 / 7)


def test_multiply_adds_of_a_step_of_two_pathways(repo):
    """Of 2 new frames and 1 of memory in the slow pathway, of 8 and 4 in the fast one."""
    file = str(repo / "projects/pgt/configs/Synthetic/SWEEP_SLOWFAST_PGT_36x1.yaml")
    off = ["PGT.ENABLE", False, "TASK", "", "MODEL.ADAPTER", "", "DATA.NUM_FRAMES"]
    new, whole = (complexity(load_config(file, [*off, frames]), 32).multiply_adds for frames in (8, 12))
    assert new < step_multiply_adds(load_config(file)) < whole


def test_a_camera_hangs_up_falls_silent_and_comes_back(tmp_path):
    """The frames of a connection are those of the file, over and over, with times that go on."""
    path, fps, frames = tmp_path / "loop.ts", 4, 30
    encode_video(path, np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8), fps)
    with av.open(str(path)) as file:
        wanted = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    with Camera(str(path), frames, burst=5, stall_s=0.01) as camera, LiveSource(camera.address, timeout_s=3) as source:
        found = {}
        for frame in source:
            camera.take(source.received)
            found.setdefault(frame.connection, []).append(frame)
            if frame.connection == 2:
                break
    first = found[0]
    assert source.losses >= 2 and len(first) > 20
    assert [frame.stamp_s for frame in first] == pytest.approx([number / fps for number in range(len(first))])
    for number, frame in enumerate(first):
        np.testing.assert_array_equal(frame.pixels, wanted[number % 12])


@pytest.mark.parametrize("call", [lambda: watch(iter([]), 0), lambda: compare_pool(ZOO, 0), lambda: compare_speed([])])
def test_what_cannot_be_measured(call):
    with pytest.raises(ValueError, match="0 "):
        call()


def test_the_example_of_the_document_continues_a_stream(repo, tmp_path, monkeypatch, capsys, predictor):
    (code,) = re.findall(r"```python\n(import.*?)```", (repo / "docs/streaming.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "streaming.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [str(answer) for answer in predictor.stream(names["frames"], fps=4)]
    assert state_bytes(names["session"].state()) < 2**20 and len(printed) == 9
