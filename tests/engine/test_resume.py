"""Weights that a run starts from or tests: the settings TRAIN.CHECKPOINT_* and TEST.CHECKPOINT_*."""

import pickle

import pytest
import torch

from slowfast.checkpoint import load_checkpoint, write_tensor_file
from slowfast.checkpoint.io import checkpoint_path, save_checkpoint
from slowfast.engine.epoch_config import build_state
from slowfast.engine.resume import load_test_weights, take_weights
from slowfast.models import build_model


def test_a_file_of_the_same_training_is_continued(run_of, tiny_cfg, started):
    given = ["TRAIN.CHECKPOINT_FILE_PATH", run_of(), "SOLVER.MAX_EPOCH", 5]
    assert started(tiny_cfg(*given)).epoch == 3
    assert started(tiny_cfg(*given, "TRAIN.CHECKPOINT_EPOCH_RESET", True)).epoch == 0


@pytest.mark.parametrize("setting", [("TRAIN.DATASET", "charades"), ("TASK", "another")])
def test_weights_alone_are_taken_from_another_training(run_of, tiny_cfg, setting, started):
    path = run_of()
    saved = load_checkpoint(path)
    before = {"TRAIN.DATASET": "DATASET: kinetics", "TASK": "TASK: ''"}[setting[0]]
    assert before in saved["cfg"]
    saved["cfg"] = saved["cfg"].replace(before, f"{setting[0].rpartition('.')[2]}: {setting[1]}")
    save_checkpoint(saved, path)
    given = ["TRAIN.CHECKPOINT_FILE_PATH", path, "SOLVER.MAX_EPOCH", 5]
    assert started(tiny_cfg(*given)).epoch == 0
    assert started(tiny_cfg(*given, "TRAIN.TRANSFER_WEIGHT", False)).epoch == 3


def test_settings_in_the_file_that_cannot_be_read_change_nothing(run_of, tiny_cfg, started):
    path = run_of()
    save_checkpoint(load_checkpoint(path) | {"cfg": "TRAIN: !!python/object:os.system {}"}, path)
    assert started(tiny_cfg("TRAIN.CHECKPOINT_FILE_PATH", path, "SOLVER.MAX_EPOCH", 5)).epoch == 3


def test_a_named_epoch_of_the_run(tiny_cfg, caplog, started):
    cfg = tiny_cfg("SOLVER.MAX_EPOCH", 9)
    state = build_state(cfg)
    for epoch in (2, 4, 6):
        state.epoch = epoch
        state.model.head.projection.bias.data.fill_(epoch)
        save_checkpoint(state.capture(), checkpoint_path(cfg.OUTPUT_DIR, epoch))
    assert started(cfg).epoch == 6
    assert started(tiny_cfg("SOLVER.MAX_EPOCH", 9, "TRAIN.CHECKPOINT_FILE_EPOCH", 3)).epoch == 4
    assert "starts there again" in caplog.text
    with pytest.raises(ValueError, match="CHECKPOINT_FILE_EPOCH is 4.*: 1, 3, 5. -1"):
        started(tiny_cfg("TRAIN.CHECKPOINT_FILE_EPOCH", 4))
    model = build_model(cfg)
    assert load_test_weights(model, tiny_cfg("TEST.CHECKPOINT_FILE_EPOCH", 1)).endswith("checkpoint_epoch_00002.pyth")
    assert model.head.projection.bias.tolist() == [2, 2]


def test_strict(run_of, tiny_cfg):
    path = run_of()
    saved = load_checkpoint(path)
    save_checkpoint({"model_state": saved["model_state"] | {"extra": torch.ones(1)}}, path)
    for section in ("TRAIN", "TEST"):
        for strict in (False, True):
            cfg = tiny_cfg(f"{section}.CHECKPOINT_FILE_PATH", path, f"{section}.CHECKPOINT_STRICT", strict)
            load = {"TRAIN": lambda model, cfg=cfg: take_weights(model, cfg, path)}
            load["TEST"] = lambda model, cfg=cfg: load_test_weights(model, cfg)
            if strict:
                with pytest.raises(ValueError, match="CHECKPOINT_STRICT.*\n.*\n.*extra"):
                    load[section](build_model(cfg))
            else:
                load[section](build_model(cfg))


def test_a_head_of_other_classes_where_the_file_is_another_models(run_of, tiny_cfg):
    """Load a published file of other classes, with each setting that allows it."""
    path = run_of("MODEL.NUM_CLASSES", 5)
    given = ["TRAIN.CHECKPOINT_FILE_PATH", path]
    for setting in ("TRAIN.CHECKPOINT_EPOCH_RESET", "TRAIN.CHECKPOINT_INFLATE", "TRAIN.CHECKPOINT_IN_INIT"):
        cfg = tiny_cfg(*given, setting, True)
        _, report = take_weights(build_model(cfg), cfg, path)
        assert sorted(report.mismatched) == ["head.projection.bias", "head.projection.weight"]
    cfg = tiny_cfg(*given)
    with pytest.raises(ValueError, match="set MODEL.NUM_CLASSES 5, or TRAIN.CHECKPOINT_EPOCH_RESET"):
        take_weights(build_model(cfg), cfg, path)


