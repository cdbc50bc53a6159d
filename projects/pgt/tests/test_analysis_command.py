"""`python -m pgt.analysis` on real videos."""

import json
import re
import struct
import subprocess
import sys

import pytest
import torch

from pgt.analysis.__main__ import main
from pgt.analysis.compare import draw_gap
from pgt.analysis.truncation import gap_of_weights
from slowfast.checkpoint.io import save_checkpoint
from slowfast.config.load import cfg_to_yaml
from slowfast.models import build_model

# Large enough that activations weigh more than what else a process of the size does.
LARGE = ["DATA.TRAIN_JITTER_SCALES", [112, 112], "DATA.TRAIN_CROP_SIZE", 112, "TRAIN.BATCH_SIZE", 3]


@pytest.fixture
def file_of(tmp_path):
    """`file_of(cfg)`: a YAML file of a configuration."""

    def write(cfg):
        (tmp_path / "run.yaml").write_text(cfg_to_yaml(cfg))
        return str(tmp_path / "run.yaml")

    return write


@pytest.mark.slow
def test_table_json_and_plot(run_cfg, file_of, tmp_path):
    cfg = run_cfg(*LARGE)
    torch.manual_seed(7)
    some = str(tmp_path / "some.pyth")
    save_checkpoint({"model_state": build_model(cfg).state_dict()}, some)
    options = ["--steps", 3, "--batches", 2, "--repeats", 1, "--by", "block"]
    options += ["--checkpoint", "random", "--checkpoint", some]
    options += ["--output", tmp_path / "gap.json", "--plot", tmp_path / "gap.png"]
    # A process, since its own processes cannot import what `python -m` runs as __main__.
    command = [sys.executable, "-m", "pgt.analysis", "--cfg", file_of(cfg), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    output = done.stdout
    found = json.loads((tmp_path / "gap.json").read_text())
    assert (found["batches"], found["batch_size"]) == (2, 3)
    assert [result["weights"] for result in found["gap"]] == ["random", some]
    for result in found["gap"]:
        rows = {row["name"]: row for row in result["rows"]}
        assert rows["head.projection"]["cosine"] == pytest.approx(1)
        assert rows["head.projection"]["norm_ratio"] == pytest.approx(1)
        block = rows["s5.pathway0_res1"]
        assert 0 < block["cosine"] < 0.999
        figures = f"{block['cosine']:.3f} +- {block['cosine_std']:.3f}"
        assert re.search(rf"^ *3  s5\.pathway0_res1 +{re.escape(figures)} ", output, re.MULTILINE)
    assert found["gap"][0]["rows"] != found["gap"][1]["rows"]
    (memory,) = found["memory_mib"]
    assert memory["steps"] == 3 and memory["full"] > 1.15 * memory["truncated"] > 0
    header = (tmp_path / "gap.png").read_bytes()[:24]
    assert header[1:4] == b"PNG" and min(struct.unpack(">II", header[16:24])) > 200


def test_a_model_that_reads_a_clip_at_once_is_named(run_cfg, file_of, capsys):
    assert main(["--cfg", file_of(run_cfg("PGT.ENABLE", False))]) == 2
    assert capsys.readouterr().err.startswith("error: TASK 'clip' reads a clip at once")


@pytest.mark.parametrize(("steps", "batches", "message"), [([4], 1, "1 to 3"), ([0], 1, "1 to 3"), ([1], 9, "1 to 3")])
def test_more_than_there_is(steps, batches, message, run_cfg):
    with pytest.raises(ValueError, match=message):
        list(gap_of_weights(run_cfg(), steps, batches, ["random"]))


def test_the_picture_has_the_values():
    pytest.importorskip("matplotlib")
    rows = [
        {"steps": steps, "name": name, "cosine": value - steps / 10, "cosine_std": 0.01 * steps}
        for name, value in (("all", 1.1), ("s1", 1.0))
        for steps in (1, 2)
    ]
    rows = [{**row, "norm_ratio": row["cosine"] / 2, "norm_ratio_std": None} for row in rows]
    memory = [{"steps": 1, "truncated": 20, "full": 21}, {"steps": 2, "truncated": 22, "full": 40}]
    figure = draw_gap([{"weights": "random", "rows": rows}], memory)
    cosine, ratio, used = figure.axes
    for axes, key in ((cosine, "cosine"), (ratio, "norm_ratio")):
        drawn = {box.get_label(): box.lines[0].get_ydata().tolist() for box in axes.containers}
        assert drawn == {name: [row[key] for row in rows if row["name"] == name] for name in ("all", "s1")}
    assert [line.get_ydata().tolist() for line in used.lines] == [[20, 22], [21, 40]]
