"""Masked pre-training: runs, exact resume, pictures and fine-tuning on tiny videos, by MAE and MaskFeat."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from slowfast.apps.export.export import export
from slowfast.apps.predict.predictor import Predictor
from slowfast.apps.visualize.settings import check_pictures
from slowfast.checkpoint.io import checkpoint_path, load_checkpoint
from slowfast.config import load_config
from slowfast.datasets.build import build_dataset
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.loading.batch import collate
from slowfast.engine.epoch_config import build_state
from slowfast.engine.masked import MaskedTask, draw_masked
from slowfast.engine.task import ClipTask, build_task
from slowfast.engine.test import test as run_test
from slowfast.engine.train import train
from slowfast.engine.trial import random_batch
from slowfast.models import build_model

VIT = [
    "MODEL.ARCH", "mvit", "MVIT.EMBED_DIM", 32, "MVIT.NUM_HEADS", 2, "MVIT.DEPTH", 2,
    "MVIT.PATCH_KERNEL", [2, 16, 16], "MVIT.PATCH_STRIDE", [2, 16, 16], "MVIT.PATCH_PADDING", [0, 0, 0],
    "MVIT.DROPPATH_RATE", 0.0, "DATA.NUM_FRAMES", 8, "DATA.TRAIN_CROP_SIZE", 32, "DATA.TEST_CROP_SIZE", 32,
    "DATA.INPUT_CHANNEL_NUM", [3], "SOLVER.OPTIMIZING_METHOD", "adamw", "SOLVER.BASE_LR", 1e-3,
]  # fmt: skip
PRETRAIN = [
    *VIT, "TASK", "ssl", "MODEL.MODEL_NAME", "MaskMViT", "MODEL.LOSS_FUNC", "multi_mse", "MASK.ENABLE", True,
    "MASK.PRETRAIN_DEPTH", [1], "AUG.MASK_RATIO", 0.5,
]  # fmt: skip
MAE = [
    *PRETRAIN, "MASK.MAE_ON", True, "MASK.MAE_RND_MASK", True, "MASK.HEAD_TYPE", "separate_xformer",
    "MASK.DECODER_DEPTH", 1, "MASK.DECODER_EMBED_DIM", 64,
]  # fmt: skip
MASKFEAT = [*PRETRAIN, "MASK.PRED_HOG", True, "AUG.GEN_MASK_LOADER", True, "AUG.MASK_WINDOW_SIZE", [4, 2, 2]]
FINE_TUNE = [*VIT, "TASK", "ssl_eval", "MODEL.MODEL_NAME", "MViT", "MVIT.USE_MEAN_POOLING", True]


# The videos are noise, dark or bright: what can be learned of pixels is their brightness.
@pytest.mark.parametrize("settings", [[*MAE, "MASK.NORM_PRED_PIXEL", False], MASKFEAT], ids=["mae", "maskfeat"])
def test_pretraining_lowers_the_loss_without_validation_and_without_a_list_for_it(
    tiny_cfg, stats_of, settings, tiny_data, tmp_path
):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train.csv").write_text((tiny_data / "train.csv").read_text())
    cfg = tiny_cfg(*settings, "DATA.PATH_TO_DATA_DIR", str(tmp_path / "lists"), "SOLVER.MAX_EPOCH", 6)
    stats = stats_of(cfg)
    losses = [row["loss"] for row in stats if row["_type"] == "train_epoch"]
    assert len(losses) == 6 and losses[-1] < 0.97 * losses[0]
    assert not any(row["_type"] == "val_epoch" or "top1_err" in row for row in stats)


@pytest.mark.parametrize("settings", [MAE, MASKFEAT], ids=["mae", "maskfeat"])
def test_a_resumed_run_ends_with_the_same_weights(tiny_cfg, tmp_path, settings):
    for name, epochs in (("whole", [2]), ("resumed", [1, 2])):
        for last in epochs:
            # Of the schedule alone MAX_EPOCH is read, and a constant rate has none.
            steps = ["SOLVER.LR_POLICY", "steps_with_relative_lrs", "SOLVER.STEPS", [0], "SOLVER.LRS", [1.0]]
            train(tiny_cfg(*settings, *steps, "SOLVER.MAX_EPOCH", last, "OUTPUT_DIR", str(tmp_path / name)))
    paths = [checkpoint_path(tmp_path / name, 2, pretraining=True) for name in ("whole", "resumed")]
    weights = [load_checkpoint(path)["model_state"] for path in paths]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_fine_tuning_in_the_same_folder_starts_from_the_pretrained_blocks(tiny_cfg, started):
    train(tiny_cfg(*MAE, "SOLVER.MAX_EPOCH", 2))
    path = checkpoint_path(tiny_cfg().OUTPUT_DIR, 2, pretraining=True)
    assert path.endswith("/ssl_checkpoint_epoch_00002.pyth")
    pretrained = load_checkpoint(path)["model_state"]
    state = started(tiny_cfg(*FINE_TUNE))
    assert state.epoch == 0
    for key, value in state.model.state_dict().items():
        if not key.startswith("head."):
            assert torch.equal(value, pretrained[key]), key
    train(tiny_cfg(*FINE_TUNE, "SOLVER.MAX_EPOCH", 1, "TRAIN.EVAL_PERIOD", 5, "TEST.ENABLE", False))
    assert started(tiny_cfg(*FINE_TUNE)).epoch == 1 and started(tiny_cfg(*MAE)).epoch == 2


def test_the_model_decides_on_the_task(tiny_cfg):
    for task in ("ssl", ""):
        assert type(build_task(tiny_cfg(*MAE, "TASK", task))) is MaskedTask
    assert type(build_task(tiny_cfg(*FINE_TUNE))) is ClipTask
    with pytest.raises(ValueError, match="TASK ssl pre-trains without labels, and MODEL.MODEL_NAME MViT"):
        build_task(tiny_cfg(*FINE_TUNE, "TASK", "ssl"))


def test_each_of_several_clips_of_a_video_has_its_own_mask(tiny_cfg, stats_of):
    """Two times two clips of each of 4 videos; the model draws the masks of MAE, the loader those of MaskFeat."""
    clips = ["DATA.TRAIN_CROP_NUM_TEMPORAL", 2, "AUG.ENABLE", True, "AUG.AA_TYPE", "", "AUG.NUM_SAMPLE", 2]
    cfg = tiny_cfg(*MASKFEAT, *clips)
    data = build_dataset(cfg, "train")
    batch = collate([data[number] for number in range(4)])
    assert batch.inputs[0].shape[:3] == (16, 3, 8) and batch.video.tolist() == [n // 4 for n in range(16)]
    assert batch.mask.shape == (16, 4, 2, 2) and len({tuple(mask.flatten().tolist()) for mask in batch.mask}) > 4
    assert all(row["loss"] > 0 for row in stats_of(tiny_cfg(*MAE, *clips)) if row["_type"] == "train_epoch")
    model = build_model(tiny_cfg(*MAE, *clips))
    ((_, mask),) = model.decode(model.patch_embed(batch.inputs[0]), None)
    assert mask.flatten(1).sum(1).tolist() == [8] * 16 and len({tuple(m.flatten().tolist()) for m in mask}) > 8


def test_masks_come_with_the_clips_of_training_alone(tiny_cfg):
    data = build_dataset(tiny_cfg(*MASKFEAT, "AUG.ENABLE", True, "AUG.AA_TYPE", "", "AUG.NUM_SAMPLE", 2), "train")
    batch = collate([data[0], data[1]])
    assert batch.mask.shape == (4, 4, 2, 2) and batch.mask.dtype == torch.bool
    assert torch.equal(collate([data[0], data[1]]).mask, batch.mask)
    assert not all(torch.equal(mask, batch.mask[0]) for mask in batch.mask)
    assert batch.to("cpu").mask is not None
    assert build_dataset(tiny_cfg(*MASKFEAT), "val")[0].mask is None
    assert build_dataset(tiny_cfg(*MAE), "train")[0].mask is None


def test_pretraining_on_images(tiny_cfg, stats_of, tmp_path):
    generator = np.random.default_rng(0)
    folder = tmp_path / "images/train/n01"
    folder.mkdir(parents=True)
    for number in range(8):
        cv2.imwrite(str(folder / f"{number}.png"), generator.integers(0, 255, (40, 50, 3), np.uint8))
    images = [
        *("DATA.PATH_TO_DATA_DIR", str(tmp_path / "images"), "TRAIN.DATASET", "imagenet", "TEST.DATASET", "imagenet"),
        *("MVIT.PATCH_2D", True, "MVIT.PATCH_KERNEL", [16, 16], "MVIT.PATCH_STRIDE", [16, 16]),
        *("MVIT.PATCH_PADDING", [0, 0], "DATA.NUM_FRAMES", 1, "AUG.ENABLE", True, "AUG.AA_TYPE", ""),
        *("VIS_MASK.ENABLE", True, "SOLVER.MAX_EPOCH", 4),
    ]
    losses = [row["loss"] for row in stats_of(tiny_cfg(*MASKFEAT, *images)) if row["_type"] == "train_epoch"]
    assert len(losses) == 4 and losses[-1] < losses[0]
    assert len(list((tmp_path / "out/visualization/mask").iterdir())) == 4


def test_no_class_is_predicted(tiny_cfg, tmp_path):
    cfg = tiny_cfg(*MAE, "TENSORBOARD.MODEL_VIS.ENABLE", True)
    assert run_test(cfg) == {}
    task, model = build_task(cfg), build_model(cfg)
    for predicting in (
        lambda: task.predict(model, random_batch(cfg, 1)),
        lambda: Predictor(model, cfg, torch.device("cpu"), ["a", "b"]),
        lambda: export(cfg, str(tmp_path / "exported"), ["onnx"]),
        lambda: check_pictures(cfg),
    ):
        with pytest.raises(ValueError, match="MaskMViT is pre-trained without labels .* fine-tune its weights"):
            predicting()


@pytest.mark.parametrize("settings", [MAE, MASKFEAT], ids=["mae", "maskfeat"])
def test_mixed_precision_and_activation_checkpointing_change_little(tiny_cfg, settings):
    losses = []
    for options in ([], ["MODEL.ACT_CHECKPOINT", True], ["TRAIN.MIXED_PRECISION", True]):
        cfg = tiny_cfg(*settings, *options)
        torch.manual_seed(0)
        batch = random_batch(cfg, 4)
        state = build_state(cfg)
        torch.manual_seed(0)
        losses.append(state.task.train_step(state.model, batch, state.optim_step)["loss"].item())
    assert losses[0] == losses[1] == pytest.approx(losses[2], rel=1e-2)


def test_pictures_show_clip_mask_and_prediction(tiny_cfg, tmp_path):
    cfg = tiny_cfg(*MASKFEAT, "VIS_MASK.ENABLE", True, "SOLVER.MAX_EPOCH", 2, "OUTPUT_DIR", str(tmp_path / "seen"))
    train(cfg)
    train(tiny_cfg(*MASKFEAT, "SOLVER.MAX_EPOCH", 2, "OUTPUT_DIR", str(tmp_path / "unseen")))
    pictures = sorted((tmp_path / "seen/visualization/mask").iterdir())
    assert [path.name for path in pictures] == ["epoch_1.png", "epoch_2.png"]
    assert cv2.imread(str(pictures[0])).shape[1:] == (4 * 32, 3)
    paths = [checkpoint_path(tmp_path / name, 2, pretraining=True) for name in ("seen", "unseen")]
    weights = [load_checkpoint(path)["model_state"] for path in paths]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


class Oracle(torch.nn.Module):
    """Predict the targets themselves."""

    def __init__(self, model, clip):
        super().__init__()
        self.inner, self.clip, self.pred_head = model, clip, model.pred_head
        self.target, self.targets = model.target, model.targets
        self.patch_embed = model.patch_embed

    def decode(self, features, mask):
        return [(self.targets(self.clip, 0, mask), mask)]


@pytest.mark.parametrize("normalize", [True, False])
def test_a_perfect_prediction_is_drawn_as_the_clip(tiny_cfg, normalize):
    cfg = tiny_cfg(*MAE, "MASK.NORM_PRED_PIXEL", normalize)
    settings = replace(ClipSettings.from_config(cfg, "train"), reverse_channels=True)
    clip = torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0)) / 2
    mask = torch.zeros(2, 4, 2, 2, dtype=torch.bool)
    mask[0, 1, 0, 1] = mask[1, 3, 1, 0] = True
    picture = draw_masked(Oracle(build_model(cfg), clip), clip, mask, settings)
    assert picture.shape == (2 * 3 * 32, 4 * 32, 3)
    seen, masked, filled = picture.reshape(2, 3, 32, 4, 32, 3).transpose(1, 0, 3, 2, 4, 5)
    assert np.abs(seen.astype(int) - filled).max() <= 1
    frame = clip[0, [2, 1, 0], 2].permute(1, 2, 0).numpy() * settings.std + settings.mean
    assert np.abs(seen[0, 1] - frame.clip(0, 1) * 255).max() <= 1
    gray = (masked == 128).all(-1)
    assert gray[0, 1, :16, 16:].all() and gray[1, 3, 16:, :16].all() and gray.sum() < 2 * 16 * 16 + 20


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["MASK.ENABLE", False], "MASK.ENABLE True"),
        (["MODEL.LOSS_FUNC", "cross_entropy"], "multi_mse"),
        (["MASK.PRETRAIN_DEPTH", [2]], r"MASK.PRETRAIN_DEPTH is \[2\].* 0 to 1"),
        (["AUG.MASK_RATIO", 1.0], "AUG.MASK_RATIO is 1.0"),
        (["MASK.HEAD_TYPE", "joint"], "separate_xformer"),
        (["DATA.NUM_FRAMES", 9], r"DATA.NUM_FRAMES 9 .*PATCH_STRIDE \[2, 16, 16\]"),
        (["DATA.TRAIN_CROP_SIZE", 40], "TRAIN_CROP_SIZE 40"),
        (["MASK.MAE_RND_MASK", False], "AUG.GEN_MASK_LOADER False"),
        (["MASK.MAE_ON", False], "AUG.GEN_MASK_LOADER False"),
        (["MVIT.POOL_Q_STRIDE", [[1, 1, 2, 2]]], "MVIT.POOL_Q_STRIDE"),
        (["MASK.PRETRAIN_DEPTH", [0, 1]], "decodes one block"),
        (["MASK.DEC_KV_STRIDE", [2, 2]], "MASK.DEC_KV_STRIDE"),
        (["MASK.PER_FRAME_MASKING", True, "AUG.MASK_TUBE", True], "AUG.MASK_TUBE"),
        (["MASK.DECODER_EMBED_DIM", 0], "DECODER_EMBED_DIM 0"),
        (["MASK.DECODER_DEPTH", -1], "MASK.DECODER_DEPTH is -1"),
        (["AUG.MAX_MASK_PATCHES_PER_BLOCK", 0], "AUG.MAX_MASK_PATCHES_PER_BLOCK is 0"),
    ],
)
def test_mistakes_in_settings_of_mae(settings, named):
    with pytest.raises(ValueError, match=named):
        load_config(None, ["NUM_GPUS", 0, *MAE, *settings])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["AUG.MASK_WINDOW_SIZE", [8, 2, 2]], r"its time must be 4"),
        (["AUG.MASK_WINDOW_SIZE", [4, 1, 2]], r"at least 2"),
        (["AUG.MASK_WINDOW_SIZE", [2, 2]], r"\[time, height, width\]"),
        (["AUG.MASK_TUBE", True, "AUG.MASK_FRAMES", True], "AUG.MASK_FRAMES"),
    ],
)
def test_mistakes_in_settings_of_masks(settings, named):
    with pytest.raises(ValueError, match=named):
        load_config(None, ["NUM_GPUS", 0, *MASKFEAT, *settings])


def test_masks_that_hide_nothing_are_no_loss_of_nan(tiny_cfg):
    with pytest.raises(ValueError, match=r"no token of .* is masked.* AUG.MASK_RATIO"):
        train(tiny_cfg(*MASKFEAT, "AUG.MASK_RATIO", 0.001))
