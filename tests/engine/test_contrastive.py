"""Contrastive pre-training on the tiny data set: losses, evaluation by neighbors, and exact resume."""

import shutil

import numpy as np
import pytest
import torch
from torch import nn

from slowfast.apps.synthetic.files import encode_video
from slowfast.checkpoint.io import find_checkpoints, load_checkpoint
from slowfast.config import load_config
from slowfast.engine.test import test as run_test
from slowfast.engine.train import train
from slowfast.models import build_model
from slowfast.models.knn import MemoryBank

SSL = [
    "TASK", "ssl", "MODEL.MODEL_NAME", "ContrastiveModel", "MODEL.LOSS_FUNC", "contrastive_loss",
    "MODEL.DROPOUT_RATE", 0.0, "MODEL.HEAD_ACT", "none", "DATA.TRAIN_CROP_NUM_TEMPORAL", 2,
    "CONTRASTIVE.NUM_CLASSES_DOWNSTREAM", 2, "CONTRASTIVE.DIM", 8, "CONTRASTIVE.MLP_DIM", 16, "CONTRASTIVE.T", 0.2,
    "CONTRASTIVE.QUEUE_LEN", 8, "CONTRASTIVE.NUM_MLP_LAYERS", 2, "BN.USE_PRECISE_STATS", False,
]  # fmt: skip
METHODS = {
    "moco": ["CONTRASTIVE.SEQUENTIAL", True, "CONTRASTIVE.MOMENTUM_ANNEALING", True],
    "byol": ["CONTRASTIVE.PREDICTOR_DEPTHS", [2], "CONTRASTIVE.BN_MLP", True, "CONTRASTIVE.MOMENTUM", 0.9],
    "simclr": [],
    "swav": ["CONTRASTIVE.SWAV_QEUE_LEN", 8],
}


@pytest.fixture
def ssl_cfg(tiny_cfg):
    """`ssl_cfg(method, *overrides)`: a tiny run of a method."""
    return lambda method, *overrides: tiny_cfg(*SSL, "CONTRASTIVE.TYPE", method, *METHODS[method], *overrides)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_is_evaluated_by_neighbors_and_resumes_exactly(method, ssl_cfg, stats_of, tmp_path):
    cfg = ssl_cfg(method)
    stats = stats_of(cfg)
    (measured,) = (entry for entry in stats if entry["_type"] == "val_epoch")
    assert {"top1_acc", "top1_err"} <= measured.keys() and "loss" not in measured
    saved = [load_checkpoint(file.path) for file in find_checkpoints(cfg.OUTPUT_DIR, pretraining=True)]
    whole = saved[-1]["model_state"]
    assert whole["knn_mem.labels"].tolist() == [0, 1] * 6
    assert torch.allclose(whole["knn_mem.memory"].norm(dim=2), torch.ones(12, 1), atol=1e-5)
    # The bank is in the checkpoint: a test needs no training list.
    assert run_test(cfg)["videos"] == 4

    (tmp_path / "again/checkpoints").mkdir(parents=True)
    shutil.copy(find_checkpoints(cfg.OUTPUT_DIR, pretraining=True)[0].path, tmp_path / "again/checkpoints")
    again = ssl_cfg(method, "OUTPUT_DIR", str(tmp_path / "again"))
    train(again)
    resumed = load_checkpoint(find_checkpoints(again.OUTPUT_DIR, pretraining=True)[-1].path)["model_state"]
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[key], value) for key, value in whole.items())


def test_a_linear_probe_starts_from_the_backbone(ssl_cfg, tiny_cfg, tmp_path):
    pretraining = ssl_cfg("byol", "SOLVER.MAX_EPOCH", 1, "CONTRASTIVE.KNN_ON", False)
    train(pretraining)
    file = find_checkpoints(pretraining.OUTPUT_DIR, pretraining=True)[-1].path
    probe = tiny_cfg(
        *("TASK", "ssl_eval_tiny", "MODEL.DETACH_FINAL_FC", True, "TRAIN.CHECKPOINT_FILE_PATH", file),
        *("TRAIN.CHECKPOINT_EPOCH_RESET", True, "TRAIN.CHECKPOINT_CLEAR_NAME_PATTERN", ["backbone."]),
        *("OUTPUT_DIR", str(tmp_path / "probe"), "SOLVER.MAX_EPOCH", 1),
    )
    train(probe)
    before = load_checkpoint(file)["model_state"]
    after = load_checkpoint(find_checkpoints(probe.OUTPUT_DIR)[-1].path)["model_state"]
    trained = {
        key
        for key, value in after.items()
        if "bn" not in key and not torch.equal(value, before.get(f"backbone.{key}", value * 0))
    }
    assert trained == {"head.projection.weight", "head.projection.bias"}


