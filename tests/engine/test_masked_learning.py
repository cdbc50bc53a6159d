"""Masked pre-training learns something about videos that a network without training does not know."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from slowfast.checkpoint.io import checkpoint_path, load_checkpoint
from slowfast.datasets import build_dataset
from slowfast.models import build_model

CLASSES, TRAINING, HELD_OUT, EPOCHS = 4, 64, 64, 20
MASKFEAT = [
    "TASK", "ssl", "MODEL.MODEL_NAME", "MaskMViT", "MODEL.ARCH", "mvit", "MODEL.LOSS_FUNC", "multi_mse",
    "MODEL.NUM_CLASSES", CLASSES, "MASK.ENABLE", True, "MASK.PRED_HOG", True, "MASK.PRETRAIN_DEPTH", [1],
    "AUG.GEN_MASK_LOADER", True, "AUG.MASK_WINDOW_SIZE", [2, 4, 4], "AUG.MASK_RATIO", 0.4,
    "MVIT.EMBED_DIM", 48, "MVIT.NUM_HEADS", 2, "MVIT.DEPTH", 2, "MVIT.MLP_RATIO", 2.0, "MVIT.CLS_EMBED_ON", False,
    "MVIT.PATCH_KERNEL", [2, 8, 8], "MVIT.PATCH_STRIDE", [2, 8, 8], "MVIT.PATCH_PADDING", [0, 0, 0],
    "MVIT.DROPPATH_RATE", 0.0, "DATA.RANDOM_FLIP", False, "DATA.CACHE_VIDEOS", True,
    "SOLVER.OPTIMIZING_METHOD", "adamw", "SOLVER.BASE_LR", 3e-3, "SOLVER.WEIGHT_DECAY", 0.01,
    "SOLVER.WARMUP_EPOCHS", 2.0, "SOLVER.WARMUP_START_LR", 1e-4, "SOLVER.MAX_EPOCH", EPOCHS,
    "TRAIN.BATCH_SIZE", 8, "TRAIN.CHECKPOINT_PERIOD", EPOCHS,
]  # fmt: skip


def waves(label, generator):
    """Draw 8 frames of waves that move across the picture; the class is their direction, one of four."""
    x, y = np.meshgrid(np.arange(40), np.arange(40))
    angle, phase = np.pi * label / CLASSES, generator.uniform(0, 2 * np.pi)
    length, speed, height = generator.uniform(6, 10), generator.uniform(-1, 1), generator.uniform(50, 60)
    across = 2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / length + phase
    wave = height * np.sin(across + speed * np.arange(8)[:, None, None])
    frames = generator.uniform(110, 130, 3) + wave[..., None] + generator.normal(0, 4, (8, 40, 40, 3))
    return frames.clip(0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path, encode):
    """Lists of videos without repetition: train.csv, and val.csv of these and the held-out ones behind them."""
    generator, lines = np.random.default_rng(0), []
    for number in range(TRAINING + HELD_OUT):
        label = number % CLASSES
        lines.append(f"{encode(tmp_path / f'{number}.mp4', waves(label, generator))} {label}\n")
    (tmp_path / "train.csv").write_text("".join(lines[:TRAINING]))
    (tmp_path / "val.csv").write_text("".join(lines))
    return tmp_path


@torch.no_grad()
def accuracy_of_neighbors(model, clips, labels):
    """Return the share of held-out videos whose class most of their 5 nearest training videos have."""
    features = model.eval().forward_features([clips])[0].mean((2, 3, 4))
    features = F.normalize(features - features[:TRAINING].mean(0), dim=1)
    near = (features[TRAINING:] @ features[:TRAINING].T).topk(5).indices
    votes = F.one_hot(labels[near], CLASSES).sum(1).argmax(1)
    return (votes == labels[TRAINING:]).float().mean().item()


@pytest.mark.slow
def test_neighbors_of_pretrained_features_beat_those_of_random_weights(folder, tiny_cfg, stats_of):
    """MaskFeat predicts directions of edges, so that features of waves in one direction become alike."""
    cfg = tiny_cfg(*MASKFEAT, "DATA.PATH_TO_DATA_DIR", str(folder))
    held = build_dataset(cfg, "val")
    clips, labels = torch.stack([held[n].inputs[0] for n in range(len(held))]), torch.tensor(held.labels)
    torch.manual_seed(0)
    model = build_model(cfg)
    untrained = accuracy_of_neighbors(model, clips, labels)
    losses = [row["loss"] for row in stats_of(cfg) if row["_type"].startswith("train_epoch")]
    model.load_state_dict(load_checkpoint(checkpoint_path(cfg.OUTPUT_DIR, EPOCHS, pretraining=True))["model_state"])
    pretrained = accuracy_of_neighbors(model, clips, labels)
    assert len(losses) == EPOCHS and losses[-1] < 0.2 * losses[0]
    assert pretrained > untrained + 0.2, (untrained, pretrained)
