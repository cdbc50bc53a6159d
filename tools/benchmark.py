"""Time and peak memory of training, one process a point; or how much a truncated gradient leaves out.

python tools/benchmark.py --cfg FILE [KEY VALUE ...] [--point "KEY VALUE ..."]...
python tools/benchmark.py --cfg FILE [KEY VALUE ...] --truncation-gap [--steps N ...] [--checkpoint FILE]...

Every --point is a set of overrides of its own, measured in a process of its own, the points in turn `--repeats` times;
the table gives medians. Without --point the configuration itself is the one point.

--truncation-gap compares, for a model that reads a clip in steps, the gradient that is cut between steps with the full
one, on training batches in train mode, by layer and number of steps, and measures the memory each needs.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

from slowfast.config import load_config
from slowfast.engine.benchmark import benchmark_training
from slowfast.engine.truncation import RANDOM, gap_of_weights, gradient_memory, step_task
from slowfast.engine.truncation_report import DEPTHS, as_values, format_gap, format_memory, plot_gap


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", required=True, help="YAML file")
    parser.add_argument("--point", action="append", default=[], help="overrides of one point, quoted")
    parser.add_argument("--iterations", type=int, default=3, help="timed iterations a process (median)")
    parser.add_argument("--repeats", type=int, default=3, help="processes a point (median)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--in-process", action="store_true", help="measure here and print one JSON line")
    parser.add_argument("opts", nargs="*", help="KEY VALUE ...", metavar="KEY VALUE")
    gap = parser.add_argument_group("how much truncation leaves out")
    gap.add_argument("--truncation-gap", action="store_true", help="measure this")
    gap.add_argument(
        "--steps", type=int, nargs="+", default=[], metavar="N", help="numbers of steps (default: 1 to all)"
    )
    gap.add_argument("--batches", type=int, default=8, help="training batches to average over")
    gap.add_argument(
        "--checkpoint",
        action="append",
        metavar="FILE",
        help='weights, or "random"; several in turn (default: TRAIN.CHECKPOINT_FILE_PATH, or random)',
    )
    gap.add_argument("--by", choices=DEPTHS, default="stage", help="what a row is of")
    gap.add_argument("--plot", type=Path, metavar="PNG", help="picture to draw (needs matplotlib)")
    gap.add_argument("--gradient", choices=("truncated", "full"), help="with --in-process: its memory, at --steps N")
    return parser.parse_args()


def measure_in_child(args: argparse.Namespace, point: str, *options: str) -> dict[str, float]:
    """The figures of one point, from a fresh process."""
    command = [sys.executable, __file__, "--in-process", "--cfg", args.cfg, "--iterations", str(args.iterations)]
    done = subprocess.run(
        [*command, *options, *args.opts, *shlex.split(point)], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def print_table(rows: list[dict]) -> None:
    """A line a point; memory over idle and of the whole process, each also as a share of the first point's."""
    width = max(len(text) for text in ["point", *(row["point"] for row in rows)])
    memory = f"{'MiB over idle':>13}  {'of first':>8}  {'MiB':>6}  {'of first':>8}"
    print(f"{'point':<{width}}  {'s / iteration':>13}  {memory}")
    for row in rows:
        shares = [row[key] / rows[0][key] for key in ("peak_mib", "process_mib")]
        print(
            f"{row['point']:<{width}}  {row['seconds']:13.3f}  {row['peak_mib']:13.0f}  {shares[0]:8.2f}"
            f"  {row['process_mib']:6.0f}  {shares[1]:8.2f}"
        )


def measure_in_process(args: argparse.Namespace) -> dict[str, float]:
    """The figures of one point, here."""
    cfg = load_config(args.cfg, args.opts)
    if args.gradient:
        return gradient_memory(cfg, args.steps[0], args.gradient == "truncated")
    return benchmark_training(cfg, args.iterations)


def compare_points(args: argparse.Namespace) -> list[dict]:
    """Time and memory of every point, with a table."""
    points = args.point or [""]
    runs = {point: [] for point in points}
    for _ in range(args.repeats):
        for point in points:
            runs[point].append(measure_in_child(args, point))
    rows = [
        {"point": point, **{key: statistics.median(r[key] for r in results) for key in results[0]}}
        for point, results in runs.items()
    ]
    print_table(rows)
    return rows


def compare_gradients(args: argparse.Namespace) -> dict:
    """The gap of a truncated gradient and the memory of both, with tables and the plot."""
    cfg = load_config(args.cfg, args.opts)
    weights = args.checkpoint or [cfg.TRAIN.CHECKPOINT_FILE_PATH or RANDOM]
    _, steps = step_task(cfg, args.steps)
    print(f"{args.batches} batches of {cfg.TRAIN.BATCH_SIZE} clips; train mode, full precision", flush=True)
    results = []
    for source, gaps in gap_of_weights(cfg, steps, args.batches, weights):
        results.append(as_values(source, steps, gaps, args.by))
        print(f"\n{format_gap(results[-1])}", flush=True)
    memory = [
        {"steps": count, **{kind: memory_of_gradient(args, count, kind) for kind in ("truncated", "full")}}
        for count in steps
    ]
    print(f"\npeak memory of one gradient, over the idle process\n{format_memory(memory)}")
    if args.plot:
        plot_gap(args.plot, results, memory)
    return {"batches": args.batches, "batch_size": cfg.TRAIN.BATCH_SIZE, "gap": results, "memory_mib": memory}


def memory_of_gradient(args: argparse.Namespace, steps: int, kind: str) -> float:
    """Peak memory of one gradient in MiB, the median over `--repeats` fresh processes."""
    options = ("--gradient", kind, "--steps", str(steps), "--")
    return statistics.median(measure_in_child(args, "", *options)["peak_mib"] for _ in range(args.repeats))


def main() -> int:
    args = parse_args()
    try:
        if args.in_process:
            print(json.dumps(measure_in_process(args)))
            return 0
        measured = compare_gradients(args) if args.truncation_gap else compare_points(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"error: the process above, {shlex.join(map(str, error.cmd))}, failed", file=sys.stderr)
        return 1
    if args.output:
        args.output.write_text(json.dumps(measured, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
