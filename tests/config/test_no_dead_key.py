"""No key is dead: away from its default each changes something observable, warns, or refuses all other values.

Every key of the core and of PGT is walked. What is observed: models (structure, weights, outputs of both modes),
optimizers (groups, rates, a step), clips of real videos and their batches, losses, mixing, the phases of a run. Keys of
whole programs (training, demo, TensorBoard) are shown by the tests that `ELSEWHERE` names.
"""

import hashlib
import json
import logging
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch

from slowfast.config import load_config
from slowfast.config.ignored_keys import ignored_feature
from slowfast.config.merge import get_key, leaf_keys
from slowfast.config.resolve import num_pathways
from slowfast.datasets.build import build_dataset, build_loader
from slowfast.engine import multigrid
from slowfast.engine.mixing import Mixing
from slowfast.engine.model_setup import ModelSetup
from slowfast.engine.optim import build_optimizer, lr_at, lr_scale
from slowfast.engine.optim_step import build_optim_step
from slowfast.engine.task import dummy_inputs
from slowfast.models import build_model
from slowfast.models.build import build_norm
from slowfast.models.losses import build_loss
from slowfast.runtime.device import device_of

ROOT = Path(__file__).parents[2]
DEFAULTS = load_config(None, ["PROJECTS", ["pgt"]])
KEYS = list(leaf_keys(DEFAULTS))


def digest(*items):
    """Fingerprint of tensors, and of the texts of other things."""
    found = hashlib.sha256()
    for item in items:
        found.update(item.detach().contiguous().numpy().tobytes() if torch.is_tensor(item) else str(item).encode())
    return found.hexdigest()


def observe_model(cfg):
    torch.manual_seed(0)
    model = build_model(cfg)
    state, outputs = model.state_dict(), []
    fresh = digest(repr(model), list(state), *state.values())
    torch.manual_seed(1)
    for name, value in model.named_parameters():
        torch.nn.init.normal_(value, 1.0 if "bn.weight" in name else 0.0, 0.2)
    inputs = dummy_inputs(cfg, 2, cfg.DATA.TRAIN_CROP_SIZE, torch.Generator().manual_seed(2))
    boxes = [torch.tensor([[0.0, 3, 5, 20, 29], [1, 0, 0, 9, 9]])] if cfg.DETECTION.ENABLE else []
    for train in (False, True):
        torch.manual_seed(3)
        outputs.append(model.train(train)(inputs, *boxes))
    return digest(fresh, *outputs, *model.state_dict().values())


def observe_optimizer(cfg):
    torch.manual_seed(0)
    model = build_model(cfg)
    optimizer = build_optimizer(model, cfg)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [{**group, "params": [names[id(p)] for p in group["params"]]} for group in optimizer.param_groups]
    rates = [lr_at(cfg.SOLVER, epoch) for epoch in (0, 0.5, 1.5, 3, 7, 12, 20)]
    step = build_optim_step(cfg, model, optimizer)
    settings = {key: value for key, value in vars(step).items() if isinstance(value, (int, float, str, type(None)))}
    for _ in range(2):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.01) * parameter.sign()
        optimizer.step()
    return digest(type(optimizer), groups, rates, lr_scale(cfg), settings, *model.parameters())


@torch.no_grad()
def observe_clips(cfg):
    found = []
    for split in ("train", "test"):
        dataset, loader = build_dataset(cfg, split), build_loader(cfg, split)
        found += [len(dataset), vars(dataset.unreadable), loader.num_workers, loader.prefetch_factor]
        for epoch in range(2):
            loader.batch_sampler.set_epoch(epoch)
            keys = [[tuple(key) for key in batch] for batch in loader.batch_sampler]
            found.append(keys)
        for key in keys[0][:2] + keys[-1][-1:]:
            samples = dataset[key]
            for sample in samples if isinstance(samples, list) else [samples]:
                found += [sample.label, sample.video, *sample.inputs]
    return digest(*found)


def observe_training(cfg):
    """Loss, mixing, steps between building a model and using it, schedule of the phases."""
    mixing = Mixing.from_config(cfg)
    phases = [multigrid.epoch_config(cfg, epoch) for epoch in (0, 3, 11)]
    phases = [[get_key(phase, key) for key in PHASE_KEYS] for phase in phases]
    return digest(build_loss(cfg), mixing and vars(mixing), ModelSetup.from_config(cfg), phases)


