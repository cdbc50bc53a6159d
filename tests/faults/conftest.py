"""Jobs as processes of their own, with a fault built in, and what is left of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

from slowfast.checkpoint.io import find_checkpoints, load_checkpoint

NET = Path(__file__).with_name("faulty_net.py")
# Issue: a job ends within a minute after a fault. Loaded machines get more before a test gives up on it.
PATIENCE_S = 180
TORCHRUN = ("-m", "torch.distributed.run")


class Job:
    """Job in a session of its own; `pids()` finds all of its processes by a mark in their environment."""

    def __init__(self, command: Sequence[object], log: Path, faults: Sequence[dict], environment: dict[str, str]):
        name, value = "JOB_MARK", uuid.uuid4().hex
        self.mark, self.log = f"{name}={value}".encode(), log
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [*map(str, command)],
                env={**os.environ, "OMP_NUM_THREADS": "1", "FAULTS": json.dumps(faults), **environment, name: value},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """Return standard output and standard error up to now."""
        return self.log.read_text()

    def pids(self) -> list[int]:
        """All living processes of the job, wherever they are in the tree."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found

    def ranks(self) -> dict[int, int]:
        """Rank -> process, of those that have one and are no loader's worker."""
        found = {}
        for pid in self.pids():
            with contextlib.suppress(OSError):
                variables = dict(
                    entry.split(b"=", 1) for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if entry
                )
                parent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
                if b"RANK" in variables and parent == self.process.pid:
                    found[int(variables[b"RANK"])] = pid
        return found

    def wait_for(self, text: str, times: int = 1) -> None:
        """Until the output holds `text` so often."""
        end = time.monotonic() + PATIENCE_S
        while self.output.count(text) < times:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < end, self.stacks()
            time.sleep(0.05)

    def signal(self, signum: int, pids: list[int] | None = None) -> None:
        """Send to the given processes, or to the one that was started."""
        for pid in pids or [self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)

    def end(self) -> int:
        """Wait for the end of the whole job; its exit status. No process may stay."""
        try:
            status = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running: {self.stacks()}")
        end = time.monotonic() + 30  # orphaned loader workers look for their parent every few seconds
        while self.pids() and time.monotonic() < end:
            time.sleep(0.2)
        assert self.pids() == [], self.output
        return status

    def stacks(self) -> str:
        """Return the output with the stacks of all Python threads of a job that hangs, loader workers' included."""
        self.signal(signal.SIGUSR1, [pid for pid in self.pids() if pid != self.process.pid])
        time.sleep(2)
        return self.output

    @property
    def last_words(self) -> str:
        """Return the last line of the output."""
        return self.output.rstrip().splitlines()[-1]

    def destroy(self) -> None:
        """Kill whatever is left."""
        self.signal(signal.SIGKILL, [self.process.pid, *self.pids()])
        self.process.wait()


@pytest.fixture
def job(tiny_file, tmp_path, hears_ctrl_c):
    """Return a function that starts a job of `--num_procs` processes with KEY VALUE settings; `torchrun` uses torchrun.

    A fault says which rank breaks, at which call ("step", "predict", "save") of which number, and how: the name of a
    function in faulty_net.py. Several are for the starts of a job that restarts.
    """
    started = []

    def start(*settings, processes=2, faults=(), torchrun=None, prefix=(), **environment):
        launcher = [*TORCHRUN, *torchrun, NET] if torchrun else [NET]
        count = [] if torchrun else ["--num_procs", processes]
        log = tmp_path / f"job {len(started)}.log"
        command = [*prefix, sys.executable, *launcher, "--cfg", tiny_file, *count, *settings]
        started.append(Job(command, log, faults, environment))
        return started[-1]

    yield start
    for each in started:
        each.destroy()


@pytest.fixture
def checkpoints():
    """Return a function that lists (epoch, iteration) of the checkpoints of a run, each of which must load."""

    def look(cfg):
        files = find_checkpoints(cfg.OUTPUT_DIR)
        for file in files:
            load_checkpoint(file.path)
        return [(file.epoch, file.iteration) for file in files]

    return look
