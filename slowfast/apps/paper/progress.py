"""Find what a plan still needs, run its steps, and record what is done, so that a killed run continues."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

from slowfast.apps.paper.plan import PREPARE, TRAIN, Plan, Step
from slowfast.utils.files import atomic_write_local
from slowfast.utils.json_file import read_json

RECORD = "reproduce.json"
_STOP_S = 60.0  # for a stopped command to save its state


def is_done(step: Step) -> bool:
    """Return True if a step needs not run again.

    Raises:
        ValueError: its folder holds a step of that name that another command did.
    """
    there = all(map(os.path.exists, step.makes))
    if not step.folder:
        return there
    done = _read(step.folder).get(step.name)
    if done is None:
        return False
    if done["command"] != str(step):
        raise ValueError(
            f"{os.path.join(step.folder, RECORD)} holds {step.name!r}, done by another command: {done['command']}. "
            "Take another --output, or remove that folder"
        )
    return there


def missing(plan: Plan, data: str) -> list[str]:
    """Describe what is needed, is not there, and is made by no step: the data set's files, the weights to start from.

    Args:
        data: the data folder.

    Raises:
        ValueError: see `is_done`.
    """
    waiting = {step.name.partition(" ")[0] for step in plan.steps if not is_done(step)}
    found = []
    lacks = [need for need in plan.data_set.needs if not os.path.exists(os.path.join(data, need.path))]
    if lacks and PREPARE in waiting:
        listed = ", ".join(f"{need.path} ({need.what})" for need in lacks)
        found.append(
            f"the data folder {data} lacks {listed}. Put them there (docs/data.md says whose files they are), or name "
            "another folder with --data"
        )
    start = plan.cfg.TRAIN.CHECKPOINT_FILE_PATH
    if TRAIN in waiting and start and "://" not in start and not os.path.exists(start):
        found.append(
            f"training starts from {start}, which is not there. Put it there, or add TRAIN.CHECKPOINT_FILE_PATH FILE "
            "(zoo://NAME for one of tools/zoo.py list)"
        )
    return found


def run_steps(steps: Sequence[Step]) -> int:
    """Run the steps that are not done, in order; return 0, or the exit status of the first that fails.

    Raises:
        ValueError: see `is_done`.
        KeyboardInterrupt: Ctrl-C or SIGTERM, once the command that was running has ended.
    """
    waiting = [step for step in steps if not is_done(step)]
    for place, step in enumerate(steps, start=1):
        if step not in waiting:
            print(f"{place}/{len(steps)} {step.name}: done before", flush=True)
            continue
        print(f"{place}/{len(steps)} {step.name}\n{step}", flush=True)
        started = time.time()
        status = _run(step)
        if status:
            print(f"{step.name} ended with status {status}; the same command continues here", flush=True)
            return status
        lost = [path for path in step.makes if not os.path.exists(path)]
        if lost:
            raise FileNotFoundError(f"{step.name} ended well, and {lost[0]} is not there")
        if step.folder:
            _record(step, time.time() - started)
    return 0


def _run(step: Step) -> int:
    """Run a command to its end; on Ctrl-C or SIGTERM stop it, too."""
    with _terminable(), subprocess.Popen([sys.executable, *step.command]) as child:
        try:
            return child.wait()
        except BaseException:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_STOP_S)
            child.kill()
            raise


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt: by default it ends this process, and its child goes on."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _read(folder: str) -> dict[str, Any]:
    path = os.path.join(folder, RECORD)
    return read_json(path, dict, '{"step": {"command": ...}}') if os.path.exists(path) else {}


def _record(step: Step, seconds: float) -> None:
    os.makedirs(step.folder, exist_ok=True)
    facts = {"command": str(step), "seconds": round(seconds, 1), "ended": time.strftime("%Y-%m-%d %H:%M:%S")}
    content = {**_read(step.folder), step.name: facts}
    atomic_write_local(os.path.join(step.folder, RECORD), json.dumps(content, indent=2) + "\n", durable=True)
