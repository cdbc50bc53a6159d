"""Run cases of fuzzing targets: damaged or generated files, read in a child process with limits on time and memory.

A case is a function of seed, target and number, so a finding can be made again. Every second case is a valid file with
damage, the others are made from odd values, where the target has a generator for them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import hashlib
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import torch
from hypothesis.strategies import SearchStrategy

WALL_S, CPU_S = 60.0, 15.0  # of a case; a loaded machine needs more time, and no more of its processor
PEAK_MIB, ADDRESS_MIB = 1024, 16 * 1024  # a case takes at most this much more than the child before it
LONGEST_MESSAGE = 5000
_GENERATED_AT_ONCE = 20
_KINDS_KEPT = 20


@dataclasses.dataclass(frozen=True)
class Target:
    """A reader and the files to give it.

    Attributes:
        group: name of targets that belong together.
        file: name of the file to read.
        seeds: writes valid files into a folder, and returns their content.
        read: reads the file at a path; what it returns is compared where `exact`.
        generated: further contents of files.
        refusals: errors with which `read` may refuse a file.
        named: the message of a refusal names the file; rules between settings do not.
        exact: `read` returns what a seed holds, or refuses; anything else is a finding.
    """

    name: str
    group: str
    file: str
    seeds: Callable[[Path], list[bytes]]
    read: Callable[[str], Any]
    generated: SearchStrategy[bytes] | None = None
    refusals: tuple[type[Exception], ...] = (ValueError, OSError)
    named: bool = True
    exact: bool = False


@dataclasses.dataclass
class Tally:
    """Outcomes of a target: `values` and `refusals` counted, and findings by kind, each with its first file."""

    name: str
    values: int = 0
    refusals: int = 0
    findings: Counter = dataclasses.field(default_factory=Counter)
    files: dict[str, Path] = dataclasses.field(default_factory=dict)

    @property
    def cases(self) -> int:
        """Number of cases that were run."""
        return self.values + self.refusals + self.findings.total()


def damaged(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Change a file at up to four places: bits, bytes, blocks, numbers, and pieces of `others`."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        # The head of a file and its tail describe the rest, so changes there come as often as elsewhere.
        share = rng.choice((rng.random(), rng.random() * 0.05, 1 - rng.random() * 0.05))
        at, size = int(share * len(data)), int(2 ** rng.uniform(0, 12))
        change = rng.randrange(9)
        if change == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            data[at : at + 1] = rng.randbytes(1)
        elif change == 2:
            data[at : at + size] = bytes(len(data[at : at + size]))
        elif change == 3:
            data[at : at + size] = rng.randbytes(min(size, 64))
        elif change == 4:
            del data[at : at + size]
        elif change == 5:
            data[at:at] = data[at : at + size]
        elif change == 6:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            data[at : at + size] = other[start : start + size]
        elif change == 7:
            data[at : at + 8] = rng.choice(_NUMBERS)
        elif rng.random() < 0.3:
            del data[at:]
        else:
            numbers = list(re.finditer(rb"[0-9.]+", data[at : at + 4096]))
            if numbers:
                start, end = rng.choice(numbers).span()
                data[at + start : at + end] = rng.choice(_NUMBER_TEXTS)
    return bytes(data)


_NUMBERS = [number.to_bytes(size, order) for size in (2, 4, 8) for order in ("little", "big")
            for number in (0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1)]  # fmt: skip
_NUMBER_TEXTS = [b"0", b"-1", b"1e400", b"nan", b"-inf", b"9" * 20, b"9" * 5000, b"0.0000001", b"1_0", b"\xd9\xa3", b""]


def digest(value: Any) -> str:
    """Return a digest of nested containers, arrays and tensors, bit for bit."""
    whole = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, dict):
            whole.update(b"{%d" % len(item))
            for key, inner in item.items():
                add(key)
                add(inner)
        elif isinstance(item, (list, tuple)):
            whole.update(b"[%d" % len(item))
            for inner in item:
                add(inner)
        elif isinstance(item, torch.Tensor):
            whole.update(f"{item.dtype} {tuple(item.shape)}".encode())
            whole.update(item.detach().contiguous().flatten().view(torch.uint8).numpy().data)
        elif isinstance(item, np.ndarray):
            whole.update(f"{item.dtype} {item.shape}".encode() + item.tobytes())
        else:
            whole.update(f"{type(item).__name__} {item!r}".encode())

    add(value)
    return whole.hexdigest()


def run(
    targets: Sequence[Target],
    findings: Path,
    seconds: float = 0.0,
    cases: int = 0,
    seed: int = 0,
    jobs: int = 1,
    limits: tuple[float, float, int] = (WALL_S, CPU_S, PEAK_MIB),
) -> list[Tally]:
    """Run every target for its share of `seconds`, or for a number of `cases`.

    Args:
        findings: folder for the files of findings.
        jobs: child processes at a time.
        limits: seconds, seconds of the processor, and MiB of a case.
    """
    waiting, active, done = list(targets), [], []
    share = seconds * jobs / len(targets)
    with tempfile.TemporaryDirectory() as folder:
        while waiting or active:
            while waiting and len(active) < jobs:
                target = waiting.pop(0)
                active.append(_Session(target, Path(folder) / target.name, findings, seed, (share, cases), limits))
            connection.wait([session.pipe for session in active], timeout=1.0)
            for session in active:
                session.advance()
            done += [session.tally for session in active if session.over]
            active = [session for session in active if not session.over]
    return done


def replay(target: Target, file: Path) -> str:
    """Read one file as a case, in this process; return its outcome."""
    with tempfile.TemporaryDirectory() as folder:
        seeds = target.seeds(Path(folder))
        return _outcome(target, Path(folder) / target.file, file.read_bytes(), seeds, (WALL_S, CPU_S, PEAK_MIB))


class _Session:
    """A target in its child process, which is started again when it dies."""

    def __init__(self, target: Target, folder: Path, findings: Path, seed: int, budget: tuple, limits: tuple) -> None:
        self.target, self.folder, self.findings = target, folder, findings
        self.seed, (self.share, self.cases), self.limits = seed, budget, limits
        self.tally, self.number, self.over = Tally(target.name), 0, False
        self.end = 0.0
        folder.mkdir()
        self._start()

    def advance(self) -> None:
        """Take the outcome of the case that has ended, if one has, and send the next one."""
        if self.pipe.poll():
            try:
                outcome = self.pipe.recv()
            except EOFError:
                self.process.join()
                status = self.process.exitcode
                cause = signal.Signals(-status).name if status < 0 else f"status {status}"
                self._lost(f"the process ended: {cause}")
                return
            if self.number:
                self._count(outcome)
            else:
                self.end = time.monotonic() + self.share
            self._next()
        elif time.monotonic() > self.deadline:
            self.process.kill()
            self.process.join()
            self._lost(f"no end in {self.limits[0]:g} s")

    def _start(self) -> None:
        self.pipe, other = multiprocessing.Pipe()
        fork = multiprocessing.get_context("fork")
        arguments = (other, self.target, self.folder, self.seed, self.limits)
        self.process = fork.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        other.close()
        self.deadline = time.monotonic() + 10 * WALL_S  # until the valid files are made

    def _lost(self, outcome: str) -> None:
        if not self.number:
            words = (self.folder / "stderr").read_text(errors="replace")
            raise RuntimeError(f"{self.target.name}: the valid files cannot be made or read: {outcome}\n{words}")
        self._count(outcome + _last_words(self.folder / "stderr"))
        self._start()
        self.pipe.recv()  # the valid files are there
        self._next()

    def _count(self, outcome: str) -> None:
        if outcome == "value":
            self.tally.values += 1
        elif outcome == "refusal":
            self.tally.refusals += 1
        else:
            self.tally.findings[outcome] += 1
            if outcome not in self.tally.files:
                place = (
                    self.findings / self.target.name / f"seed{self.seed}-{self.number}{Path(self.target.file).suffix}"
                )
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.folder / self.target.file, place)
                self.tally.files[outcome] = place

    def _next(self) -> None:
        spent = self.number >= self.cases if self.cases else time.monotonic() >= self.end
        if spent or len(self.tally.files) >= _KINDS_KEPT:
            self.process.kill()
            self.process.join()
            self.over = True
            return
        self.number += 1
        self.deadline = time.monotonic() + self.limits[0]
        self.pipe.send(self.number)


def _serve(pipe: connection.Connection, target: Target, folder: Path, seed: int, limits: tuple) -> None:
    """Make and read the cases whose numbers come through the pipe."""
    words = os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(words, 1)
    os.dup2(words, 2)
    faulthandler.enable(words)
    torch.set_num_threads(1)
    base = folder / "seeds"
    base.mkdir(exist_ok=True)
    seeds = target.seeds(base)
    exact = _exact(target, folder / target.file, seeds)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + ADDRESS_MIB * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    made: tuple[int, list[bytes]] = (-1, [])
    pipe.send("ready")
    while True:
        number = pipe.recv()
        rng = random.Random(f"{seed} {target.name} {number}")
        if number % 2 and target.generated is not None:
            batch, place = divmod(number // 2, _GENERATED_AT_ONCE)
            if made[0] != batch:
                made = (batch, _generate(target.generated, f"{seed} {target.name} {batch}"))
            content = made[1][place % len(made[1])]
        else:
            content = damaged(rng.choice(seeds), seeds, rng)
        os.ftruncate(words, 0)
        pipe.send(_outcome(target, folder / target.file, content, exact, limits))


def _generate(strategy: SearchStrategy[bytes], seed: str) -> list[bytes]:
    made: list[bytes] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=_GENERATED_AT_ONCE,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def collect(content: bytes) -> None:
        made.append(content)

    collect()
    return made


def _exact(target: Target, path: Path, seeds: Sequence[bytes]) -> set[str]:
    """Return the digests of what the seeds hold, where a file must give one of them."""
    found = set()
    for content in seeds:
        path.write_bytes(content)
        value = target.read(str(path))  # a valid file must be read
        found |= {digest(value)} if target.exact else set()
    return found


def _outcome(target: Target, path: Path, content: bytes, exact: set[str], limits: tuple) -> str:
    """Read a file: "value", "refusal", or what is wrong with the way in which it ended."""
    path.write_bytes(content)
    before = set(os.listdir(path.parent))
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    start, least = time.process_time(), _mib("VmRSS")
    try:
        value = target.read(str(path))
        ended = "value"
        if exact and digest(value) not in exact:
            ended = "the file is read, and holds something else"
    except target.refusals as error:
        text = str(error)
        ended = "refusal"
        if target.named and path.name not in text:
            ended = f"a refusal that does not name the file: {_place(error)}"
        elif len(text) > LONGEST_MESSAGE:
            ended = f"a refusal of more than {LONGEST_MESSAGE} characters: {_place(error)}"
    except BaseException as error:
        ended = _place(error)
    _, cpu_s, peak_mib = limits
    if time.process_time() - start > cpu_s:
        return f"more than {cpu_s:g} s of the processor"
    if _mib("VmHWM") - least > peak_mib:
        return f"more than {peak_mib} MiB"
    if new := set(os.listdir(path.parent)) - before:
        return f"it made files: {', '.join(sorted(new))}"
    return ended


def _place(error: BaseException) -> str:
    """Return an error's type and the last lines of ours and of all that it went through."""
    frames = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return f"{type(error).__name__} at {' > '.join(frames[-3:])}"


def _last_words(file: Path) -> str:
    """Return the innermost frames of the stack that a process wrote as it crashed."""
    frames = re.findall(r'File "([^"]+)", line (\d+) in', file.read_text(errors="replace"))
    return "".join(f" < {Path(name).name}:{line}" for name, line in frames[:3])


def _mib(field: str) -> float:
    return int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