PHASE_KEYS = ("DATA.NUM_FRAMES", "DATA.TRAIN_CROP_SIZE", "DATA.SAMPLING_RATE", "TRAIN.BATCH_SIZE", "SOLVER.MAX_EPOCH",
              "SOLVER.STEPS", "SOLVER.LRS", "BN.NORM_TYPE", "BN.NUM_SPLITS", "MULTIGRID.DEFAULT_B")  # fmt: skip
MVIT = ("MVIT.EMBED_DIM", 8, "MVIT.DEPTH", 3, "MVIT.PATCH_PADDING", [1, 3, 3], "MVIT.DIM_MUL", [[1, 2.0]],
        "MVIT.POOL_Q_STRIDE", [[1, 1, 2, 2]], "MVIT.POOL_KV_STRIDE_ADAPTIVE", [1, 4, 4],
        "MVIT.POOL_KVQ_KERNEL", [3, 3, 3], "MVIT.HEAD_MUL", [[1, 2.0]])  # fmt: skip
# Section -> (what is observed, model of `tiny_models`, settings under which its keys count).
SECTIONS = {
    "MODEL": ("model", "ResNet"), "RESNET": ("model", "ResNet"), "BN": ("model", "ResNet"),
    "SLOWFAST": ("model", "SlowFast"), "X3D": ("model", "X3D"), "REGNET": ("model", "RegNet"),
    "MVIT": ("model", "MViT"), "TIMESFORMER": ("model", "TimeSformer"),
    "NONLOCAL": ("model", "ResNet", "NONLOCAL.LOCATION", [[[0]], [[]], [[]], [[]]]),
    "DETECTION": ("model", "ResNet", "DETECTION.ENABLE", True, "MODEL.HEAD_ACT", "sigmoid", "MODEL.LOSS_FUNC", "bce"),
    "SOLVER": ("optimizer", "ResNet", "SOLVER.MAX_EPOCH", 20),
    "AUG": ("clips", "ResNet", "AUG.ENABLE", True), "DATA": ("clips", "ResNet"),
    "DATA_LOADER": ("clips", "ResNet"),
    "MIXUP": ("training", "ResNet", "MIXUP.ENABLE", True, "MODEL.LOSS_FUNC", "soft_cross_entropy"),
    "MULTIGRID": ("training", "ResNet", "MULTIGRID.LONG_CYCLE", True, "MULTIGRID.SHORT_CYCLE", True,
                  "SOLVER.LR_POLICY", "steps_with_relative_lrs", "SOLVER.STEPS", [0, 4, 8],
                  "SOLVER.LRS", [1, 0.1, 0.01], "SOLVER.MAX_EPOCH", 10, "TRAIN.BATCH_SIZE", 8),
}  # fmt: skip
# Key -> (value away from its default, "@WHAT/MODEL" if not the section's, settings under which it counts). Other keys
# get the value of `away`.
_ADAM = ("SOLVER.OPTIMIZING_METHOD", "adam")
_STEPS = ("SOLVER.LR_POLICY", "steps_with_relative_lrs", "SOLVER.STEPS", [0, 10], "SOLVER.LRS", [1, 0.1])
_WARM_UP = ("SOLVER.WARMUP_EPOCHS", 2.0)
_CROPS = ("DATA.TRAIN_JITTER_SCALES_RELATIVE", [0.2, 1.0], "DATA.TRAIN_JITTER_ASPECT_RELATIVE", [0.75, 1.33])
_BLOCKS = [[1], [1], [1], [1]]
_PLAIN = ("AUG.AA_TYPE", "", "AUG.RE_PROB", 0.0)
_CHUNKS = ("DATA.LOADER_CHUNK_SIZE", 4)
CASES = {
    "MODEL.ARCH": ("i3d",), "MODEL.MODEL_NAME": ("X3D",), "MODEL.NUM_CLASSES": (7,), "MODEL.HEAD_ACT": ("sigmoid",),
    "MODEL.FINAL_POOL": (["max", "avg"],), "MODEL.POSITIONS_FOR": ([4, 32], "@model/MViT", *MVIT),
    "MODEL.LOSS_FUNC": ("bce_logit", "@training"), "MODEL.DROPOUT_RATE": (0.3,), "MODEL.DROPCONNECT_RATE": (0.4,),
    "MODEL.MEMORY_FORMAT": ("contiguous", "@training"), "MODEL.ACT_CHECKPOINT": (True, "@training"),
    "MODEL.COMPILE": (True, "@training"), "MODEL.FREEZE_STAGES": (["s1"], "@training"),
    "MODEL.COMPILE_MODE": ("max-autotune-no-cudagraphs", "@training", "MODEL.COMPILE", True),
    "MODEL.DETACH_FINAL_FC": (True, "@training"), "MODEL.FP16_ALLREDUCE": (True, "@training"),
    "RESNET.DEPTH": (50,), "RESNET.TRANS_FUNC": ("basic_transform",), "RESNET.WIDTH_PER_GROUP": (4,),
    "RESNET.NUM_GROUPS": (2,), "RESNET.SPATIAL_STRIDES": ([[1], [2], [2], [1]],),
    "RESNET.SPATIAL_DILATIONS": ([[1], [1], [1], [2]],), "RESNET.NUM_BLOCK_TEMP_KERNEL": (_BLOCKS,),
    "RESNET.STRIDE_1X1": (True, "RESNET.TRANS_FUNC", "bottleneck_transform"),
    "BN.NORM_TYPE": ("sub_batchnorm",), "BN.NUM_SPLITS": (2, "BN.NORM_TYPE", "sub_batchnorm"),
    "BN.WEIGHT_DECAY": (0.25, "@optimizer"),
    "SLOWFAST.BETA_INV": (2,), "SLOWFAST.ALPHA": (2,), "SLOWFAST.SLOW_INDICES": ([0, 3],),
    "SLOWFAST.FUSION_KERNEL_SZ": (3,), "X3D.DIM_C5": (16,), "X3D.DIM_C1": (16,), "X3D.BOTTLENECK_FACTOR": (2.0,),
    "X3D.CHANNELWISE_3x3x3": (False,), "REGNET.DEPTH": ("4G",),
    "NONLOCAL.LOCATION": ([[[]], [[1]], [[]], [[]]],), "NONLOCAL.GROUP": ([[2], [1], [1], [1]],),
    "NONLOCAL.INSTANTIATION": ("softmax",), "NONLOCAL.POOL": ([[[1, 1, 1]]] * 4,),
    "DETECTION.ENABLE": (True, "DETECTION.ENABLE", False),
    "MVIT.MODE": ("avg",), "MVIT.PATCH_KERNEL": ([1, 7, 7], "MVIT.PATCH_PADDING", [0, 3, 3]),
    "MVIT.PATCH_STRIDE": ([2, 8, 8],), "MVIT.PATCH_PADDING": ([1, 2, 2],), "MVIT.DEPTH": (4,),
    "MVIT.EMBED_DIM": (16,), "MVIT.USE_FIXED_SINCOS_POS": (True, "MVIT.EMBED_DIM", 16),
    "MVIT.ZERO_DECAY_POS_CLS": (False, "@optimizer"), "MVIT.REL_POS_SPATIAL": (False,),
    "MVIT.REL_POS_TEMPORAL": (False,), "MVIT.DIM_MUL": ([[2, 2.0]],), "MVIT.HEAD_MUL": ([[2, 2.0]],),
    "MVIT.POOL_KV_STRIDE": ([[0, 1, 4, 4]], "MVIT.POOL_KV_STRIDE_ADAPTIVE", None),
    "MVIT.POOL_Q_STRIDE": ([[2, 1, 2, 2]],), "MVIT.POOL_KV_STRIDE_ADAPTIVE": ([1, 2, 2],),
    "MVIT.POOL_KVQ_KERNEL": ([1, 3, 3],),
    "TIMESFORMER.EMBED_DIM": (8,), "TIMESFORMER.NUM_HEADS": (4,), "TIMESFORMER.DEPTH": (1,),
    "TIMESFORMER.ZERO_DECAY_POS_CLS": (False, "@optimizer"),
    "SOLVER.OPTIMIZING_METHOD": ("adamw",), "SOLVER.BASE_LR_SCALE_NUM_SHARDS": (True, "NUM_SHARDS", 2),
    "SOLVER.LR_POLICY": ("steps_with_relative_lrs", "SOLVER.STEPS", [0, 10], "SOLVER.LRS", [1, 0.1]),
    "SOLVER.STEPS": ([0, 5], *_STEPS), "SOLVER.LRS": ([1, 0.2], *_STEPS), "SOLVER.WARMUP_START_LR": (0.02, *_WARM_UP),
    "SOLVER.COSINE_AFTER_WARMUP": (True, *_WARM_UP), "SOLVER.DAMPENING": (0.2, "SOLVER.NESTEROV", False),
    "SOLVER.BETAS": ([0.5, 0.9], *_ADAM), "SOLVER.CLIP_GRAD_VAL": (1.0,), "SOLVER.CLIP_GRAD_L2NORM": (1.0,),
    "SOLVER.GAMMA": (0.5, "@training", *SECTIONS["MULTIGRID"][2:]),
    "DATA.TRAIN_NUM_FRAMES": ([2, 4],),
    "DATA.INPUT_CHANNEL_NUM": ([1], "@model", "DATA.MEAN", [0.4], "DATA.STD", [0.2]), "DATA.NUM_FRAMES": (2,),
    "DATA.MEAN": ([0.4, 0.4, 0.4],),
    "DATA.STD": ([0.3, 0.3, 0.3],), "DATA.TRAIN_CROP_SIZE": (28,), "DATA.TEST_CROP_SIZE": (28,),
    "DATA.TRAIN_JITTER_SCALES": ([44, 48],), "DATA.TRAIN_JITTER_SCALES_RELATIVE": ([0.5, 1.0], *_CROPS),
    "DATA.TRAIN_JITTER_ASPECT_RELATIVE": ([1.0, 1.0], *_CROPS), "DATA.TRAIN_JITTER_MOTION_SHIFT": (True, *_CROPS),
    "DATA.TRAIN_JITTER_FPS": (60.0,), "DATA.COLOR_RND_GRAYSCALE": (1.0,),
    "DATA.LOADER_CHUNK_SIZE": (4,), "DATA.LOADER_CHUNK_OVERALL_SIZE": (5, *_CHUNKS),
    "DATA_LOADER.NUM_WORKERS": (1,), "DATA_LOADER.PREFETCH_FACTOR": (3, "DATA_LOADER.NUM_WORKERS", 1),
    "AUG.ENABLE": (True, "AUG.ENABLE", False), "AUG.COLOR_JITTER": (0.1, *_PLAIN), "AUG.AA_TYPE": ("rand-m3-n1",),
    "AUG.INTERPOLATION": ("bilinear", *_CROPS), "AUG.RE_MODE": ("const", "AUG.RE_PROB", 1.0),
    "AUG.RE_COUNT": (2, "AUG.RE_PROB", 1.0), "AUG.RE_SPLIT": (True, "AUG.NUM_SAMPLE", 2, "AUG.RE_PROB", 1.0),
    "MULTIGRID.DEFAULT_B": (2, "@optimizer", "SOLVER.LR_REFERENCE_BATCH", 8), "MULTIGRID.DEFAULT_S": (16, "@clips"),
    "MULTIGRID.LONG_CYCLE_SAMPLING_RATE": (4, "@clips"), "MIXUP.ENABLE": (True, "MIXUP.ENABLE", False),
    "MULTIGRID.SHORT_CYCLE": (False, "DATA.TRAIN_CROP_SIZE", 64, "DATA.TRAIN_JITTER_SCALES", [64, 80]),
    "MULTIGRID.LONG_CYCLE": (False,), "MULTIGRID.SHORT_CYCLE_FACTORS": ([0.4, 0.6],),
    "MULTIGRID.LONG_CYCLE_FACTORS": ([[0.5, 0.7], [1.0, 1.0]],),
    "TRAIN.BATCH_SIZE": (2, "@clips"),
    "TEST.BATCH_SIZE": (2, "@clips"), "TEST.NUM_ENSEMBLE_VIEWS": (3, "@clips"), "TEST.NUM_SPATIAL_CROPS": (3, "@clips"),
    "TEST.FOLD_NORMS": (False, "@training"), "TRAIN.MIXED_PRECISION": (True, "@training"),
    "TRAIN.MIXED_PRECISION_DTYPE": ("fp16", "@training", "TRAIN.MIXED_PRECISION", True),
    "TRAIN.ACCUM_STEPS": (2, "@optimizer"), "RNG_SEED": (5, "@clips"),
    "NUM_SHARDS": (2, "@optimizer", "SOLVER.BASE_LR_SCALE_NUM_SHARDS", True),
}  # fmt: skip


