"""The YAML files say what was published, agree with themselves, load, and build.

`fixtures/published_settings` holds the published settings word for word (file name -> keys): `slowfast.json`
those of PySlowFast, `pgt.json` those of the PGT code. Every deliberate difference of our files is in a table
below.
"""

import ast
import json
from pathlib import Path

import pytest
import torch
import yaml

import pgt
from slowfast.apps.benchmark.compare import random_batch
from slowfast.config import cfg_from_yaml, cfg_to_yaml, load_config
from slowfast.engine.model_setup import ModelSetup
from slowfast.engine.task import ClipTask, build_task
from slowfast.layers.norm import BatchNorm
from slowfast.models import build_model
from slowfast.models.losses import build_loss

ROOT = Path(__file__).parents[2]
PUBLISHED = {
    owner: json.loads((ROOT / f"tests/fixtures/published_settings/{owner}.json").read_text())
    for owner in ("slowfast", "pgt")
}
FOLDERS = {"slowfast": ROOT / "configs", "pgt": ROOT / "projects/pgt/configs"}
# Published files whose model is built, of folders whose others need more than is built.
MODELS_OF_CHECKPOINTS = (
    "ImageNet/MVIT_B_16_CONV.yaml",
    "ImageNet/MVITv2_S.yaml",
    "ImageNet/MVITv2_T.yaml",
    "ImageNet/RES_R50.yaml",
    "ImageNet/REV_MVIT_B_16_CONV.yaml",
    "ImageNet/REV_VIT_B.yaml",
    "ImageNet/REV_VIT_S.yaml",
    "Kinetics/REV_MVIT_B_16x4_CONV.yaml",
    "masked_ssl/in1k_VIT_B_MaskFeat_FT.yaml",
    "masked_ssl/in1k_VIT_L_MaskFeat_FT.yaml",
    "masked_ssl/k400_MVITv2_L_16x4_FT.yaml",
    "masked_ssl/k400_MVITv2_S_16x4_FT.yaml",
    "masked_ssl/k400_VIT_B_16x4_FT.yaml",
    "masked_ssl/k400_VIT_H_16x4_FT.yaml",
    "masked_ssl/k400_VIT_L_16x4_FT.yaml",
    *(
        f"masked_ssl/{name}_PT.yaml"
        for name in (
            *("in1k_VIT_B_MaskFeat", "in1k_VIT_L_MaskFeat", "k400_MVITv2_L_16x4_MaskFeat"),
            *("k400_MVITv2_S_16x4_MaskFeat", "k400_VIT_B_16x4_MAE", "k400_VIT_H_16x4_MAE", "k400_VIT_L_16x4_MAE"),
        )
    ),
)
FAMILIES = ("SLOW_", "SLOWFAST_", "I3D_", "C2D_", "X3D_", "MVIT", "CSN_", "R2PLUS1D_")
LATER_FOLDERS = ("masked_ssl", "ImageNet")

# What the models of PyTorchVideo are here.
PYTORCHVIDEO = {
    "PTVResNet": {"MODEL_NAME": "ResNet"}, "PTVSlowFast": {"MODEL_NAME": "SlowFast"},
    "PTVX3D": {"MODEL_NAME": "X3D", "X3D.SHORTCUT_BN": False},
    "PTVMViT": {"MODEL_NAME": "MViT", "MVIT.SEPARATE_QKV": True},
    "PTVCSN": {"MODEL_NAME": "ResNet", "TRANS_FUNC": "csn_transform", "SPATIAL_STRIDES": [[1], [2], [2], [2]]},
    "PTVR2plus1D": {"MODEL_NAME": "ResNet", "TRANS_FUNC": "r2plus1d_transform", "SPATIAL_STRIDES": [[2]] * 4},
}  # fmt: skip

