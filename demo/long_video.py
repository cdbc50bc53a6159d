"""Compare methods for long videos at equal seconds of training: clips, an LSTM, end to end, and PGT.

    python demo/long_video.py --set small                  runs what the results lack; three seeds, two backbones
    python demo/long_video.py --set sweep --seconds 180    another set, and another time for each training
    python demo/long_video.py --report --document docs/long_video.md     writes tables and plots from the results
    python demo/long_video.py --set small --costs          only measures what an iteration of each method costs
    python demo/long_video.py --list                       only says what is missing

Each training is a process, `python tools/run_net.py --cfg FILE ...`, with its output in `*.log` below --output. A run
that is complete has a JSON file in --results and is kept; one that was stopped goes on from its last checkpoint.
"""

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from long_video_plan import METHOD_OF, METHODS, SETS
from long_video_report import read_results, write_report
from long_video_runs import Benchmark, Run
from sweep_jobs import JobError
from sweep_plan import ROOT

RESULTS = ROOT / "demo/long_video"
# Points that memory has to bring with --check; on sweep it brings about 45.
LEAST_GAIN = 20.0
CHECKED = ("pgt_max", "memory_off")


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing and write the report; return the exit status."""
    benchmark = Benchmark(arguments, SETS[arguments.set])
    methods = [METHOD_OF[name] for name in arguments.methods]
    wanted = [Run(benchmark, b, m, seed) for seed in arguments.seeds for b in arguments.backbones for m in methods]
    missing = [run for run in wanted if not run.result_file.exists()]
    print(f"{benchmark.name}: {len(wanted) - len(missing)} of {len(wanted)} runs are there", flush=True)
    if arguments.list:
        print("\n".join(f"  {run.title}" for run in missing))
        return 0
    if arguments.costs:
        benchmark.measure_costs(arguments.backbones, methods)
    elif missing:
        benchmark.make_data()
        # The LSTM's after the clip model's, which it reads.
        for features in (False, True):
            benchmark.shop.run_all([run.results for run in missing if run.method.reads_features == features])
    found = read_results(arguments.results)
    print(f"\n{write_report(found, arguments.results, arguments.document)}")
    if arguments.check:
        return check_gain([run.results() for run in wanted if run.method.name in CHECKED])
    return 0


def check_gain(runs: list[dict]) -> int:
    """Compare PGT with its steps without memory; return 1 if memory brings a backbone less than `LEAST_GAIN` points.

    Args:
        runs: of the methods `CHECKED`; the mean over seeds counts.
    """
    found = defaultdict(list)
    for run in runs:
        found[run["backbone"], run["method"]].append(run["tests"]["whole video"]["accuracy"])
    backbones = dict.fromkeys(run["backbone"] for run in runs)
    gains = {
        name: statistics.mean(found[name, CHECKED[0]]) - statistics.mean(found[name, CHECKED[1]]) for name in backbones
    }
    for name, gain in gains.items():
        print(f"Memory brings {gain:.1f} points ({name}); at least {LEAST_GAIN:g} are expected")
    return 0 if min(gains.values()) >= LEAST_GAIN else 1


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=list(SETS), default="small", help="data set (default: small)")
    parser.add_argument("--seconds", type=float, help="CPU seconds of each training (default: as the plan says)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="everything runs once a seed")
    parser.add_argument("--methods", nargs="+", choices=list(METHOD_OF), help="default: all that the set can have")
    parser.add_argument("--backbones", nargs="+", choices=["slow", "vit"], help="default: all that the set has")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time, one thread each (default: 2)")
    parser.add_argument("--output", type=Path, default=ROOT / "runs/long-video", help="folder of trainings")
    parser.add_argument("--data", type=Path, help="folder of the sets (default: data in --output)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results (default: the committed ones)")
    parser.add_argument("--document", type=Path, help="page to put the tables into, and the plots beside")
    parser.add_argument("--report", action="store_true", help="run nothing; write table and plots from the results")
    parser.add_argument("--costs", action="store_true", help="train nothing; measure time and memory of an iteration")
    parser.add_argument("--list", action="store_true", help="run nothing; say what the results lack")
    parser.add_argument("--check", action="store_true", help="fail unless memory helps (pgt_max beats memory_off)")
    parser.add_argument("--quick", action="store_true", help="a few videos, to test the benchmark itself")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings of every run, after `--`")
    arguments = parser.parse_args(argv)
    possible = [m.name for m in METHODS if not (m.reads_features and SETS[arguments.set].multi_label)]
    arguments.methods = arguments.methods or possible
    arguments.backbones = arguments.backbones or list(SETS[arguments.set].cfgs)
    if unknown := set(arguments.backbones) - SETS[arguments.set].cfgs.keys():
        parser.error(f"{arguments.set} has no files for {' and '.join(sorted(unknown))}")
    if not set(arguments.methods) <= set(possible):
        parser.error(f"the LSTM takes one label a video, and {arguments.set} has several: leave lstm out of --methods")
    if arguments.check and not set(CHECKED) <= set(arguments.methods):
        parser.error(f"--check compares {' and '.join(CHECKED)}: name both in --methods")
    if (arguments.quick or arguments.overrides) and arguments.results.resolve() == RESULTS:
        parser.error("--quick and settings of your own do not go into the committed results: give --results FOLDER")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    arguments = parse_args(argv)
    try:
        if arguments.report:
            found = read_results(arguments.results)
            print(write_report(found, arguments.results, arguments.document))
            return 0
        return run(arguments)
    except (JobError, ValueError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