# Key -> a value that is refused; the message names the key. Some have one value only.
REFUSED = {
    "MVIT.NORM": "batchnorm", "RESNET.STEM_FUNC": "x3d_stem", "TIMESFORMER.ATTENTION_TYPE": "space_only",
    "DIST_BACKEND": "carrier", "DATA.DECODING_BACKEND": "film", "DATA.MULTI_LABEL": True,
    "DATA.ENSEMBLE_METHOD": "most",
    "DATA.PATH_TO_DATA_DIR": "/nowhere", "DATA.PATH_LABEL_SEPARATOR": "|", "MODEL.ADAPTER": "none", "TASK": "rest",
    "TRAIN.DATASET": "none", "TEST.DATASET": "none",
}  # fmt: skip
# Keys that are older names of others, by these.
RENAMED = {
    "LOGS.DIR": "OUTPUT_DIR", "LOGS.PERIOD": "LOG_PERIOD", "LOGS.LOG_MODEL": "LOG_MODEL_INFO",
    "AVA.TRAIN_PCA_EIGVAL": "DATA.TRAIN_PCA_EIGVAL", "AVA.TRAIN_PCA_EIGVEC": "DATA.TRAIN_PCA_EIGVEC",
}  # fmt: skip
# Keys of whole programs, by pattern -> the test files that show their effect; they have the key's name in them.
ELSEWHERE = {
    "PROJECTS": "tests/config/test_projects.py", "OUTPUT_DIR": "tests/engine/test_training.py",
    "SHARD_ID": "tests/runtime/test_launch.py",
    "LOG_STYLE": "tests/engine/test_pyslowfast_rows.py",
    "LOG_*": "tests/engine/test_epoch_config.py tests/apps/demo/test_demo.py",
    "DIST.*": "tests/runtime/test_launch.py tests/faults/test_several_processes.py",
    "TRAIN.*CHECKPOINT*": "tests/engine/test_resume.py tests/engine/test_epoch_config.py "
    "tests/checkpoint/test_forms.py",
    "TRAIN.BEST_METRIC": "tests/engine/test_best_checkpoint.py", "TRAIN.EARLY_*": "tests/engine/test_early_stop.py",
    "TRAIN.KILL_*": "tests/engine/test_hooks.py",
    "TRAIN.*": "tests/engine/test_training.py tests/engine/test_resume.py tests/engine/test_early_stop.py",
    "TEST.CYCLIC_LOAD": "tests/datasets/test_ssv2.py", "TEST.CHECKPOINT_TYPE": "tests/checkpoint/test_forms.py",
    "TEST.*": "tests/engine/test_training.py tests/engine/test_resume.py", "EMA.*": "tests/engine/test_ema.py",
    "TRACKER.*": "tests/engine/test_trackers.py", "BN.*PRECISE*": "tests/engine/test_training.py",
    "TENSORBOARD.*": "tests/apps/visualize/test_visualize.py tests/evaluation/test_class_plots.py "
    "tests/engine/test_pictures.py tests/tools/test_visualization_tool.py",
    "DEMO.*": "tests/apps/demo/test_demo.py tests/apps/demo/test_boxes.py tests/apps/people/test_sources.py",
    "AVA.*": "tests/datasets/ava/test_dataset.py tests/datasets/clips/test_clips_with_boxes.py "
    "tests/tools/test_detection_runs.py tests/apps/people/test_ava_boxes.py tests/apps/predict/test_people.py "
    "projects/pgt/tests/test_targets.py",
    "PGT.*": "projects/pgt/tests/test_task.py projects/pgt/tests/test_plan.py projects/pgt/tests/test_mgrid.py "
    "projects/pgt/tests/test_conversion.py projects/pgt/tests/test_attention.py projects/pgt/tests/test_lateral.py "
    "projects/pgt/tests/test_progressive.py projects/pgt/tests/test_targets.py",
    "NONLOCAL.PROGRESS": "projects/pgt/tests/test_progressive.py",
    "MULTIGRID.EVAL_FREQ": "tests/engine/test_epoch_config.py",
    "DATA.CACHE_VIDEOS": "tests/engine/test_epoch_config.py",
    "DATA.M[AE][XD]*_*S": "tests/datasets/video/test_limits.py",
    "DATA.MEDIA_FORMATS_EXTRA": "tests/datasets/video/test_limits.py",
    "DATA.TRAIN_PCA_*": "tests/config/test_rules_augment.py",
    "DATA.PATH_PREFIX": "tests/config/test_load.py",
    "MVIT.REV.*": "tests/models/test_reversible.py", "MVIT.PATCH_2D": "tests/checkpoint/test_inflate.py",
    "DATA.PATH_TO_PRELOAD_IMDB": "tests/datasets/test_imagenet.py", "DATA.IN*_*": "tests/datasets/test_imagenet.py",
    "DATA_LOADER.ENABLE_*": "tests/datasets/video/test_frame_folder.py",
    "DETECTION.SPATIAL_*": "tests/config/test_rules_detection.py",
}  # fmt: skip
UNCHANGED = {}  # what is observed without the change, by what it is and the settings
# Keys with a test of their own below.
HERE = (
    "NUM_GPUS", "BN.NUM_SYNC_DEVICES", "BN.GLOBAL_SYNC", "DATA_LOADER.PIN_MEMORY", "DATA.DUMMY_LOAD",
    "MODEL.MULTI_PATHWAY_ARCH",
)  # fmt: skip


