"""The plan that reproduces a row: the commands that prepare the data, check them, train and test."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from fvcore.common.config import CfgNode

from slowfast.apps.paper.rows import DataSet, Paper, Preparation, Row
from slowfast.checkpoint.io import checkpoint_path
from slowfast.config import load_config

# First words of the names of steps.
PREPARE, CHECK, TRAIN, TEST = "prepare", "check", "train", "test"
# Settings that the program sets itself, and the option for each.
_OWN = {"OUTPUT_DIR": "--output", "RNG_SEED": "--seeds"}


@dataclasses.dataclass(frozen=True)
class Request:
    """Row to reproduce, with its places and seeds.

    Attributes:
        row: the row.
        data: folder of the data set.
        output: folder of all rows' results; a row gets a folder in it, and each seed one in that.
        seeds: a training for each.
        overrides: settings in place of the row's.
        data_set: key of another data set in place of the row's; "".
        allowed: kinds of findings with which the check of the data still passes.
    """

    row: str
    data: str
    output: str
    seeds: Sequence[int] = (0,)
    overrides: Sequence[str] = ()
    data_set: str = ""
    allowed: str = ""


@dataclasses.dataclass(frozen=True)
class Step:
    """A command of the plan.

    Attributes:
        name: unique name in its folder.
        command: arguments of Python.
        folder: folder of the record that it is done; "" if the files that it makes are that.
        makes: files that are there when it is done.
    """

    name: str
    command: tuple[str, ...]
    folder: str
    makes: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(["python", *self.command])


@dataclasses.dataclass(frozen=True)
class Plan:
    """A row's config, as it will run, its data set, and the steps in their order."""

    row: Row
    cfg: CfgNode
    data_set: DataSet
    steps: Sequence[Step]


def make_plan(paper: Paper, request: Request, root: Path) -> Plan:
    """Plan a request.

    Args:
        root: the checkout. Paths in it are written relative to the current folder if that holds it.

    Raises:
        ValueError: an unknown row, data set or setting, or a setting that is an option here.
    """
    row = paper.row(request.row)
    for key in request.overrides[::2]:
        if key in _OWN:
            raise ValueError(f"{key} is set by {_OWN[key]}; give that in place of {key}")
    data_set = paper.data_set(request.data_set or row.data_set)
    places = data_set.placed(data_set.settings, request.data)
    trained = paper.row(row.base) if row.weights_of_base else row
    cfg = load_config(row.config, [*places, *request.overrides])
    steps = [_preparation(preparation, data_set, request.data, root) for preparation in data_set.prepare]
    steps.append(_check(row, places, request, root))
    for seed in request.seeds:
        weights = _run(TRAIN, trained, places, request, seed, root)
        steps += [weights, _run(TEST, row, places, request, seed, root)]
        if trained is not row:
            epochs = load_config(trained.config, [*places, *request.overrides]).SOLVER.MAX_EPOCH
            last = checkpoint_path(_seed_folder(request, trained, seed), epochs)
            steps[-1] = dataclasses.replace(steps[-1], command=(*steps[-1].command, "TEST.CHECKPOINT_FILE_PATH", last))
    return Plan(row, cfg, data_set, steps)


def _preparation(preparation: Preparation, data_set: DataSet, data: str, root: Path) -> Step:
    words = data_set.placed(preparation.command, data)
    if words[0] != "-m":
        words[0] = _shown(root / words[0])
    makes = tuple(os.path.join(data, name) for name in preparation.makes)
    return Step(f"{PREPARE} {preparation.title}", tuple(words), "", makes)


def _check(row: Row, places: Sequence[str], request: Request, root: Path) -> Step:
    folder = os.path.join(request.output, row.name)
    allowed = ("--allow", request.allowed) if request.allowed else ()
    # The facts about the files are kept with the data, so that the next row's check is quick.
    options = ("--cache", os.path.join(request.data, "check_data.jsonl"), *allowed)
    own = (*places, *request.overrides, "OUTPUT_DIR", folder)
    tool = _shown(root / "tools/check_data.py")
    return Step(CHECK, (tool, "--cfg", _shown(row.config), *options, *own), folder, ())


def _run(kind: str, row: Row, places: Sequence[str], request: Request, seed: int, root: Path) -> Step:
    """Return the training or the test of a seed."""
    output = _seed_folder(request, row, seed)
    own = (*places, *request.overrides, "OUTPUT_DIR", output, "RNG_SEED", str(seed))
    command = (_shown(root / f"tools/{kind}_net.py"), "--cfg", _shown(row.config), *own)
    makes = (os.path.join(output, "test_results.json"),) if kind == TEST else ()
    return Step(f"{kind} seed {seed}", command, os.path.join(request.output, row.name), makes)


def _seed_folder(request: Request, row: Row, seed: int) -> str:
    return os.path.join(request.output, row.name, f"seed_{seed}")


def _shown(path: Path) -> str:
    """Return a path relative to the current folder if it is in it, else absolute."""
    here = Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else str(path)