# Ours differ from the published settings here, and nowhere else but in the rules of `expected_settings`.
CHARADES_SLOWFAST = {
    "DATA.NUM_FRAMES": (316, "304 is never read: 5 steps of 64 with 1 of memory are 316"),
    "PGT.TPOOL_SIZE": ([4, 4], "absent; the default's one entry stands for both pathways"),
}
DIFFERENCES = {
    "pgt/Charades/SLOWFAST_PROG_76x8_R50_K400.yaml": CHARADES_SLOWFAST,
    "pgt/Charades/SLOWFAST_PROG_76x8_R101_K400.yaml": CHARADES_SLOWFAST,
    "pgt/Charades/SLOWFAST_PROG_76x8_R101_K600.yaml": CHARADES_SLOWFAST,
    "pgt/Charades/SLOW_16x8_R101_K400.yaml": {
        "TRAIN.CHECKPOINT_FILE_PATH": (
            "models/k400/SLOW_8x8_R101.pyth",
            "a SlowFast file for a model of one pathway",
        )
    },
    "pgt/AVA/SLOW_PROG_76x8_R50_K400.yaml": {"TEST.BATCH_SIZE": (8, "a batch of 1 does not divide by 8 GPUs")},
    "slowfast/Kinetics/c2/C2D_NOPOOL_8x8_R50.yaml": {
        "MODEL.ARCH": ("c2d_nopool", "the published pair names a model that is not registered"),
        "MODEL.MODEL_NAME": ("ResNet", "as above"),
    },
    "slowfast/Kinetics/REV_MVIT_B_16x4_CONV.yaml": {
        "MVIT.CLS_EMBED_ON": (False, "published True, which the published model refuses")
    },
    "slowfast/masked_ssl/k400_VIT_B_16x4_FT.yaml": {
        "TRAIN.BATCH_SIZE": (16, "a batch of 1 does not divide by 8 GPUs; ViT-L and ViT-H have 16")
    },
    "slowfast/AVA/c2/SLOWFAST_32x2_R101_50_50.yaml": {
        "TRAIN.CHECKPOINT_TYPE": ("caffe2", "the published checkpoint is a caffe2 pickle")
    },
}
for _norm in ("syn0", "syn8"):
    DIFFERENCES[f"slowfast/contrastive_ssl/finetune_ava_Slow_R50_{_norm}.yaml"] = {
        "SOLVER.STEPS": ([0, 16, 24, 28], "a fifth step at the last epoch, without a rate, is never reached")
    }
# Children inherit the published base file's mended keys.
DIFFERENCES["pgt/Charades/SLOW_PROG_76x8_R101_K400.yaml"] = DIFFERENCES["pgt/Charades/SLOW_16x8_R101_K400.yaml"]

# More learning rates than steps: the surplus is never reached, and ours leave it out.
SURPLUS_RATES = {
    "slowfast/Charades/SLOWFAST_16x8_R50.yaml",
    "slowfast/Charades/SLOWFAST_16x8_R50_multigrid.yaml",
    "slowfast/Kinetics/SLOWFAST_8x8_R50_stepwise.yaml",
    "slowfast/Kinetics/SLOWFAST_8x8_R50_stepwise_multigrid.yaml",
    "slowfast/SSv2/SLOWFAST_16x8_R50.yaml",
    "slowfast/contrastive_ssl/finetune_SSv2_Slow_R50_syn0.yaml",
    "slowfast/contrastive_ssl/finetune_SSv2_Slow_R50_syn8.yaml",
    "slowfast/SSv2/SLOWFAST_16x8_R50_multigrid.yaml",
    "pgt/AVA/SLOW_PROG_76x8_R50_K400.yaml",
    "pgt/Charades/SLOWFAST_16x8_R101_K400.yaml",
    "pgt/Charades/SLOWFAST_16x8_R101_K600.yaml",
    "pgt/Charades/SLOWFAST_16x8_R50_K400.yaml",
    "pgt/Charades/SLOWFAST_PROG_76x8_R101_K400.yaml",
    "pgt/Charades/SLOWFAST_PROG_76x8_R101_K600.yaml",
    "pgt/Charades/SLOWFAST_PROG_76x8_R50_K400.yaml",
    "pgt/Charades/SLOW_PROG_36x8_R50_K400_mgrid.yaml",
    "pgt/Charades/SLOW_PROG_76x8_R101_K400.yaml",
    "pgt/Charades/SLOW_PROG_76x8_R50_K400.yaml",
    "pgt/Charades/SLOW_PROG_76x8_R50_K400_mgrid.yaml",
    "pgt/Kinetics/R3D_8x8_400M_stepwise.yaml",
}

# Published files that cannot run as they are, and what the error must show.
PUBLISHED_BROKEN = {"pgt/AVA/SLOWFAST_PROG_36x8_R101_K600.yaml": "BASE_ in .*_BASE_"}

# Keys that loading works out.
WORKED_OUT = {
    "AVA.BOX_FRAMES",
    "AVA.FRAMES_AFTER_KEY",
    "DATA.ENSEMBLE_METHOD",  # with PGT.ALL_STEP_TEST
    "MODEL.ADAPTER",
    "PROJECTS",
    "SLOWFAST.SLOW_INDICES",
    "TASK",
}