def away(key):
    """Another value of a key: the other truth value, or another number of the same kind."""
    value = get_key(DEFAULTS, key)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value * 2 or 2
    return value / 2 or 0.25


def kind_of(key):
    """The way in which a key is shown to be alive; "" for none."""
    if ignored_feature(key):
        return "ignored"
    if key in REFUSED:
        return "refused"
    if key in RENAMED:
        return "renamed"
    if key in HERE:
        return "here"
    if key in CASES:
        return "observed"
    if any(fnmatchcase(key, pattern) for pattern in ELSEWHERE):
        return "elsewhere"
    return "observed" if key.split(".")[0] in SECTIONS else ""


def keys_of(kind):
    return [key for key in KEYS if kind_of(key) == kind]


def test_every_key_is_walked():
    published = json.loads((ROOT / "tests/fixtures/config/config_defaults.json").read_text())
    of_pgt = json.loads((ROOT / "tests/fixtures/config/pgt_defaults.json").read_text())["keys"]

    def names(tree, front=""):
        for name, value in tree.items():
            yield from names(value, f"{front}{name}.") if isinstance(value, dict) else [front + name]

    assert len(list(names(published))) == 339
    assert {*names(published), *names(of_pgt)} <= set(KEYS)
    assert [key for key in KEYS if not kind_of(key)] == []
    assert [key for key in [*CASES, *REFUSED, *RENAMED, *HERE] if key not in KEYS] == []
    assert [p for p in ELSEWHERE if not any(fnmatchcase(key, p) for key in keys_of("elsewhere"))] == []


