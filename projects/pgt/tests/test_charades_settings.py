"""The published settings of Charades on a set in its format: clips, targets, and a training step, at reduced size."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pgt.plan import StepPlan
from pgt.task import step_target
from slowfast.config import load_config
from slowfast.datasets import build_loader
from slowfast.engine.optim_step import OptimStep
from slowfast.engine.task import build_task
from slowfast.models import build_model

FOLDER = Path(__file__).parents[1] / "configs/Charades"
FILES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
CLASSES, LENGTH = 5, 700


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two videos of half a minute; all their frames are the same few files."""
    folder = tmp_path_factory.mktemp("charades")
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 255, (36, 48, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number}.jpg"), picture)
    lines = ["original_vido_id video_id frame_id path labels\n"]
    for video in ("AAAAA", "BBBBB"):
        lines += [f'{video} 0 {frame} {frame % 3}.jpg "{label_of(frame)}"\n' for frame in range(LENGTH)]
    for split in ("train", "val"):
        (folder / f"{split}.csv").write_text("".join(lines))
    return folder


def label_of(frame):
    """One class after the other."""
    return frame * CLASSES // LENGTH


@pytest.fixture
def cfg_of(data):
    def load(name):
        overrides = [
            "NUM_GPUS", 0, "DATA.PATH_TO_DATA_DIR", str(data), "DATA.PATH_PREFIX", str(data),
            "DATA_LOADER.NUM_WORKERS", 0,
            "DATA.TRAIN_CROP_SIZE", 32, "DATA.TEST_CROP_SIZE", 32, "DATA.TRAIN_JITTER_SCALES", [32, 36],
            "RESNET.WIDTH_PER_GROUP", 8, "TRAIN.BATCH_SIZE", 2, "TEST.BATCH_SIZE", 2, "MODEL.NUM_CLASSES", CLASSES,
        ]  # fmt: skip
        return load_config(str(FOLDER / f"{name}.yaml"), overrides)

    return load


def test_the_files_are_there():
    assert len(FILES) >= 25
    assert sum("PROG" in name for name in FILES) >= 10


@pytest.mark.parametrize("name", FILES)
def test_clips_and_targets(cfg_of, name):
    cfg = cfg_of(name)
    (batch,) = build_loader(cfg, "train")
    frames = cfg.DATA.NUM_FRAMES
    assert batch.inputs[-1].shape == (2, 3, frames, 32, 32)
    assert batch.labels.shape == (2, CLASSES)
    assert batch.frame_labels.shape == (2, 2 * frames - 1, CLASSES)
    assert torch.equal(batch.frame_labels.amax(dim=1).float(), batch.labels)
    test = build_loader(cfg, "test").dataset
    assert test.num_views == cfg.TEST.NUM_ENSEMBLE_VIEWS * cfg.TEST.NUM_SPATIAL_CROPS
    assert torch.equal(test[len(test) - 1].label, torch.ones(CLASSES))


STEPPED = [
    pytest.param(name, marks=pytest.mark.slow) if "SLOWFAST" in name else name for name in FILES if "PROG" in name
]


@pytest.mark.parametrize("name", STEPPED)
def test_a_training_step(cfg_of, name):
    cfg = cfg_of(name)
    torch.manual_seed(0)
    (batch,) = build_loader(cfg, "train")
    plan = StepPlan.from_config(cfg)
    targets = torch.stack([step_target(batch, plan, step) for step in range(plan.steps)])
    # A step shows a part of what the clip shows, and all of them together all of it.
    assert torch.equal(targets.amax(dim=0), batch.labels)
    if batch.labels.sum() > 2 * len(batch.labels):
        assert (targets.sum(dim=2) < batch.labels.sum(dim=1)).any()
    model = build_model(cfg).train()
    before = [weight.detach().clone() for weight in model.parameters()]
    stats = build_task(cfg).train_step(model, batch, OptimStep(model, torch.optim.SGD(model.parameters(), lr=0.1)))
    # Balanced: each class as likely as not, before anything is learned.
    assert stats["loss"].item() == pytest.approx(np.log(2), rel=0.1)
    assert stats["scores"].shape == (2, CLASSES)
    changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert all(changed[-2:])
