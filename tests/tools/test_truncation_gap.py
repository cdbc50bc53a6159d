"""`python -m pgt.analysis` on real videos."""

import json
import re
import struct

import pytest
import torch

from pgt.analysis.__main__ import main
from slowfast.checkpoint.io import save_checkpoint
from slowfast.models import build_model

STEPS = ["PROJECTS", ["pgt"], "DATA.NUM_FRAMES", 10, "DATA.SAMPLING_RATE", 1, "PGT.ENABLE", True, "PGT.STEP_LEN", [4]]
# Large enough that activations weigh more than what else a process of the size does.
STEPS = [
    *STEPS,
    "PGT.STEPS",
    3,
    "TRAIN.BATCH_SIZE",
    6,
    "DATA.TRAIN_JITTER_SCALES",
    [64, 64],
    "DATA.TRAIN_CROP_SIZE",
    64,
]


@pytest.mark.slow
def test_table_json_and_plot(tiny_cfg, tiny_file, tmp_path, capsys):
    cfg = tiny_cfg(*STEPS)
    torch.manual_seed(7)
    some = str(tmp_path / "some.pyth")
    save_checkpoint({"model_state": build_model(cfg).state_dict()}, some)
    options = ["--steps", 3, "--batches", 2, "--repeats", 1, "--by", "block"]
    options += ["--checkpoint", "random", "--checkpoint", some]
    options += ["--output", tmp_path / "gap.json", "--plot", tmp_path / "gap.png"]
    assert main([str(word) for word in ["--cfg", tiny_file, *options, "--", *STEPS]]) == 0
    output = capsys.readouterr().out
    found = json.loads((tmp_path / "gap.json").read_text())
    assert (found["batches"], found["batch_size"]) == (2, 6)
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


def test_model_without_steps_is_named(tiny_file, capsys):
    assert main(["--cfg", str(tiny_file)]) == 2
    assert capsys.readouterr().err.startswith("error: TASK 'clip' reads a clip at once")
