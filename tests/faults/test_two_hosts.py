"""Two hosts on one machine: network namespaces with a cable between them, each with an agent of torchrun."""

import contextlib
import os
import shutil
import subprocess

import pytest
import torch

from slowfast.checkpoint.io import find_checkpoints, load_checkpoint
from slowfast.engine.train import train

SETTINGS = ["SOLVER.MAX_EPOCH", 1, "TEST.ENABLE", False, "BN.NORM_TYPE", "frozen_batchnorm", "MODEL.DROPOUT_RATE", 0.0]
CABLE, FIRST = "cable", "10.213.7.1"

pytestmark = [pytest.mark.slow, pytest.mark.processes]


def ip(*words: object) -> None:
    """`ip WORDS`, as root."""
    done = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise OSError(f"ip {' '.join(map(str, words))}: {done.stderr.strip()}")


@pytest.fixture
def hosts():
    """Names of two namespaces whose interfaces, both called `cable`, are joined."""
    if shutil.which("ip") is None:
        pytest.skip("two hosts on one machine take the program ip (package iproute2)")
    if os.geteuid() != 0:
        pytest.skip("two hosts on one machine take network namespaces, and those take root")
    names = [f"slowfast-{os.getpid()}-{side}" for side in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", CABLE, "netns", names[0], "type", "veth", "peer", "name", CABLE, "netns", names[1])
        for number, name in enumerate(names, start=1):
            ip("-n", name, "address", "add", f"10.213.7.{number}/24", "dev", CABLE)
            ip("-n", name, "link", "set", CABLE, "up")
    except OSError as error:
        remove(names)
        pytest.skip(f"this machine allows no network namespaces: {error}")
    yield names
    remove(names)


def remove(names):
    """Interfaces go with their namespaces, once the last process in them has ended."""
    for name in names:
        with contextlib.suppress(OSError):
            ip("netns", "delete", name)


@pytest.fixture
def start(job, hosts):
    """Return a function that starts a job of one process on each host and returns the two agents."""

    def on_both(*settings):
        meeting = ["--nnodes", 2, "--nproc-per-node", 1, "--master-addr", FIRST, "--master-port", 29500]
        return [
            job(
                *settings,
                torchrun=[*meeting, "--node-rank", number],
                prefix=["ip", "netns", "exec", name],
                GLOO_SOCKET_IFNAME=CABLE,
            )
            for number, name in enumerate(hosts)
        ]

    return on_both


@pytest.mark.netns
def test_two_hosts_are_as_good_as_one(start, tiny_cfg, tmp_path):
    """BATCH_SIZE is per host: two hosts with half of it update on the same clips."""
    pair = start(*SETTINGS, "TRAIN.BATCH_SIZE", 2)
    for host in pair:
        assert host.end() == 0, host.output
    folders = [tiny_cfg().OUTPUT_DIR, str(tmp_path / "alone")]
    train(tiny_cfg(*SETTINGS, "OUTPUT_DIR", folders[1]))
    one, other = (load_checkpoint(find_checkpoints(folder)[-1].path)["model_state"] for folder in folders)
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=1e-5, atol=1e-5)
    assert "batch of an optimizer step: 4 clips (4 in 2 process(es) on 2 host(s), 1 accumulated)" in pair[0].output


@pytest.mark.netns
def test_cable_cut(start, hosts, checkpoints, tiny_cfg):
    pair = start(*SETTINGS, "SOLVER.MAX_EPOCH", 500, "TRAIN.BATCH_SIZE", 2, "DIST.TIMEOUT", 5)
    pair[0].wait_for("] slowfast.engine.train: saved", 2)
    ip("-n", hosts[0], "link", "set", CABLE, "down")
    for number, host in enumerate(pair):
        assert host.end() != 0, host.output
        # The report of torchrun ends with the traceback of the first failure, and a ruler.
        last = [line.strip() for line in host.output.splitlines() if line.strip(" =")][-1]
        cause = f"LostContactError: process {number} of 2 had no answer from another for DIST.TIMEOUT 5 s"
        assert cause in last
    assert len(checkpoints(tiny_cfg())) >= 2


def test_hosts_started_differently(job, free_port):
    """Two launchers that meet by --init_method, without a namespace; every host is told what differs."""
    meeting = ["--num_shards", 2, "--init_method", f"tcp://127.0.0.1:{free_port}"]
    pair = [job(*SETTINGS, "SOLVER.BASE_LR", 0.1 + host, *meeting, "--shard_id", host, processes=1) for host in (0, 1)]
    for host in pair:
        assert host.end() == 2, host.output
        assert "SOLVER.BASE_LR: rank 0: 0.1; rank 1: 1.1" in host.output
