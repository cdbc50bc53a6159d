"""Runs of the comparison of methods for long videos: training, tests and costs, each in processes of their own."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from long_video_plan import CLIP, ENSEMBLES, SETS, Method, VideoSet, epochs_for
from long_video_report import COSTS, LAST_CLIP, MOST_SLIDES
from sweep_jobs import Workshop, kept, read_training, training_progress
from sweep_plan import ROOT, Overrides
from sweep_report import describe_machine

from slowfast.apps.synthetic.cater.compositions import order_accuracy
from slowfast.checkpoint.io import find_checkpoints
from slowfast.config import load_config
from slowfast.utils.files import atomic_write_local

LSTM_EPOCHS = 60
# To test the benchmark itself: nothing is learned.
QUICK_VIDEOS = ("--train", "24", "--val", "6", "--test", "12")
QUICK_OVERRIDES: Overrides = ("TRAIN.BATCH_SIZE", 8, "TEST.BATCH_SIZE", 12, "LOG_PERIOD", 1)


class Benchmark:
    """The comparison on one set: its files, and what its runs share. Each part is kept once it is complete."""

    def __init__(self, arguments: argparse.Namespace, video_set: VideoSet):
        self.set, self.quick = video_set, arguments.quick
        self.budget = video_set.budget if arguments.seconds is None else arguments.seconds
        self.name = f"{video_set.name}_{self.budget:g}s"
        self.output = arguments.output.resolve() / self.name
        self.results = arguments.results.resolve() / self.name
        self.videos = (arguments.data or arguments.output / "data").resolve() / (video_set.videos_of or video_set.name)
        # Folders of the lists. run_net.py tests what is named test.csv, and of Charades' form Charades_v1_test.csv.
        self.data = self.test = self.videos
        self.val = self.output / "val"
        if video_set.multi_label:
            self.data = self.val = self.videos / "compositions"
            self.test = self.data / "test"
        self.overrides = (*video_set.overrides, *(QUICK_OVERRIDES if self.quick else ()), *arguments.overrides)
        self.shop = Workshop(arguments.workers, threads=1)
        # Here, and not in the threads of the shop: the first config imports the project.
        self.frames = {name: load_config(str(steps)).DATA.NUM_FRAMES for name, (_, steps) in video_set.cfgs.items()}
        # Several methods need one start, and several seeds one cost.
        self._starts, self.costs = Lock(), Lock()

    def make_data(self) -> None:
        """Make the set, or keep a complete one."""
        words = [*self.set.making, *(QUICK_VIDEOS if self.quick else ())]
        command = [sys.executable, "-m", "slowfast.apps.synthetic", "--output", self.videos, *words]
        self.shop.run("videos", command, self.output / "data.log")
        if not self.set.multi_label:
            self.val.mkdir(exist_ok=True)
            atomic_write_local(self.val / "test.csv", (self.data / "val.csv").read_text())

    def measure_costs(self, backbones: Sequence[str], methods: Sequence[Method]) -> None:
        """Measure the costs of methods, without a training; one process at a time, so that none disturbs another."""
        for backbone in backbones:
            for method in methods:
                if not method.reads_features:
                    Run(self, backbone, method, seed=0).cost()

    def places(self, folder: Path, seed: int) -> list:
        """Return the settings of a process that reads the set and writes into a folder."""
        prefix = ["DATA.PATH_PREFIX", self.videos / "videos"] if self.set.multi_label else []
        return ["DATA.PATH_TO_DATA_DIR", self.data, *prefix, "OUTPUT_DIR", folder, "RNG_SEED", seed]

    def train(self, title: str, folder: Path, cfg: Path, settings: list) -> dict:
        """Train into a folder; return updates and CPU seconds of the process, the last one of a resumed training."""
        command = [sys.executable, ROOT / "tools/run_net.py", "--cfg", cfg, *settings]
        usage = self.shop.run(title, command, folder / "train.log", training_progress(folder / "json_stats.jsonl"))
        return {"updates": read_training(folder)["updates"], "process_cpu_seconds": usage.cpu_seconds}

    def start(self, backbone: str, seed: int) -> str | None:
        """Train the weights that all methods of a backbone start from, once a seed; return their file, None without.

        Sets of the same videos share them.
        """
        if backbone not in self.set.starts:
            return None
        folder = self.output.parent / f"{self.videos.name}_{self.budget:g}s/seed_{seed}/{backbone}_start"

        def train() -> dict:
            settings = ["DATA.PATH_TO_DATA_DIR", self.videos, "OUTPUT_DIR", folder, "RNG_SEED", seed]
            settings += [*self.overrides, "TEST.ENABLE", False]
            if self.budget == 0:
                settings += ["SOLVER.MAX_EPOCH", 1]
            return self.train(f"{backbone} start {seed}", folder, self.set.starts[backbone], settings)

        with self._starts:
            kept(folder / "trained.json", train)
        return last_checkpoint(folder)

    def by_slides(self, right: Sequence[int]) -> dict:
        """Return `by_slides`: (videos, accuracy) by how often the object slid after it was seen last.

        Empty for a set that does not say.

        Args:
            right: for each test video 1 if the answer is right, else 0.
        """
        facts = self.videos / "test_facts.csv"
        if not facts.exists():
            return {}
        with open(facts) as stream:
            slides = [min(int(row["slides_after"]), MOST_SLIDES) for row in csv.DictReader(stream)]
        groups = {}
        for count in sorted(set(slides)):
            mine = [hit for hit, own in zip(right, slides, strict=True) if own == count]
            groups[str(count)] = (len(mine), 100 * sum(mine) / len(mine))
        return {"by_slides": groups}


def last_checkpoint(folder: Path) -> str:
    """Return the last checkpoint of a training."""
    return [*find_checkpoints(str(folder), pretraining=True), *find_checkpoints(str(folder))][-1].path


@dataclass(frozen=True)
class Run:
    """A method on a backbone with a seed."""

    bench: Benchmark
    backbone: str
    method: Method
    seed: int

    @property
    def result_file(self) -> Path:
        """Return the file that the run has once it is complete."""
        return self.bench.results / f"{self.backbone}_{self.method.name}_seed{self.seed}.json"

    @property
    def title(self) -> str:
        """Return the name of the run in reports."""
        return f"{self.backbone}, {self.method.title} (seed {self.seed})"

    def results(self) -> dict:
        """Train and test the method; return its results, or those of an earlier run."""
        self.bench.results.mkdir(parents=True, exist_ok=True)
        return kept(self.result_file, self._results)

    def _results(self) -> dict:
        measured = self._measure_features() if self.method.reads_features else self._measure()
        facts = {"set": self.bench.set.name, "backbone": self.backbone, "method": self.method.name, "seed": self.seed}
        run = {**facts, "budget": self.bench.budget, **measured, **describe_machine()}
        scores = ", ".join(f"{name} {score['accuracy']:.1f} %" for name, score in run["tests"].items())
        self.bench.shop.say(f"  {self.title}: {run['train_cpu_seconds']:.0f} CPU s; {scores}")
        return run

    def _measure(self) -> dict:
        """Return seconds, cost and accuracies of a trained backbone."""
        training, cost, seconds, percent = self._train(), self.cost(), self.bench.set.seconds, self.bench.set.percent
        tests = {}
        for views in self.method.views:
            name, settings, found = f"test_{views}", [], {}
            if self.method.in_steps:
                val = self._test(views, self.bench.val, "val")
                best = max(ENSEMBLES, key=lambda ensemble: percent(val, ensemble))
                name, settings = f"{name}_{best}", ["PGT.ENSEMBLE_METHOD", best]
                found = {"ensemble": best, "val_accuracy": percent(val, best)}
            scores = self._test(views, self.bench.test, name, settings)
            found |= {"accuracy": percent(scores), "gflops_per_s": views * cost["gflops"] / seconds}
            if self.method.in_steps:
                found |= {"all": {ensemble: percent(scores, ensemble) for ensemble in ENSEMBLES}}
            if self.bench.set.multi_label:
                with np.load(self._folder / name / "test_predictions.npz") as predictions:
                    found |= {"order": order_accuracy(predictions["scores"], predictions["labels"])}
            else:
                with open(self._folder / name / "test_predictions.csv") as stream:
                    found |= self.bench.by_slides([int(row["correct"]) for row in csv.DictReader(stream)])
            tests[f"{views} views" if self.method.views != (1,) else "whole video"] = found
        if self.method == CLIP and not self.bench.set.multi_label:
            right = self._score_last_clip()["right"]
            found = {"accuracy": 100 * sum(right) / len(right), "gflops_per_s": cost["gflops"] / seconds}
            tests[LAST_CLIP] = found | self.bench.by_slides(right)
        return {**training, "peak_mib": cost["peak_mib"], "joules": cost["joules"], "tests": tests}

    def _train(self) -> dict:
        """Train for as many epochs as the seconds are; return epochs, updates and CPU seconds."""
        loaded = load_config(str(self._cfg), self._settings(self._folder))
        iterations = len((self.bench.videos / "train.csv").read_text().splitlines()) // loaded.TRAIN.BATCH_SIZE
        seconds = self.cost()["seconds"]
        epochs = epochs_for(self.bench.budget, seconds * iterations)
        start = self.bench.start(self.backbone, self.seed)

        def train() -> dict:
            settings = [*self._settings(self._folder), "SOLVER.MAX_EPOCH", epochs]
            settings += ["SOLVER.WARMUP_EPOCHS", epochs / 20, "TRAIN.EVAL_PERIOD", epochs, "TEST.ENABLE", False]
            settings += ["TRAIN.CHECKPOINT_PERIOD", max(1, epochs // 8)]
            if start is not None:
                settings += ["TRAIN.CHECKPOINT_FILE_PATH", start, "TRAIN.CHECKPOINT_EPOCH_RESET", True]
            trained = self.bench.train(self._job, self._folder, self._cfg, settings)
            return {"epochs": epochs, **trained, "train_cpu_seconds": trained["updates"] * seconds}

        return kept(self._folder / "trained.json", train)

    def _test(self, views: int, data: Path, name: str, more: Sequence = ()) -> dict:
        """Test the trained model on the list `test.csv` in `data`; return what run_net.py measures."""
        settings = [*self._settings(self._folder / name), *more, "TRAIN.ENABLE", False, "DATA.PATH_TO_DATA_DIR", data]
        settings += ["TEST.NUM_ENSEMBLE_VIEWS", views, "TEST.CHECKPOINT_FILE_PATH", last_checkpoint(self._folder)]
        command = [sys.executable, ROOT / "tools/run_net.py", "--cfg", self._cfg, *settings]
        return self._result(self._folder / name / "test_results.json", name, command, f"{name}.log")

    def _score_last_clip(self) -> dict:
        """Test the clip model on the last clip of each test video."""
        result = self._folder / "last_clip.json"
        command = [sys.executable, ROOT / "demo/long_video_last.py", "--cfg", self._cfg]
        command += ["--output", result, *self._settings(self._folder)]
        return self._result(result, "last clip", command, "last_clip.log")

    def _result(self, path: Path, name: str, command: list, log: str) -> dict:
        """Return what a command writes to a JSON file; run it if the file is missing."""
        if not path.exists():
            self.bench.shop.run(f"{self._job}, {name}", command, self._folder / log)
        return json.loads(path.read_text())

    def _measure_features(self) -> dict:
        """Return seconds, cost and accuracy of an LSTM on the features of the clip model."""
        source, bench, folder = Run(self.bench, self.backbone, CLIP, self.seed), self.bench, self._folder
        clip = source.results()
        source._train()  # where the results are there, as after a clone, and the weights are not
        lists = "".join((bench.data / f"{split}.csv").read_text() for split in ("train", "val", "test"))
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write_local(folder / "all.csv", lists)
        command = [sys.executable, ROOT / "tools/extract_features.py", "--cfg", source._cfg]
        command += ["--checkpoint", last_checkpoint(source._folder), "--csv", folder / "all.csv"]
        command += ["--output", folder / "features", *source._settings(source._folder)]
        bench.shop.run(f"{self._job}, features", command, folder / "features.log")
        command = [sys.executable, ROOT / "demo/long_video_lstm.py", "--features", folder / "features"]
        command += ["--data", bench.data, "--output", folder / "lstm.json", "--seed", self.seed]
        usage = bench.shop.run(self._job, [*command, "--epochs", LSTM_EPOCHS], folder / "lstm.log")
        lstm = json.loads((folder / "lstm.json").read_text())
        work = lstm["clips"] * source.cost()["gflops"] / bench.set.seconds
        test = {"accuracy": lstm["test"], "val_accuracy": lstm["val"], "gflops_per_s": work}
        return {
            "epochs": lstm["epoch"],
            "updates": clip["updates"],
            "train_cpu_seconds": clip["train_cpu_seconds"] + lstm["train_cpu_seconds"],
            "process_cpu_seconds": clip["process_cpu_seconds"] + usage.cpu_seconds,
            "peak_mib": clip["peak_mib"],  # the LSTM takes less
            "joules": clip["joules"],
            "tests": {"whole video": test},
        }

    def cost(self) -> dict:
        """Measure what an iteration of the method costs, in a process of its own; once for all seeds."""
        name, source = f"{self.backbone}_{self.method.name}", self.bench.set.costs_of or self.bench.set.name
        measured = self.bench.output / "cost" / f"{name}.json"
        command = [sys.executable, ROOT / "demo/long_video_cost.py", "--cfg", self._cfg_of(SETS[source])]
        command += ["--output", measured, "--iterations", 1 if self.bench.quick else 7, *self._method_settings]

        def measure() -> dict:
            self.bench.shop.run(f"cost of {self.backbone} {self.method.name}", command, measured.with_suffix(".log"))
            facts = {"set": source, "backbone": self.backbone, "method": self.method.name}
            return {**facts, **json.loads(measured.read_text()), **describe_machine()}

        folder = self.bench.results.parent / f"{source}_{self.bench.budget:g}s" / COSTS
        folder.mkdir(parents=True, exist_ok=True)
        with self.bench.costs:
            return kept(folder / measured.name, measure)

    @property
    def _job(self) -> str:
        return f"{self.backbone} {self.method.name} {self.seed}"

    @property
    def _folder(self) -> Path:
        return self.bench.output / f"seed_{self.seed}" / f"{self.backbone}_{self.method.name}"

    @property
    def _cfg(self) -> Path:
        return self._cfg_of(self.bench.set)

    def _cfg_of(self, video_set: VideoSet) -> Path:
        clip, steps = video_set.cfgs[self.backbone]
        return steps if self.method.in_steps else clip

    @property
    def _method_settings(self) -> list:
        whole = ["DATA.NUM_FRAMES", self.bench.frames[self.backbone]] if self.method.whole else []
        return [*self.method.overrides, *self.bench.overrides, *whole]

    def _settings(self, folder: Path) -> list:
        return [*self._method_settings, *self.bench.places(folder, self.seed)]
