"""Child processes of the demos: run several at a time, show progress, measure them, and read what they wrote."""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep_plan import ROOT

from slowfast.config import activate_projects, load_config
from slowfast.utils.files import atomic_write_local

TAIL_LINES = 15
TICK_SECONDS = 1.0
QUIET_TICK_SECONDS = 20.0  # between lines of progress without a terminal


class JobError(RuntimeError):
    """A child process failed; the message ends with the end of its output."""


@dataclass(frozen=True)
class Usage:
    """Resources of a child process: seconds from start to end, peak resident memory in MiB, seconds of the CPU."""

    seconds: float
    peak_rss_mib: float
    cpu_seconds: float


class Workshop:
    """Runner of child processes, at most `workers` at a time with `threads` threads each, with a progress line."""

    def __init__(self, workers: int, threads: int):
        self.workers, self.threads = workers, threads
        self._lock = threading.Lock()
        self._running: dict[str, tuple[subprocess.Popen, Callable[[], str]]] = {}
        self._closed = False
        self._started = time.monotonic()

    def run(self, title: str, command: Iterable[object], log: Path, progress: Callable[[], str] = lambda: "") -> Usage:
        """Run a command in the repository's root with its output at the end of `log`; raise JobError if it fails.

        Args:
            progress: returns a short text about the progress.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with log.open("a") as stream:
            with self._lock:
                if self._closed:
                    raise JobError(f"{title}: not started, since another part failed")
                child = subprocess.Popen(
                    [str(word) for word in command],
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                    env={**os.environ, **self._thread_settings()},
                )
                self._running[title] = (child, progress)
            peak_rss_mib, cpu_seconds = _wait(child)
        with self._lock:
            del self._running[title]
            closed = self._closed
        if child.returncode and not closed:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
            raise JobError(f"{title} failed with status {child.returncode}; {log} ends with\n{tail}")
        return Usage(time.monotonic() - started, peak_rss_mib, cpu_seconds)

    def _thread_settings(self) -> dict[str, str]:
        count = str(self.threads)
        return {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "PYTHONUNBUFFERED": "1"}

    def run_all(self, tasks: list[Callable[[], object]]) -> list:
        """Run `tasks`, functions that call `run`, `workers` at a time; return their results. An error ends them all."""
        with ThreadPoolExecutor(self.workers) as pool:
            futures = [pool.submit(task) for task in tasks]
            try:
                self._watch(futures)
            except BaseException:
                self.close()
                for future in futures:
                    future.cancel()
                raise
            return [future.result() for future in futures]

    def _watch(self, futures: list) -> None:
        """Print progress until all tasks are done; raise the first error of a task."""
        terminal = sys.stdout.isatty()
        last_line = time.monotonic()
        while True:
            done, pending = wait(futures, TICK_SECONDS, FIRST_EXCEPTION)
            for future in done:
                future.result()
            if not pending:
                break
            if terminal:
                print(f"\r\033[K{self._status()[: os.get_terminal_size().columns - 1]}", end="", flush=True)
            elif time.monotonic() - last_line > QUIET_TICK_SECONDS:
                last_line = time.monotonic()
                print(self._status(), flush=True)
        if terminal:
            print("\r\033[K", end="", flush=True)

    def _status(self) -> str:
        with self._lock:
            parts = [f"{title} {progress()}".rstrip() for title, (_, progress) in self._running.items()]
        seconds = int(time.monotonic() - self._started)
        return f"  {seconds // 60}:{seconds % 60:02d}  " + "  |  ".join(parts)

    def say(self, line: str) -> None:
        """Print a line above the progress line."""
        lead = "\r\033[K" if sys.stdout.isatty() else ""
        print(f"{lead}{line}", flush=True)

    def close(self) -> None:
        """Terminate all children, and start no more."""
        with self._lock:
            self._closed = True
            for child, _ in self._running.values():
                # Not child.terminate(), which may reap the child before `_wait` does.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGTERM)


def _wait(child: subprocess.Popen) -> tuple[float, float]:
    """Wait for a child; return its peak resident memory in MiB, and its seconds of the CPU."""
    # Unlike Popen.wait, wait4 returns the resources of this child.
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit / 2**20, usage.ru_utime + usage.ru_stime


def kept(path: Path, make: Callable[[], dict]) -> dict:
    """Return the results in a JSON file; where it is missing, make them and write it."""
    if not path.exists():
        atomic_write_local(path, json.dumps(make(), indent=2) + "\n")
    return json.loads(path.read_text())


def write_measured(measure: Callable[[Any], dict], description: str) -> None:
    """Run the command line of a tool that measures one config: `--cfg FILE --output FILE.json [KEY VALUE ...]`.

    Args:
        measure: called with the config; its result is written.
        description: docstring of the tool.
    """
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--cfg", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE")
    arguments = parser.parse_args()
    cfg = load_config(arguments.cfg, arguments.overrides)
    activate_projects(cfg)
    atomic_write_local(arguments.output, json.dumps(measure(cfg), indent=2) + "\n")


def training_progress(stats_file: Path) -> Callable[[], str]:
    """Return a function that reads epoch and loss from the last statistics of a training."""

    def read() -> str:
        if not stats_file.exists():
            return "starts"
        for line in reversed(stats_file.read_text().splitlines()):
            stats = json.loads(line) if line.endswith("}") else {}
            if stats.get("_type") in ("train_iter", "train_epoch"):
                return f"epoch {stats['epoch']}, loss {stats['loss']:.2f}"
        return "starts"

    return read


def read_training(folder: Path) -> dict:
    """Read `updates` and `train_seconds` (with loading, without evaluation) from the statistics of a training.

    An epoch that a resumed training did again counts once.
    """
    stats = [json.loads(line) for line in (folder / "json_stats.jsonl").read_text().splitlines()]
    epochs = {entry["epoch"]: entry["epoch_seconds"] for entry in stats if entry["_type"] == "train_epoch"}
    iterations = [int(entry["iter"].split("/")[1]) for entry in stats if entry["_type"] == "train_iter"]
    if not iterations:
        raise JobError(f"{folder}: no iteration was logged; set LOG_PERIOD to at most the iterations of an epoch")
    return {
        "updates": iterations[0] * len(epochs),
        "train_seconds": sum(epochs.values()),
    }