def owed(owner: str, name: str) -> bool:
    if owner == "pgt" or name in MODELS_OF_CHECKPOINTS or name.startswith("contrastive_ssl/"):
        return True
    folder, _, file = name.rpartition("/")
    return file.startswith(FAMILIES) and not any(part in LATER_FOLDERS for part in folder.split("/"))


FILES = [f"{owner}/{name}" for owner, files in PUBLISHED.items() for name in files if owed(owner, name)]
FOUND = {f"{owner}/{path.relative_to(folder)}" for owner, folder in FOLDERS.items() for path in folder.rglob("*.yaml")}
OWN = sorted(FOUND - set(FILES))
# Ours: settings that nobody has published.
OWN_SETTINGS = {
    "pgt/Charades/SLOWFAST_PROG_76x8_R101_K400_overlap_1_4.yaml",
    "pgt/Charades/SLOWFAST_PROG_76x8_R101_K600_overlap_1_4.yaml",
    "pgt/Charades/SLOWFAST_PROG_76x8_R50_K400_overlap_1_4.yaml",
    "pgt/Kinetics/MVITv2_S_PROG_72x4.yaml",
    "pgt/Kinetics/R3D_8x8_4G.yaml",
    "pgt/Kinetics/R3D_PROG_36x8_4G.yaml",
    "pgt/Kinetics/TIMESFORMER_PROG_36x8_B16.yaml",
    "pgt/Synthetic/AVA_PGT_36x4.yaml",
    "pgt/Synthetic/CHARADES_PGT_36x2.yaml",
    "pgt/Synthetic/KINETICS_PGT_36x1.yaml",
    "pgt/Synthetic/SSV2_PGT_36.yaml",
    "pgt/Synthetic/SWEEP_PGT_36x1.yaml",
    "pgt/Synthetic/SWEEP_PGT_36x1_MEMORY_OFF.yaml",
    "pgt/miniKinetics/R3D_8x8_4G.yaml",
    "pgt/miniKinetics/R3D_PROG_36x8_4G.yaml",
    "slowfast/ImageNet/MVITv2_B.yaml",
    "slowfast/Kinetics/MVIT_B_32x3_CONV_K600.yaml",
    "slowfast/Kinetics/TIMESFORMER_8x32_B16.yaml",
    "slowfast/Synthetic/AVA_SLOW_8x4.yaml",
    "slowfast/Synthetic/CHARADES_SLOW_8x2.yaml",
    "slowfast/Synthetic/KINETICS_SLOW_8x1.yaml",
    "slowfast/Synthetic/SSV2_SLOW_8.yaml",
    "slowfast/Synthetic/SWEEP_SLOW_8x1.yaml",
}


def path_of(file: str) -> Path:
    owner, _, name = file.partition("/")
    return FOLDERS[owner] / name


