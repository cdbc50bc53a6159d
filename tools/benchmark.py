"""Time and peak memory of training, one process a point.

python tools/benchmark.py --cfg FILE [KEY VALUE ...] [--point "KEY VALUE ..."]...

Every --point is a set of overrides of its own, measured in a process of its own, the points in turn `--repeats` times;
the table gives medians. Without --point the configuration itself is the one point.
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


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", required=True, help="YAML file")
    parser.add_argument("--point", action="append", default=[], help="overrides of one point, quoted")
    parser.add_argument("--iterations", type=int, default=3, help="timed iterations a process (median)")
    parser.add_argument("--repeats", type=int, default=3, help="processes a point (median)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--in-process", action="store_true", help="measure here and print one JSON line")
    parser.add_argument("opts", nargs="*", help="KEY VALUE ...", metavar="KEY VALUE")
    return parser.parse_args()


def measure_in_child(args: argparse.Namespace, point: str) -> dict[str, float]:
    """The figures of one point, from a fresh process."""
    command = [sys.executable, __file__, "--in-process", "--cfg", args.cfg, "--iterations", str(args.iterations)]
    done = subprocess.run([*command, *args.opts, *shlex.split(point)], stdout=subprocess.PIPE, text=True, check=True)
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


def main() -> None:
    args = parse_args()
    if args.in_process:
        print(json.dumps(benchmark_training(load_config(args.cfg, args.opts), args.iterations)))
        return
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
    if args.output:
        args.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
