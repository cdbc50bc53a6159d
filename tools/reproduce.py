"""Reproduce a row of a paper's table: prepare the data, check them, train and test, and show the figures.

python tools/reproduce.py --list [WORD]
python tools/reproduce.py --row NAME --data DIR --dry-run [--gpu NAME [--utilization X] | --tflops X]
python tools/reproduce.py --row NAME --data DIR [--output DIR] [--seeds N ...] [--allow KIND,...] [KEY VALUE ...]

--dry-run prints the commands, the disk space and the GPU hours, and runs nothing. Without it they run, one after the
other. What is done is recorded in OUTPUT/ROW/reproduce.json and not done again; the same command continues a stopped
run. KEY VALUE override settings of the row, in the check, the training and the test alike.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from slowfast.apps.paper import table
from slowfast.apps.paper.cost import GPUS, UTILIZATION, Cost, Throughput, describe_cost
from slowfast.apps.paper.measured import find_results
from slowfast.apps.paper.plan import Plan, Request, make_plan
from slowfast.apps.paper.progress import is_done, missing, run_steps
from slowfast.apps.paper.rows import Paper, read_paper
from slowfast.runtime.logging import setup_logging
from slowfast.utils.errors import exit_status
from slowfast.utils.tables import format_table

ROOT = Path(__file__).resolve().parents[1]


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", nargs="?", const="", metavar="WORD", help="list the rows that mention WORD")
    what.add_argument("--row", metavar="NAME", help="row to reproduce")
    parser.add_argument("--data", metavar="DIR", help="folder of the data set")
    parser.add_argument("--set", default="", metavar="NAME", help="another data set in the same form: sweep_tiny")
    parser.add_argument("--output", default="runs/reproduce", metavar="DIR", help="default: runs/reproduce")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="train once a seed (default: 0)")
    parser.add_argument("--allow", default="", metavar="KIND,...", help="findings with which the check still passes")
    parser.add_argument("--dry-run", action="store_true", help="print commands and costs, run nothing")
    parser.add_argument("--gpu", choices=list(GPUS), default="A100", help="GPU of the estimate (default: A100)")
    parser.add_argument(
        "--utilization", type=float, default=UTILIZATION, metavar="X", help=f"of its peak (default: {UTILIZATION})"
    )
    parser.add_argument("--tflops", type=float, default=0.0, metavar="X", help="sustained TFLOP/s of your GPU")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings in place of the row's")
    args = parser.parse_intermixed_args(argv)
    if args.row and not args.data:
        parser.error("--row needs --data DIR, the folder of the data set")
    return args


def _list(paper: Paper, word: str) -> None:
    """Print a line for each row that mentions `word`."""
    rows = []
    for row in paper.rows.values():
        figures = " / ".join(f"{figure:g}" for figure in row.published.values()) or "-"
        cells = (row.name, row.table, paper.data_set(row.data_set).title, row.model, row.frames, figures)
        if word.lower() in " ".join(cells).lower():
            rows.append(cells)
    print(format_table(("row", "table", "data", "model", "frames", "published"), rows, left=range(6)))


def _describe(plan: Plan, args: argparse.Namespace) -> None:
    """Print the commands and the costs of a plan."""
    for place, step in enumerate(plan.steps, start=1):
        print(f"# {place}/{len(plan.steps)} {step.name}{' (done)' if is_done(step) else ''}\n{step}")
    cost = Cost.of(plan.cfg, plan.data_set.samples, trains=not plan.row.weights_of_base)
    throughput = Throughput.of(plan.cfg, args.gpu, args.utilization, args.tflops)
    print("\n".join(describe_cost(cost, plan.cfg, plan.data_set, len(set(args.seeds)), throughput)))
    if plan.row.weights_of_base:
        print(f"  the weights are those of {plan.row.base}, whose training comes on top unless it is done")
    for lacking in missing(plan, args.data):
        print(f"missing: {lacking}")


def _run(args: argparse.Namespace) -> int:
    """List, describe or run; return the exit status."""
    paper = read_paper(ROOT)
    if args.list is not None:
        _list(paper, args.list)
        return 0
    seeds = sorted(set(args.seeds))
    request = Request(args.row, args.data, args.output, seeds, args.overrides, args.set, args.allow)
    plan = make_plan(paper, request, ROOT)
    if args.dry_run:
        _describe(plan, args)
        return 0
    lacking = missing(plan, args.data)
    if lacking:
        raise ValueError("; ".join(lacking))
    status = run_steps(plan.steps)
    if status == 0:
        folder = os.path.join(args.output, plan.row.name)
        lines, others = table.pair({plan.row.name: plan.row}, find_results([folder]))
        print(table.render(lines, paper, "markdown"), table.describe_others(others), sep="", end="")
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parse_args(argv)
    setup_logging()
    return exit_status(lambda: _run(args), resumes="the same command continues where it was")


if __name__ == "__main__":
    sys.exit(main())
