"""Each setting of training, with two processes as with one on the joint batch, for clips and by steps."""

import json
import os
import subprocess
import sys

import pytest
import torch

from slowfast.config.load import cfg_to_yaml
from slowfast.layers.norm import FrozenBatchNorm3d

pytestmark = pytest.mark.processes

# Started with 1 and with 2 processes: each trains every case on its share of two batches, the main one saves weights.
SCRIPT = """
import copy, dataclasses, functools, json, sys
import torch
from pgt.conversion import Rules, convert
from pgt.memory import AvgFrames, MaxFrames
from slowfast.config import activate_projects, load_config
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.ema import build_average
from slowfast.engine.optim import build_optimizer, set_lr
from slowfast.engine.model_setup import ModelSetup, average_bn_stats, setup_model, unwrap
from slowfast.engine.task import build_task
from slowfast.engine.optim_step import build_optim_step
from slowfast.layers.norm import SubBatchNorm3d
from slowfast.runtime.distributed import get_rank, get_world_size
from slowfast.runtime.launch import launch

FOLDER, PROCESSES = sys.argv[1], int(sys.argv[2])

def train_case(cfg, plain, given):
    model = copy.deepcopy(plain).train()
    if cfg.TASK:
        model = convert(model, Rules([MaxFrames(1, 0.25)], [AvgFrames(1)], [2]))
        model.full_gradient = cfg.PGT.FULL_GRADIENT
    how = ModelSetup.from_config(cfg)
    if get_world_size() == 1:
        how = dataclasses.replace(how, compile_mode="")
    model = setup_model(model, torch.device("cpu"), how)
    optimizer = build_optimizer(unwrap(model), cfg)
    set_lr(optimizer, 0.05)
    average = build_average(cfg, unwrap(model), optimizer)
    update, task = build_optim_step(cfg, model, optimizer), build_task(cfg)
    share = 4 // get_world_size()
    part = slice(get_rank() * share, (get_rank() + 1) * share)
    for clips, labels in given["batches"]:
        clips, labels = clips[part, :, : cfg.DATA.NUM_FRAMES], labels[part]
        task.train_step(model, Batch([clips], labels, labels, labels), update)
    trained = {"model": unwrap(model).state_dict()}
    if average is not None:
        trained["average"] = average.module.state_dict()
    return {kind: {k: v.clone() for k, v in weights.items()} for kind, weights in trained.items()}

def main(cfg):
    torch.set_num_threads(1)
    torch.compile = functools.partial(torch.compile, backend="aot_eager")
    activate_projects(cfg)
    plain, given = (torch.load(f"{FOLDER}/{name}.pt", weights_only=False) for name in ("model", "given"))
    out = {}
    for name in json.load(open(f"{FOLDER}/cases.json")):
        out[name] = train_case(load_config(f"{FOLDER}/{name}.yaml"), plain, given)
    norm = SubBatchNorm3d(3, num_splits=2)
    norm.split_mean.copy_(torch.tensor([[0.0], [2.0]]) + get_rank())
    average_bn_stats(norm)
    out["norm"] = {"model": norm.state_dict()}
    if get_rank() == 0:
        torch.save(out, f"{FOLDER}/out{PROCESSES}.pt")

if __name__ == "__main__":
    launch(main, load_config(f"{FOLDER}/pgt_plain.yaml"), num_procs=PROCESSES)
"""