def flatten(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def plain(value):
    """Numbers as numbers, so that 1, 1.0 and the texts 1e-4 and (3, 7, 7) of a published file compare by value."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        try:
            return plain(ast.literal_eval(value)) if value.startswith("(") else float(value)
        except ValueError:
            return value
    return value


def published_chain(owner: str, name: str) -> dict:
    """Return a published setting on top of its base's, flat."""
    own = dict(PUBLISHED[owner][name])
    base = own.pop("_BASE_", None) or own.pop("BASE_", None)
    below = published_chain(owner, f"{name.rpartition('/')[0]}/{base}") if base else {}
    return {**below, **flatten(own)}


def yaml_chain(path: Path) -> dict:
    """Return one of our files on top of its base's, flat, read without the project's loader."""
    own = yaml.safe_load(path.read_text())
    base = own.pop("_BASE_", None)
    return {**(yaml_chain(path.parent / base) if base else {}), **flatten(own)}


def expected_settings(file: str) -> dict:
    """Return the published setting with our differences."""
    owner, _, name = file.partition("/")
    settings = {key: value for key, value in published_chain(owner, name).items() if value is not None}
    if settings.get("AUG.COLOR_JITTER") == "None":
        settings["AUG.COLOR_JITTER"] = None
    settings.update({key: value for key, (value, _reason) in DIFFERENCES.get(file, {}).items()})
    if file in SURPLUS_RATES:
        settings["SOLVER.LRS"] = settings["SOLVER.LRS"][: len(settings["SOLVER.STEPS"])]
    if owner == "pgt":  # LOGS.DIR is OUTPUT_DIR here, and no two files write into one folder
        settings.pop("LOGS.DIR", None)
        settings["OUTPUT_DIR"] = "logs/" + name.removesuffix(".yaml")
    if "DATA.DECODING_BACKEND" in settings:  # torchvision is read as pyav, the default
        settings["DATA.DECODING_BACKEND"] = "pyav"
    if ours := PYTORCHVIDEO.get(settings.get("MODEL.MODEL_NAME")):
        if settings.pop("MODEL.SINGLE_PATHWAY_ARCH", None):  # CSN and R(2+1)D: all blocks have temporal kernels
            settings["RESNET.NUM_BLOCK_TEMP_KERNEL"] = [[3], [4], [6 if settings["RESNET.DEPTH"] == 50 else 23], [3]]
        sections = {"MODEL_NAME": "MODEL.", "TRANS_FUNC": "RESNET.", "SPATIAL_STRIDES": "RESNET."}
        settings.update({sections.get(key, "") + key: value for key, value in ours.items()})
        settings |= {key: settings[key].removeprefix("ptv") for key in ("TRAIN.DATASET", "TEST.DATASET")}
    if "LOGS.LOG_MODEL" in settings:
        settings["LOG_MODEL_INFO"] = settings.pop("LOGS.LOG_MODEL")
    for key in ("PGT.STEP_LEN", "PGT.OVERLAP"):  # a bare number is written as the list it is read as
        if isinstance(settings.get(key), int):
            settings[key] = [settings[key]]
    if "PGT.MGRID_STEP_LEN" in settings:
        settings["PGT.MGRID_STEP_LEN"] = [
            length if isinstance(length, list) else [length] for length in settings["PGT.MGRID_STEP_LEN"]
        ]
    return settings


def test_every_owed_setting_has_a_file_and_no_other_is_there():
    assert set(OWN) == OWN_SETTINGS
    assert set(FILES) <= FOUND
    assert len(FILES) == 55 + 12 + 19 + 72 + len(MODELS_OF_CHECKPOINTS)
    assert set(DIFFERENCES) | SURPLUS_RATES <= set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_file_loads_with_the_published_settings(file):
    owner, _, name = file.partition("/")
    cfg = flatten(load_config(path_of(file)))
    expected = expected_settings(file)
    assert {key: plain(cfg.get(key)) for key in expected} == {key: plain(value) for key, value in expected.items()}

    defaults = flatten(load_config(None, ["PROJECTS", cfg["PROJECTS"]]))
    changed = {key for key, value in cfg.items() if value != defaults[key]}
    assert changed <= set(expected) | WORKED_OUT
    assert cfg["PROJECTS"] == (["pgt"] if any(key.startswith("PGT.") for key in expected) else [])


@pytest.mark.parametrize("file", [*FILES, *OWN])
def test_numbers_in_the_file_are_numbers(file):
    settings = flatten(yaml.safe_load(path_of(file).read_text()))
    texts = {key: value for key, value in settings.items() if isinstance(value, str)}
    assert {key: value for key, value in texts.items() if not isinstance(plain(value), str)} == {}
    assert path_of(file).read_text().startswith("# ")


@pytest.mark.parametrize("file", [file for file in [*FILES, *OWN] if "PROG" in file])
def test_steps_cover_the_clip_exactly(file):
    settings = {"PGT.OVERLAP": [1], "PGT.STEPS": 5, "SLOWFAST.ALPHA": 8, **yaml_chain(path_of(file))}
    frames = settings["DATA.NUM_FRAMES"]
    pathways = [frames]
    if settings["MODEL.ARCH"] == "slowfast":
        assert frames % settings["SLOWFAST.ALPHA"] == 0
        slow = 76 if DIFFERENCES.get(file) == CHARADES_SLOWFAST else frames // settings["SLOWFAST.ALPHA"]
        pathways = [slow, frames]
    lengths, overlaps = settings["PGT.STEP_LEN"], settings["PGT.OVERLAP"]
    assert len(lengths) == len(overlaps) == len(pathways)
    for total, length, overlap in zip(pathways, lengths, overlaps, strict=True):
        read = list(range(length))
        for _ in range(settings["PGT.STEPS"] - 1):
            read += range(read[-1] + 1, read[-1] + 1 + length - overlap)
        assert len(read) == total, f"{settings['PGT.STEPS']} steps of {length}, overlap {overlap}"


@pytest.mark.parametrize("file", FILES)
def test_file_agrees_with_itself(file):
    settings = {**flatten(load_config(None)), **yaml_chain(path_of(file))}
    pathways = 2 if settings["MODEL.ARCH"] == "slowfast" else 1
    assert len(settings["DATA.INPUT_CHANNEL_NUM"]) == pathways
    blocks = {50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}[settings["RESNET.DEPTH"]]
    for key in ("NUM_BLOCK_TEMP_KERNEL", "SPATIAL_STRIDES", "SPATIAL_DILATIONS"):
        assert [len(stage) for stage in settings[f"RESNET.{key}"]] == [pathways] * 4
    for stage, depth in zip(settings["RESNET.NUM_BLOCK_TEMP_KERNEL"], blocks, strict=True):
        assert max(stage) <= depth
    for key in ("LOCATION", "GROUP"):
        assert [len(stage) for stage in settings[f"NONLOCAL.{key}"]] == [pathways] * 4
    for stage, depth in zip(settings["NONLOCAL.LOCATION"], blocks, strict=True):
        assert all(block < depth for pathway in stage for block in pathway)
    if settings["SOLVER.LR_POLICY"] == "steps_with_relative_lrs":
        assert settings["SOLVER.STEPS"] == sorted(settings["SOLVER.STEPS"])
        assert len(settings["SOLVER.STEPS"]) == len(settings["SOLVER.LRS"])
    assert settings["TRAIN.BATCH_SIZE"] % settings["NUM_GPUS"] == 0
    assert settings["TEST.BATCH_SIZE"] % settings["NUM_GPUS"] == 0
    assert settings["SOLVER.WARMUP_EPOCHS"] < settings["SOLVER.MAX_EPOCH"]


# Blocks of the fourth of a network's five stages.
STAGE4 = {
    ("ResNet", 50): 6,
    ("ResNet", 101): 23,
    ("SlowFast", 50): 6,
    ("SlowFast", 101): 23,
    ("X3D", 2.2): 11,
    ("X3D", 5.0): 25,
}


@pytest.mark.parametrize("file", FILES)
def test_file_builds(file):
    # NUM_GPUS 0: one process, in which synchronized batch norm is plain batch norm
    cfg = load_config(path_of(file), ["NUM_GPUS", 0])
    with torch.device("meta"):
        model = build_model(cfg)
    shapes = {name.removeprefix("backbone."): tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    name = cfg.MODEL.MODEL_NAME
    if name == "RegNet":
        assert sum(p.numel() for p in model.parameters()) == 8_796_800 + 385 * (cfg.MODEL.NUM_CLASSES - 200)
        return
    if name == "MaskMViT":
        assert len(model.blocks) == cfg.MVIT.DEPTH and "pred_head.projections.0.weight" in shapes
        return
    if name == "ContrastiveModel":
        layers = [shape for key, shape in shapes.items() if key.startswith("head.projection.") and len(shape) == 2]
        assert len(layers) == cfg.CONTRASTIVE.NUM_MLP_LAYERS
        assert layers[-1] == (cfg.MODEL.NUM_CLASSES, cfg.CONTRASTIVE.MLP_DIM)
        return
    assert shapes["head.projection.weight"][0] == cfg.MODEL.NUM_CLASSES
    if name == "MViT":
        assert len(model.layers) == cfg.MVIT.DEPTH
        return
    depth = cfg.X3D.DEPTH_FACTOR if name == "X3D" else cfg.RESNET.DEPTH
    stage4 = {name.split(".")[1] for name in shapes if name.startswith("s4.pathway0_res")}
    if (name, depth) in STAGE4:
        assert len(stage4) == STAGE4[name, depth]
    nonlocal_blocks = sum(len(pathway) for stage in cfg.NONLOCAL.LOCATION for pathway in stage)
    assert sum(name.endswith("conv_theta.weight") for name in shapes) == nonlocal_blocks


SMALL = [
    "NUM_GPUS", 0, "DATA.TRAIN_CROP_SIZE", 32, "DATA.TEST_CROP_SIZE", 32, "RESNET.WIDTH_PER_GROUP", 8,
    "X3D.WIDTH_FACTOR", 1.0, "X3D.DIM_C5", 64, "MVIT.EMBED_DIM", 48, "TIMESFORMER.EMBED_DIM", 24,
]  # fmt: skip


@pytest.mark.parametrize("file", [*FILES, *OWN])
@torch.no_grad()
def test_small_model_of_a_file_runs(file):
    cfg = load_config(path_of(file), SMALL)
    torch.manual_seed(0)
    model, batch = build_model(cfg).eval(), random_batch(cfg, 1)
    if cfg.MODEL.MODEL_NAME == "RegNet":  # its blocks start as the identity, and its head has no memory
        for norm in model.modules():
            if isinstance(norm, BatchNorm):
                norm.weight.fill_(1)
    if cfg.MODEL.MODEL_NAME == "MaskMViT":
        predictions, targets = model(batch.inputs, batch.mask)
        assert [len(x) for x in predictions] == [len(x) for x, _ in targets] and len(predictions[0])
        assert bool(torch.isfinite(build_loss(cfg)(predictions, targets)))
        return
    inputs, boxes = batch.inputs, [batch.key_frames[0].boxes.repeat(2, 1)] if cfg.DETECTION.ENABLE else []
    if not cfg.MODEL.ADAPTER:
        every_score = [model(inputs, *boxes)]
    else:
        every_score, memory, steps = [], None, pgt.StepPlan.from_config(cfg).split(inputs)
        for step in steps:
            scores, memory = model(step, memory, *boxes)
            every_score.append(scores)
        assert len(every_score) == cfg.PGT.STEPS
        alone, _ = model(steps[-1], None, *boxes)
        assert bool((scores - alone).abs().max() > 0) == cfg.PGT.MEMORY  # memory reaches the last step
    for scores in every_score:
        assert scores.shape == (2 if boxes else 1, cfg.MODEL.NUM_CLASSES)
        if cfg.TASK == "ssl":
            assert torch.allclose(scores.norm(dim=1), torch.ones(len(scores)))
            continue
        assert bool(torch.isfinite(scores).all()) and bool(((scores >= 0) & (scores <= 1)).all())
        if cfg.MODEL.HEAD_ACT == "softmax":
            torch.testing.assert_close(scores.sum(1), torch.ones(len(scores)))


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner in PUBLISHED for name in PUBLISHED[owner]])
def test_published_files_load_or_say_what_to_change(owner, name, published_files):
    path = published_files / owner / name
    message = PUBLISHED_BROKEN.get(f"{owner}/{name}")
    if message:
        with pytest.raises(ValueError, match=message):
            load_config(path)
        return
    cfg = load_config(path)
    published = published_chain(owner, name)
    if "pytorchvideo/" in name:  # read as ours, but for an older key without effect
        older = {"MODEL.SINGLE_PATHWAY_ARCH": cfg.MODEL.SINGLE_PATHWAY_ARCH}
        assert flatten(cfg) == flatten(load_config(path_of(f"{owner}/{name}"))) | older
    nopool = "_nopool" if published.get("MODEL.MODEL_NAME") == "ResNet_nopool" else ""
    assert cfg.MODEL.ARCH == published["MODEL.ARCH"] + nopool
    assert cfg.OUTPUT_DIR == published.get("LOGS.DIR", published.get("OUTPUT_DIR", "."))
    assert plain(cfg.SOLVER.WEIGHT_DECAY) == plain(published.get("SOLVER.WEIGHT_DECAY", 1e-4))
    assert "pgt" in cfg.PROJECTS or not any(key.startswith("PGT.") for key in published)
    loaded = flatten(cfg)
    numbers = {key: value for key, value in flatten(PUBLISHED[owner][name]).items() if type(value) in (int, float)}
    read = {key: loaded[key] for key in numbers}
    if DIFFERENCES.get(f"{owner}/{name}") == CHARADES_SLOWFAST:  # ours says what the published file runs
        ours = load_config(path_of(f"{owner}/{name}"))
        assert (cfg.DATA, cfg.PGT, cfg.SLOWFAST, cfg.TEST) == (ours.DATA, ours.PGT, ours.SLOWFAST, ours.TEST)
        numbers["DATA.NUM_FRAMES"] = 316
    assert {key: value[0] if isinstance(value, list) else value for key, value in read.items()} == numbers
    assert cfg_from_yaml(cfg_to_yaml(cfg)) == cfg


FINE_TUNING = [name for name, keys in PUBLISHED["slowfast"].items() if keys.get("TASK", "").startswith("ssl_eval")]


@pytest.mark.parametrize("name", FINE_TUNING)
def test_published_evaluations_of_pretraining_are_supervised(name, published_files):
    """Train as any clip classifier does; those named linear train the classifier alone."""
    cfg = load_config(published_files / "slowfast" / name)
    assert type(build_task(cfg)) is ClipTask
    assert ModelSetup.from_config(cfg).linear_probe == ("linear_" in name)
    assert len(FINE_TUNING) == 14
