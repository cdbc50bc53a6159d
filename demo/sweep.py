"""Run the whole path on a small data set: make it, train and test a clip model and PGT, measure what memory brings.

    python demo/sweep.py                      about six minutes on two cores
    python demo/sweep.py --full               three seeds and more variants of PGT
    python demo/sweep.py --output DIR         folder of the results (default: runs/demo)

Each training is a process `python tools/run_net.py --cfg FILE ...`; its output is `run.log` in its folder.
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

import sweep_report as report
from sweep_jobs import JobError, Workshop, read_training, training_progress
from sweep_montage import MOST_CANDIDATES, write_montage
from sweep_plan import (
    EXPERIMENTS,
    FULL_SCALE,
    QUICK_SCALE,
    ROOT,
    VARIANTS,
    Experiment,
    MemoryPoint,
    Scale,
    memory_points,
)

from slowfast.checkpoint.io import find_checkpoints

MAX_WORKERS = 4
FULL_SEEDS = (0, 1, 2)


class Demo:
    """Parts of the demo. Each runs child processes and returns its results as plain values."""

    def __init__(self, output: Path, scale: Scale, shop: Workshop, overrides: list[str]):
        self.output, self.scale, self.shop, self.overrides = output, scale, shop, overrides
        # Sets of different scales get different folders.
        self.data = output / f"data_{scale.videos['train']}"

    def make_data(self) -> float:
        """Make the data set, or keep an existing one; return the seconds."""
        counts = [word for split, count in self.scale.videos.items() for word in (f"--{split}", count)]
        command = [sys.executable, "-m", "slowfast.apps.synthetic", "--output", self.data, *counts]
        preview = self.output / "videos.png"
        task = partial(self.shop.run, "videos", [*command, "--preview", preview], self.output / "data.log")
        return self.shop.run_all([task])[0].seconds

    def train(self, experiment: Experiment, seed: int) -> dict:
        """Train and test one experiment; return its scores, seconds, updates and memory."""
        folder = self.output / f"seed_{seed}" / experiment.name
        # Otherwise the training would resume from an earlier demo.
        shutil.rmtree(folder, ignore_errors=True)
        settings = self._settings(experiment.overrides, folder, seed)
        title = f"{experiment.title} (seed {seed})"
        command = [sys.executable, ROOT / "tools/run_net.py", "--cfg", experiment.cfg, *settings]
        progress = training_progress(folder / "json_stats.jsonl")
        usage = self.shop.run(title, command, folder / "run.log", progress)
        figures = {**read_training(folder), "process_seconds": usage.seconds, "process_peak_mib": usage.peak_rss_mib}
        accuracy = {"views": json.loads((folder / "test_results.json").read_text())["top1_acc"]}
        if experiment.in_steps:
            accuracy = self._score_steps(experiment, settings, folder, title, accuracy["views"])
        summary = ", ".join(f"{name} {accuracy[name]:.1f} %" for name in ("views", "sum", "last") if name in accuracy)
        self.shop.say(f"  trained {title}: {figures['updates']} updates, {figures['train_seconds']:.0f} s; {summary}")
        return {"name": experiment.name, "title": experiment.title, "seed": seed, **figures, "accuracy": accuracy}

    def _score_steps(self, experiment: Experiment, settings: list, folder: Path, title: str, tested: float) -> dict:
        result = folder / "steps.json"
        command = [sys.executable, ROOT / "demo/sweep_score.py", "--cfg", experiment.cfg, "--output", result, *settings]
        self.shop.run(f"{title}, step by step", command, folder / "steps.log")
        accuracy = json.loads(result.read_text())
        if abs(accuracy["sum"] - tested) > 0.5:
            raise JobError(f"{title}: run_net.py tests {tested:.2f} %, but step by step it is {accuracy['sum']:.2f} %")
        return accuracy

    def _settings(self, overrides: tuple, folder: Path, seed: int) -> list:
        places = ["DATA.PATH_TO_DATA_DIR", self.data, "OUTPUT_DIR", folder, "RNG_SEED", seed]
        return [*overrides, *self.scale.overrides, *places, *self.overrides]

    def measure_memory(self, point: MemoryPoint) -> dict:
        """Measure the peak memory of training at one point, over the idle process, in MiB."""
        title = f"memory of {point.method}, {point.frames} frames"
        log = self.output / "memory" / f"{point.method.replace(',', '').replace(' ', '_')}_{point.frames}.log"
        result = log.with_suffix(".json")
        options = ["--point", "", "--iterations", 1, "--repeats", 1, "--output", result, "--cfg", point.cfg]
        command = [sys.executable, ROOT / "tools/benchmark.py", *options, "--", *point.overrides]
        self.shop.run(title, [*command, *self.scale.memory_overrides, *self.overrides], log)
        (measured,) = json.loads(result.read_text())
        return {"method": point.method, "frames": point.frames, "peak_mib": measured["peak_mib"]}


def run(arguments: argparse.Namespace) -> Path:
    """Run the demo; return the folder of the results."""
    started = time.monotonic()
    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    scale = QUICK_SCALE if arguments.quick else FULL_SCALE
    experiments = EXPERIMENTS + (VARIANTS if arguments.full else ())
    cores = len(os.sched_getaffinity(0))
    # One process more than two cores, so that the three trainings run side by side and are slowed down alike.
    workers = min(cores + 1, MAX_WORKERS)
    shop = Workshop(workers, threads=max(1, cores // workers))
    demo = Demo(output, scale, shop, arguments.overrides)

    print(f"1. Videos: {sum(scale.videos.values())} of 36 frames; the label is the order of two events", flush=True)
    data_seconds = demo.make_data()
    print(f"   {data_seconds:.0f} s; one of each class in {output / 'videos.png'}")
    titles = ", ".join(experiment.title for experiment in experiments)
    print(f"2. Training and testing, {workers} processes at a time: {titles}", flush=True)
    trainings = [partial(demo.train, experiment, seed) for seed in arguments.seeds for experiment in experiments]
    points = [partial(demo.measure_memory, point) for point in memory_points(scale.step_counts)]
    results = shop.run_all([*trainings, *points])
    runs, memory = results[: len(trainings)], results[len(trainings) :]
    seconds = {"data": data_seconds, "all": time.monotonic() - started}
    report.write(output, runs, memory, seconds, scale.judged)
    _write_montage(output, runs, min(scale.videos["test"], MOST_CANDIDATES))
    return output


def _write_montage(output: Path, runs: list[dict], candidates: int) -> None:
    """Write an animated picture of a video, of the models of the first seed."""
    models, accuracy = {}, {}
    for name, metric in (("pgt", "sum"), ("clip", "views")):
        run = next(run for run in runs if run["name"] == name)
        models[name] = find_checkpoints(str(output / f"seed_{run['seed']}" / name))[-1].path
        accuracy[name] = run["accuracy"][metric]
    print(f"3. One video as both models see it: {output / 'montage.gif'}", flush=True)
    write_montage(output / "montage.gif", models["pgt"], models["clip"], accuracy, candidates)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "runs/demo", help="folder of the results")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds; everything runs once a seed (default: 0)")
    parser.add_argument("--full", action="store_true", help="more variants of PGT, and by default three seeds")
    parser.add_argument("--quick", action="store_true", help="a tiny set and one epoch, to test the demo itself")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings of every run, after `--`")
    arguments = parser.parse_args(argv)
    arguments.seeds = arguments.seeds or list(FULL_SEEDS if arguments.full else FULL_SEEDS[:1])
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    try:
        output = run(parse_args(argv))
    except JobError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"\nEverything is in {output}\n  tensorboard --logdir {output}   shows how the trainings went")
    return 0


if __name__ == "__main__":
    sys.exit(main())
