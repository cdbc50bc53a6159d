"""Count the published settings that load, build and start: `python -m tests.config.starts [WORD]`.

Each file is read as published, and started by the program of training and testing: smaller sizes, one epoch of tiny
data sets in the published formats, one view of a test.
"""

import contextlib
import io
import logging
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from slowfast.apps.synthetic.files import write_images
from slowfast.apps.synthetic.formats import SetSpec, make_set
from slowfast.config import load_config
from slowfast.models import build_model
from tests.config.published import FILES, write_published
from tools.run_net import main as run_net

GPUS = int(torch.cuda.is_available())
SMALL = [
    "NUM_GPUS", GPUS, "NUM_SHARDS", 1, "DATA.TRAIN_CROP_SIZE", 32, "DATA.TEST_CROP_SIZE", 32,
    "DATA.TRAIN_JITTER_SCALES", [32, 40], "RESNET.WIDTH_PER_GROUP", 8, "X3D.WIDTH_FACTOR", 1.0, "X3D.DIM_C5", 64,
    "MVIT.EMBED_DIM", 48, "TRAIN.BATCH_SIZE", 4, "TEST.BATCH_SIZE", 4, "DATA_LOADER.NUM_WORKERS", 0,
    "DATA.DUMMY_LOAD", True, "SOLVER.MAX_EPOCH", 1, "SOLVER.WARMUP_EPOCHS", 0.0, "TEST.NUM_ENSEMBLE_VIEWS", 1,
    "TEST.NUM_SPATIAL_CROPS", 1, "TRAIN.CHECKPOINT_FILE_PATH", "", "TEST.CHECKPOINT_FILE_PATH", "",
    "TEST.ALLOW_RANDOM_WEIGHTS", True, "BN.NUM_BATCHES_PRECISE", 1, "TRAIN.AUTO_RESUME", False,
]  # fmt: skip
# A run of two stages: multigrid changes the batch from stage to stage, to 16 times the clips.
MULTIGRID = ["SOLVER.STEPS", [0, 1], "SOLVER.LRS", [1, 0.1], "SOLVER.MAX_EPOCH", 2, "TRAIN.BATCH_SIZE", 1]


def write_data(folder: Path) -> dict[str, list[object]]:
    """Make tiny data sets; return the settings that say where each of them lies, by TRAIN.DATASET."""
    for name, counts in {"charades": (16, 2), "ssv2": (16, 2), "ava": (2, 2), "kinetics": (4, 1, 1)}.items():
        make_set(folder / name, SetSpec(name, *counts))
    videos = sorted((folder / "kinetics").rglob("*.mp4"))
    for split, count in (("train", 16), ("val", 4), ("test", 4)):
        lines = [f"{videos[i % len(videos)]} {i % 2}\n" for i in range(count)]
        (folder / "kinetics" / f"{split}.csv").write_text("".join(lines))
        pictures = np.random.default_rng(0).integers(0, 255, (4, 40, 48, 3), dtype=np.uint8)
        for label in range(2):
            images = folder / "imagenet" / split / f"n{label}"
            write_images([images / f"{i}.jpg" for i in range(4)], pictures)
    boxes = folder / "ava/annotations"
    found = boxes / "person_box_67091280_iou90/ava_detection_val_boxes_and_labels.csv"
    for name in ("ava_val_predicted_boxes.csv", "person_box_67091280_iou75/ava_detection_val_boxes_and_labels.csv"):
        (boxes / name).parent.mkdir(exist_ok=True)
        shutil.copy(found, boxes / name)
    for path in [*boxes.glob("ava_*v2.2*")]:  # version 2.1 has other rows in files of the same form
        shutil.copy(path, boxes / path.name.replace("2.2", "2.1").replace("activitynet_2019", "activitynet_2018"))
    return {
        "kinetics": ["DATA.PATH_TO_DATA_DIR", folder / "kinetics"],
        "imagenet": ["DATA.PATH_TO_DATA_DIR", folder / "imagenet"],
        "charades": [
            *("DATA.PATH_TO_DATA_DIR", folder / "charades"), *("DATA.PATH_PREFIX", folder / "charades/Charades_v1_rgb"),
        ],
        "ssv2": ["DATA.PATH_TO_DATA_DIR", folder / "ssv2", "DATA.PATH_PREFIX", folder / "ssv2/frames"],
        "ava": [
            *("AVA.FRAME_DIR", folder / "ava/frames"), *("AVA.FRAME_LIST_DIR", folder / "ava/frame_lists"),
            *("AVA.ANNOTATION_DIR", boxes),
        ],
    }  # fmt: skip


def start(path: Path, places: dict[str, list[object]], output: Path) -> str:
    """Run a published file small; return the last line of what it printed if it failed, else "".

    Args:
        path: the file.
        places: see `write_data`.
        output: a new folder.
    """
    cfg = load_config(path)
    more = [*places[cfg.TRAIN.DATASET], "OUTPUT_DIR", output]
    if not GPUS:  # synchronized norms train on GPUs only
        more += ["BN.NORM_TYPE", "sub_batchnorm" if cfg.BN.NORM_TYPE == "sub_batchnorm" else "batchnorm"]
        more += ["CONTRASTIVE.BN_SYNC_MLP", False]
    more += MULTIGRID if cfg.MULTIGRID.LONG_CYCLE else ["DATA.LOADER_CHUNK_SIZE", 4]
    if cfg.DETECTION.ENABLE and not cfg.AVA.TEST_PREDICT_BOX_LISTS:  # left to the user
        more += ["AVA.TEST_PREDICT_BOX_LISTS", ["ava_val_predicted_boxes.csv"]]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        status = run_net(["--cfg", str(path), *map(str, [*SMALL, *more])])
    ran = (output / "checkpoints").is_dir() if cfg.TRAIN.ENABLE else (output / "json_stats.jsonl").is_file()
    return "" if status == 0 and ran else printed.getvalue().strip().splitlines()[-1]


def main() -> None:
    """Print what fails, and how many files load, build and start."""
    logging.disable(logging.WARNING)
    word, counts, files = (sys.argv[1:] or [""])[0], {"load": 0, "build": 0, "start": 0}, []
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        write_published(top / "files")
        places = write_data(top / "data")
        files = [file for file in FILES if word in file]
        for number, file in enumerate(files):
            path = top / "files" / file
            try:
                cfg = load_config(path, ["NUM_GPUS", 0])
                counts["load"] += 1
                with torch.device("meta"):
                    build_model(cfg)
                counts["build"] += 1
                wrong = start(path, places, top / f"runs/{number}")
                counts["start"] += not wrong
            except Exception as error:  # a count goes on
                wrong = f"{type(error).__name__}: {error}"
            if wrong:
                print(f"{file}: {wrong}", flush=True)
    print(f"of {len(files)} files", ", ".join(f"{count} {what}" for what, count in counts.items()))


if __name__ == "__main__":
    main()