@pytest.mark.parametrize("key", keys_of("observed"))
def test_another_value_changes_what_is_observed(key, tiny_models, tiny_data):
    what, model, *settings = SECTIONS.get(key.split(".")[0], ("", "ResNet"))
    value, *more = CASES[key] if key in CASES else (away(key),)
    if more and str(more[0]).startswith("@"):
        other, _, name = more.pop(0)[1:].partition("/")
        what, model, settings = other, name or model, []
    base = [*tiny_models[model]]
    if what == "clips":
        base += ["DATA.PATH_TO_DATA_DIR", str(tiny_data), "MODEL.NUM_CLASSES", 2, "DATA_LOADER.NUM_WORKERS", 0,
                 "TRAIN.BATCH_SIZE", 4, "TEST.BATCH_SIZE", 4, "TEST.NUM_ENSEMBLE_VIEWS", 2,
                 "TEST.NUM_SPATIAL_CROPS", 1, "DATA.NUM_FRAMES", 4, "DATA.TRAIN_JITTER_SCALES", [36, 40]]  # fmt: skip
    base += [*settings, *more]
    observe = {"model": observe_model, "optimizer": observe_optimizer, "clips": observe_clips,
               "training": observe_training}[what]  # fmt: skip
    before, cfg = load_config(None, base), load_config(None, [*base, key, value])
    assert get_key(cfg, key) != get_key(before, key)
    if (what, str(base)) not in UNCHANGED:
        UNCHANGED[what, str(base)] = observe(before)
    assert observe(cfg) != UNCHANGED[what, str(base)]


