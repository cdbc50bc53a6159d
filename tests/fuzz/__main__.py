"""Fuzz the readers: `python -m tests.fuzz [TARGET OR GROUP ...] --seconds 60`; status 1 if there is a finding.

`python -m tests.fuzz TARGET --file FILE` reads the file of a finding again.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import av

from tests.fuzz.engine import replay, run
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Run the chosen targets, and print what became of their cases."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    names = {target.name for target in TARGETS} | {target.group for target in TARGETS}
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"among {', '.join(sorted(names))}")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    budget.add_argument("--cases", type=int, default=0, help="number of cases of each target, in place of a time")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same cases")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument(
        "--findings", type=Path, default=Path("runs/fuzz/findings"), help="folder for files of findings"
    )
    parser.add_argument("--file", type=Path, help="read this one file, by the one target that is named")
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - names:
        parser.error(f"no target or group {', '.join(sorted(unknown))}")
    chosen = [t for t in TARGETS if not arguments.targets or {t.name, t.group} & set(arguments.targets)]
    logging.disable(logging.WARNING)
    av.logging.set_level(av.logging.PANIC)
    if arguments.file:
        print(replay(chosen[0], arguments.file))
        return 0
    budget_of_run = {"cases": arguments.cases} if arguments.cases else {"seconds": arguments.seconds}
    tallies = run(chosen, arguments.findings, seed=arguments.seed, jobs=arguments.jobs, **budget_of_run)
    print(f"{'target':24}{'cases':>8}{'read':>8}{'refused':>9}{'findings':>10}")
    for tally in tallies:
        found = tally.findings.total()
        print(f"{tally.name:24}{tally.cases:8}{tally.values:8}{tally.refusals:9}{found:10}")
    for tally in tallies:
        for what, count in tally.findings.items():
            print(
                f"{tally.name}, {count} times: {what}\n  python -m tests.fuzz {tally.name} --file {tally.files[what]}"
            )
    return int(any(tally.findings for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
