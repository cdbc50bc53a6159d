"""Two processes on the CPU do together what one does alone."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn

from slowfast.checkpoint.io import find_checkpoints, load_checkpoint
from slowfast.engine.optim_step import OptimStep
from slowfast.engine.precise_bn import update_bn_stats
from slowfast.engine.task import ClipTask
from slowfast.engine.train import train
from slowfast.models import build_model
from slowfast.runtime.launch import launch

pytestmark = pytest.mark.processes

FROZEN = ["BN.NORM_TYPE", "frozen_batchnorm", "MODEL.DROPOUT_RATE", 0.0]

# Each process takes its half of the batches the test saved, and the main one saves what came out.
PAIR = """
import sys
import torch
from torch import nn
from slowfast.config import load_config
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.state import Averages
from slowfast.engine.model_setup import average_bn_stats, setup_model, unwrap
from slowfast.engine.precise_bn import update_bn_stats
from slowfast.engine.task import ClipTask
from slowfast.engine.optim_step import OptimStep
from slowfast.models import build_model
from slowfast.runtime.distributed import all_gather_object, any_process, get_rank, get_world_size
from slowfast.runtime.launch import launch

def gradients(model):
    return [p.grad.clone() for p in model.parameters()]

def pair(cfg):
    torch.set_num_threads(1)
    rank, folder = get_rank(), cfg.OUTPUT_DIR
    if folder.endswith("failing"):
        if rank == 1:
            raise ValueError("rank 1 failed: line one\\nline two")
        torch.distributed.barrier()  # waits for a process that is gone
    given, out = torch.load(folder + "/given.pt"), {}
    model = build_model(cfg)
    model.load_state_dict(given["weights"])
    model = setup_model(model, torch.device("cpu"))
    exchanged = count_exchanges(model)
    update = OptimStep(model, torch.optim.SGD(model.parameters(), lr=0.1), accum_steps=2)
    task = ClipTask(cfg)
    for clips, labels in zip(given["clips"], given["labels"]):
        half = slice(2 * rank, 2 * rank + 2)
        task.train_step(model, Batch([clips[half]], labels[half], labels[half], labels[half]), update)
        if not update.at_boundary:
            first = all_gather_object(gradients(model)[0])
            out["differs_before"] = not torch.equal(*first)
    out["weights"] = unwrap(model).state_dict()
    out["exchanges"] = sum(exchanged) / sum(p.numel() for p in model.parameters())
    norm = nn.Sequential(nn.BatchNorm3d(3))
    halves = [clips[2 * rank : 2 * rank + 2] for clips in given["clips"]]
    update_bn_stats(norm, halves, lambda m, x: m(x))
    out["norm"] = {key: value.clone() for key, value in norm.state_dict().items()}
    norm[0].running_mean.fill_(float(rank))
    average_bn_stats(norm)
    out["averaged"] = norm[0].running_mean.tolist()
    averages = Averages()
    averages.add({"loss": torch.tensor(1.0 + rank)}, samples=1 + 2 * rank)
    out["loss"] = averages.read()["loss"]
    restored = Averages()
    restored.load_state_dict(averages.state_dict(), torch.device("cpu"))
    out["restored"] = restored.state_dict()  # of a run that is stopped again before its first batch
    out["any"] = [any_process(rank == 1, torch.device("cpu")), any_process(False, torch.device("cpu"))]
    if rank == 0:
        torch.save(out, folder + "/out.pt")

if __name__ == "__main__":
    launch(pair, load_config(sys.argv[1], sys.argv[2:]), num_procs=2)