@pytest.mark.parametrize("key", keys_of("refused"))
def test_another_value_is_refused(key, tiny_cfg):
    with pytest.raises((ValueError, FileNotFoundError), match=key.replace(".", r"\.")):
        build_dataset(tiny_cfg("PROJECTS", ["pgt"], key, REFUSED[key]), "train")


@pytest.mark.parametrize("key", keys_of("renamed"))
def test_an_older_name_sets_the_newer(key):
    value = get_key(DEFAULTS, key)
    other = [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]] if key.endswith("EIGVEC") else [1.0, 2.0, 3.0]
    if not isinstance(value, list):
        other = value + "/x" if isinstance(value, str) else away(key)
    assert get_key(load_config(None, [key, other]), RENAMED[key]) == other


@pytest.mark.parametrize("key", keys_of("ignored"))
def test_an_ignored_key_warns(key, caplog):
    value = get_key(DEFAULTS, key)
    if isinstance(value, bool | int | float):
        other = away(key) if abs(value) < float("inf") else 0.25
    else:
        other = (
            value + "x" if isinstance(value, str) else [*value, *value[:1]] if value else 3 if value is None else [1]
        )
    caplog.set_level(logging.WARNING)
    load_config(None, ["PROJECTS", ["pgt"], key, other])
    assert key in caplog.text


