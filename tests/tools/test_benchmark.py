"""The benchmark tool, as a real process on a tiny model."""

import json
import subprocess
import sys

import pytest

from slowfast.config import load_config
from slowfast.config.load import cfg_to_yaml


@pytest.mark.slow
def test_a_row_a_point_and_json(repo, tiny_model, tmp_path):
    (tmp_path / "cfg.yaml").write_text(cfg_to_yaml(load_config(None, [*tiny_model, "TRAIN.BATCH_SIZE", 2])))
    command = [
        sys.executable,
        repo / "tools/benchmark.py",
        "--cfg",
        tmp_path / "cfg.yaml",
        "--output",
        tmp_path / "out.json",
    ]
    points = ["--point", "DATA.NUM_FRAMES 4", "--point", "DATA.NUM_FRAMES 32"]
    command += ["--iterations", "1", "--repeats", "1", *points, "TRAIN.BATCH_SIZE", "8"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
    short, long = json.loads((tmp_path / "out.json").read_text())
    assert short["point"] == "DATA.NUM_FRAMES 4"
    assert 0 < 3 * short["peak_mib"] < long["peak_mib"] < long["process_mib"]
    assert short["seconds"] > 0
    assert len(done.stdout.splitlines()) == 3
