"""Two processes of a job that were started differently learn so, each by name, before anything depends on it."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from slowfast.config.merge import leaf_keys
from slowfast.engine.consistency import (
    HOST_SETTINGS,
    check_consistency,
    code_facts,
    data_facts,
    launch_facts,
    weight_facts,
)

# Both processes of one group; each asks, for all cases in turn, with facts of its own, and reports what it was told.
PAIR = """
import json, sys
from datetime import timedelta
import torch, torch.distributed as dist
from slowfast.config.merge import leaf_keys
from slowfast.engine.consistency import check_consistency, launch_facts
from slowfast.config import load_config

rank, store, cases = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
dist.init_process_group(
    "gloo", init_method="file://" + store, rank=rank, world_size=2, timeout=timedelta(seconds=60)
)
for overrides in cases:
    cfg = load_config(sys.argv[4], overrides[rank])
    facts = launch_facts(cfg)
    if cfg.RNG_SEED == 99:
        facts |= {"code of slowfast/engine/train.py": f"changed{rank}", "torch": f"2.{rank}"}
    try:
        check_consistency(lambda: facts)
        print("agreed", flush=True)
    except ValueError as error:
        print(json.dumps(str(error)), flush=True)
"""


@pytest.fixture
def ask_pair(tmp_path, tiny_file):
    """Return a function that asks two processes, and lists the answers of each, one for each case."""

    def ask(cases):
        command = [sys.executable, "-c", PAIR]
        arguments = [str(tmp_path / "store"), json.dumps(cases), str(tiny_file)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2"}
        started = [
            subprocess.Popen([*command, str(rank), *arguments], env=environment, stdout=subprocess.PIPE, text=True)
            for rank in (0, 1)
        ]
        outputs = [process.communicate(timeout=120)[0].splitlines() for process in started]
        return [[line if line == "agreed" else json.loads(line) for line in lines] for lines in outputs]

    return ask


@pytest.mark.slow
def test_differences_are_named_on_every_rank(ask_pair):
    cases = [
        ([], []),
        # Hosts keep their data and their outputs where they like, and know who they are.
        (["NUM_SHARDS", 2, "OUTPUT_DIR", "/a"], ["NUM_SHARDS", 2, "SHARD_ID", 1, "OUTPUT_DIR", "/b"]),
        (["SOLVER.BASE_LR", 0.1], ["SOLVER.BASE_LR", 0.2, "TRAIN.BATCH_SIZE", 8]),
        (["RNG_SEED", 99], ["RNG_SEED", 99]),
    ]
    told = ask_pair(cases)
    assert told[0] == told[1]
    same, places, settings, code = told[0]
    assert (same, places) == ("agreed", "agreed")
    assert settings.splitlines()[1:] == [
        "  TRAIN.BATCH_SIZE: rank 0: 4; rank 1: 8",
        "  SOLVER.BASE_LR: rank 0: 0.1; rank 1: 0.2",
    ]
    assert code.splitlines()[1:] == [
        "  torch: rank 0: 2.0; rank 1: 2.1",
        "  code of slowfast/engine/train.py: rank 0: changed0; rank 1: changed1",
    ]


def test_ranks_of_one_value_are_told_together_and_long_lists_are_cut(monkeypatch):
    facts = [{"world": 4, **{f"key {n}": n if rank == 3 else -n for n in range(1, 20)}} for rank in range(4)]
    gathered = []

    def gather(item):
        gathered.append(item)
        return [f"digest {n}" for n in range(4)] if len(gathered) == 1 else facts

    monkeypatch.setattr("slowfast.engine.consistency.all_gather_object", gather)
    monkeypatch.setattr("slowfast.engine.consistency.get_world_size", lambda: 4)
    with pytest.raises(ValueError) as caught:
        check_consistency(dict)
    _, first, *_, last = str(caught.value).splitlines()
    assert first == "  key 1: ranks 0, 1, 2: -1; rank 3: 1"
    assert last == "  ... and 7 more"


def test_alone_one_agrees_with_oneself_unasked():
    check_consistency(lambda: pytest.fail("facts were worked out for nobody"))


def test_facts_of_the_launch(tiny_cfg):
    facts = launch_facts(tiny_cfg("NUM_SHARDS", 2, "SHARD_ID", 1))
    assert (facts["NUM_SHARDS"], facts["torch"], facts["processes"]) == (2, torch.__version__, 1)
    assert not HOST_SETTINGS & facts.keys()
    assert "code of slowfast/engine/train.py" in facts
    assert set(leaf_keys(tiny_cfg())) >= HOST_SETTINGS


def test_code_is_read_as_it_lies_on_disk(tmp_path, monkeypatch):
    (tmp_path / "some_package").mkdir()
    for name, text in {"__init__.py": "", "part.py": "x = 1"}.items():
        (tmp_path / "some_package" / name).write_text(text)
    (tmp_path / "some_module.py").write_text("y = 1")
    monkeypatch.syspath_prepend(tmp_path)
    before = code_facts(["some_package", "some_module"])
    assert set(before) == {
        f"code of {name}" for name in ("some_package/__init__.py", "some_package/part.py", "some_module.py")
    }
    (tmp_path / "some_package" / "part.py").write_text("x = 2")
    after = code_facts(["some_package", "some_module"])
    assert {name for name in after if after[name] != before[name]} == {"code of some_package/part.py"}


class Listed:
    """Data set as far as its list goes."""

    def __init__(self, paths, labels):
        self.names, self.labels = paths, labels

    def __len__(self):
        return len(self.names)


def test_data_may_lie_elsewhere_but_be_no_other():
    here = data_facts("train", Listed(["/data/a/1.mp4", "/data/b/2.mp4"], [0, 1]))
    assert data_facts("train", Listed(["/scratch/x/a/1.mp4", "/scratch/x/b/2.mp4"], [0, 1])) == here
    for paths, labels in [
        (["/data/a/1.mp4", "/data/b/3.mp4"], [0, 1]),
        (["/data/b/2.mp4", "/data/a/1.mp4"], [0, 1]),
        (["/data/a/1.mp4", "/data/b/2.mp4"], [0, 2]),
    ]:
        assert data_facts("train", Listed(paths, labels)) != here
    assert here["train samples"] == 2
    several = data_facts("train", Listed(["/data/1.mp4", "/data/2.mp4"], torch.eye(2)))
    assert data_facts("train", Listed(["/x/1.mp4", "/x/2.mp4"], torch.eye(2))) == several
    assert data_facts("train", Listed(["/data/1.mp4", "/data/2.mp4"], torch.eye(2).flip(0))) != several
    assert data_facts("val", Listed([], [])) == {"val samples": 0}


def test_weights_are_compared_with_their_buffers():
    model = nn.Sequential(nn.Conv3d(1, 1, 1), nn.BatchNorm3d(1)).to(memory_format=torch.channels_last_3d)
    before = weight_facts(model)
    assert weight_facts(model) == before
    model[1].running_mean += 1e-3
    assert weight_facts(model) != before
    assert weight_facts(model.to(torch.bfloat16))
