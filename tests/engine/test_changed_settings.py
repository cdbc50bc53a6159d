"""A run that is resumed with other settings: each change applies and is said, or is refused, or changes nothing."""

import shutil

import pytest
import torch

from slowfast.checkpoint.io import checkpoint_path, find_checkpoints, load_checkpoint, save_checkpoint
from slowfast.config import cfg_to_yaml, get_cfg
from slowfast.config.ignored_keys import reason_without_effect
from slowfast.config.merge import get_key, leaf_keys, set_key
from slowfast.engine.changed_settings import describe_changes, is_indifferent, saved_settings
from slowfast.engine.epoch_config import build_state
from slowfast.engine.loop import train_epoch
from slowfast.engine.optim import set_lr
from slowfast.engine.train import train

RESUME = ["SOLVER.MAX_EPOCH", 5, "TRAIN.CHECKPOINT_FILE_PATH"]
# Other values of the settings that should change nothing in a resumed run; the rest of them has no effect at all.
OTHERS = {
    "LOG_PERIOD": 3, "LOG_MODEL_INFO": False, "LOGS.DIR": "elsewhere", "LOGS.PERIOD": 7, "LOGS.LOG_MODEL": True,
    "LOG_STYLE": "plain",
    "SHARD_ID": 0, "DIST.TIMEOUT": 90.0, "DIST.START_TIMEOUT": 90.0, "DIST.STOP_TIMEOUT": 9.0, "DIST.MAX_RESTARTS": 2,
    "TRAIN.ENABLE": False, "TRAIN.CHECKPOINT_FILE_PATH": "no.pyth", "TRAIN.CHECKPOINT_TYPE": "caffe2",
    "TRAIN.CHECKPOINT_INFLATE": True, "TRAIN.CHECKPOINT_EPOCH_RESET": True, "TRAIN.CHECKPOINT_STRICT": True,
    "TRAIN.CHECKPOINT_CLEAR_NAME_PATTERN": ["s1"], "TRAIN.CHECKPOINT_IN_INIT": True, "TRAIN.TRANSFER_WEIGHT": False,
    "TRAIN.CHECKPOINT_DROP_MISMATCH": True, "TRAIN.CHECKPOINT_FILE_EPOCH": 0, "TRAIN.FULL_TIME_EVAL": True,
    "TEST.ENABLE": False, "TEST.DATASET": "charades", "TEST.BATCH_SIZE": 2, "TEST.CHECKPOINT_FILE_PATH": "no.pyth",
    "TEST.CHECKPOINT_TYPE": "caffe2", "TEST.CHECKPOINT_DROP_MISMATCH": True, "TEST.CHECKPOINT_STRICT": True,
    "TEST.ALLOW_RANDOM_WEIGHTS": True, "TEST.CHECKPOINT_FILE_EPOCH": 3, "TEST.NUM_ENSEMBLE_VIEWS": 3,
    "TEST.NUM_SPATIAL_CROPS": 3, "TEST.NUM_TEMPORAL_CLIPS": [1, 2], "TEST.SAVE_RESULTS_PATH": "other.npz",
    "TEST.FOLD_NORMS": False, "TEST.CYCLIC_LOAD": True, "TENSORBOARD.ENABLE": False, "TENSORBOARD.LOG_DIR": "tb",
    "TRACKER.NAMES": [], "TRACKER.PROJECT": "other", "TRACKER.RUN_NAME": "other",
    "DATA.CACHE_VIDEOS": True, "DATA.MAX_UNREADABLE_FRACTION": 0.5, "DATA_LOADER.NUM_WORKERS": 1,
    "DATA_LOADER.PREFETCH_FACTOR": 3, "DATA_LOADER.PIN_MEMORY": False, "DATA_LOADER.ENABLE_MULTI_THREAD_DECODE": True,
    "DEMO.ENABLE": False, "DEMO.LABEL_FILE_PATH": "no.json", "DEMO.WEBCAM": 1, "DEMO.INPUT_VIDEO": "no.mp4",
    "DEMO.DATA_SOURCE": 1, "DEMO.DISPLAY_WIDTH": 9, "DEMO.DISPLAY_HEIGHT": 9, "DEMO.OUTPUT_FPS": 9,
    "DEMO.OUTPUT_FILE": "no.mp4", "DEMO.BUFFER_SIZE": 1, "DEMO.NUM_CLIPS_SKIP": 1, "DEMO.NUM_VIS_INSTANCES": 1,
    "DEMO.THREAD_ENABLE": True, "DEMO.INPUT_FORMAT": "RGB", "DEMO.FPS": 9, "DEMO.SLOWMO": 2, "DEMO.CLIP_VIS_SIZE": 1,
    "DEMO.VIS_MODE": "top-k", "DEMO.COMMON_CLASS_THRES": 0.1, "DEMO.UNCOMMON_CLASS_THRES": 0.1,
    "DEMO.STARTING_SECOND": 0, "DEMO.PREDS_BOXES": "no.csv", "DEMO.GT_BOXES": "no.csv",
    "DEMO.DETECTRON2_CFG": "no.yaml",
    "DEMO.DETECTRON2_WEIGHTS": "no.pkl", "DEMO.DETECTRON2_THRESH": 0.1,
    "DEMO.DETECTRON2_OBJECT_DETECTION_MODEL_CFG": "no.yaml",
    "DEMO.DETECTRON2_OBJECT_DETECTION_MODEL_WEIGHTS": "no.pkl",
    "DEMO.COMMON_CLASS_NAMES": ["fly"], "TENSORBOARD.MODEL_VIS.TOPK_PREDS": 2,
    "TENSORBOARD.CLASS_NAMES_PATH": "no.json", "TENSORBOARD.CATEGORIES_PATH": "no.json",
    "TENSORBOARD.PREDICTIONS_PATH": "no.npz", "TENSORBOARD.CONFUSION_MATRIX.ENABLE": True,
    "TENSORBOARD.CONFUSION_MATRIX.FIGSIZE": [9.0, 9.0], "TENSORBOARD.CONFUSION_MATRIX.SUBSET_PATH": "no.txt",
    "TENSORBOARD.HISTOGRAM.ENABLE": True, "TENSORBOARD.HISTOGRAM.SUBSET_PATH": "no.txt",
    "TENSORBOARD.HISTOGRAM.TOPK": 2, "TENSORBOARD.HISTOGRAM.FIGSIZE": [9.0, 9.0],
    "TENSORBOARD.MODEL_VIS.ENABLE": True, "TENSORBOARD.MODEL_VIS.MODEL_WEIGHTS": True,
    "TENSORBOARD.MODEL_VIS.ACTIVATIONS": True, "TENSORBOARD.MODEL_VIS.INPUT_VIDEO": True,
    "TENSORBOARD.MODEL_VIS.LAYER_LIST": ["s1"], "TENSORBOARD.MODEL_VIS.COLORMAP": "tab20",
    "TENSORBOARD.MODEL_VIS.GRAD_CAM.ENABLE": False, "TENSORBOARD.MODEL_VIS.GRAD_CAM.LAYER_LIST": ["s5"],
    "TENSORBOARD.MODEL_VIS.GRAD_CAM.USE_TRUE_LABEL": True, "TENSORBOARD.MODEL_VIS.GRAD_CAM.COLORMAP": "jet",
    "TENSORBOARD.WRONG_PRED_VIS.ENABLE": True, "TENSORBOARD.WRONG_PRED_VIS.TAG": "wrong",
    "TENSORBOARD.WRONG_PRED_VIS.SUBSET_PATH": "no.txt",
    "MODEL.FC_INIT_STD": 0.5, "RESNET.ZERO_INIT_FINAL_BN": True, "RESNET.ZERO_INIT_FINAL_CONV": True,
}  # fmt: skip
# Places, which the tests below set, and the setting without which nothing is resumed.
ELSEWHERE = {
    "OUTPUT_DIR",
    "DATA.PATH_TO_DATA_DIR",
    "DATA.PATH_TO_PRELOAD_IMDB",
    "DATA.IN22k_VAL_IN1K",
    "DATA.PATH_PREFIX",
    "TRAIN.AUTO_RESUME",
    "DATA.INDEX_CACHE",
    # projects/pgt/tests/test_training_in_steps.py
    "DATA_LOADER.IN_STEPS",
    # tests/engine/test_bytes.py: within rounding
    "DATA_LOADER.NORMALIZE_ON_DEVICE",
}


