"""Processes and hosts that find each other, or say why they cannot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slowfast.runtime.launch import launch

pytestmark = pytest.mark.processes

SETTINGS = ["BN.NORM_TYPE", "frozen_batchnorm"]


def refused(cfg, monkeypatch, message, **environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        launch(lambda cfg: None, cfg)


def test_one_process_runs_here(tiny_cfg):
    assert launch(lambda cfg: cfg.RNG_SEED, tiny_cfg("RNG_SEED", 7)) == 7


def test_several_hosts_need_a_place_to_meet(tiny_cfg):
    cfg = tiny_cfg("NUM_SHARDS", 2)
    with pytest.raises(ValueError, match="NUM_SHARDS is 2 .* tcp://HOST:PORT"):
        launch(lambda cfg: None, cfg)
    with pytest.raises(ValueError, match="--init_method '10.0.0.1:99'"):
        launch(lambda cfg: None, cfg, init_method="10.0.0.1:99")
    restarts = tiny_cfg("NUM_SHARDS", 2, "DIST.MAX_RESTARTS", 1)
    with pytest.raises(ValueError, match="DIST.MAX_RESTARTS 1 with NUM_SHARDS 2.*torchrun --max-restarts"):
        launch(lambda cfg: None, restarts, init_method="tcp://10.0.0.1:99")


def test_odd_numbers_of_processes(tiny_cfg):
    with pytest.raises(ValueError, match="at least one process is needed, not 0"):
        launch(lambda cfg: None, tiny_cfg(), num_procs=0)


def test_an_environment_that_contradicts_the_settings(tiny_cfg, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    refused(tiny_cfg(), monkeypatch, "but not LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR: start with torchrun")
    started = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "GROUP_WORLD_SIZE": "2"}
    refused(tiny_cfg("NUM_SHARDS", 3), monkeypatch, "NUM_SHARDS is 3, but torchrun started 2 host", **started)
    with pytest.raises(ValueError, match="--num_procs is 4, but 2 processes were started on this host"):
        launch(lambda cfg: None, tiny_cfg(), num_procs=4)


def test_processes_cannot_start_again_what_was_typed_in(tiny_cfg, monkeypatch):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    with pytest.raises(ValueError, match="interactive session"):
        launch(lambda cfg: None, tiny_cfg(), num_procs=2)


# Before both scripts.
THREADS = """
from pathlib import Path

def threads():
    return [name for path in Path("/proc/self/task").glob("*/comm") if "gloo" in (name := path.read_text())]
"""
REFUSE = """
import atexit
import sys
import torch
import torch.distributed as dist
from slowfast.config import load_config
from slowfast.runtime.launch import launch

def refuse(cfg):
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
    model.myself = [model]
    assert dist.is_initialized()
    raise ValueError("a user's mistake")

if __name__ == "__main__":
    # Runs after what is registered later.
    atexit.register(lambda: print("group:", dist.is_initialized(), "threads:", bool(threads())))
    try:
        launch(refuse, load_config(sys.argv[1]))
    except ValueError:
        print("raised:", dist.is_initialized())
        if sys.argv[2] == "uncaught":
            raise
        sys.exit(2)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "status"), [("caught", 2), ("uncaught", 1)])
def test_a_mistake_ends_the_process_group_with_the_process(ending, status, tiny_file, tmp_path, free_port):
    """Threads of a group that is left to the end abort the process now and then, with another exit status."""
    script = tmp_path / "refuse.py"
    script.write_text(THREADS + REFUSE)
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "localhost"}
    done = subprocess.run(
        [sys.executable, script, tiny_file, ending],
        env={**os.environ, **alone, "MASTER_PORT": str(free_port)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == status, done.stderr
    assert done.stdout.splitlines() == ["raised: True", "group: False threads: False"]


TRAIN = """
import os
import sys
from slowfast.config import load_config
from slowfast.engine.train import train
from slowfast.runtime.launch import launch

def run(cfg):
    train(cfg)
    sys.stdout.write(f"in the group: {bool(threads())}{chr(10)}")

if __name__ == "__main__":
    launch(run, load_config(sys.argv[1], sys.argv[2:]), num_procs=2)
    if "RANK" in os.environ:
        sys.stdout.write(f"after it: {bool(threads())}{chr(10)}")
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="names of threads are read from /proc")
def test_no_thread_of_the_group_outlives_a_training(tiny_file, tmp_path):
    """A thread that does aborts its process now and then, after all has been done."""
    script = tmp_path / "threads.py"
    script.write_text(THREADS + TRAIN)
    done = subprocess.run(
        [sys.executable, script, tiny_file, "SOLVER.MAX_EPOCH", "1", "SOLVER.WARMUP_EPOCHS", "0"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["after it: False"] * 2 + ["in the group: True"] * 2


SHOW = """
import sys
from slowfast.config import load_config
from slowfast.runtime.distributed import all_gather_object, get_local_world_size, get_rank
from slowfast.runtime.launch import launch

def show(cfg):
    ranks = all_gather_object((get_rank(), cfg.SHARD_ID))
    # One write a line, since two processes share the pipe.
    sys.stdout.write(f"{ranks} {get_local_world_size()} {cfg.NUM_SHARDS}{chr(10)}")
    sys.stdout.flush()

if __name__ == "__main__":
    overrides = ["NUM_SHARDS", 2, "SHARD_ID", int(sys.argv[2])]
    launch(show, load_config(sys.argv[1], overrides), num_procs=2, init_method=sys.argv[3])
"""


@pytest.mark.slow
def test_two_hosts_of_two_processes_meet(tiny_file, tmp_path, free_port):
    script = tmp_path / "show.py"
    script.write_text(SHOW)
    hosts = [
        subprocess.Popen(
            [sys.executable, script, tiny_file, str(host), f"tcp://127.0.0.1:{free_port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for host in range(2)
    ]
    for host in hosts:
        output, errors = host.communicate(timeout=120)
        assert host.returncode == 0, errors
        # Ranks follow the numbers of the hosts.
        assert output.splitlines() == ["[(0, 0), (1, 0), (2, 1), (3, 1)] 2 2"] * 2


@pytest.mark.slow
def test_a_host_that_never_comes(tiny_file, tool, finish):
    settings = ["DIST.START_TIMEOUT", 2, "--num_shards", 2, "--shard_id", 0, "--init_method", "tcp://127.0.0.1:29431"]
    status, output = finish(tool("run_net", "--cfg", tiny_file, *settings))
    assert status == 2
    last = output.splitlines()[-1]
    assert last.startswith("error: 2 hosts did not meet at 127.0.0.1:29431 within DIST.START_TIMEOUT 2 s")
    assert "1/2 clients joined" in last
