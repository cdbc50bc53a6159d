"""Pre-train a small ViT on all videos without labels, with and without memory, and fine-tune it on few labels.

    python demo/masked_memory.py                     about half an hour on one core
    python demo/masked_memory.py --labels 1 5 100    with all labels too
    python demo/masked_memory.py --output DIR        folder of the results (default: runs/demo-masked)

Each part is a process `python tools/run_net.py --cfg FILE ...`; its output is `run.log` in its folder. A part that is
complete is kept: the same command goes on where it was stopped.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sweep_jobs import JobError, Workshop, kept, training_progress
from sweep_plan import ROOT
from sweep_report import describe_machine

from slowfast.checkpoint.io import find_checkpoints
from slowfast.utils.files import replacing
from slowfast.utils.tables import format_table

CONFIGS = ROOT / "projects/pgt/configs/Synthetic"
PRETRAIN, FINE_TUNE = CONFIGS / "SWEEP_MAE_PGT_36x1.yaml", CONFIGS / "SWEEP_VIT_PGT_36x1.yaml"
# Start of fine-tuning -> settings of its pre-training; None for none.
STARTS = {"from scratch": None, "masked, no memory": ("PGT.MEMORY", False), "masked, with memory": ()}
CLASSES = 6
BATCH = 12
UPDATES = 300  # of fine-tuning, where that is MIN_EPOCHS to MAX_EPOCHS epochs
MIN_EPOCHS, MAX_EPOCHS = 8, 60
FULL, QUICK = {"train": 1200, "val": 480, "test": 12}, {"train": 24, "val": 6, "test": 12}


class Demo:
    """Parts of the demo. Each is kept once it is complete."""

    def __init__(self, arguments: argparse.Namespace):
        self.quick, self.overrides = arguments.quick, arguments.overrides
        self.output = arguments.output.resolve()
        self.videos = QUICK if self.quick else FULL
        self.data = self.output / f"data_{self.videos['train']}"
        self.shop = Workshop(1, threads=1)

    def make_data(self) -> None:
        """Make the videos, or keep existing ones."""
        counts = [word for split, count in self.videos.items() for word in (f"--{split}", count)]
        command = [sys.executable, "-m", "slowfast.apps.synthetic", "--output", self.data, *counts, "--workers", 0]
        self.shop.run("videos", command, self.output / "data.log")

    def labeled(self, percent: int) -> tuple[Path, int]:
        """Write the lists of the first videos with labels; return their folder and number."""
        # Classes take turns in the list.
        count = max(CLASSES, round(self.videos["train"] * percent / 100))
        folder = self.output / f"labels_{count}"
        folder.mkdir(exist_ok=True)
        for split in ("train", "val", "test"):
            lines = (self.data / f"{split}.csv").read_text().splitlines(keepends=True)
            (folder / f"{split}.csv").write_text("".join(lines[:count] if split == "train" else lines))
        return folder, count

    def train(self, title: str, folder: Path, cfg: Path, data: Path, seed: int, settings: Sequence[object]) -> dict:
        """Run a training unless it is complete; return the last row of its statistics, with `seconds` of the process.

        A training that was stopped is resumed.
        """
        return kept(folder / "done.json", partial(self._train, title, folder, cfg, data, seed, settings))

    def _train(self, title: str, folder: Path, cfg: Path, data: Path, seed: int, settings: Sequence[object]) -> dict:
        places = ["DATA.PATH_TO_DATA_DIR", data, "OUTPUT_DIR", folder, "RNG_SEED", seed]
        places += ["TENSORBOARD.ENABLE", False, "TEST.ENABLE", False]
        quick = ["SOLVER.MAX_EPOCH", 1, "LOG_PERIOD", 1, "TRAIN.EVAL_PERIOD", 1] if self.quick else []
        command = [sys.executable, ROOT / "tools/run_net.py", "--cfg", cfg, *settings, *places, *quick, *self.overrides]
        stats = folder / "json_stats.jsonl"
        usage = self.shop.run(title, command, folder / "run.log", training_progress(stats))
        rows = [json.loads(line) for line in stats.read_text().splitlines()]
        last = [row for row in rows if row["_type"] in ("train_epoch", "val_epoch")][-1]
        return {"loss": last["loss"], "accuracy": last.get("top1_acc"), "seconds": usage.seconds}

    def pretrain(self, start: str, seed: int) -> dict:
        """Pre-train on all videos; return the result and the `checkpoint`, "" from scratch."""
        settings = STARTS[start]
        if settings is None:
            return {"checkpoint": ""}
        folder = self.folder(start, seed)
        result = self.train(f"{start} (seed {seed})", folder, PRETRAIN, self.data, seed, settings)
        return {**result, "checkpoint": find_checkpoints(str(folder), pretraining=True)[-1].path}

    def fine_tune(self, start: str, seed: int, percent: int, checkpoint: str) -> dict:
        """Fine-tune on some labels; return a row of the results, with the accuracy on the held-out videos."""
        data, count = self.labeled(percent)
        epochs = min(max(MIN_EPOCHS, round(UPDATES * BATCH / count)), MAX_EPOCHS)
        settings = ["SOLVER.MAX_EPOCH", epochs, "TRAIN.EVAL_PERIOD", epochs, "TRAIN.CHECKPOINT_PERIOD", epochs]
        settings += ["TRAIN.BATCH_SIZE", min(BATCH, count), "SOLVER.WARMUP_EPOCHS", epochs / 20]
        settings += ["LOG_PERIOD", 100, "TRAIN.CHECKPOINT_FILE_PATH", checkpoint]
        title = f"{start}, {percent} % of the labels (seed {seed})"
        folder = self.folder(f"{start} {percent}", seed)
        result = self.train(title, folder, FINE_TUNE, data, seed, settings)
        self.shop.say(f"  {title}: {result['accuracy']:.1f} %")
        return {"start": start, "seed": seed, "percent": percent, "labels": count, "epochs": epochs, **result}

    def folder(self, name: str, seed: int) -> Path:
        """Return the output folder of a training."""
        return self.output / f"{self.videos['train']}_seed_{seed}" / name.replace(",", "").replace(" ", "_")


def run(arguments: argparse.Namespace) -> Path:
    """Run the demo; return the file of the results."""
    demo = Demo(arguments)
    demo.output.mkdir(parents=True, exist_ok=True)
    demo.shop.run_all([demo.make_data])
    rows, pretraining = [], []
    for percent in arguments.labels:
        for seed in arguments.seeds:
            for start in STARTS:
                (before,) = demo.shop.run_all([partial(demo.pretrain, start, seed)])
                checkpoint = before.pop("checkpoint")
                rows += demo.shop.run_all([partial(demo.fine_tune, start, seed, percent, checkpoint)])
                if before and percent == arguments.labels[0]:
                    pretraining.append({"start": start, "seed": seed, **before})
                results = {**describe_machine(), "videos": demo.videos, "runs": rows, "pretraining": pretraining}
                with replacing(demo.output / "results.json") as path:
                    Path(path).write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nAccuracy on {demo.videos['val']} other videos, in percent; chance is {100 / CLASSES:.1f}\n")
    print(table(rows))
    return demo.output / "results.json"


def table(rows: list[dict]) -> str:
    """Return mean and standard deviation over the seeds: a line for each start, a column for each share of labels."""
    shares = list(dict.fromkeys((row["percent"], row["labels"]) for row in rows))
    lines = []
    for start in STARTS:
        cells = []
        for percent, _ in shares:
            found = [row["accuracy"] for row in rows if (row["start"], row["percent"]) == (start, percent)]
            spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
            cells.append(f"{statistics.mean(found):.1f}{spread}")
        lines.append([start, *cells])
    return format_table(["start", *(f"{percent} % ({count} labels)" for percent, count in shares)], lines)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "runs/demo-masked", help="folder of the results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="everything runs once a seed")
    parser.add_argument("--labels", type=int, nargs="+", default=[1, 5], help="percent of the labels to fine-tune on")
    parser.add_argument("--quick", action="store_true", help="a tiny set and one epoch, to test the demo itself")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings of every run, after `--`")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    try:
        results = run(parse_args(argv))
    except JobError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"\nThe results are in {results}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
