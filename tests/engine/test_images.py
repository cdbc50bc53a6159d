"""Train and test models of images, and start a model of clips from one."""

import logging
import re

import cv2
import numpy as np
import pytest

from slowfast.checkpoint.io import find_checkpoints
from slowfast.config import load_config
from slowfast.engine.test import test as run_test
from slowfast.engine.train import train

SMALL_VIT = ["MVIT.EMBED_DIM", 16, "MVIT.NUM_HEADS", 2, "MVIT.DEPTH", 3]


@pytest.fixture
def small(repo, tmp_path):
    """Function: a setting of ImageNet, small, on dark (n01) and bright (n02) images."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for label, name in enumerate(("n01", "n02")):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                picture = rng.integers(0, 100, (40, 50, 3)) + 120 * label
                cv2.imwrite(str(folder / f"{number}.jpg"), picture.astype(np.uint8))

    def load(name, *overrides):
        settings = [
            "NUM_GPUS", 0, "DATA.PATH_TO_DATA_DIR", tmp_path / "data", "OUTPUT_DIR", tmp_path / "out",
            "MODEL.NUM_CLASSES", 2, "TRAIN.BATCH_SIZE", 8, "TEST.BATCH_SIZE", 4, "DATA.TRAIN_CROP_SIZE", 32,
            "DATA.TEST_CROP_SIZE", 32, "DATA_LOADER.NUM_WORKERS", 0, "TRAIN.EVAL_PERIOD", 6, "SOLVER.MAX_EPOCH", 6,
            "SOLVER.WARMUP_EPOCHS", 0.0, "TRAIN.CHECKPOINT_PERIOD", 6,
        ]  # fmt: skip
        return load_config(repo / "configs/ImageNet" / f"{name}.yaml", [*map(str, settings), *overrides])

    return load


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("REV_VIT_S", [*SMALL_VIT, "SOLVER.BASE_LR", 0.01, "AUG.AA_TYPE", ""]),
        ("RES_R50", ["RESNET.WIDTH_PER_GROUP", 4, "BN.NUM_BATCHES_PRECISE", 2, "SOLVER.STEPS", [0, 4],
                     "SOLVER.LRS", [1, 0.1]]),
    ],
)  # fmt: skip
def test_dark_and_bright_images_are_told_apart(small, name, overrides, caplog):
    caplog.set_level(logging.INFO)
    cfg = small(name, *overrides)
    assert train(cfg)["top1_acc"] == 100.0
    results = run_test(cfg)
    assert (results["top1_acc"], results["images"]) == (100.0, 6)
    # Counts are counts of images.
    assert not re.search(r"[0-9] (videos|clips)\b|training clip", caplog.text)
    assert "optimizer step: 8 images" in caplog.text and ", 6 images" in caplog.text


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("ImageNet/MVIT_B_16_CONV", ["MVIT.EMBED_DIM", 8]),
        ("ImageNet/MVITv2_T", ["MVIT.EMBED_DIM", 8]),
        ("ImageNet/REV_MVIT_B_16_CONV", ["MVIT.EMBED_DIM", 8]),
        ("masked_ssl/in1k_VIT_B_MaskFeat_FT", SMALL_VIT),
        ("masked_ssl/in1k_VIT_B_MaskFeat_PT", [*SMALL_VIT, "MASK.PRETRAIN_DEPTH", [2]]),
    ],
)
def test_published_settings_of_images_start(small, name, overrides):
    sizes = ["DATA.TRAIN_CROP_SIZE", 64, "DATA.TEST_CROP_SIZE", 64, "SOLVER.MAX_EPOCH", 1, "TRAIN.EVAL_PERIOD", 1]
    cfg = small(f"../{name}", *sizes, *overrides)
    metrics = train(cfg)
    if "PT" not in name:
        assert set(metrics) >= {"top1_acc"}
        assert run_test(cfg)["images"] == 6


def test_a_model_of_clips_starts_from_one_of_images(small, tiny_cfg, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    train(small("REV_VIT_S", *SMALL_VIT, "SOLVER.BASE_LR", 0.01, "SOLVER.MAX_EPOCH", 1))
    (file,) = find_checkpoints(str(tmp_path / "out"))
    metrics = train(tiny_cfg(
        "MODEL.MODEL_NAME", "MViT", "MODEL.ARCH", "mvit", "MVIT.REV.ENABLE", True, *SMALL_VIT,
        "MVIT.CLS_EMBED_ON", False, "MVIT.SEPARATE_QKV", True, "MVIT.PATCH_KERNEL", [2, 16, 16],
        "MVIT.PATCH_STRIDE", [2, 16, 16], "MVIT.PATCH_PADDING", [0, 0, 0], "OUTPUT_DIR", tmp_path / "clips",
        "TRAIN.CHECKPOINT_FILE_PATH", file.path, "TRAIN.CHECKPOINT_INFLATE", True,
        "TRAIN.CHECKPOINT_EPOCH_RESET", True, "SOLVER.MAX_EPOCH", 1, "TRAIN.EVAL_PERIOD", 1,
    ))  # fmt: skip
    assert "top1_acc" in metrics
    assert "repeated over 2 frames" in caplog.text and "positions of an image at all times: pos_embed" in caplog.text
