"""Compare the truncated gradient of a model that reads clips in steps with the full one.

python -m pgt.analysis --cfg FILE [KEY VALUE ...] [--steps N ...] [--batches N] [--checkpoint FILE]... [--plot PNG]

Both gradients are of training batches in train mode and full precision. The tables give cosine, norm ratio, bias and
noise by layer and number of steps, and the peak memory of each gradient. See docs/truncation.md.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pgt.analysis.report import DEPTHS, as_values, format_gap, format_memory, plot_gap
from pgt.analysis.truncation import RANDOM, gap_of_weights, gradient_memory, step_task
from slowfast.apps.benchmark.processes import ConfigSource, in_fresh_process, medians
from slowfast.utils.errors import exit_status


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(
        prog="python -m pgt.analysis", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cfg", required=True, metavar="FILE", help="YAML file")
    parser.add_argument("--steps", type=int, nargs="+", default=[], metavar="N", help="numbers of steps (default: all)")
    parser.add_argument("--batches", type=int, default=8, metavar="N", help="training batches to average over")
    parser.add_argument(
        "--checkpoint",
        action="append",
        metavar="FILE",
        help=f'weights, or "{RANDOM}"; repeat it for several (default: TRAIN.CHECKPOINT_FILE_PATH, or {RANDOM})',
    )
    parser.add_argument("--by", choices=DEPTHS, default="stage", help="parameters of a row (default: stage)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="processes of each measurement of memory")
    parser.add_argument("--output", type=Path, metavar="JSON", help="file to write the results to")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="picture to draw (needs matplotlib)")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the file's")
    return parser.parse_args(argv)


def compare_gradients(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the gap of the truncated gradient and the memory of both; print tables, and draw the plot."""
    source = ConfigSource(args.cfg, args.overrides)
    cfg = source.load()
    weights = args.checkpoint or [cfg.TRAIN.CHECKPOINT_FILE_PATH or RANDOM]
    _, steps = step_task(cfg, args.steps)
    print(f"{args.batches} batches of {cfg.TRAIN.BATCH_SIZE} clips; train mode, full precision", flush=True)
    results = []
    for name, gaps in gap_of_weights(cfg, steps, args.batches, weights):
        results.append(as_values(name, steps, gaps, args.by))
        print(f"\n{format_gap(results[-1])}", flush=True)
    memory = []
    for count in steps:
        runs = {
            kind: medians([in_fresh_process(_memory, source, count, kind == "truncated") for _ in range(args.repeats)])
            for kind in ("truncated", "full")
        }
        memory.append({"steps": count, **{kind: found["peak_mib"] for kind, found in runs.items()}})
    print(f"\npeak memory of one gradient, over the idle process\n{format_memory(memory)}")
    if args.plot:
        plot_gap(args.plot, results, memory)
    return {"batches": args.batches, "batch_size": cfg.TRAIN.BATCH_SIZE, "gap": results, "memory_mib": memory}


def _memory(source: ConfigSource, steps: int, truncated: bool) -> dict[str, float]:
    return gradient_memory(source.load(), steps, truncated)


def run(args: argparse.Namespace) -> None:
    """Measure, and write the results as JSON if asked to."""
    measured = compare_gradients(args)
    if args.output:
        args.output.write_text(json.dumps(measured, indent=2) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = parse_args(argv)
    return exit_status(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