@pytest.mark.parametrize(("queue", "stay"), [(12, True), (8, False)])
def test_weights_stay_while_the_queue_fills(queue, stay, ssl_cfg):
    """Three iterations of 4 videos: with a queue of 8 the third moves the weights, which the average follows."""
    cfg = ssl_cfg("moco", "SOLVER.MAX_EPOCH", 1, "CONTRASTIVE.QUEUE_LEN", queue)
    train(cfg)
    state = load_checkpoint(find_checkpoints(cfg.OUTPUT_DIR, pretraining=True)[-1].path)["model_state"]
    assert state["iter"].item() == 3 and state["ptr"].item() == 12 % queue
    key = "s1.pathway0_stem.conv.weight"
    assert torch.equal(state[f"backbone.{key}"], state[f"backbone_hist.{key}"]) == stay


def test_no_validation_without_neighbors(ssl_cfg, stats_of):
    cfg = ssl_cfg("simclr", "CONTRASTIVE.KNN_ON", False)
    assert {entry["_type"] for entry in stats_of(cfg)} == {"train_iter", "train_epoch"}
    assert run_test(cfg) == {}
    assert not any("knn" in key for key in build_model(cfg).state_dict())


def test_votes_of_neighbors():
    bank = MemoryBank(2, 0.5)
    bank.reserve(5)
    angles = torch.tensor([0.0, 0.1, 1.5, 1.6])
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    bank.put(torch.tensor([0, 1, 2, 4]), torch.tensor([0, 0, 1, 2]), features)
    query = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    weights = np.exp(query.numpy() @ features.numpy().T / 0.5)
    by_class = np.stack([weights[:, :2].sum(1), weights[:, 2], weights[:, 3], np.zeros(2)], axis=1)
    assert np.allclose(bank.votes(query, 4), by_class / by_class.sum(1, keepdims=True), atol=1e-6)
    with pytest.raises(ValueError, match="NUM_CLASSES_DOWNSTREAM"):
        bank.votes(query, 2)
    bank.reserve(6)
    with pytest.raises(ValueError, match="KNN_ON"):
        bank.votes(query, 4)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["DATA.TRAIN_CROP_NUM_TEMPORAL", 1], "TRAIN_CROP_NUM_TEMPORAL"),
        (["CONTRASTIVE.QUEUE_LEN", 9], "8 or 12"),
        (["MODEL.LOSS_FUNC", "cross_entropy"], "contrastive_loss"),
        (["CONTRASTIVE.PREDICTOR_DEPTHS", [2]], "byol"),
        (["CONTRASTIVE.TYPE", "byol"], r"PREDICTOR_DEPTHS is \[\]"),
        (["CONTRASTIVE.TYPE", "swav", "CONTRASTIVE.SWAV_QEUE_LEN", 3], "SWAV_QEUE_LEN 3 .* batch of 4"),
        (["CONTRASTIVE.TYPE", "simclr", "TRAIN.BATCH_SIZE", 1], "TRAIN.BATCH_SIZE 1"),
        (["CONTRASTIVE.BN_MLP", True, "TRAIN.BATCH_SIZE", 1], "CONTRASTIVE.BN_MLP True"),
        (["BN.USE_PRECISE_STATS", True], "USE_PRECISE_STATS"),
        (["CONTRASTIVE.DELTA_CLIPS_MIN", 4.0, "CONTRASTIVE.DELTA_CLIPS_MAX", 2.0], "DELTA_CLIPS_MAX"),
    ],
)
def test_settings_that_do_not_fit(settings, named, ssl_cfg):
    with pytest.raises(ValueError, match=named):
        ssl_cfg("moco", *settings)


def test_a_task_and_model_that_do_not_fit(ssl_cfg, tiny_cfg):
    with pytest.raises(ValueError, match="TASK ssl"):
        train(ssl_cfg("moco", "TASK", "ssl_eval"))
    with pytest.raises(ValueError, match="ContrastiveModel"):
        train(tiny_cfg("TASK", "ssl"))
    with pytest.raises(ValueError, match="memory bank"):
        build_model(tiny_cfg(*SSL))
    with pytest.raises(ValueError, match="MODEL.ARCH maskmvit names no network"):
        build_model(ssl_cfg("moco", "MODEL.ARCH", "maskmvit"))


@pytest.mark.parametrize("arch", ["slowfast", "x3d", "mvit"])
def test_other_backbones(arch, tiny_models):
    family = {"slowfast": "SlowFast", "x3d": "X3D", "mvit": "MViT"}[arch]
    settings = [*tiny_models[family], *SSL, "MODEL.ARCH", arch, "CONTRASTIVE.TYPE", "simclr"]
    cfg = load_config(None, settings)
    model = build_model(cfg).train()
    clip = torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    inputs = [clip[:, :, :: cfg.SLOWFAST.ALPHA], clip] if arch == "slowfast" else [clip]
    passes = model.passes(lambda module, x: module(x), model, [inputs, [x.flip(-1) for x in inputs]], 0.0, 0.0)
    assert len(passes) == 1
    passes[0]().backward()
    assert all(p.grad is not None for p in model.backbone.head.parameters())
    assert model.eval()(inputs).shape == (2, 8)
    assert isinstance(model.backbone.head.projection.projection[0], nn.Linear)


