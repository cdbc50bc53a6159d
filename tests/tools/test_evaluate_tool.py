"""tools/evaluate.py: metrics from files, on the command line."""

import csv
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from slowfast.evaluation.predictions import ClassificationPredictions, load

TOOL = Path(__file__).parents[2] / "tools" / "evaluate.py"
AVA = Path(__file__).parents[1] / "fixtures" / "ava_small"


def predictions(classes=5, videos=60, steps=4):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, videos)
    read = generator.random((videos, steps, classes)).astype(np.float32)
    names = [f"{number}.mp4" for number in range(videos)]
    return ClassificationPredictions(read.sum(axis=1), labels, names, read, {"max": read.max(axis=1)})


def finish(process):
    output = process.communicate(timeout=120)[0]
    return process.returncode, output


@pytest.mark.slow
def test_a_file_of_predictions(tool, tmp_path):
    predictions().save(tmp_path / "p.parquet")
    (tmp_path / "names.json").write_text(json.dumps({f"class {number}": number for number in range(5)}))
    arguments = ["--classes", tmp_path / "names.json", "--per-class", "--output", tmp_path / "out"]
    status, output = finish(tool("evaluate", tmp_path / "p.parquet", *arguments, "--plot", tmp_path / "curve.png"))
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


@pytest.mark.slow
def test_files_of_ava(tool, tmp_path):
    (tmp_path / "map.pbtxt").write_text('item {\n  name: "stand"\n  id: 12\n}\nitem {\n  name: "sit"\n  id: 11\n}\n')
    files = ["--ava", AVA / "groundtruth.csv", AVA / "detections.csv", "--excluded", AVA / "excluded.csv"]
    status, output = finish(tool("evaluate", *files, "--label-map", tmp_path / "map.pbtxt", "--per-class"))
    assert status == 0, output
    assert "stand" in output and "ava_classes          " in output
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("v,902,0,0,1\n")
    status, output = finish(tool("evaluate", "--ava", AVA / "groundtruth.csv", wrong))
    assert (
        status == 2 and f"error: {wrong}, line 1: 'v,902,0,0,1' has 5 columns" in output and "Traceback" not in output
    )


@pytest.mark.parametrize(
    "arguments", [[], ["p.npz", "--ava", "a", "b"], ["p.npz", "--excluded", "a"], ["--ava", "a", "b", "--classes", "c"]]
)
def test_arguments_that_do_not_go_together(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert stop.value.code == 2 and "usage:" in capsys.readouterr().err


@pytest.mark.slow
def test_without_matplotlib_the_message_says_what_to_do(tmp_path):
    predictions().save(tmp_path / "p.npz")
    arguments = ["evaluate.py", str(tmp_path / "p.npz"), "--plot", str(tmp_path / "p.png")]
    program = (
        "import sys, runpy; sys.modules['matplotlib'] = None\n"
        f"sys.argv = {arguments!r}\nrunpy.run_path({str(TOOL)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2 and "top1_acc" in done.stdout
    assert "error: pictures take matplotlib, not installed here: pip install matplotlib" in done.stderr
