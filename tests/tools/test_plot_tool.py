"""tools/plot.py: every picture from files, as a process, and what is told about wrong ones."""

import json
import sys

import numpy as np
import pytest

from slowfast.evaluation.ava import BoxRows
from slowfast.evaluation.predictions import BoxPredictions, ClassificationPredictions

MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.fixture
def results(tmp_path):
    """A folder with small results of every kind."""
    rng = np.random.default_rng(0)
    for seed in range(2):
        folder = tmp_path / f"run_{seed}"
        folder.mkdir()
        lines = [{"_type": "train_epoch", "epoch": f"{n}/3", "loss": 1 / n + seed} for n in (1, 2, 3)]
        (folder / "json_stats.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        measured = {"step1/top1_acc": 20.0 + seed, "step2/top1_acc": 60.0, "top1_acc": 60.0}
        (folder / "test_results.json").write_text(json.dumps(measured))
        (folder / "config.yaml").write_text(f"DATA:\n  NUM_FRAMES: {8 << seed}\n")
    (tmp_path / "run_2").mkdir()
    (tmp_path / "run_2/json_stats.jsonl").write_text('{"_type": "train_epoch", "epoch": "1/3", "loss": 0}')
    for name in ("a", "b"):
        videos = [str(number) for number in range(20)]
        scores = rng.random((20, 4), dtype=np.float32)
        ClassificationPredictions(scores, np.arange(20) % 4, videos).save(tmp_path / f"{name}.npz")
    truth = BoxRows([("v", 902)], [0], [[0, 0, 0.5, 1]], [1])
    BoxPredictions([("v", 902)], [0], truth.boxes, np.array([[0.9]]), [1], truth).save(tmp_path / "boxes.npz")
    points = [{"point": f"DATA.NUM_FRAMES {n}", "seconds": 0.1 * n, "peak_mib": 2.0 * n} for n in (8, 16)]
    (tmp_path / "points.json").write_text(json.dumps(points))
    return tmp_path


def test_every_picture_as_a_process(results, tool, finish):
    pytest.importorskip("matplotlib")
    runs = ["--run", "PGT", results / "run_0", results / "run_1"]
    pictures = {
        "curves": [*runs, "--smooth", 2, "--log"],
        "steps": runs,
        "length": [results / "run_0", *runs],
        "confusion": [results / "a.npz", "--pairs", 3],
        "classes": ["--run", "clip", results / "a.npz", "--run", "PGT", results / "b.npz"],
        "cost": [results / "points.json"],
        "ava": [results / "boxes.npz"],
    }
    options = ["--width", "text", "--format", "png,svg,pdf"]
    started = {
        name: tool("plot", name, *arguments, *options, "--output", results / "out" / f"{name}.png")
        for name, arguments in pictures.items()
    }
    for name, process in started.items():
        status, output = finish(process)
        assert status == 0, output
        assert output.splitlines() == [f"wrote {results / 'out' / name}.{form}" for form in MAGIC]
        for form, magic in MAGIC.items():
            assert (results / "out" / f"{name}.{form}").read_bytes().startswith(magic)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["curves", "{}/run_0", "--key", "los"], "los"),
        (["curves", "{}/run_2", "--log"], "above 0"),
        (["curves", "{}/none"], "there is no file {}/none"),
        (["curves", "{}/points.json"], "no line of statistics"),
        (["curves"], "takes at least one FILE"),
        (["curves", "--run", "PGT"], "--run PGT names no file"),
        (["steps", "{}/run_0", "--metric", "map"], "step1/map"),
        (["steps", "{}/points.json"], "results of a test"),
        (["length", "{}/points.json"], "results of a test"),
        (["confusion", "{}/boxes.npz"], "no single label"),
        (["confusion", "{}/points.json"], "no confusion.csv"),
        (["confusion", "{}/a.npz", "--groups", "{}/points.json"], "is not like"),
        (["confusion", "{}/a.npz", "--groups", "{}/run_0/test_results.json"], "is not like"),
        (["classes", "{}/a.npz", "{}/b.npz", "{}/a.npz"], "3 are named"),
        (["classes", "{}/points.json"], "no classes.csv"),
        (["classes", "--run", "PGT", "{}/a.npz", "{}/b.npz"], "has 2 files"),
        (["classes", "{}/a.npz", "{}/boxes.npz"], "different values"),
        (["cost", "{}/run_0/test_results.json"], "tools/benchmark.py"),
        (["ava", "{}/a.npz"], "whole videos"),
        (["ava", "{}/points.json"], "--groundtruth"),
        (["ava", "{}/boxes.npz", "--class", "2"], "it can be 1"),
    ],
)
def test_wrong_input_is_one_line(arguments, told, results, run_tool):
    pytest.importorskip("matplotlib")
    given = [argument.replace("{}", str(results)) for argument in arguments]
    status, output = run_tool("plot", *given, "--output", results / "p.png")
    assert (status, len(output.splitlines())) == (2, 1), output
    assert output.startswith("error: ") and told.replace("{}", str(results)) in output
    assert not (results / "p.png").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--output", "p.gif"], "p.gif"),
        (["--output", "p", "--format", "gif"], "gif"),
        (["--output", "p.png", "--width", "30"], "from 2 to 20"),
        (["--output", "p.png", "--smooth", "0"], "from 1 to"),
        ([], "--output"),
    ],
)
def test_wrong_options(options, told, results, run_tool):
    status, output = run_tool("plot", "curves", results / "run_0", *options)
    assert status == 2 and told in output.splitlines()[-1]


def test_without_matplotlib_the_message_says_what_to_do(results, run_tool, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, output = run_tool("plot", "curves", results / "run_0", "--output", results / "p.png")
    assert (status, len(output.splitlines())) == (2, 1) and "pip install matplotlib" in output


def test_names_that_act_are_shown_as_text(results, run_tool):
    pytest.importorskip("matplotlib")
    arguments = ["--run", "\x1b]0;a$\\frac$b\x07", results / "run_0", "--title", "$x$ \x1b[2J"]
    status, output = run_tool("plot", "curves", *arguments, "--output", results / "p.svg")
    assert status == 0, output
    assert "\x1b" not in output + (results / "p.svg").read_text()