"""


@pytest.fixture
def run_pair(tmp_path, tiny_file, exchange_counter):
    """`run_pair(given, folder)`: run the script above on `given`; return the finished process and what it saved."""

    def start(given, folder="pair"):
        (tmp_path / folder).mkdir()
        torch.save(given, tmp_path / folder / "given.pt")
        script = tmp_path / "pair.py"
        script.write_text(exchange_counter + PAIR)
        overrides = [*FROZEN, "OUTPUT_DIR", tmp_path / folder]
        command = [sys.executable, str(script), str(tiny_file), *map(str, overrides)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        out = tmp_path / folder / "out.pt"
        return done, torch.load(out) if out.exists() else None

    return start


@pytest.mark.slow
def test_two_processes_equal_one(tiny_cfg, run_pair):
    """Gradients of a joint batch, accumulated twice and exchanged once; norm statistics; averages."""
    cfg = tiny_cfg(*FROZEN)
    torch.manual_seed(0)
    model = build_model(cfg)
    clips, labels = [torch.randn(4, 3, 4, 32, 32) for _ in range(2)], [torch.tensor([0, 1, 1, 0])] * 2
    given = {"weights": {k: v.clone() for k, v in model.state_dict().items()}, "clips": clips, "labels": labels}
    done, out = run_pair(given)
    assert done.returncode == 0, done.stderr
    update = OptimStep(model, torch.optim.SGD(model.parameters(), lr=0.1), accum_steps=2)
    loss = ClipTask(cfg).loss
    for clip, label in zip(clips, labels, strict=True):
        update.backward(loss(model([clip]), label))
        update()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(out["weights"][key], value, rtol=1e-5, atol=1e-6)
    assert out["differs_before"]
    assert out["exchanges"] == 1
    norm = nn.Sequential(nn.BatchNorm3d(3))
    update_bn_stats(norm, [torch.cat(clips)], lambda m, x: m(x))
    torch.testing.assert_close(out["norm"], dict(norm.state_dict()))
    assert out["averaged"] == [0.5] * 3
    assert out["loss"] == pytest.approx((1 * 1.0 + 3 * 2.0) / 4)
    assert out["restored"] == {"sums": {"loss": 7.0}, "samples": 4}
    assert out["any"] == [True, False]


@pytest.mark.slow
def test_the_launcher_tells_what_one_process_raised(run_pair):
    done, _ = run_pair({}, "failing")
    assert done.returncode == 1
    assert done.stderr.endswith("ProcessFailedError: process 1 failed: ValueError: rank 1 failed: line one\nline two\n")


@pytest.mark.slow
def test_a_run_in_two_processes_stopped_and_continued(tiny_cfg, tiny_file, tool, finish, tmp_path):
    settings = [*FROZEN, "SOLVER.MAX_EPOCH", 3, "TRAIN.CHECKPOINT_PERIOD", 3, "DATA_LOADER.NUM_WORKERS", 1]
    command = ["--cfg", tiny_file, "--num_procs", 2, *settings]
    run = tool("run_net", *command)
    lines = []
    for line in run.stdout:
        lines.append(line)
        if sum("train_iter" in entry for entry in lines) == 2:
            run.send_signal(signal.SIGTERM)
            break
    status, rest = finish(run)
    assert status == 143, "".join(lines) + rest
    cfg = tiny_cfg(*settings)
    assert len(find_checkpoints(cfg.OUTPUT_DIR)) == 1
    status, output = finish(tool("run_net", *command))
    assert status == 0, output
    assert '"_type": "test_final"' in output and '"videos": 4' in output
    alone = tiny_cfg(*settings, "OUTPUT_DIR", str(tmp_path / "alone"))
    train(alone)
    together, single = (load_checkpoint(find_checkpoints(c.OUTPUT_DIR)[-1].path) for c in (cfg, alone))
    for key, value in single["model_state"].items():
        torch.testing.assert_close(together["model_state"][key], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("gpus", "found", "message"),
    [
        (1, 0, "no usable GPU was found; set NUM_GPUS 0"),
        (8, 2, "this host has 2; set NUM_GPUS 2"),
        (-1, 2, "set NUM_GPUS 0"),
    ],
)
def test_gpus_that_are_not_there(tiny_cfg, monkeypatch, gpus, found, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    cfg = tiny_cfg()
    cfg.defrost()
    cfg.NUM_GPUS = gpus
    with pytest.raises(ValueError, match=message):
        launch(lambda cfg: None, cfg)