@pytest.mark.parametrize(
    "command",
    [
        ("predict", "--mode", "stream"), ("predict", "--mode", "clips"), ("export",), ("visualize",),
        ("serve", "--port", 0),
    ],
)  # fmt: skip
def test_tools_that_need_classes_refuse_features(command, run_of, run_tool, tiny_data, tmp_path):
    name, *options = command
    options += [] if name in ("export", "serve") else ["--source", tiny_data / "test 0.mp4"]
    options += [] if name == "serve" else ["--output", tmp_path / "there"]
    path = run_of(*SSL, "CONTRASTIVE.TYPE", "simclr")
    status, output = run_tool(name, "--checkpoint", path, *options)
    assert status == 2 and "error: MODEL.MODEL_NAME ContrastiveModel" in output.splitlines()[-1]
    assert "TASK ssl_eval" in output


# Settings of each method. BYOL needs wide MLPs, a larger batch, and clips that never share their brightness.
LEARNING = {
    "moco": ["CONTRASTIVE.QUEUE_LEN", 32, "CONTRASTIVE.MOMENTUM", 0.9, "CONTRASTIVE.SEQUENTIAL", True],
    "byol": [
        *METHODS["byol"], "CONTRASTIVE.DIM", 256, "CONTRASTIVE.MLP_DIM", 1024, "CONTRASTIVE.DELTA_CLIPS_MIN", 3.0,
        "TRAIN.BATCH_SIZE", 16, "SOLVER.BASE_LR", 0.0015, "SOLVER.MAX_EPOCH", 12,
    ],
    "simclr": [],
    "swav": ["CONTRASTIVE.BN_MLP", True, "CONTRASTIVE.T", 0.3],
}  # fmt: skip


@pytest.fixture(scope="session")
def gratings(tmp_path_factory):
    """96 training and 64 validation videos of gratings in four directions, which are the classes.

    Brightness, contrast and phase change within each video, so that its clips share the direction alone.
    """
    folder, rng = tmp_path_factory.mktemp("gratings"), np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    for split, count in (("train", 96), ("val", 64), ("test", 4)):
        lines = []
        for number in range(count):
            label, frames = number % 4, []
            angle = np.pi * label / 4
            for _ in range(3):
                gray, contrast, phase = rng.uniform(60, 195), rng.uniform(30, 60), rng.uniform(0, 2 * np.pi)
                wave = np.sin(2 * np.pi / 8 * (x * np.cos(angle) + y * np.sin(angle)) + phase)
                frames += [gray + contrast * wave[..., None] + rng.normal(0, 8, (32, 32, 3)) for _ in range(4)]
            path = folder / f"{split}{number}.mp4"
            encode_video(path, np.clip(frames, 0, 255).astype(np.uint8))
            lines.append(f"{path} {label}\n")
        (folder / f"{split}.csv").write_text("".join(lines))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("method", LEARNING)
def test_neighbors_of_a_trained_network_are_of_the_same_class(method, gratings, stats_of, tiny_cfg, shallow, tmp_path):
    def run(name, *settings):
        return stats_of(
            tiny_cfg(
                *(*SSL, "CONTRASTIVE.TYPE", method, "CONTRASTIVE.NUM_CLASSES_DOWNSTREAM", 4, *shallow),
                *("CONTRASTIVE.DIM", 32, "CONTRASTIVE.MLP_DIM", 64, "CONTRASTIVE.T", 0.1, "DATA.NUM_FRAMES", 2),
                *("DATA.SAMPLING_RATE", 1, "DATA.TRAIN_JITTER_SCALES", [32, 36], "DATA.RANDOM_FLIP", False),
                *("DATA.PATH_TO_DATA_DIR", str(gratings), "TRAIN.BATCH_SIZE", 8, "TRAIN.EVAL_PERIOD", 100),
                *("SOLVER.OPTIMIZING_METHOD", "adamw", "SOLVER.BASE_LR", 0.003, "SOLVER.MAX_EPOCH", 10),
                *("TRAIN.CHECKPOINT_PERIOD", 100, "LOG_PERIOD", 1000, "SOLVER.WEIGHT_DECAY", 1e-4),
                *(*LEARNING[method], *settings, "OUTPUT_DIR", str(tmp_path / name)),
            )
        )

    trained = run("trained")
    losses = [row["loss"] for row in trained if row["_type"].startswith("train_epoch")]
    assert losses[-1] < losses[0] - 0.3
    # Three epochs at rate 0 fill the bank and settle the norms.
    untrained = run("untrained", "SOLVER.BASE_LR", 0.0, "SOLVER.MAX_EPOCH", 3)
    assert trained[-1]["top1_acc"] > untrained[-1]["top1_acc"] + 15
