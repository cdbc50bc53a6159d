"""tools/evaluate.py: metrics from files, on the command line."""

import csv
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from slowfast.evaluation.ava_files import read_groundtruth
from slowfast.evaluation.predictions import BoxPredictions, ClassificationPredictions, load

AVA = Path(__file__).parents[1] / "fixtures" / "ava_small"


def predictions(classes=5, videos=60, steps=4):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, videos)
    read = generator.random((videos, steps, classes)).astype(np.float32)
    names = [f"{number}.mp4" for number in range(videos)]
    return ClassificationPredictions(read.sum(axis=1), labels, names, read, {"max": read.max(axis=1)})


def test_a_file_of_predictions(run_tool, tmp_path):
    predictions().save(tmp_path / "p.parquet")
    (tmp_path / "names.json").write_text(json.dumps({f"class {number}": number for number in range(5)}))
    arguments = ["--classes", tmp_path / "names.json", "--per-class", "--output", tmp_path / "out"]
    status, output = run_tool("evaluate", tmp_path / "p.parquet", *arguments, "--plot", tmp_path / "curve.png")
    assert status == 0, output
    expected = load(tmp_path / "p.parquet")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == expected.metrics()
    printed = dict(line.split() for line in output.splitlines()[: len(expected.metrics())])
    assert printed == {name: f"{value:.4f}" for name, value in expected.metrics().items()}
    assert "class 3" in output and "step4/top1_acc" in printed
    with open(tmp_path / "out" / "confusion.csv", newline="") as stream:
        head, *lines = csv.reader(stream)
    assert head == ["label", *(f"class {number}" for number in range(5))]
    assert [[int(count) for count in line[1:]] for line in lines] == expected.confusion().tolist()
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_files_of_ava(run_tool, tmp_path):
    (tmp_path / "map.pbtxt").write_text('item {\n  name: "stand"\n  id: 12\n}\nitem {\n  name: "sit"\n  id: 11\n}\n')
    files = ["--ava", AVA / "groundtruth.csv", AVA / "detections.csv", "--excluded", AVA / "excluded.csv"]
    status, output = run_tool("evaluate", *files, "--label-map", tmp_path / "map.pbtxt", "--per-class")
    assert status == 0, output
    assert "stand" in output and "ava_classes          " in output
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("v,902,0,0,1\n")
    status, output = run_tool("evaluate", "--ava", AVA / "groundtruth.csv", wrong)
    assert status == 2 and f"{wrong}, line 1" in output and "5 columns" in output


@pytest.mark.parametrize("evaluation", [None, "pyslowfast", "activitynet"])
def test_the_evaluation_is_chosen_and_named(run_tool, tmp_path, evaluation):
    """A wrong box of better score, on a key frame that the ground truth does not name, halves the precision or not."""
    (tmp_path / "truth.csv").write_text("v,902,0,0,1,1,1,0\n")
    (tmp_path / "found.csv").write_text("v,0902.000,0,0,1,1,1,0.5\nv,902.5,0,0,1,1,1,0.9\n")
    truth = read_groundtruth(tmp_path / "truth.csv")
    scores = np.array([[0.5], [0.9]])
    boxes = BoxPredictions([("v", 902), ("v", 902.5)], [0, 1], [[0, 0, 1, 1]] * 2, scores, [1], truth)
    other = "activitynet" if evaluation == "pyslowfast" else "pyslowfast"
    dataclasses.replace(boxes, evaluation=other).save(tmp_path / "p.npz")
    for given in (["--ava", tmp_path / "truth.csv", tmp_path / "found.csv"], [tmp_path / "p.npz"]):
        chosen = ["--evaluation", evaluation] if evaluation else []
        status, output = run_tool("evaluate", *given, *chosen, "--output", tmp_path / "out")
        assert status == 0, output
        metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
        used = evaluation or "pyslowfast"
        expected = {"ava_map": {"pyslowfast": 0.5, "activitynet": 1.0}[used], "ava_classes": 1, "ava_evaluation": used}
        assert metrics == expected
        assert output.splitlines()[2].split() == ["ava_evaluation", used]


def test_scores_of_videos_have_no_choice_of_evaluation(run_tool, tmp_path):
    predictions().save(tmp_path / "p.npz")
    status, output = run_tool("evaluate", tmp_path / "p.npz", "--evaluation", "activitynet")
    assert status == 2 and "--evaluation is for boxes" in output


@pytest.mark.parametrize(
    "arguments", [[], ["p.npz", "--ava", "a", "b"], ["p.npz", "--excluded", "a"], ["--ava", "a", "b", "--classes", "c"]]
)
def test_arguments_that_do_not_go_together(arguments, run_tool):
    status, output = run_tool("evaluate", *arguments)
    assert status == 2 and "usage:" in output


def test_without_matplotlib_the_message_says_what_to_do(run_tool, tmp_path, monkeypatch):
    predictions().save(tmp_path / "p.npz")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, output = run_tool("evaluate", tmp_path / "p.npz", "--plot", tmp_path / "p.png")
    assert status == 2 and "top1_acc" in output
    assert "pip install matplotlib" in output


def test_names_that_act_reach_neither_output_nor_messages(tool, finish, tmp_path):
    """Names of a video and of a class: an escape sequence, a byte that is no text."""
    made = predictions()
    made.videos[3] = "\x1b]0;title\x07\udcff.mp4"
    made.class_names = ["\x1b[31mred", *"bcd\udcff"]
    made.save(tmp_path / "p.npz")
    status, output = finish(tool("evaluate", tmp_path / "p.npz", "--per-class"))
    assert status == 0 and r"\x1b[31mred" in output and r"\udcff" in output
    made.scores[3] = np.nan
    made.save(tmp_path / "p.npz")
    status, message = finish(tool("evaluate", tmp_path / "p.npz"))
    assert status == 2 and "1 of 60 videos" in message and r"\x1b]0;title\x07\udcff.mp4" in message
    assert not set(output + message) & set("\x1b\x07\udcff")


@pytest.mark.parametrize(
    ("name", "found"), [("file", "file is a file"), ("file/out", "file/out has a file where a folder is needed")]
)
def test_a_file_in_the_place_of_a_folder(run_tool, tiny_file, tmp_path, name, found):
    (tmp_path / "file").write_text("")
    random = ("TEST.ALLOW_RANDOM_WEIGHTS", True)
    for command in (("extract_features", "--cfg", tiny_file, *random), ("export", "--cfg", tiny_file, *random)):
        status, output = run_tool(*command, "--output", tmp_path / name)
        assert status == 2 and found in output.split("error: ")[-1] and "Errno" not in output
    assert (tmp_path / "file").read_text() == ""
