"""PySlowFast's collectives over two processes, and a training loop of a user's in them."""

import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.processes

PROGRAM = """
import sys
import torch
import slowfast.models.optimizer as optim
import slowfast.utils.distributed as du
from slowfast.config import load_config
from slowfast.datasets import loader
from slowfast.runtime.launch import launch

def main(cfg):
    du.init_distributed_training(cfg)
    rank = du.get_rank()
    given = torch.arange(2.0) + 10 * rank
    gathered = du.all_gather([given, given.view(2, 1), given[rank:]])
    unaligned = du.all_gather_unaligned([rank] * (rank + 1))
    (mean,), (total,) = du.all_reduce([given.clone()]), du.all_reduce([given.clone()], average=False)
    torch.manual_seed(rank)  # weights of the second process differ until the optimizer is made
    model = torch.nn.Linear(2, 1)
    optimizer = optim.construct_optimizer(model, cfg)
    data = torch.arange(16.0).view(8, 2) / 10
    for _ in range(2):
        optimizer.zero_grad()
        for part in data[4 * rank : 4 * rank + 4].chunk(2):  # accumulated over two passes
            (model(part).square().mean() / 2).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    batches = [du.all_gather([index])[0] for _, _, index, _, _ in loader.construct_loader(cfg, "val")]
    found = {"gathered": gathered, "unaligned": unaligned, "mean": mean, "total": total, "norm": norm,
             "weights": model.state_dict(), "batches": batches,
             "ranks": (rank, du.get_local_rank(), du.get_local_size()),
             "master": du.is_master_proc(2)}
    torch.save(found, f"{cfg.OUTPUT_DIR}/{rank}.pt")

if __name__ == "__main__":
    launch(main, load_config(sys.argv[1], sys.argv[2:]), num_procs=2)
"""


@pytest.mark.slow
def test_two_processes(tiny_file, tiny_cfg, tiny_data, tmp_path, repo):
    (tmp_path / "program.py").write_text(PROGRAM)
    cfg = tiny_cfg()
    (tmp_path / "out").mkdir(exist_ok=True)
    # Three videos, one a batch: the first process has one batch less, and repeats its only one.
    (tmp_path / "val.csv").write_text("".join((tiny_data / "val.csv").read_text().splitlines(keepends=True)[:3]))
    settings = ["DATA.PATH_TO_DATA_DIR", str(tmp_path), "TRAIN.BATCH_SIZE", "2"]
    command = [sys.executable, str(tmp_path / "program.py"), str(tiny_file), *settings]
    env = {"PYTHONPATH": str(repo), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    one, other = (torch.load(f"{cfg.OUTPUT_DIR}/{rank}.pt") for rank in range(2))
    for found in (one, other):
        assert [part.flatten().tolist() for part in found["gathered"]] == [[0, 1, 10, 11]] * 2 + [[0, 1, 11]]
        assert [index.tolist() for index in found["batches"]] == [[0, 1], [0, 2]]
        assert found["unaligned"] == [[0], [1, 1]]
        assert (found["mean"].tolist(), found["total"].tolist()) == ([5, 6], [10, 12])
    assert (one["ranks"], other["ranks"]) == ((0, 0, 2), (1, 1, 2)) and (one["master"], other["master"]) == (
        True,
        False,
    )
    # The same two steps on all of the data, in one process, from the first one's weights.
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    from slowfast.compat.functions import construct_optimizer

    optimizer = construct_optimizer(model, cfg)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.arange(16.0).view(8, 2) / 10).square().mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    for found in (one, other):
        torch.testing.assert_close(found["weights"], dict(model.state_dict()))
        torch.testing.assert_close(found["norm"], norm)
