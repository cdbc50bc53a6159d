"""Runs to compare, and the result files that they left: statistics of training, results of tests, other JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from slowfast.apps.plot.style import Line
from slowfast.utils.errors import nearest_keys, short
from slowfast.utils.json_file import read_json, read_text

# A name for the legend, and files of its runs: one for each seed.
Runs = Sequence[tuple[str, Sequence[str]]]

# Names of metrics on axes.
MEASURES = {
    "top1_acc": "top-1 accuracy, %",
    "top5_acc": "top-5 accuracy, %",
    "top1_err": "top-1 error, %",
    "top5_err": "top-5 error, %",
    "macro_acc": "mean class accuracy, %",
    "map": "mAP",
    "ava_map": "frame mAP at IoU 0.5",
    "loss": "loss",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
}
# Metrics that lead, best first.
MAIN_METRICS = ("top1_acc", "map", "ava_map")


def name_of(path: str) -> str:
    """Return a name for a run without one: of its folder, with the folder above where that tells more."""
    parts = os.path.abspath(path).split(os.sep)
    parts = parts[:-1] if os.path.splitext(parts[-1])[1] else parts
    return "/".join(part for part in parts[-2:] if part)


def file_in(path: str, name: str) -> str:
    """Return `path`, or the file `name` in it if it is a folder; FileNotFoundError if there is none."""
    found = os.path.join(path, name) if os.path.isdir(path) else path
    if not os.path.isfile(found):
        raise FileNotFoundError(f"there is no file {found}")
    return found


def number(value: Any) -> float | None:
    """Return a number that can be drawn as float; None for anything else: no number, not finite, or beyond 1e100."""
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if real and abs(value) <= 1e100 else None


def read_stats(path: str) -> list[dict[str, Any]]:
    """Read the objects of `json_stats.jsonl`; `path` is the file or its folder.

    A line that a power cut left half written is skipped.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line is no JSON object.
    """
    path = file_in(path, "json_stats.jsonl")
    found = []
    for place, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.rstrip().endswith("}"):
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict):
            raise ValueError(f"{path}, line {place}: {short(line, 60)!r} is no JSON object of statistics")
        found.append(entry)
    if not found:
        raise ValueError(f"{path} has no line of statistics, so there is nothing to draw")
    return found


def read_results(path: str, name: str = "test_results.json") -> dict[str, Any]:
    """Read a JSON object of results; `path` is the file, or the folder that holds `name`."""
    return read_json(file_in(path, name), dict, '{"name": value, ...}, results of a test')


def check_key(key: str, known: Sequence[str], where: str) -> None:
    """Raise ValueError, with the names that there are, if `key` is not in `known`."""
    if key not in known:
        listed = ", ".join(nearest_keys(key, known, 12)) or "none"
        raise ValueError(f"{where} has no numbers under {short(key)!r}. It has: {listed}")


def join_seeds(points: Sequence[dict[float, float]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the places that all seeds have, (N,), and their values, (S, N); ValueError if there are none."""
    places = sorted(set(points[0]).intersection(*points[1:]))
    if not places:
        raise ValueError(f"the {len(points)} seeds of {short(name)!r} have no place in common")
    return np.array(places), np.array([[seed[place] for place in places] for seed in points])


def line_of(name: str, values: dict[float, list[float]]) -> Line:
    """Return a line of the values of seeds by place; ValueError unless there are as many at each place."""
    places = sorted(values)
    counts = {place: len(values[place]) for place in places}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} at {place:g}" for place, count in counts.items())
        raise ValueError(f"{short(name)!r} needs as many results (seeds) at each place, and has {told}")
    return Line.of_seeds(name, np.array(places), np.array([values[place] for place in places]).T)
