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
    width = max(len(point) for point in points + ["point"])
    print(f"{'point':<{width}}  {'s / iteration':>13}  {'peak MiB':>9}  {'of first':>8}")
    for row in rows:
        ratio = row["peak_mib"] / rows[0]["peak_mib"]
        print(f"{row['point']:<{width}}  {row['seconds']:13.3f}  {row['peak_mib']:9.0f}  {ratio:8.2f}")
    if args.output:
        args.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