@pytest.mark.parametrize("key", keys_of("elsewhere"))
def test_tests_of_programs_name_their_keys(key):
    files = " ".join(names for pattern, names in ELSEWHERE.items() if fnmatchcase(key, pattern)).split()
    words = " ".join((ROOT / name).read_text() for name in files)
    assert key.rpartition(".")[2] in words


def test_groups_of_synchronized_norms(tiny_cfg, monkeypatch):
    seen = []
    monkeypatch.setattr("slowfast.models.build.norm_group", lambda *sizes: seen.append(sizes))
    for settings in ([], ["BN.NUM_SYNC_DEVICES", 2], ["BN.GLOBAL_SYNC", True]):
        build_norm(tiny_cfg("NUM_GPUS", 2, "BN.NORM_TYPE", "sync_batchnorm", *settings), "sync_batchnorm")
    assert seen == [(False, 1), (False, 2), (True, 1)]
    apex = tiny_cfg("BN.NORM_TYPE", "sync_batchnorm_apex")
    assert apex.BN.NORM_TYPE == "sync_batchnorm"


def test_gpus_are_asked_for(tiny_cfg, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(tiny_cfg("NUM_GPUS", 0)).type == "cpu"
    with pytest.raises(ValueError, match="NUM_GPUS"):
        device_of(tiny_cfg("NUM_GPUS", 1))


def test_memory_is_pinned_for_a_gpu(tiny_cfg, monkeypatch):
    monkeypatch.setattr("slowfast.datasets.build.device_of", lambda cfg: torch.device("cuda"))
    assert [build_loader(tiny_cfg("DATA_LOADER.PIN_MEMORY", on), "val").pin_memory for on in (True, False)] == [1, 0]


def test_pathways_of_a_model_that_is_not_registered():
    cfg = load_config(None, ["MODEL.ARCH", "i3d", "MODEL.MODEL_NAME", "ResNet"]).clone()
    cfg.defrost()
    cfg.MODEL.MODEL_NAME = "of a published file"
    assert num_pathways(cfg) == 1
    cfg.MODEL.MULTI_PATHWAY_ARCH = ["i3d"]
    assert num_pathways(cfg) == 2


def test_dummy_load_reads_one_sample(tiny_cfg, monkeypatch):
    dataset = build_dataset(tiny_cfg("DATA.DUMMY_LOAD", True, "TEST.NUM_ENSEMBLE_VIEWS", 2), "test")
    first = dataset[0]
    monkeypatch.setattr(dataset, "open_video", None)
    monkeypatch.setattr(dataset, "evaluation_sample", None)
    later = [dataset[index] for index in (1, 3, 7)]
    assert [(sample.video, sample.view) for sample in later] == [(0, 1), (1, 1), (3, 1)]
    assert all(torch.equal(sample.inputs[0], first.inputs[0]) for sample in later)


def test_chunks_of_the_list_take_turns(tiny_cfg):
    loader = build_loader(tiny_cfg("DATA.LOADER_CHUNK_SIZE", 4, "DATA.LOADER_CHUNK_OVERALL_SIZE", 10), "train")
    seen = []
    for epoch in range(4):
        loader.batch_sampler.set_epoch(epoch)
        seen.append({key.index for batch in loader.batch_sampler for key in batch})
    assert seen == [{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9, 0, 1}, {0, 1, 2, 3}] and len(loader) == 1
