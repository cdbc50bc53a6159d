"""The demo of masked learning with memory, on its smallest set."""

import json
import shutil
from pathlib import Path

import pytest

from slowfast.config import load_config
from slowfast.models import build_model


@pytest.fixture
def demo(demo_module, parts_here, tmp_path):
    """`demo(*arguments)`: run the quick demo with its parts in this process; return the results and the titles."""
    module = demo_module("masked_memory")

    def start(*arguments):
        with parts_here() as titles:
            assert module.main(["--quick", "--output", str(tmp_path), *arguments]) == 0
        return json.loads((tmp_path / "results.json").read_text()), titles

    return start


def test_everything_is_measured_once_and_kept(demo, tmp_path, capsys):
    first, titles = demo("--seeds", "3", "--labels", "5")
    assert len(titles) == 1 + 2 + 3
    starts = ["from scratch", "masked, no memory", "masked, with memory"]
    assert [row["start"] for row in first["runs"]] == starts
    assert [row["start"] for row in first["pretraining"]] == starts[1:]
    assert {row["labels"] for row in first["runs"]} == {6} and first["machine"] and first["date"]
    assert (tmp_path / "labels_6/train.csv").read_text().count("\n") == 6

    folder = tmp_path / "24_seed_3"
    settings = {name: load_config(str(next((folder / name).glob("*.yaml")))) for name in
                ("masked_no_memory", "masked_with_memory")}  # fmt: skip
    assert [cfg.PGT.MEMORY for cfg in settings.values()] == [False, True]
    tuned = [load_config(str(next((folder / f"{name}_5").glob("*.yaml")))) for name in
             ("from_scratch", *settings)]  # fmt: skip
    origins = [cfg.TRAIN.CHECKPOINT_FILE_PATH for cfg in tuned]
    assert [Path(path).parts[-3] if path else "" for path in origins] == ["", *settings]
    assert all(cfg.PGT.MEMORY for cfg in tuned)

    shutil.rmtree(folder / "from_scratch_5")
    again, titles = demo("--seeds", "3", "--labels", "5")
    assert titles == ["videos", "from scratch, 5 % of the labels (seed 3)"]
    assert again["runs"][1:] == first["runs"][1:]


def test_the_table_has_mean_and_deviation(demo_module):
    module = demo_module("masked_memory")
    rows = [
        {"start": start, "percent": percent, "labels": 12 * percent, "accuracy": accuracy + shift}
        for shift, start in enumerate(module.STARTS)
        for percent, accuracy in ((1, 20.0), (1, 22.0), (5, 40.0))
    ]
    lines = module.table(rows).splitlines()
    assert lines[0].split("  ")[0] == "start" and "1 % (12 labels)" in lines[0] and "5 % (60 labels)" in lines[0]
    assert [line.split()[-4:] for line in lines[1:]] == [[f"{21 + i}.0", "±", "1.4", f"{40 + i}.0"] for i in range(3)]


def test_pretraining_and_fine_tuning_share_the_encoder(demo_module):
    module = demo_module("masked_memory")
    masked, tuned = (build_model(load_config(str(path))).state_dict() for path in (module.PRETRAIN, module.FINE_TUNE))
    shared = {key: value.shape for key, value in tuned.items() if not key.startswith("head.")}
    assert shared == {key: masked[key].shape for key in shared}
    assert 0.9 <= load_config(str(module.PRETRAIN)).AUG.MASK_RATIO <= 0.95
