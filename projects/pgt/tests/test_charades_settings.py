"""The published settings of Charades on a set in its format: clips, targets, and a training step, at reduced size."""

import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from pgt.plan import StepPlan
from pgt.task import step_target
from slowfast.checkpoint import find_checkpoints
from slowfast.config import load_config
from slowfast.datasets import build_loader
from slowfast.datasets.clips.temporal_sampling import slow_indices
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.optim_step import OptimStep
from slowfast.engine.resume import load_checkpoint_config
from slowfast.engine.task import build_task
from slowfast.engine.test import test as run_test
from slowfast.engine.train import train
from slowfast.models import build_model

FOLDER = Path(__file__).parents[1] / "configs/Charades"
FILES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
CLASSES, LENGTH = 5, 700
SMALL = [
    "NUM_GPUS", 0, "DATA_LOADER.NUM_WORKERS", 0,
    "DATA.TRAIN_CROP_SIZE", 32, "DATA.TEST_CROP_SIZE", 32, "DATA.TRAIN_JITTER_SCALES", [32, 36],
    "RESNET.WIDTH_PER_GROUP", 8, "TRAIN.BATCH_SIZE", 2, "TEST.BATCH_SIZE", 2, "MODEL.NUM_CLASSES", CLASSES,
]  # fmt: skip


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
        folders = ["DATA.PATH_TO_DATA_DIR", str(data), "DATA.PATH_PREFIX", str(data)]
        return load_config(str(FOLDER / f"{name}.yaml"), [*SMALL, *folders])

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


SLOWFAST = [name for name in FILES if "SLOWFAST_PROG" in name and "overlap" not in name]


@pytest.mark.parametrize("name", SLOWFAST)
def test_frames_of_slowfast_as_published(cfg_of, name):
    """By the published arithmetic: 316 fast frames, every second of the video, 76 of them slow."""
    cfg = cfg_of(name)
    slow = [63 * i // 15 for i in range(16)]
    slow += [64 + 63 * s + 16 + 46 * i // 14 for s in range(4) for i in range(15)]
    assert slow[16:31] == [80, 83, 86, 89, 93, 96, 99, 103, 106, 109, 112, 116, 119, 122, 126]
    for split, length in itertools.product(("train", "test"), (631, 640, 500)):
        clips = build_loader(cfg, split).dataset.clips
        assert slow_indices(316, cfg.SLOWFAST.ALPHA, clips.settings.slow_indices) == slow
        room = length - 631
        if split == "train":
            generator = torch.Generator().manual_seed(0)
            found = [clips.sampling.training(length, 24, clips.settings, generator) for _ in range(100)]
            possible = range(min(room, 0), max(room, 0) + 1)
        else:
            found = [clips.sampling.view(length, 24, clips.settings, view) for view in range(2)]
            possible = [0, max(room, 0)]
        expected = [[max(0, min(start + 2 * j, length - 1)) for j in range(316)] for start in possible]
        assert all(frames in expected for frames in found)
        assert split == "train" or found == expected
        assert split == "test" or room < 0 or all(frames in found for frames in expected)


def test_targets_of_slowfast_as_published(cfg_of):
    """A step has the labels of all raw frames from fast frame 63 s to fast frame 63 (s + 1), both included."""
    cfg = cfg_of("SLOWFAST_PROG_76x8_R50_K400")
    dataset, plan = build_loader(cfg, "train").dataset, StepPlan.from_config(cfg)
    for seed in range(5):
        (clip,) = dataset.clips.training_clips(dataset.paths[0], torch.Generator().manual_seed(seed))
        assert torch.equal(clip.inputs[0], clip.inputs[1][:, list(cfg.SLOWFAST.SLOW_INDICES)])
        sample = dataset.sample_of(0, 0, clip)
        batch = Batch([], sample.label[None], *[torch.zeros(1)] * 2, frame_labels=sample.frame_labels[None])
        for step in range(5):
            first, last = clip.frames[63 * step], clip.frames[63 * (step + 1)]
            shown = {label_of(frame) for frame in range(first, last + 1)}
            assert set(step_target(batch, plan, step)[0].nonzero()[:, 0].tolist()) == shown


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


@pytest.mark.slow
def test_the_published_file_trains_resumes_and_is_tested(repo, data, tmp_path, last_state):
    """Word for word, with a smaller model: one epoch and then another gives what two epochs give."""
    published = json.loads((repo / "tests/fixtures/published_settings/pgt.json").read_text())
    for name in ("SLOWFAST_16x8_R50_K400.yaml", "SLOWFAST_PROG_76x8_R50_K400.yaml"):
        (tmp_path / name).write_text(yaml.safe_dump(published[f"Charades/{name}"]))
    smaller = [
        *SMALL, "RESNET.DEPTH", 18, "RESNET.TRANS_FUNC", "basic_transform",
        "RESNET.NUM_BLOCK_TEMP_KERNEL", [[2, 2]] * 4,
        "DATA.PATH_TO_DATA_DIR", str(data), "DATA.PATH_PREFIX", str(data), "TRAIN.CHECKPOINT_FILE_PATH", "",
        "SOLVER.MAX_EPOCH", 2, "SOLVER.WARMUP_EPOCHS", 0.0, "TRAIN.EVAL_PERIOD", 2,
        "TEST.NUM_SPATIAL_CROPS", 1,
    ]  # fmt: skip
    whole, parted = (
        load_config(tmp_path / name, [*smaller, "OUTPUT_DIR", str(tmp_path / folder)]) for folder in ("whole", "parted")
    )
    train(whole)
    train(load_config(tmp_path / name, [*smaller, "OUTPUT_DIR", parted.OUTPUT_DIR, "SOLVER.MAX_EPOCH", 1]))
    train(parted)
    one, other = last_state(whole)["model_state"], last_state(parted)["model_state"]
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    assert load_checkpoint_config(find_checkpoints(whole.OUTPUT_DIR)[-1].path).DATA.NUM_FRAMES == 316
    results = run_test(parted)
    assert results["videos"] == 2 and results["views"] == 2
