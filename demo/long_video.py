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
import csv
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import Lock

from long_video_plan import CLIP, ENSEMBLES, METHOD_OF, METHODS, SETS, Method, VideoSet, epochs_for
from long_video_report import COSTS, LAST_CLIP, MOST_SLIDES, read_results, write_report
from sweep_jobs import JobError, Workshop, kept, read_training, training_progress
from sweep_plan import ROOT, Overrides
from sweep_report import describe_machine

from slowfast.checkpoint.io import find_checkpoints
from slowfast.config import load_config
from slowfast.utils.files import atomic_write_local

RESULTS = ROOT / "demo/long_video"
LSTM_EPOCHS = 60
# To test the benchmark itself: nothing is learned.
QUICK_VIDEOS = ("--train", "24", "--val", "6", "--test", "12")
QUICK_OVERRIDES: Overrides = ("TRAIN.BATCH_SIZE", 8, "TEST.BATCH_SIZE", 12, "LOG_PERIOD", 1)
# Points that memory has to bring with --check; on sweep it brings about 45.
LEAST_GAIN = 20.0


class Benchmark:
    """Parts of the benchmark on one set. Each is kept once it is complete."""

    def __init__(self, arguments: argparse.Namespace, video_set: VideoSet):
        self.set, self.quick = video_set, arguments.quick
        self.budget = video_set.budget if arguments.seconds is None else arguments.seconds
        self.name = f"{video_set.name}_{self.budget:g}s"
        self.output = arguments.output.resolve() / self.name
        self.results = arguments.results.resolve() / self.name
        self.data = (arguments.data or arguments.output / "data").resolve() / video_set.name
        self.overrides = (*video_set.overrides, *(QUICK_OVERRIDES if self.quick else ()), *arguments.overrides)
        self.shop = Workshop(arguments.workers, threads=1)
        # Here, and not in the threads of the shop: the first config imports the project.
        self.frames = {name: load_config(str(steps)).DATA.NUM_FRAMES for name, (_, steps) in video_set.cfgs.items()}
        self._starts = Lock()  # several methods need one training

    def make_data(self) -> None:
        """Make the set, or keep a complete one."""
        words = [*self.set.making, *(QUICK_VIDEOS if self.quick else ())]
        command = [sys.executable, "-m", "slowfast.apps.synthetic", "--output", self.data, *words]
        self.shop.run("videos", command, self.output / "data.log")
        # run_net.py tests what is named test.csv.
        (self.output / "val").mkdir(exist_ok=True)
        atomic_write_local(self.output / "val/test.csv", (self.data / "val.csv").read_text())

    def result_file(self, backbone: str, method: Method, seed: int) -> Path:
        """Return the file of a complete run."""
        return self.results / f"{backbone}_{method.name}_seed{seed}.json"

    def run(self, backbone: str, method: Method, seed: int) -> dict:
        """Train and test a method; return its results, or those of an earlier run."""
        self.results.mkdir(parents=True, exist_ok=True)
        return kept(self.result_file(backbone, method, seed), partial(self._run, backbone, method, seed))

    def _run(self, backbone: str, method: Method, seed: int) -> dict:
        measure = self._measure_features if method.reads_features else self._measure
        facts = {"set": self.set.name, "backbone": backbone, "method": method.name, "seed": seed}
        run = {**facts, "budget": self.budget, **measure(backbone, method, seed), **describe_machine()}
        scores = ", ".join(f"{name} {score['accuracy']:.1f} %" for name, score in run["tests"].items())
        self.shop.say(f"  {backbone}, {method.title} (seed {seed}): {run['train_cpu_seconds']:.0f} CPU s; {scores}")
        return run

    def _measure(self, backbone: str, method: Method, seed: int) -> dict:
        """Return seconds, cost and accuracies of a trained backbone."""
        training, cost = self._train(backbone, method, seed), self._cost(backbone, method)
        tests = {}
        for views in method.views:
            scores = self._test(backbone, method, seed, views, self.data, f"test_{views}")
            found = {"accuracy": scores["top1_acc"], "gflops_per_s": views * cost["gflops"] / self.set.seconds}
            if method.in_steps:
                chosen = self._test(backbone, method, seed, views, self.output / "val", "val")
                best = max(ENSEMBLES, key=lambda name: chosen[f"{name}/top1_acc"])
                found |= {"ensemble": best, "accuracy": scores[f"{best}/top1_acc"]}
                found |= {"val_accuracy": chosen[f"{best}/top1_acc"]}
                found |= {"all": {name: scores[f"{name}/top1_acc"] for name in ENSEMBLES}}
            with open(self._folder(backbone, method, seed) / f"test_{views}/test_predictions.csv") as stream:
                found |= self._by_slides([int(row["correct"]) for row in csv.DictReader(stream)])
            tests[f"{views} views" if method.views != (1,) else "whole video"] = found
        if method == CLIP:
            right = self._score_last_clip(backbone, seed)["right"]
            found = {"accuracy": 100 * sum(right) / len(right), "gflops_per_s": cost["gflops"] / self.set.seconds}
            tests[LAST_CLIP] = found | self._by_slides(right)
        return {**training, "peak_mib": cost["peak_mib"], "joules": cost["joules"], "tests": tests}

    def _train(self, backbone: str, method: Method, seed: int) -> dict:
        """Train for as many epochs as the seconds are; return epochs, updates and CPU seconds."""
        folder, cfg = self._folder(backbone, method, seed), self._cfg(backbone, method)
        loaded = load_config(str(cfg), self._settings(backbone, method, folder, seed))
        iterations = len((self.data / "train.csv").read_text().splitlines()) // loaded.TRAIN.BATCH_SIZE
        seconds = self._cost(backbone, method)["seconds"]
        epochs = epochs_for(self.budget, seconds * iterations)
        start = self._start(backbone, seed)

        def train() -> dict:
            settings = [*self._settings(backbone, method, folder, seed), "SOLVER.MAX_EPOCH", epochs]
            settings += ["SOLVER.WARMUP_EPOCHS", epochs / 20, "TRAIN.EVAL_PERIOD", epochs, "TEST.ENABLE", False]
            settings += ["TRAIN.CHECKPOINT_PERIOD", max(1, epochs // 8)]
            if start is not None:
                settings += ["TRAIN.CHECKPOINT_FILE_PATH", start, "TRAIN.CHECKPOINT_EPOCH_RESET", True]
            trained = self._run_training(f"{backbone} {method.name} {seed}", folder, cfg, settings)
            return {"epochs": epochs, **trained, "train_cpu_seconds": trained["updates"] * seconds}

        return kept(folder / "trained.json", train)

    def _start(self, backbone: str, seed: int) -> str | None:
        """Train the weights that all methods of a backbone start from, once a seed; return their file, None without."""
        if backbone not in self.set.starts:
            return None
        folder = self.output / f"seed_{seed}" / f"{backbone}_start"

        def train() -> dict:
            settings = [*self._places(folder, seed), *self.overrides, "TEST.ENABLE", False]
            if self.budget == 0:
                settings += ["SOLVER.MAX_EPOCH", 1]
            return self._run_training(f"{backbone} start {seed}", folder, self.set.starts[backbone], settings)

        with self._starts:
            kept(folder / "trained.json", train)
        return self._checkpoint(folder)

    def _run_training(self, title: str, folder: Path, cfg: Path, settings: list) -> dict:
        """Train into a folder; return updates and CPU seconds of the process."""
        command = [sys.executable, ROOT / "tools/run_net.py", "--cfg", cfg, *settings]
        usage = self.shop.run(title, command, folder / "train.log", training_progress(folder / "json_stats.jsonl"))
        return {"updates": read_training(folder)["updates"], "process_cpu_seconds": usage.cpu_seconds}

    def _test(self, backbone: str, method: Method, seed: int, views: int, data: Path, name: str) -> dict:
        """Test a trained model on the list `test.csv` in `data`; return what run_net.py measures."""
        folder = self._folder(backbone, method, seed)
        settings = [*self._settings(backbone, method, folder / name, seed), "TRAIN.ENABLE", False]
        settings += ["DATA.PATH_TO_DATA_DIR", data]
        settings += ["TEST.NUM_ENSEMBLE_VIEWS", views, "TEST.CHECKPOINT_FILE_PATH", self._checkpoint(folder)]
        command = [sys.executable, ROOT / "tools/run_net.py", "--cfg", self._cfg(backbone, method), *settings]
        title = f"{backbone} {method.name} {seed}, {name}"
        return self._result(folder / name / "test_results.json", title, command, folder / f"{name}.log")

    def _result(self, path: Path, title: str, command: list, log: Path) -> dict:
        """Return what a command writes to a JSON file; run it if the file is missing."""
        if not path.exists():
            self.shop.run(title, command, log)
        return json.loads(path.read_text())

    def _by_slides(self, right: Sequence[int]) -> dict:
        """Return `by_slides`: (videos, accuracy) by how often the object slid after it was seen last.

        Empty for a set that does not say.

        Args:
            right: for each test video 1 if the answer is right, else 0.
        """
        facts = self.data / "test_facts.csv"
        if not facts.exists():
            return {}
        with open(facts) as stream:
            slides = [min(int(row["slides_after"]), MOST_SLIDES) for row in csv.DictReader(stream)]
        groups = {}
        for count in sorted(set(slides)):
            mine = [hit for hit, own in zip(right, slides, strict=True) if own == count]
            groups[str(count)] = (len(mine), 100 * sum(mine) / len(mine))
        return {"by_slides": groups}

    def _score_last_clip(self, backbone: str, seed: int) -> dict:
        """Test the clip model on the last clip of each test video."""
        folder = self._folder(backbone, CLIP, seed)
        result = folder / "last_clip.json"
        command = [sys.executable, ROOT / "demo/long_video_last.py", "--cfg", self._cfg(backbone, CLIP)]
        command += ["--output", result, *self._settings(backbone, CLIP, folder, seed)]
        return self._result(result, f"{backbone} clip {seed}, last clip", command, folder / "last_clip.log")

    def _measure_features(self, backbone: str, method: Method, seed: int) -> dict:
        """Return seconds, cost and accuracy of an LSTM on the features of the clip model."""
        clip = self.run(backbone, CLIP, seed)
        source, folder = self._folder(backbone, CLIP, seed), self._folder(backbone, method, seed)
        lists = "".join((self.data / f"{split}.csv").read_text() for split in ("train", "val", "test"))
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write_local(folder / "all.csv", lists)
        command = [sys.executable, ROOT / "tools/extract_features.py", "--cfg", self._cfg(backbone, CLIP)]
        command += ["--checkpoint", self._checkpoint(source), "--csv", folder / "all.csv"]
        command += ["--output", folder / "features", *self._settings(backbone, CLIP, source, seed)]
        title = f"{backbone} {method.name} {seed}"
        self.shop.run(f"{title}, features", command, folder / "features.log")
        command = [sys.executable, ROOT / "demo/long_video_lstm.py", "--features", folder / "features"]
        command += ["--data", self.data, "--output", folder / "lstm.json", "--seed", seed, "--epochs", LSTM_EPOCHS]
        usage = self.shop.run(title, command, folder / "lstm.log")
        lstm = json.loads((folder / "lstm.json").read_text())
        work = lstm["clips"] * self._cost(backbone, CLIP)["gflops"] / self.set.seconds
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

    def _cost(self, backbone: str, method: Method) -> dict:
        """Measure what an iteration of a method costs, in a process of its own; once for all seeds."""
        measured = self.output / "cost" / f"{backbone}_{method.name}.json"
        command = [sys.executable, ROOT / "demo/long_video_cost.py", "--cfg", self._cfg(backbone, method)]
        command += ["--output", measured, "--iterations", 1 if self.quick else 7]
        command += self._method_settings(backbone, method)

        def measure() -> dict:
            self.shop.run(f"cost of {backbone} {method.name}", command, measured.with_suffix(".log"))
            facts = {"set": self.set.name, "backbone": backbone, "method": method.name}
            return {**facts, **json.loads(measured.read_text()), **describe_machine()}

        folder = self.results / COSTS
        folder.mkdir(parents=True, exist_ok=True)
        return kept(folder / measured.name, measure)

    def measure_costs(self, backbones: Sequence[str], methods: Sequence[Method]) -> None:
        """Measure the costs of methods, without a training; one process at a time, so that none disturbs another."""
        for backbone in backbones:
            for method in methods:
                if not method.reads_features:
                    self._cost(backbone, method)

    def _folder(self, backbone: str, method: Method, seed: int) -> Path:
        return self.output / f"seed_{seed}" / f"{backbone}_{method.name}"

    def _cfg(self, backbone: str, method: Method) -> Path:
        clip, steps = self.set.cfgs[backbone]
        return steps if method.in_steps else clip

    def _settings(self, backbone: str, method: Method, folder: Path, seed: int) -> list:
        return [*self._method_settings(backbone, method), *self._places(folder, seed)]

    def _method_settings(self, backbone: str, method: Method) -> list:
        settings = [*method.overrides, *self.overrides]
        if method.whole:
            settings += ["DATA.NUM_FRAMES", self.frames[backbone]]
        return settings

    def _places(self, folder: Path, seed: int) -> list:
        return ["DATA.PATH_TO_DATA_DIR", self.data, "OUTPUT_DIR", folder, "RNG_SEED", seed]

    @staticmethod
    def _checkpoint(folder: Path) -> str:
        return find_checkpoints(str(folder))[-1].path


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing and write the report; return the exit status."""
    benchmark = Benchmark(arguments, SETS[arguments.set])
    backbones = arguments.backbones or list(benchmark.set.cfgs)
    methods = [METHOD_OF[name] for name in arguments.methods]
    wanted = [(b, m, seed) for seed in arguments.seeds for b in backbones for m in methods]
    missing = [run for run in wanted if not benchmark.result_file(*run).exists()]
    print(f"{benchmark.name}: {len(wanted) - len(missing)} of {len(wanted)} runs are there", flush=True)
    if arguments.list:
        print("\n".join(f"  {backbone}, {method.title} (seed {seed})" for backbone, method, seed in missing))
        return 0
    if arguments.costs:
        benchmark.measure_costs(backbones, methods)
    elif missing:
        benchmark.make_data()
        # The LSTM's after the clip model's, which it reads.
        for features in (False, True):
            benchmark.shop.run_all(
                [partial(benchmark.run, *run) for run in missing if run[1].reads_features == features]
            )
    found = read_results(arguments.results)
    print(f"\n{write_report(found, arguments.results, arguments.document)}")
    if arguments.check:
        return check_gain([benchmark.run(*run) for run in wanted])
    return 0


def check_gain(runs: list[dict]) -> int:
    """Compare PGT with its steps without memory; return 1 if memory brings less than `LEAST_GAIN` points."""
    accuracy = {run["method"]: run["tests"]["whole video"]["accuracy"] for run in runs}
    gain = accuracy["pgt_max"] - accuracy["memory_off"]
    print(f"Memory brings {gain:.1f} points; at least {LEAST_GAIN:g} are expected")
    return 0 if gain >= LEAST_GAIN else 1


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=list(SETS), default="small", help="data set (default: small)")
    parser.add_argument("--seconds", type=float, help="CPU seconds of each training (default: as the plan says)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="everything runs once a seed")
    parser.add_argument("--methods", nargs="+", choices=list(METHOD_OF), default=[m.name for m in METHODS])
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
    if arguments.check and not {"pgt_max", "memory_off"} <= set(arguments.methods):
        parser.error("--check compares pgt_max and memory_off: name both in --methods")
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
