"""`tools/benchmark.py` on a tiny model; memory is measured in processes of its own."""

import json

import pytest

from slowfast.apps.benchmark.data import time_epochs
from slowfast.config import load_config
from slowfast.config.load import cfg_to_yaml
from slowfast.datasets.kinetics import Kinetics
from slowfast.models import build_model

STEPS = ["PGT.ENABLE", True, "PGT.STEPS", 2, "PGT.STEP_LEN", [8], "DATA.NUM_FRAMES", 15]


@pytest.fixture
def cfg_file(tmp_path, tiny_model):
    """`cfg_file(*more)`: the tiny model with more overrides, as a file."""

    def write(*more):
        path = tmp_path / "cfg.yaml"
        path.write_text(cfg_to_yaml(load_config(None, [*tiny_model, "TRAIN.BATCH_SIZE", 2, *more])))
        return path

    return write


@pytest.fixture
def benchmark(run_tool, tmp_path):
    """`benchmark(file, *arguments)`: run the tool; return the printed lines, and the values in the JSON file."""

    def call(file, *arguments):
        out = tmp_path / "out.json"
        status, text = run_tool("benchmark", "--cfg", file, "--output", out, *arguments)
        assert status == 0, text
        return text.splitlines(), json.loads(out.read_text())

    return call


@pytest.mark.slow
def test_a_row_a_point_and_json(cfg_file, benchmark):
    points = ["--point", "DATA.NUM_FRAMES 4", "--point", "DATA.NUM_FRAMES 32"]
    lines, (short, long) = benchmark(cfg_file(), "--iterations", 1, "--repeats", 1, *points, "TRAIN.BATCH_SIZE", "8")
    assert short["point"] == "DATA.NUM_FRAMES 4"
    assert 0 < 3 * short["peak_mib"] < long["peak_mib"] < long["process_mib"]
    assert short["seconds"] > 0
    assert [line.split("  ")[0] for line in lines[-3:]] == ["point", short["point"], long["point"]]


@pytest.mark.slow
def test_variants_take_turns_with_the_baseline(cfg_file, benchmark):
    lines, result = benchmark(cfg_file(), "--variants", "bf16+contiguous", "--measure", "size,time", "--iterations", 2)
    cfg = load_config(cfg_file())
    assert result["parameters"] == sum(p.numel() for p in build_model(cfg).parameters())
    assert result["machine"]["torch"] and result["machine"]["date"] and result["machine"]["threads"] == 1
    assert result["clips"] == {"batch": 2, "frames": 8, "crop": 32}
    assert list(result["works"]) == ["forward", "train"]
    for rows in result["works"].values():
        assert [row["name"] for row in rows] == ["baseline", "bf16+contiguous"]
        assert rows[0]["of_baseline"] == {"median": 1.0, "min": 1.0, "max": 1.0}
        for row in rows:
            assert 0 < row["ms"]["min"] <= row["ms"]["median"] <= row["ms"]["max"]
            assert row["clips_per_second"] == pytest.approx(2000 / row["ms"]["median"])
        ratio, base = rows[1]["of_baseline"], rows[0]["ms"]
        assert 0.999 * rows[1]["ms"]["min"] / base["max"] <= ratio["min"] <= ratio["median"] <= ratio["max"]
    assert sum(line.startswith(("baseline", "bf16+contiguous")) for line in lines) == 4


@pytest.mark.slow
def test_steps_beside_end_to_end_training_and_their_memory(cfg_file, benchmark):
    options = ["--works", "train_steps", "--variants", "config", "--steps", 8, "--repeats", 1, "--iterations", 1]
    lines, result = benchmark(cfg_file(*STEPS, "TRAIN.BATCH_SIZE", 8), *options)
    (work,) = result["works"].values()
    assert [row["name"] for row in work] == ["baseline", "config"]
    assert all(0 < row["peak_mib"] < row["process_mib"] for row in work)
    assert any(line.startswith("baseline, end to end") for line in lines)
    (point,) = result["memory_by_steps"]
    assert (point["steps"], point["frames"]) == (8, 57)
    assert point["peak_mib"]["config"] < 1.5 * work[1]["peak_mib"]  # of 2 steps
    assert point["peak_mib"]["baseline"] > 2.5 * work[0]["peak_mib"]
    assert lines[-1].split()[:2] == ["8", "57"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--variants", "fp32,fp64"], "fp64"),
        (["--works", "backward"], "forward, train"),
        (["--data", "--workers", "-1"], "-1 is less than 0"),
        (["--data", "--clips", "0"], "at least 1"),
        (["--soak", "-3"], "at least 1"),
        (["--epochs", "BENCHMARK.NUM_EPOCHS", "0"], "BENCHMARK.NUM_EPOCHS is 0"),
        (["--data", "DATA.PATH_TO_DATA_DIR", "/none"], "/none/train.csv"),
    ],
)
def test_mistakes_show_before_the_first_measurement(tiny_file, run_tool, options, message):
    status, text = run_tool("benchmark", "--cfg", tiny_file, *options)
    assert status == 2 and message in text


