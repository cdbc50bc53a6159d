"""Make four small data sets in published formats, check them, and train and test PGT and a clip model on each.

    python demo/data.py                      about ten minutes on two cores
    python demo/data.py --sets charades ava  these sets alone
    python demo/data.py --output DIR         where everything is left (default: runs/demo-data)

Every part is a process that one can type: `python -m slowfast.apps.synthetic --format ...`, then
`tools/prepare_kinetics.py`, `tools/check_data.py` and `tools/run_net.py`; its output is in a file `*.log`. The exit
status is 1 if PGT misses a target.
"""

import argparse
import json
import os
import shutil
import sys
import time
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
        for method in METHODS:
            # What an earlier demo left would otherwise be taken for this one's, and continued.
            shutil.rmtree(folder / method, ignore_errors=True)
        # With PGT's config: the clip model reads the same files, and fewer frames of each.
        tool = [sys.executable, ROOT / "tools/check_data.py", "--cfg", data_set.cfgs["pgt"], "--workers", 0]
        command = [*tool, "--report", folder / "check.json", *data_set.settings(data), "OUTPUT_DIR", folder]
        command += self.overrides
        self.shop.run(f"{data_set.title}: check", command, folder / "check.log")
        seconds = time.monotonic() - started
        self.shop.say(f"  {data_set.title}: made and checked in {seconds:.0f} s")
        return {"set": data_set.name, "seconds": seconds}

    def train(self, data_set: DataSet, method: str) -> dict:
        """Train and test one method on a set; its score, updates and seconds."""
        folder = self.data(data_set).parent / method
        title = f"{data_set.title}, {TITLES[method]}"
        settings = [*data_set.settings(self.data(data_set)), "OUTPUT_DIR", folder]
        tool = [sys.executable, ROOT / "tools/run_net.py", "--cfg", data_set.cfgs[method]]
        command = [*tool, *self.scale.overrides, *settings, *self.overrides]
        usage = self.shop.run(title, command, folder / "run.log", training_progress(folder / "json_stats.jsonl"))
        shutil.copy(data_set.cfgs[method], folder)
        results = json.loads((folder / "test_results.json").read_text())
        score = results[data_set.metric] / data_set.unit
        figures = {**read_training(folder), "process_seconds": usage.seconds}
        self.shop.say(f"  {title}: {data_set.measure} {score:.3f}, {figures['updates']} updates, {usage.seconds:.0f} s")
        return {"set": data_set.name, "method": method, "score": score, **figures, "results": results}


def run(arguments: argparse.Namespace) -> bool:
    """Run the demo; whether every target is met."""
    started = time.monotonic()
    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    scale = QUICK_SCALE if arguments.quick else FULL_SCALE
    chosen = [data_set for data_set in DATA_SETS if data_set.name in arguments.sets]
    cores = len(os.sched_getaffinity(0))
    # One thread each: at this size a second one brings little, and another training much.
    shop = Workshop(workers=min(cores, len(chosen) * len(METHODS)), threads=1)
    demo = Demo(output, scale, shop, arguments.overrides)

    print(
        f"1. Data: {', '.join(data_set.title for data_set in chosen)}, small, as their authors publish them", flush=True
    )
    prepared = shop.run_all([partial(demo.prepare, data_set) for data_set in chosen])
    print(f"2. Training and testing, {shop.workers} processes at a time", flush=True)
    pairs = [(data_set, method) for method in METHODS for data_set in chosen]
    runs = shop.run_all([partial(demo.train, *pair) for pair in pairs])
    chance = {
        data_set.name: report.chance(
            demo.data(data_set).parent / METHODS[0] / "test_predictions.npz", data_set, CHANCE_DRAWS
        )
        for data_set in chosen
    }
    seconds = {"data": {entry["set"]: entry["seconds"] for entry in prepared}, "all": time.monotonic() - started}
    return report.write(output, chosen, runs, chance, seconds, scale.judged)


def parse_arguments() -> argparse.Namespace:
    names = [data_set.name for data_set in DATA_SETS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ROOT / "runs/demo-data"
    parser.add_argument("--output", type=Path, default=default, help="folder for everything the demo makes")
    parser.add_argument("--sets", nargs="+", choices=names, default=names, help="these alone (default: all)")
    parser.add_argument("--quick", action="store_true", help="tiny sets, one epoch: whether all parts run, no more")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings for every run, after `--`")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
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
