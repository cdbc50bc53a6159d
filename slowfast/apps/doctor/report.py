"""Report on a machine as one block of Markdown, to paste into an issue."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence

from slowfast.apps.doctor.machine import Machine
from slowfast.apps.doctor.problems import Problem
from slowfast.apps.doctor.self_test import Exchange, Numbers, Speed


def describe(machine: Machine, problems: Sequence[Problem]) -> list[str]:
    """Return the lines on what the machine has, and on what is wrong with it."""
    lines = [f"### check_env, {datetime.date.today().isoformat()}", ""]
    lines += _table(["", ""], machine.rows())
    return [*lines, "", *([f"- {problem.line()}" for problem in problems] or ["No problem was found."])]


def describe_numbers(found: Iterable[Numbers]) -> list[str]:
    """Return the lines on errors."""
    rows = [
        (each.device, each.precision, f"{each.output:.1e}", f"{each.gradient:.1e}", "WRONG" if each.wrong else "right")
        if not each.failure
        else (each.device, each.precision, "", "", f"FAILED: {each.failure}")
        for each in found
    ]
    return ["Errors over the largest number, beside float64 on the CPU:", ""] + _table(
        ["device", "precision", "outputs", "gradients", ""], rows
    )


def describe_speed(found: Iterable[Speed]) -> list[str]:
    """Return the lines on speed."""
    rows = [
        (each.work, each.name, each.failure or f"{each.ms:.1f}", "" if each.failure else f"{each.first_ms:.0f}")
        for each in found
    ]
    return ["Slow 8x8 R50, milliseconds:", "", *_table(["", "variant", "a call", "the first"], rows)]


def describe_exchange(found: Exchange | None) -> list[str]:
    """Return the line on the exchange between processes."""
    if found is None:
        return ["All-reduce: one GPU has nobody to talk to."]
    told = found.failure or f"{found.gb_per_s:.2f} GB/s through each"
    return [f"All-reduce of 64 MiB, {found.backend}, {found.processes} processes: {told}"]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]
