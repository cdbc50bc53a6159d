"""`tools/run_net.py` with faults built in, which FAULTS in the environment describes (see `job` in conftest.py).

The first is for the first start of the processes, the next for the start that follows a restart by torchrun.
"""

import itertools
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from pathlib import Path

import torch

from slowfast.checkpoint import io as checkpoint_io
from slowfast.engine.arguments import parse_arguments
from slowfast.engine.command import main
from slowfast.engine.task import ClipTask


def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def kill_a_worker(*_):
    victim = multiprocessing.active_children()[0].pid
    print("WORKER", victim, flush=True)
    os.kill(victim, signal.SIGKILL)
    time.sleep(60)  # the death is noticed wherever the main process happens to be


def fail(*_):
    raise RuntimeError("this was bound to happen")


def hang(*_):
    while True:  # a signal ends the sleep, not this
        time.sleep(600)


def stop(*_):
    os.kill(os.getpid(), signal.SIGTERM)


def ctrl_c(*_):
    """As the terminal sends it, to all processes of the group."""
    os.killpg(0, signal.SIGINT)


def write_half_and_die(state, stream):
    whole = Path(stream.name + ".whole")
    torch.save(state, whole)
    content = whole.read_bytes()
    whole.unlink()
    stream.write(content[: len(content) // 2])
    stream.flush()
    kill()


def damage_the_newest_and_die(*_):
    newest = checkpoint_io.find_checkpoints(sys.argv[sys.argv.index("OUTPUT_DIR") + 1])[-1].path
    os.truncate(newest, os.path.getsize(newest) // 2)
    kill()


def fill_the_disk(*_):
    """From here on files end at 20 kB, as on a disk that is full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def find_damage(path, *_):
    """As a process reads the file on a host whose disk has damaged it."""
    raise ValueError(f"{path} is damaged")


WHEN = {
    "step": (ClipTask, "train_step"),
    "predict": (ClipTask, "predict"),
    "save": (checkpoint_io, "_write"),
    "load": (checkpoint_io, "load_checkpoint"),
}


def break_at(when, number, how):
    owner, name = WHEN[when]
    original, calls = getattr(owner, name), itertools.count(1)

    def call(*args, **options):
        if next(calls) == number:
            globals()[how](*args)
        return original(*args, **options)

    setattr(owner, name, call)


if __name__ == "__main__":
    rank, start = int(os.environ.get("RANK", 0)), int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
    # The launcher of several processes runs this file too, and trains nothing.
    for fault in json.loads(os.environ.get("FAULTS", "[]"))[start : start + 1]:
        if rank == fault.pop("rank", 0):
            break_at(**fault)
    sys.exit(main(parse_arguments()))