SETTINGS = {
    "plain": [],
    "ema": ["EMA.ENABLE", True, "EMA.DECAY", 0.5],
    "frozen": ["MODEL.FREEZE_STAGES", ["s1", "s2.pathway0_res0.branch2.a"]],
    "layer_decay": ["SOLVER.LAYER_DECAY", 0.5],
    "recomputed": ["MODEL.ACT_CHECKPOINT", True],
    "compiled": ["MODEL.COMPILE", True, "MODEL.COMPILE_MODE", "reduce-overhead"],
    "half_gradients": ["MODEL.FP16_ALLREDUCE", True],
    "accumulated": ["TRAIN.ACCUM_STEPS", 2, "MODEL.ACT_CHECKPOINT", True, "EMA.ENABLE", True],
}
STEPWISE = {
    "per_step": ["PGT.TRAIN_TOGETHER", False, "EMA.ENABLE", True, "EMA.DECAY", 0.5, "MODEL.ACT_CHECKPOINT", True],
    "full": ["PGT.FULL_GRADIENT", True, "MODEL.ACT_CHECKPOINT", True, "MODEL.FREEZE_STAGES", ["s1"]],
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, progressive_cfg, one_block_model):
    """Weights after training, by number of processes, case, and kind (model, average)."""
    folder = tmp_path_factory.mktemp("settings")
    steps = ["PGT.STEP_LEN", [4], "DATA.NUM_FRAMES", 10, "PGT.STEPS", 3]
    clip = ["PGT.ENABLE", False, "DATA.NUM_FRAMES", 4]
    cases = {f"clip_{name}": [*clip, *settings] for name, settings in SETTINGS.items()}
    cases |= {f"pgt_{name}": [*steps, *settings] for name, settings in (SETTINGS | STEPWISE).items()}
    for name, settings in cases.items():
        cfg = progressive_cfg("slow_basic", *settings, "OUTPUT_DIR", str(folder))
        (folder / f"{name}.yaml").write_text(cfg_to_yaml(cfg))
    (folder / "cases.json").write_text(json.dumps(list(cases)))
    torch.save(one_block_model(norm=FrozenBatchNorm3d), folder / "model.pt")
    torch.manual_seed(1)
    batches = [(torch.randn(4, 3, 10, 16, 16), torch.tensor([0, 1, 4, 3])) for _ in range(2)]
    torch.save({"batches": batches}, folder / "given.pt")
    (folder / "script.py").write_text(SCRIPT)
    for processes in ("1", "2"):
        command = [sys.executable, str(folder / "script.py"), str(folder), processes]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0, done.stderr
    return {n: torch.load(folder / f"out{n}.pt") for n in (1, 2)} | {
        "start": torch.load(folder / "model.pt", weights_only=False)
    }


@pytest.mark.slow
def test_two_processes_train_as_one_in_every_setting(outcomes):
    assert outcomes[1].keys() == outcomes[2].keys() and len(outcomes[1]) == 2 * len(SETTINGS) + len(STEPWISE) + 1
    for case, kinds in outcomes[1].items():
        if case == "norm":
            continue
        tolerance = 1e-3 if case.endswith("half_gradients") else 1e-6
        assert kinds.keys() == outcomes[2][case].keys()
        for kind, weights in kinds.items():
            for name, weight in weights.items():
                message = f"{case}, {kind}, {name}: {{}}".format
                torch.testing.assert_close(
                    outcomes[2][case][kind][name], weight, rtol=1e-4, atol=tolerance, msg=message
                )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "pgt"])
def test_settings_do_what_they_say_in_two_processes(outcomes, kind):
    """Recomputed and compiled runs end as the plain one; frozen, slowed and averaged weights are others."""
    start, out = outcomes["start"].state_dict(), outcomes[2]
    plain = out[f"{kind}_plain"]["model"]
    for same in ("recomputed", "compiled", "ema"):
        torch.testing.assert_close(out[f"{kind}_{same}"]["model"], plain, rtol=1e-4, atol=1e-6)
    frozen = out[f"{kind}_frozen"]["model"]
    fixed = {name for name in start if torch.equal(frozen[name], start[name])}
    trained = {name for name in start if not torch.equal(plain[name], start[name])}
    assert fixed & trained == {"s1.pathway0_stem.conv.weight", "s2.pathway0_res0.branch2.a.weight"}
    moved = {run: out[f"{kind}_{run}"]["model"]["s1.pathway0_stem.conv.weight"] for run in ("plain", "layer_decay")}
    drift = {run: (weight - start["s1.pathway0_stem.conv.weight"]).norm() for run, weight in moved.items()}
    assert drift["layer_decay"] < 0.5 * drift["plain"]
    key = "head.projection.weight"
    assert not torch.equal(out[f"{kind}_ema"]["average"][key], out[f"{kind}_ema"]["model"][key])
    half = out[f"{kind}_half_gradients"]["model"]
    assert not torch.equal(half[key], plain[key])


@pytest.mark.slow
def test_statistics_of_parts_are_averaged_over_processes(outcomes):
    """Means [0, 2] and [1, 3] of the parts, all variances 1: of both processes [0.5, 2.5], together 1.5 and 1 + 1."""
    norm = outcomes[2]["norm"]["model"]
    assert norm["split_mean"].tolist() == [[0.5] * 3, [2.5] * 3]
    assert norm["running_mean"].tolist() == [1.5] * 3 and norm["running_var"].tolist() == [2.0] * 3