def other_value(value):
    """Return another value of about the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1 if abs(value) != float("inf") else 0.0
    return [value, 1] if isinstance(value, list) else f"{value}x"


def test_every_changed_key_is_said_or_known_to_change_nothing():
    cfg = get_cfg()
    before = saved_settings({"cfg": cfg_to_yaml(cfg)})
    keys = list(leaf_keys(cfg))
    assert len(keys) > 400 and before == {key: get_key(cfg, key) for key in keys}
    for key in keys:
        set_key(cfg, key, other_value(before[key]))
        said = describe_changes(before, cfg)
        set_key(cfg, key, before[key])
        if is_indifferent(key):
            assert said == "", key
            assert key in OTHERS or key in ELSEWHERE or reason_without_effect(key), key
        else:
            assert said.startswith(f"these apply from now on: {key} ") and "(was " in said, key


def test_what_is_said_to_change_nothing_changes_nothing(tiny_cfg, tiny_data, tmp_path, caplog):
    """Change all such settings at once between two epochs."""
    whole = tiny_cfg("EMA.ENABLE", True, "OUTPUT_DIR", str(tmp_path / "whole"))
    train(whole)
    first = tmp_path / "out" / "checkpoints" / "checkpoint_epoch_00001.pyth"
    first.parent.mkdir(parents=True)
    shutil.copy(checkpoint_path(whole.OUTPUT_DIR, 1), first)
    shutil.copytree(tiny_data, tmp_path / "moved")
    for split in ("train", "val", "test"):
        lines = (tiny_data / f"{split}.csv").read_text().replace(f"{tiny_data}/", "")
        (tmp_path / "moved" / f"{split}.csv").write_text(lines)
    places = ["DATA.PATH_TO_DATA_DIR", tmp_path / "moved", "DATA.PATH_PREFIX", tmp_path / "moved"]
    places += ["DATA.INDEX_CACHE", tmp_path / "indices"]
    cfg = tiny_cfg("EMA.ENABLE", True, *[str(place) for place in places])
    cfg.defrost()
    ignored = [key for key in leaf_keys(cfg) if reason_without_effect(key)]
    for key, value in {**OTHERS, **{key: other_value(get_key(cfg, key)) for key in ignored}}.items():
        set_key(cfg, key, value)
    cfg.freeze()
    caplog.clear()
    train(cfg)
    assert "resumed from" in caplog.text
    assert "other settings" not in caplog.text and "another layout" not in caplog.text
    one, other = (load_checkpoint(find_checkpoints(run.OUTPUT_DIR)[-1].path) for run in (whole, cfg))
    for name in ("model_state", "ema_state", "optimizer_state", "rng_state", "epoch", "iteration", "step"):
        assert_equal(one[name], other[name], name)


def assert_equal(one, other, name):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), name
    elif isinstance(one, dict | list | tuple):
        assert len(one) == len(other), name
        for key in one if isinstance(one, dict) else range(len(one)):
            assert_equal(one[key], other[key], f"{name} {key}")
    else:
        assert one == other, name


ADAM = ["SOLVER.OPTIMIZING_METHOD", "adamw"]
# Settings of before -> what is changed.
HELD_BY_THE_OPTIMIZER = {
    "weight_decay": ([], ["SOLVER.WEIGHT_DECAY", 0.5]),
    "norm_decay": ([], ["BN.WEIGHT_DECAY", 0.25]),
    "momentum": ([], ["SOLVER.MOMENTUM", 0.5]),
    "no_nesterov": ([], ["SOLVER.NESTEROV", False]),
    "dampening": (["SOLVER.NESTEROV", False], ["SOLVER.DAMPENING", 0.3]),
    "no_decay_1d": ([], ["SOLVER.ZERO_WD_1D_PARAM", True, "SOLVER.WEIGHT_DECAY", 0.5]),
    "decay_1d": (["SOLVER.ZERO_WD_1D_PARAM", True], ["SOLVER.ZERO_WD_1D_PARAM", False]),
    "layer_decay": ([], ["SOLVER.LAYER_DECAY", 0.7]),
    "other_layer_decay": (["SOLVER.LAYER_DECAY", 0.9], ["SOLVER.LAYER_DECAY", 0.7]),
    "no_layer_decay": (["SOLVER.LAYER_DECAY", 0.9], ["SOLVER.LAYER_DECAY", 1.0, "SOLVER.ZERO_WD_1D_PARAM", True]),
    "lars": ([], ["SOLVER.LARS_ON", True]),
    "no_lars": (["SOLVER.LARS_ON", True], ["SOLVER.LARS_ON", False, "SOLVER.WEIGHT_DECAY", 0.1]),
    "betas": (ADAM, ["SOLVER.BETAS", [0.5, 0.8], "SOLVER.WEIGHT_DECAY", 0.1]),
    "foreach": (ADAM, ["SOLVER.OPTIMIZING_METHOD", "mt_adamw"]),
    "fused": (["SOLVER.OPTIMIZING_METHOD", "mt_adamw"], ADAM),
    "decoupled": (["SOLVER.OPTIMIZING_METHOD", "adam"], [*ADAM, "SOLVER.BETAS", [0.8, 0.9]]),
}


@pytest.mark.parametrize(("before", "changed"), HELD_BY_THE_OPTIMIZER.values(), ids=HELD_BY_THE_OPTIMIZER)
def test_the_optimizer_goes_on_with_the_settings_of_now(tiny_cfg, tmp_path, started, caplog, before, changed):
    """Compare a step after resuming with one of a new optimizer that was given the moments parameter by parameter."""
    former = build_state(tiny_cfg(*before))
    train_epoch(former, [], lambda: False)
    path = str(tmp_path / "given.pyth")
    save_checkpoint(former.capture(), path)
    cfg = tiny_cfg(*before, *RESUME, path, *changed)
    resumed = started(cfg)
    assert "these apply from now on" in caplog.text
    for key, value in zip(changed[::2], changed[1::2], strict=True):
        assert f"{key} {value} (was " in caplog.text

    expected = build_state(cfg)
    expected.model.load_state_dict(former.model.state_dict())
    moments = {
        name: former.optimizer.state[parameter]
        for name, parameter in former.model.named_parameters()
        if parameter in former.optimizer.state
    }
    assert moments
    for name, parameter in expected.model.named_parameters():
        expected.optimizer.state[parameter] = {key: value.clone() for key, value in moments[name].items()}
    settings = [
        [{key: value for key, value in group.items() if key not in ("params", "lr")} for group in groups.param_groups]
        for groups in (resumed.optimizer, expected.optimizer)
    ]
    assert settings[0] == settings[1]
    for state in (resumed, expected):
        set_lr(state.optimizer, 0.1)
        generator = torch.Generator().manual_seed(0)
        for parameter in state.model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        state.optimizer.step()
    pairs = zip(resumed.model.named_parameters(), expected.model.parameters(), strict=True)
    for (name, parameter), wanted in pairs:
        assert torch.equal(parameter, wanted), name
        assert not torch.equal(parameter, former.model.get_parameter(name)), name


@pytest.mark.parametrize("method", ["sgd", "adam", "adamw", "mt_adamw"])
def test_unchanged_settings_leave_the_optimizer_as_it_was(tiny_cfg, run_of, started, caplog, method):
    given = ["SOLVER.OPTIMIZING_METHOD", method, "SOLVER.LAYER_DECAY", 0.9, "SOLVER.MAX_EPOCH", 5]
    path = run_of(*given)
    state = started(tiny_cfg(*given, "TRAIN.CHECKPOINT_FILE_PATH", path))
    assert_equal(state.optimizer.state_dict(), load_checkpoint(path)["optimizer_state"], "optimizer")
    assert "other settings" not in caplog.text and "another layout" not in caplog.text


REFUSED = {
    "sgd_to_adamw": ([], ["SOLVER.OPTIMIZING_METHOD", "adamw"]),
    "mt_adamw_to_sgd": (["SOLVER.OPTIMIZING_METHOD", "mt_adamw"], ["SOLVER.OPTIMIZING_METHOD", "sgd"]),
    "adam_to_sgd": (["SOLVER.OPTIMIZING_METHOD", "adam"], ["SOLVER.OPTIMIZING_METHOD", "sgd"]),
    "adamw_to_adam": (ADAM, ["SOLVER.OPTIMIZING_METHOD", "adam"]),
    # As many parameters, of the same shapes: PyTorch would take the state of the others.
    "other_stage": (["MODEL.FREEZE_STAGES", ["s4.pathway0_res0"]], ["MODEL.FREEZE_STAGES", ["s5.pathway0_res0"]]),
    "probe": ([], ["MODEL.DETACH_FINAL_FC", True]),
    "thawed": (["MODEL.FREEZE_STAGES", ["s1"]], ["MODEL.FREEZE_STAGES", []]),
}


@pytest.mark.parametrize(("before", "changed"), REFUSED.values(), ids=REFUSED)
def test_what_the_optimizer_cannot_follow_is_refused_with_the_remedy(
    run_of, tiny_cfg, started, caplog, before, changed
):
    path = run_of(*before)
    with pytest.raises(ValueError) as caught:
        started(tiny_cfg(*before, *RESUME, path, *changed))
    told = str(caught.value)
    assert f"{changed[0]} is {changed[1]}, and was " in told
    assert f"TRAIN.CHECKPOINT_FILE_PATH {path} and TRAIN.CHECKPOINT_EPOCH_RESET True" in told
    assert "\n" not in told and "from now on" not in caplog.text
    fresh = started(tiny_cfg(*before, *RESUME, path, *changed, "TRAIN.CHECKPOINT_EPOCH_RESET", True))
    assert (fresh.epoch, fresh.optimizer.state) == (0, {})


def test_a_state_of_another_shape_is_refused(run_of, tiny_cfg, started):
    path = run_of()
    saved = load_checkpoint(path)
    saved["optimizer_state"]["state"] = {0: {"momentum_buffer": torch.zeros(3, 3)}}
    save_checkpoint(saved, path)
    with pytest.raises(ValueError, match=r"momentum_buffer .*\(3, 3\)"):
        started(tiny_cfg(*RESUME, path))


# What else a checkpoint holds: changed setting -> what is said of it.
HELD = {
    "ema_off": (["EMA.ENABLE", True], ["EMA.ENABLE", False], ["EMA.ENABLE False (was True)", "they are not used"]),
    "ema_on": ([], ["EMA.ENABLE", True], ["EMA.ENABLE True (was False)", "the average starts from the weights"]),
    "loss": ([], ["MODEL.LOSS_FUNC", "bce_logit"], ["MODEL.LOSS_FUNC bce_logit (was cross_entropy)"]),
    "smoothing": ([], ["MIXUP.LABEL_SMOOTH_VALUE", 0.3], ["MIXUP.LABEL_SMOOTH_VALUE 0.3 (was 0.1)"]),
    "precision": ([], ["TRAIN.MIXED_PRECISION", True], ["TRAIN.MIXED_PRECISION True (was False)"]),
    "seed": ([], ["RNG_SEED", 5], ["RNG_SEED 5 (was 1)", "RNG_SEED 5, not 1"]),
    "batch": ([], ["TRAIN.BATCH_SIZE", 2], ["TRAIN.BATCH_SIZE 2 (was 4)", "an optimizer step uses 2 clips, not 4"]),
    "multigrid": (["TRAIN.BATCH_SIZE", 2], ["MULTIGRID.SHORT_CYCLE", True], ["MULTIGRID.SHORT_CYCLE True (was False)"]),
    "norm": ([], ["BN.NORM_TYPE", "sub_batchnorm"], ["BN.NORM_TYPE sub_batchnorm (was batchnorm)"]),
    "dropout": ([], ["MODEL.DROPOUT_RATE", 0.0], ["MODEL.DROPOUT_RATE 0.0 (was 0.5)"]),
    "frames": ([], ["DATA.SAMPLING_RATE", 1], ["DATA.SAMPLING_RATE 1 (was 2)"]),
}


@pytest.mark.parametrize(("before", "changed", "facts"), HELD.values(), ids=HELD)
def test_what_else_a_checkpoint_holds_is_applied_and_said(run_of, tiny_cfg, started, caplog, before, changed, facts):
    state = started(tiny_cfg(*before, *RESUME, run_of(*before), *changed))
    assert state.epoch == 3
    for fact in facts:
        assert fact in caplog.text
    assert get_key(state.cfg, changed[0]) == changed[1]


def test_another_decay_of_the_average_applies(tiny_cfg, run_of, started, caplog):
    average = ["EMA.ENABLE", True, "EMA.DECAY", 0.5]
    state = started(tiny_cfg(*RESUME, run_of(*average), "EMA.ENABLE", True, "EMA.DECAY", 0.25))
    assert "EMA.DECAY 0.25 (was 0.5)" in caplog.text
    state.ema.n_averaged.fill_(1)
    before = state.ema.module.head.projection.weight.detach().clone()
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    after = 0.25 * before + 0.75 * state.model.head.projection.weight
    torch.testing.assert_close(state.ema.module.head.projection.weight, after)


@pytest.mark.parametrize("change", ["order", "label", "name"])
def test_another_data_list_is_said_and_its_epoch_started_again(tiny_cfg, tiny_data, tmp_path, started, caplog, change):
    state = build_state(tiny_cfg("SOLVER.MAX_EPOCH", 5))
    train_epoch(state, [], lambda: state.iteration == 2)
    path = str(tmp_path / "given.pyth")
    save_checkpoint(state.capture(), path)
    lines = (tiny_data / "train.csv").read_text().splitlines()
    other = {
        "order": [*lines[1:], lines[0]],
        "label": [lines[0][:-1] + "1", *lines[1:]],
        "name": [*lines[:-1], lines[-3]],
    }
    for split in ("train", "val", "test"):
        shutil.copy(tiny_data / f"{split}.csv", tmp_path)
    given = [*RESUME, path, "DATA.PATH_TO_DATA_DIR", str(tmp_path)]
    assert started(tiny_cfg(*given)).iteration == 2
    assert "started again" not in caplog.text and "training samples" not in caplog.text
    (tmp_path / "train.csv").write_text("\n".join(other[change]) + "\n")
    assert started(tiny_cfg(*given)).iteration == 0
    assert "the 12 training samples have other names, labels or another order" in caplog.text
    assert "epoch 1 is started again" in caplog.text


@pytest.mark.parametrize("entry", ["model_state", "ema_state"])
def test_weights_of_another_dtype_are_converted_and_said(tiny_cfg, run_of, started, caplog, entry):
    average = ["EMA.ENABLE", True]
    path = run_of(*average)
    saved = load_checkpoint(path)
    weights = saved["model_state"] if entry == "model_state" else saved["ema_state"]["model_state"]
    for key, value in weights.items():
        weights[key] = value.half() if value.is_floating_point() else value
    save_checkpoint(saved, path)
    state = started(tiny_cfg(*average, *RESUME, path))
    count = sum(value.dtype == torch.float16 for value in weights.values())
    assert f"{count} weights are converted from torch.float16 to torch.float32" in caplog.text
    assert state.epoch == 3
    assert {parameter.dtype for model in state.models for parameter in model.parameters()} == {torch.float32}


def test_a_checkpoint_without_settings_follows_those_of_now(run_of, tiny_cfg, started):
    path = run_of()
    saved = load_checkpoint(path)
    del saved["cfg"], saved["data"]
    save_checkpoint(saved, path)
    state = started(tiny_cfg(*RESUME, path, "SOLVER.WEIGHT_DECAY", 0.5, "SOLVER.MOMENTUM", 0.3))
    groups = {group["name"]: (group["weight_decay"], group["momentum"]) for group in state.optimizer.param_groups}
    assert groups == {"norm": (0.0, 0.3), "rest": (0.5, 0.3)}
