"""Masked pre-training learns something about videos that a network without training does not know."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from slowfast.checkpoint.io import checkpoint_path, load_checkpoint
from slowfast.datasets import build_dataset
from slowfast.models import build_model

CLASSES, TRAINING = 4, 64
PRETRAIN = [
    "TASK", "ssl", "MODEL.MODEL_NAME", "MaskMViT", "MODEL.ARCH", "mvit", "MODEL.LOSS_FUNC", "multi_mse",
    "MODEL.NUM_CLASSES", CLASSES, "MASK.ENABLE", True, "MASK.PRETRAIN_DEPTH", [1],
    "MVIT.EMBED_DIM", 48, "MVIT.NUM_HEADS", 2, "MVIT.DEPTH", 2, "MVIT.MLP_RATIO", 2.0, "MVIT.CLS_EMBED_ON", False,
    "MVIT.PATCH_KERNEL", [2, 8, 8], "MVIT.PATCH_STRIDE", [2, 8, 8], "MVIT.PATCH_PADDING", [0, 0, 0],
    "MVIT.DROPPATH_RATE", 0.0, "DATA.RANDOM_FLIP", False, "DATA.CACHE_VIDEOS", True,
    "SOLVER.OPTIMIZING_METHOD", "adamw", "SOLVER.WEIGHT_DECAY", 0.01, "SOLVER.WARMUP_EPOCHS", 2.0,
    "SOLVER.WARMUP_START_LR", 1e-4, "TRAIN.BATCH_SIZE", 8, "TRAIN.CHECKPOINT_PERIOD", 100,
]  # fmt: skip
MASKFEAT = [
    *PRETRAIN, "MASK.PRED_HOG", True, "AUG.GEN_MASK_LOADER", True, "AUG.MASK_WINDOW_SIZE", [2, 4, 4],
    "AUG.MASK_RATIO", 0.4, "SOLVER.BASE_LR", 3e-3, "SOLVER.MAX_EPOCH", 20,
]  # fmt: skip
MAE = [
    *PRETRAIN, "MASK.MAE_ON", True, "MASK.MAE_RND_MASK", True, "MASK.HEAD_TYPE", "separate_xformer",
    "MASK.DECODER_DEPTH", 1, "MASK.DECODER_EMBED_DIM", 64, "MASK.TIME_STRIDE_LOSS", False,
    "MASK.NORM_PRED_PIXEL", False, "AUG.MASK_RATIO", 0.6, "SOLVER.BASE_LR", 5e-3, "SOLVER.MAX_EPOCH", 45, "RNG_SEED", 2,
]  # fmt: skip


def waves(label, generator, lengths, speed, noise):
    """Draw 8 frames of waves that move across the picture; the class is their direction, one of four."""
    x, y = np.meshgrid(np.arange(40), np.arange(40))
    angle, phase = np.pi * label / CLASSES, generator.uniform(0, 2 * np.pi)
    length, speed, height = generator.uniform(*lengths), generator.uniform(-speed, speed), generator.uniform(50, 60)
    across = 2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / length + phase
    wave = height * np.sin(across + speed * np.arange(8)[:, None, None])
    frames = generator.uniform(110, 130, 3) + wave[..., None] + generator.normal(0, noise, (8, 40, 40, 3))
    return frames.clip(0, 255).astype(np.uint8)


@pytest.fixture
def prepared(tmp_path, encode, tiny_cfg):
    """Function: settings over videos of waves, without repetition; and their clips and labels, the held-out ones last.

    train.csv lists the training videos, and val.csv these and the held-out ones behind them.
    """

    def prepare(settings, held_out, *kind):
        generator, lines = np.random.default_rng(0), []
        for number in range(TRAINING + held_out):
            label = number % CLASSES
            lines.append(f"{encode(tmp_path / f'{number}.mp4', waves(label, generator, *kind))} {label}\n")
        (tmp_path / "train.csv").write_text("".join(lines[:TRAINING]))
        (tmp_path / "val.csv").write_text("".join(lines))
        cfg = tiny_cfg(*settings, "DATA.PATH_TO_DATA_DIR", str(tmp_path))
        held = build_dataset(cfg, "val")
        return cfg, torch.stack([held[n].inputs[0] for n in range(len(held))]), torch.tensor(held.labels)

    return prepare


@pytest.fixture
def pretrain(stats_of):
    """Function: pre-train, load the last weights into the model, and return the loss of each epoch."""

    def work(cfg, model):
        losses = [row["loss"] for row in stats_of(cfg) if row["_type"].startswith("train_epoch")]
        path = checkpoint_path(cfg.OUTPUT_DIR, cfg.SOLVER.MAX_EPOCH, pretraining=True)
        model.load_state_dict(load_checkpoint(path)["model_state"])
        assert len(losses) == cfg.SOLVER.MAX_EPOCH
        return losses

    return work


@torch.no_grad()
def pooled(model, clips):
    """Return features (N, C): the mean of a clip's tokens, minus its mean over the training videos."""
    features = model.eval().forward_features([clips])[0].mean((2, 3, 4))
    return features - features[:TRAINING].mean(0)