def test_a_test_with_another_class_count_is_told_the_count(run_of, tiny_cfg):
    path = run_of("MODEL.NUM_CLASSES", 5)
    cfg = tiny_cfg("TEST.CHECKPOINT_FILE_PATH", path)
    with pytest.raises(ValueError, match="set MODEL.NUM_CLASSES 5$"):
        load_test_weights(build_model(cfg), cfg)


@pytest.mark.parametrize("section", ["TRAIN", "TEST"])
def test_caffe2_and_safetensors(tiny_cfg, tmp_path, section, started):
    model = build_model(tiny_cfg())
    blobs, tensors = str(tmp_path / "some.pkl"), str(tmp_path / "some.safetensors")
    with open(blobs, "wb") as stream:
        pickle.dump({"blobs": {"pred_b": torch.full((2,), 7.0).numpy(), "lr": 0.1}}, stream, protocol=2)
    write_tensor_file(model.state_dict() | {"head.projection.bias": torch.full((2,), 7.0)}, tensors)
    key = f"{section}.CHECKPOINT_FILE_PATH"
    with pytest.raises(ValueError, match=f"some.pkl is a pickle of Caffe2.*set {section}.CHECKPOINT_TYPE caffe2"):
        load(tiny_cfg(key, blobs), section, started)
    type_and_drop = [f"{section}.CHECKPOINT_TYPE", "caffe2", f"{section}.CHECKPOINT_DROP_MISMATCH", True]
    for cfg in (tiny_cfg(key, blobs, *type_and_drop), tiny_cfg(key, tensors)):
        assert load(cfg, section, started).head.projection.bias.tolist() == [7, 7]


def load(cfg, section, started):
    if section == "TRAIN":
        return started(cfg).model
    model = build_model(cfg)
    load_test_weights(model, cfg)
    return model


@pytest.mark.parametrize("task", ["ssl_eval", "ssl_eval_ucf"])
def test_an_evaluation_of_pretraining_starts_from_it(tiny_cfg, task, started):
    """Prefer the newest file of the pretraining to TRAIN.CHECKPOINT_FILE_PATH, but to nothing of the run's own."""
    settings = ["TASK", task, "TRAIN.CHECKPOINT_CLEAR_NAME_PATTERN", '("backbone.",)', "MODEL.NUM_CLASSES", 2]
    cfg = tiny_cfg(*settings, "TRAIN.CHECKPOINT_FILE_PATH", "another.pyth")
    for epoch in (20, 5):
        own = build_model(cfg).state_dict()
        weights = {f"backbone.{key}": torch.full_like(value, epoch) for key, value in own.items()}
        del weights["backbone.head.projection.bias"]
        weights["backbone.head.projection.weight"] = torch.zeros(7, 3)
        weights["backbone_hist.s1.x"] = torch.zeros(1)
        saved = {"epoch": epoch - 1, "model_state": weights, "optimizer_state": {}, "cfg": "TASK: ssl"}
        save_checkpoint(
            saved, checkpoint_path(cfg.OUTPUT_DIR, epoch).replace("checkpoint_epoch", "ssl_checkpoint_epoch")
        )
    state, fresh = started(cfg), build_state(cfg).model.state_dict()
    assert (state.epoch, state.iteration, state.optimizer.state) == (0, 0, {})
    for key, value in state.model.state_dict().items():
        expected = fresh[key] if key.startswith("head.") else torch.full_like(value, 20)
        assert torch.equal(value, expected), key
    state.epoch = 1
    save_checkpoint(state.capture(), checkpoint_path(cfg.OUTPUT_DIR, 1))
    assert started(cfg).epoch == 1
    with pytest.raises(FileNotFoundError, match="another.pyth"):
        started(tiny_cfg("TRAIN.CHECKPOINT_FILE_PATH", "another.pyth", "TRAIN.AUTO_RESUME", False, *settings))


@pytest.mark.parametrize(("task", "warns"), [("ssl_eval", True), ("", False)])
def test_an_evaluation_of_random_weights_is_told(tiny_cfg, caplog, started, task, warns):
    started(tiny_cfg("TASK", task))
    told = [record for record in caplog.records if "random weights" in record.getMessage()]
    assert [record.levelname for record in told] == ["WARNING" if warns else "INFO"]
    assert ("ssl_checkpoint_epoch_" in told[0].getMessage()) == warns
