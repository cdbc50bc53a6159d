"""Measure how far each kind of memory reaches: train it once on short videos, and test it at gaps of 1 to 64 steps.

    python demo/memory_reach.py                      runs what the results lack, and prints the table
    python demo/memory_reach.py --variants max avg   only these
    python demo/memory_reach.py --list               only says what is missing
    python demo/memory_reach.py --results FILE       other results (default: demo/memory_reach.json, committed)

Each part is a process, `python tools/run_net.py --cfg FILE ...`, `demo/reach_score.py` or `demo/reach_stream.py`. Its
output is a file `*.log` below --output. A part that is complete is kept: the same command goes on where it was stopped.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock

from reach_plan import CFG, FULL_SCALE, QUICK_SCALE, VARIANTS, Streams, Variant
from reach_report import format_results
from sweep_jobs import JobError, Workshop, kept, read_training, training_progress
from sweep_plan import ROOT
from sweep_report import describe_machine

from slowfast.apps.synthetic.sweep import SweepSpec, make_sweep
from slowfast.checkpoint.io import find_checkpoints
from slowfast.utils.files import atomic_write_local

RESULTS = ROOT / "demo/memory_reach.json"


class Measurement:
    """Parts of the measurement. Each is kept once it is complete."""

    def __init__(self, arguments: argparse.Namespace):
        self.scale = QUICK_SCALE if arguments.quick else FULL_SCALE
        self.output = arguments.output.resolve()
        self.results_file = arguments.results or (self.output / "results.json" if arguments.quick else RESULTS)
        self.overrides = arguments.overrides
        self.shop = Workshop(arguments.workers, threads=1)
        self._lock = Lock()  # of results and videos
        self._trainings: dict[Path, Lock] = defaultdict(Lock)  # two parts may need one training
        self.runs: list[dict] = json.loads(self.results_file.read_text())["runs"] if self.results_file.exists() else []

    def missing(self, variants: Sequence[Variant], seeds: Sequence[int]) -> dict[str, Callable[[], None]]:
        """Return the parts that the results lack by their titles, the most important first."""
        runs, parts = {(run["variant"], run["seed"]): run for run in self.runs}, {}
        for seed in seeds:
            for variant in variants:
                if "gaps" not in runs.get((variant.name, seed), {}):
                    parts[f"{variant.name} (seed {seed})"] = partial(self.measure, variant, seed)
            for variant in variants:
                if variant.hour and "hour" not in runs.get((variant.name, seed), {}):
                    parts[f"an hour of {variant.name} (seed {seed})"] = partial(self.measure_hour, variant, seed)
        return parts

    def measure(self, variant: Variant, seed: int) -> None:
        """Train a variant, test it at every gap and length, and add it to the results."""
        facts = self._trained(variant, seed)
        facts = {**describe_machine(), **facts, "gaps": self._streams(variant, seed, "gaps", self.scale.gaps)}
        if variant.lengths:
            folder = self._folder(variant, seed)
            facts["lengths"] = kept(folder / "lengths.json", partial(self._score, variant, seed))
        self._add(variant, seed, facts)
        last = ", ".join(f"{row['gap']}: {row['both']:.0f}" for row in facts["gaps"]["gaps"])
        self.shop.say(f"  {_title(variant, seed)}: {last}")

    def measure_hour(self, variant: Variant, seed: int) -> None:
        """Test a variant on streams of an hour; add it to the results."""
        self._trained(variant, seed)
        self._add(variant, seed, {"hour": self._streams(variant, seed, "hour", self.scale.hour)})

    def _add(self, variant: Variant, seed: int, facts: dict) -> None:
        """Add facts to the run of a variant, and write the results."""
        with self._lock:
            run = next((run for run in self.runs if (run["variant"], run["seed"]) == (variant.name, seed)), None)
            if run is None:
                run = {"variant": variant.name, "seed": seed}
                self.runs.append(run)
            run.update(facts)
            atomic_write_local(self.results_file, json.dumps({"runs": self.runs}, indent=2) + "\n")

    def _folder(self, variant: Variant, seed: int) -> Path:
        return self.output / f"{self.scale.train}_seed_{seed}" / variant.name

    def _settings(self, variant: Variant, seed: int) -> list[object]:
        places = ["OUTPUT_DIR", self._folder(variant, seed), "RNG_SEED", seed]
        return [*variant.settings, *self.scale.overrides, *places, *self.overrides]

    def _trained(self, variant: Variant, seed: int) -> dict:
        folder = self._folder(variant, seed)
        arguments = _title(variant, seed), folder, self.scale.training_set(variant), self._settings(variant, seed)
        with self._lock:
            training = self._trainings[folder]
        with training:
            return kept(folder / "trained.json", partial(self._train, *arguments))

    def _train(self, title: str, folder: Path, spec: SweepSpec, settings: list) -> dict:
        data = self._make(spec)
        command = [sys.executable, ROOT / "tools/run_net.py", "--cfg", CFG, *settings, "DATA.PATH_TO_DATA_DIR", data]
        progress = training_progress(folder / "json_stats.jsonl")
        usage = self.shop.run(title, command, folder / "run.log", progress)
        return {**read_training(folder), "cpu_seconds": round(usage.cpu_seconds, 1)}

    def _score(self, variant: Variant, seed: int) -> dict:
        folder, sets = self._folder(variant, seed), [self._make(spec) for spec in self.scale.test_sets()]
        result = folder / "scores.json"
        tool = [sys.executable, ROOT / "demo/reach_score.py", "--cfg", CFG, "--output", result, "--sets", *sets]
        settings = self._settings(variant, seed)
        self.shop.run(f"{_title(variant, seed)}: lengths", [*tool, "--", *settings], folder / "score.log")
        return json.loads(result.read_text())

    def _streams(self, variant: Variant, seed: int, name: str, streams: Streams) -> dict:
        folder = self._folder(variant, seed)
        checkpoint = find_checkpoints(str(folder))[-1].path
        tool = [sys.executable, ROOT / "demo/reach_stream.py", "--checkpoint", checkpoint]
        result = folder / f"{name}.json"
        options = ["--gaps", *streams.gaps, "--streams", streams.count, "--forks", streams.forks, "--output", result]
        if not result.exists():
            self.shop.run(f"{_title(variant, seed)}: {name}", [*tool, *options], folder / f"{name}.log")
        return json.loads(result.read_text())

    def _make(self, spec: SweepSpec) -> Path:
        """Make the videos of a set, or keep existing ones; return their folder."""
        folder = self.output / f"videos_{spec.train}_{spec.test}" / f"overlap_{spec.overlap}" / f"steps_{spec.steps}"
        with self._lock:
            make_sweep(folder, spec)
        return folder


def _title(variant: Variant, seed: int) -> str:
    return f"{variant.title} (seed {seed})"


def run(arguments: argparse.Namespace) -> None:
    """Run what the results lack, and print the table."""
    measurement = Measurement(arguments)
    variants = [variant for variant in VARIANTS if variant.name in arguments.variants]
    missing = measurement.missing(variants, arguments.seeds)
    print(f"missing: {', '.join(missing) or 'nothing'}", flush=True)
    if not arguments.list:
        measurement.shop.run_all(list(missing.values()))
    print(f"\n{format_results(measurement.runs)}")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    names = [variant.name for variant in VARIANTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "runs/demo-reach", help="folder of videos and trainings")
    parser.add_argument("--results", type=Path, help="JSON file of the results (default: demo/memory_reach.json)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds (default: 0 1 2)")
    parser.add_argument("--variants", nargs="+", choices=names, default=names, help="only these (default: all)")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time (default: 2)")
    parser.add_argument("--list", action="store_true", help="run nothing: say what is missing, and print the table")
    parser.add_argument("--quick", action="store_true", help="tiny sets and one epoch, to test the measurement itself")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings of every run, after `--`")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    arguments = parse_args(argv)
    try:
        run(arguments)
    except JobError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