@pytest.mark.slow
def test_loading(benchmark, tiny_file):
    lines, measured = benchmark(tiny_file, "--data", "--clips", 4, "--iterations", 2, "--workers", "0,1")
    text = "\n".join(lines)
    assert "train: clips; 4 a round" in text
    assert "test: views, 2 a video" in text
    assert list(measured["data"]) == ["train", "test"]
    assert set(measured["data"]["train"]["workers"]) == {"0", "1"}
    lines, measured = benchmark(tiny_file, "--soak", 12)
    assert measured["soak"]["clips"] == 12
    assert "from the second to the last quarter" in lines[-1]


def test_whole_epochs_as_pyslowfast_times_them(benchmark, tiny_file):
    settings = ["BENCHMARK.NUM_EPOCHS", 2, "BENCHMARK.LOG_PERIOD", 2]  # 3 iterations of 4 clips an epoch
    lines, measured = benchmark(tiny_file, "--epochs", *settings)
    places = [(row["epoch"], row["iteration"]) for row in measured["epochs"]]
    assert places == [(1, 2), (1, 3), (2, 2), (2, 3)] and lines[-1].split()[:2] == ["2", "3"]
    assert all(row["ms"] > 0 and row["clips_per_second"] > 0 for row in measured["epochs"])


@pytest.mark.parametrize(("shuffle", "ordered"), [(True, False), (False, True)])
def test_epochs_in_random_order_or_that_of_the_list(tiny_cfg, monkeypatch, shuffle, ordered):
    read = []
    get = Kinetics.__getitem__
    monkeypatch.setattr(Kinetics, "__getitem__", lambda self, key: read.append(key.index) or get(self, key))
    time_epochs(lambda overrides: tiny_cfg("BENCHMARK.SHUFFLE", shuffle, "BENCHMARK.NUM_EPOCHS", 1, *overrides))
    assert sorted(read) == list(range(12)) and (read == sorted(read)) == ordered


def test_a_stream_of_clips_as_markdown_and_json(tiny_file, run_tool, tmp_path):
    out = tmp_path / "out.json"
    options = ["--stream", "speed", "--model", tiny_file, "--variants", "fp32", "--iterations", 1, "--output", out]
    status, text = run_tool("benchmark", *options)
    assert status == 0, text
    (row,) = json.loads(out.read_text())["rows"]
    assert (row["model"], row["reads"], row["answers"]) == ("tiny", "clips of 4", 4)
    assert f"| tiny | clips of 4 | {row['every_s']:.2f} s |" in text


def test_viewers_of_a_server(run_tool, tmp_path):
    out = tmp_path / "out.json"
    options = ["--streams", 2, "--seconds", 3, "--output", out]
    status, text = run_tool("benchmark", "--stream", "viewers", "--model", "zoo://sweep_pgt_36x1", *options)
    assert status == 0, text
    result = json.loads(out.read_text())
    assert (result["viewers"], result["status"], result["errors"]) == (2, 0, [])
    assert len(result["memory"]) == 3
    assert "| 2 viewers, 3 s |" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--cfg FILE, or --stream KIND"),
        (["--stream", "pool"], "0 are named with --model"),
        (["--stream", "speed", "--model", "zoo://sweep_slow_8x1", "--variants", "fp64"], "fp64"),
        (["--stream", "persons", "--detector", "none.onnx"], "none.onnx"),
        (["--stream", "viewers", "--model", "zoo://sweep_pgt_36x1", "--streams", 1], "1 viewers"),
    ],
)
def test_mistakes_about_streams(run_tool, options, message):
    status, text = run_tool("benchmark", *options)
    assert status == 2 and message in text