def accuracy_of_neighbors(features, labels):
    """Return the share of held-out videos whose class most of their 5 nearest training videos have."""
    features = F.normalize(features, dim=1)
    near = (features[TRAINING:] @ features[:TRAINING].T).topk(5).indices
    votes = F.one_hot(labels[near], CLASSES).sum(1).argmax(1)
    return (votes == labels[TRAINING:]).float().mean().item()


def accuracy_of_linear_probe(features, labels, penalty):
    """Return the share of held-out videos whose class a ridge regression on the training videos predicts."""
    features = (features / features[:TRAINING].std(0)).double()
    known, classes = features[:TRAINING], F.one_hot(labels[:TRAINING], CLASSES) - 1 / CLASSES
    ridge = penalty * TRAINING * torch.eye(known.shape[1], dtype=known.dtype)
    weights = torch.linalg.solve(known.T @ known + ridge, known.T @ classes.double())
    return ((features[TRAINING:] @ weights).argmax(1) == labels[TRAINING:]).float().mean().item()


@torch.no_grad()
def held_out_error(model, clips):
    """Return the squared error of the predictions of held-out videos, divided by the variance of their targets."""
    torch.manual_seed(0)  # the same masks for each model
    (predictions,), [(targets, _)] = model.eval()([clips[TRAINING:]])
    return (F.mse_loss(predictions, targets) / targets.var()).item()


@pytest.mark.slow
def test_neighbors_of_pretrained_features_beat_those_of_random_weights(prepared, pretrain):
    """MaskFeat predicts directions of edges, so that features of waves in one direction become alike."""
    cfg, clips, labels = prepared(MASKFEAT, 64, (6, 10), 1, 4)
    torch.manual_seed(0)
    model = build_model(cfg)
    untrained = accuracy_of_neighbors(pooled(model, clips), labels)
    losses = pretrain(cfg, model)
    pretrained = accuracy_of_neighbors(pooled(model, clips), labels)
    assert losses[-1] < 0.2 * losses[0]
    assert pretrained > untrained + 0.2, (untrained, pretrained)


@pytest.mark.slow
def test_a_linear_probe_of_mae_beats_one_of_random_weights(prepared, pretrain):
    """MAE continues waves behind the mask, for which it needs their direction. Noise hides it from random weights.

    Random weights get the best of several penalties of the probe, and the pre-trained ones a fixed one.
    """
    cfg, clips, labels = prepared(MAE, 128, (8, 11), 0.8, 12)
    torch.manual_seed(0)
    model = build_model(cfg)
    features = pooled(model, clips)
    untrained = max(accuracy_of_linear_probe(features, labels, penalty) for penalty in (1e-4, 1e-3, 1e-2, 1e-1))
    untrained_error = held_out_error(model, clips)
    losses = pretrain(cfg, model)
    pretrained = accuracy_of_linear_probe(pooled(model, clips), labels, 1e-4)
    # An error of 1 is that of the mean of all pixels.
    assert losses[-1] < losses[0] and held_out_error(model, clips) < 1 < untrained_error
    assert pretrained > untrained + 0.2, (untrained, pretrained)
