"""`tools/zoo.py`, as a user calls it."""

import functools
import json
import os
import re

import pytest
import torch

from slowfast.checkpoint import load_checkpoint
from slowfast.checkpoint.io import save_checkpoint
from slowfast.config import cfg_to_yaml
from slowfast.models import build_model


@pytest.fixture
def zoo(run_tool, tmp_path, monkeypatch):
    """Function: call tools/zoo.py with arguments; returns exit status and output."""
    monkeypatch.setenv("SLOWFAST_CACHE", str(tmp_path / "cache"))
    return functools.partial(run_tool, "zoo")


def test_a_tour(zoo, tmp_path):
    status, listed = zoo("list", "x3d")
    assert status == 0 and re.search(r"^x3d_m +Kinetics-400 +pytorch +75.1 top-1 .*\(published\)$", listed, re.M)
    status, shown = zoo("show", "slow_8x8_r50")
    assert status == 0 and "published: other people's" in shown and "(not here)" in shown and "caffe2" in shown
    status, output = zoo("show", "slow_8x8_r51")
    assert status == 2 and "similar names: slow_8x8_r50" in output
    file = tmp_path / "cache" / "zoo" / "slow_8x8_r50.pkl"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"by hand")
    assert zoo("download", "slow_8x8_r50")[1].strip().endswith(str(file))
    assert zoo("verify")[0] == 0
    file.write_bytes(b"changed")
    status, output = zoo("verify", "slow_8x8_r50")
    assert status == 1 and "SHA-256" in output


def test_packing_a_checkpoint(zoo, tmp_path, tiny_cfg):
    cfg = tiny_cfg()
    weights = build_model(cfg).state_dict()
    averaged = {key: value + 1 for key, value in weights.items()}
    source, target = str(tmp_path / "x.pyth"), str(tmp_path / "x.safetensors")
    save_checkpoint(
        {"model_state": weights, "epoch": 4, "cfg": cfg_to_yaml(cfg), "ema_state": {"model_state": averaged}}, source
    )
    status, output = zoo("pack", source, target, "DATA.PATH_TO_DATA_DIR", "data", "--ema")
    facts = json.loads("{" + output.strip().partition(": ")[2] + "}")
    assert status == 0 and facts["size"] == os.path.getsize(target)
    saved = load_checkpoint(target)
    assert all(torch.equal(value, averaged[key]) for key, value in saved["model_state"].items())
    assert saved["epoch"] == 4 and "PATH_TO_DATA_DIR: data\n" in saved["cfg"]
    assert "class_names" not in saved
    names = tmp_path / "names.txt"
    names.write_text("dark\nbright\n")
    assert zoo("pack", source, target, "--classes", names)[0] == 0
    assert load_checkpoint(target)["class_names"] == {0: "dark", 1: "bright"}
    names.write_text("dark\n")
    status, output = zoo("pack", source, target, "--classes", names)
    assert status == 2 and "names 1 classes, and the model has 2" in output
    save_checkpoint({"model_state": weights}, source)
    status, output = zoo("pack", source, target)
    assert status == 2 and "holds no config" in output


def test_as_a_process_of_its_own(tool, finish):
    status, output = finish(tool("zoo", "show", "slow_8x8_r51"))
    assert status == 2 and output.startswith("error: there is no 'slow_8x8_r51' in the zoo")
