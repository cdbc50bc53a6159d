"""Make four small data sets in published formats, check them, and train and test PGT and a clip model on each.

    python demo/data.py                      about ten minutes on two cores
    python demo/data.py --sets charades ava  only these sets
    python demo/data.py --seeds 0 1 2        train with each seed; the table shows mean and standard deviation
    python demo/data.py --output DIR         folder of the results (default: runs/demo-data)

Every part is a process: `python -m slowfast.apps.synthetic --format ...`, then
`tools/prepare_kinetics.py`, `tools/check_data.py` and `tools/run_net.py`; its output is in a file `*.log`. The exit
status is 1 if PGT misses a target with any seed.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import data_report as report
from data_plan import DATA_SETS, FULL_SCALE, METHODS, QUICK_SCALE, TITLES, DataSet, Scale
from sweep_jobs import JobError, Workshop, read_training, training_progress
from sweep_plan import ROOT

CHANCE_DRAWS = 20
CLIP = ("--frames", 36, "--rate", 7)  # as prepare_kinetics.py counts, at 30 a second; the videos have 4


class Demo:
    """Parts of the demo. Each runs child processes and returns its results as plain values."""

    def __init__(self, output: Path, scale: Scale, shop: Workshop, overrides: list[str]):
        self.output, self.scale, self.shop, self.overrides = output, scale, shop, overrides

    def data(self, data_set: DataSet) -> Path:
        """Return the folder of a set; sets of different scales get different folders."""
        return self.output / f"{data_set.name}{'' if self.scale.judged else '_quick'}" / "data"

    def prepare(self, data_set: DataSet) -> dict:
        """Make a set, or keep an existing one, and check it."""
        data, started = self.data(data_set), time.monotonic()
        folder = data.parent
        counts = self.scale.videos.get(data_set.name, {})
        module = [sys.executable, "-m", "slowfast.apps.synthetic", "--format", data_set.name, "--output", data]
        words = [word for split, count in counts.items() for word in (f"--{split}", count)]
        command = [*module, *words, "--workers", 0, "--preview", folder / "videos.png"]
        self.shop.run(f"{data_set.title}: files", command, folder / "data.log")
        if data_set.name == "kinetics":
            tool = [
                sys.executable,
                ROOT / "tools/prepare_kinetics.py",
                "--output",
                data / "lists",
                *CLIP,
                "--workers",
                0,
            ]
            annotations = [data / "annotations" / f"{split}.csv" for split in ("train", "val", "test")]
            command = [*tool, "--annotations", *annotations, "--videos", data / "videos"]
            self.shop.run(f"{data_set.title}: lists", command, folder / "prepare.log")
        # With PGT's config: the clip model reads the same files, and fewer frames of each.
        tool = [sys.executable, ROOT / "tools/check_data.py", "--cfg", data_set.cfgs["pgt"], "--workers", 0]
        command = [*tool, "--report", folder / "check.json", *data_set.settings(data), "OUTPUT_DIR", folder]
        command += self.overrides
        self.shop.run(f"{data_set.title}: check", command, folder / "check.log")
        seconds = time.monotonic() - started
        self.shop.say(f"  {data_set.title}: made and checked in {seconds:.0f} s")
        return {"set": data_set.name, "seconds": seconds}

    def folder(self, data_set: DataSet, method: str, seed: int) -> Path:
        """Return the output folder of a training."""
        return self.data(data_set).parent / f"seed_{seed}" / method

    def train(self, data_set: DataSet, method: str, seed: int) -> dict:
        """Train and test one method on a set with one seed; return its score, updates and seconds."""
        folder = self.folder(data_set, method, seed)
        # Otherwise the training would resume from an earlier demo.
        shutil.rmtree(folder, ignore_errors=True)
        title = f"{data_set.title}, {TITLES[method]} (seed {seed})"
        settings = [*data_set.settings(self.data(data_set)), "OUTPUT_DIR", folder, "RNG_SEED", seed]
        tool = [sys.executable, ROOT / "tools/run_net.py", "--cfg", data_set.cfgs[method]]
        command = [*tool, *self.scale.overrides, *settings, *self.overrides]
        usage = self.shop.run(title, command, folder / "run.log", training_progress(folder / "json_stats.jsonl"))
        shutil.copy(data_set.cfgs[method], folder)
        results = json.loads((folder / "test_results.json").read_text())
        score = results[data_set.metric] / data_set.unit
        figures = {**read_training(folder), "process_seconds": usage.seconds}
        self.shop.say(f"  {title}: {data_set.measure} {score:.3f}, {figures['updates']} updates, {usage.seconds:.0f} s")
        return {"set": data_set.name, "method": method, "seed": seed, "score": score, **figures, "results": results}


def run(arguments: argparse.Namespace) -> bool:
    """Run the demo; return True if every target is met."""
    started = time.monotonic()
    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    scale = QUICK_SCALE if arguments.quick else FULL_SCALE
    chosen = [data_set for data_set in DATA_SETS if data_set.name in arguments.sets]
    cores = len(os.sched_getaffinity(0))
    # One thread each: at this size another process gains more than a second thread.
    shop = Workshop(workers=min(cores, len(chosen) * len(METHODS) * len(arguments.seeds)), threads=1)
    demo = Demo(output, scale, shop, arguments.overrides)

    print(
        f"1. Data: {', '.join(data_set.title for data_set in chosen)}, small, as their authors publish them", flush=True
    )
    prepared = shop.run_all([partial(demo.prepare, data_set) for data_set in chosen])
    print(f"2. Training and testing, {shop.workers} processes at a time", flush=True)
    trainings = [(data_set, method, seed) for method in METHODS for data_set in chosen for seed in arguments.seeds]
    runs = shop.run_all([partial(demo.train, *training) for training in trainings])
    chance = {
        data_set.name: report.chance(
            demo.folder(data_set, METHODS[0], arguments.seeds[0]) / "test_predictions.npz", data_set, CHANCE_DRAWS
        )
        for data_set in chosen
    }
    seconds = {"data": {entry["set"]: entry["seconds"] for entry in prepared}, "all": time.monotonic() - started}
    return report.write(output, chosen, runs, chance, seconds, scale.judged)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    names = [data_set.name for data_set in DATA_SETS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ROOT / "runs/demo-data"
    parser.add_argument("--output", type=Path, default=default, help="folder of the results")
    parser.add_argument("--sets", nargs="+", choices=names, default=names, help="only these sets (default: all)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0], help="train each method once per seed (default: 0)"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sets and one epoch, to test the demo itself")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings of every run, after `--`")
    arguments = parser.parse_args(argv)
    arguments.seeds = sorted(set(arguments.seeds))
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    arguments = parse_args(argv)
    try:
        met = run(arguments)
    except JobError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"\nEverything is in {arguments.output.resolve()}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
