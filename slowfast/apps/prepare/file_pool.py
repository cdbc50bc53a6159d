"""Process pool for work on files, which survives a crash or hang on one of them, and a log of the work done."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

from slowfast.utils.files import no_room_explained, open_own
from slowfast.utils.json_file import parse_json

Task = TypeVar("Task")
Result = TypeVar("Result")

_POLL_S = 1.0
_STOP_S = 5.0
_BEGUN = "begun"  # sent when a task starts, since a process takes seconds to start
_DONE, _FAILED = "done", "failed"


@dataclass(frozen=True)
class Lost:
    """Result of a task whose process died or was stopped after a timeout."""

    cause: str


def work_on(
    work: Callable[[Task], Result], tasks: Sequence[Task], workers: int, title: str, timeout_s: float = 600.0
) -> Iterator[tuple[Task, Result | Lost]]:
    """Yield (task, result) as they come, with a progress bar on a terminal.

    Args:
        work: function of a module, or a `functools.partial` of one; picklable, like tasks and results.
        tasks: arguments of the calls.
        workers: number of processes; 0 works in this process, without protection from crashes or timeouts.
        title: title of the progress bar.
        timeout_s: time after which a process is stopped over one task.

    Raises:
        Exception: an error of `work`, which ends all work. So `work` should return errors of a single file.
    """
    results = ((task, work(task)) for task in tasks) if workers < 1 else _shared(work, tasks, workers, timeout_s)
    with tqdm(total=len(tasks), desc=title, unit="file", disable=None if tasks else True, leave=False) as bar:
        for pair in results:
            bar.update()
            yield pair


def _shared(
    work: Callable[[Task], Result], tasks: Sequence[Task], workers: int, timeout_s: float
) -> Iterator[tuple[Task, Result | Lost]]:
    context = _context((work.func if isinstance(work, functools.partial) else work).__module__)
    pending = iter(tasks)
    crew = [_Worker(context, work) for _ in range(min(workers, len(tasks)))]
    try:
        for worker in crew:
            worker.take(pending)
        while busy := [worker for worker in crew if worker.busy]:
            ready = set(wait([worker.pipe for worker in busy], _POLL_S))
            for worker in busy:
                if worker.pipe in ready:
                    result = worker.answer()
                    if result is _BEGUN:
                        continue
                elif time.monotonic() - worker.since > timeout_s:
                    result = worker.give_up(f"not done after {timeout_s:g} s")
                else:
                    continue
                task = worker.task
                worker.take(pending)
                yield task, result
    finally:
        for worker in crew:
            worker.process.terminate()
        for worker in crew:
            worker.stop()


def _context(module: str) -> Any:
    """Return a context whose processes start clean: a fork of this process might inherit threads and locks."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    return context


class _Worker:
    """A process and its task; a lost process is replaced with the next task."""

    def __init__(self, context: Any, work: Callable[[Any], Any]) -> None:
        self._context, self._work = context, work
        self.task, self.busy, self.since = None, False, 0.0
        self._start()

    def _start(self) -> None:
        self.pipe, end = self._context.Pipe()
        self.process = self._context.Process(target=_serve, args=(self._work, end), daemon=True)
        self.process.start()
        end.close()

    def take(self, tasks: Iterator[Any]) -> None:
        """Start the next task, if there is one."""
        for task in tasks:
            if self.pipe.closed:
                self._start()
            self.task, self.busy, self.since = task, True, math.inf
            self.pipe.send(task)
            return
        self.busy = False

    def answer(self) -> Any:
        """Receive `_BEGUN` or the result; `Lost` if the process died."""
        try:
            kind, value = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            return self.give_up(f"the process that read it died ({_how(self.process.exitcode)})")
        if kind == _BEGUN:
            self.since = time.monotonic()
            return _BEGUN
        if kind == _FAILED:
            raise value
        return value

    def give_up(self, cause: str) -> Lost:
        """Stop the process; return `Lost`."""
        self.process.terminate()
        self.stop()
        return Lost(cause)

    def stop(self) -> None:
        """Wait for the end of the process, and kill it if it does not end."""
        self.pipe.close()
        self.process.join(_STOP_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _serve(work: Callable[[Any], Any], pipe: Connection) -> None:
    """Work on tasks until the pipe is closed; on SIGTERM, clean up as after an error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent stops this process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    while True:
        try:
            task = pipe.recv()
        except (EOFError, ConnectionError):
            return
        try:
            pipe.send((_BEGUN, None))
            pipe.send(_outcome(work, task))
        except ConnectionError:
            return


def _outcome(work: Callable[[Any], Any], task: Any) -> tuple[str, Any]:
    try:
        return _DONE, work(task)
    except Exception as error:
        return _FAILED, error


def _how(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return signal.Signals(-exitcode).name
    return f"exit status {exitcode}"


class WorkLog:
    """JSON Lines file that grows with each finished file, so that work that was killed continues.

    Attributes:
        former: lists in the file as it was opened; lines that are cut off or hold other values are left out.

    Args:
        path: file to append to; "" keeps nothing.

    Raises:
        OSError: the file cannot be written, or is a link or no regular file.
    """

    def __init__(self, path: str) -> None:
        self.former: list[list] = []
        self._path = path
        self._file: TextIO | None = None
        if not path:
            return
        os.makedirs(os.path.dirname(path) or os.curdir, exist_ok=True)
        end = "\n"
        # `close` closes it.
        self._file = open(open_own(path), "a+", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
        self._file.seek(0)
        for line in self._file:
            end = line[-1]
            with contextlib.suppress(ValueError):
                value = parse_json(line)
                if isinstance(value, list):
                    self.former.append(value)
        if end != "\n":
            self._file.write("\n")

    def add(self, value: list[Any]) -> None:
        """Append a value, and flush it."""
        if self._file is not None:
            with no_room_explained(self._path):
                self._file.write(json.dumps(value) + "\n")
                self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
