"""The YAML files say what was published, agree with themselves, and load.

Every deliberate difference of our files is in a table below.
"""

import pytest
import yaml

from slowfast.config import cfg_from_yaml, cfg_to_yaml, load_config
from slowfast.engine.model_setup import ModelSetup
from slowfast.engine.task import ClipTask, build_task
from tests.config.published import FILES, FOUND, OWN, PUBLISHED, flatten, path_of, plain, published_chain, yaml_chain

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
    "pgt/Synthetic/CATER_ORDER_PGT_37x8.yaml",
    "pgt/Synthetic/CATER_PGT_37x8.yaml",
    "pgt/Synthetic/CATER_VIT_PGT_36x8.yaml",
    "pgt/Synthetic/CHARADES_PGT_36x2.yaml",
    "pgt/Synthetic/KINETICS_PGT_36x1.yaml",
    "pgt/Synthetic/SSV2_PGT_36.yaml",
    "pgt/Synthetic/SWEEP_MAE_PGT_36x1.yaml",
    "pgt/Synthetic/SWEEP_PGT_36x1.yaml",
    "pgt/Synthetic/SWEEP_PGT_36x1_GATE.yaml",
    "pgt/Synthetic/SWEEP_PGT_36x1_MEMORY_OFF.yaml",
    "pgt/Synthetic/SWEEP_PGT_36x1_SLOTS.yaml",
    "pgt/Synthetic/SWEEP_SLOWFAST_PGT_36x1.yaml",
    "pgt/Synthetic/SWEEP_VIT_PGT_36x1.yaml",
    "pgt/Synthetic/SWEEP_X3D_PGT_36x1.yaml",
    "pgt/miniKinetics/R3D_8x8_4G.yaml",
    "pgt/miniKinetics/R3D_PROG_36x8_4G.yaml",
    "slowfast/ImageNet/MVITv2_B.yaml",
    "slowfast/Kinetics/MVIT_B_32x3_CONV_K600.yaml",
    "slowfast/Kinetics/TIMESFORMER_8x32_B16.yaml",
    "slowfast/Synthetic/AVA_SLOW_8x4.yaml",
    "slowfast/Synthetic/CATER_ORDER_SLOW_8x8.yaml",
    "slowfast/Synthetic/CATER_SLOW_2x8.yaml",
    "slowfast/Synthetic/CATER_SLOW_8x8.yaml",
    "slowfast/Synthetic/CATER_VIT_2x8.yaml",
    "slowfast/Synthetic/CATER_VIT_8x8.yaml",
    "slowfast/Synthetic/CHARADES_SLOW_8x2.yaml",
    "slowfast/Synthetic/KINETICS_SLOW_8x1.yaml",
    "slowfast/Synthetic/SSV2_SLOW_8.yaml",
    "slowfast/Synthetic/SWEEP_MAE_12x1.yaml",
    "slowfast/Synthetic/SWEEP_SLOWFAST_8x1.yaml",
    "slowfast/Synthetic/SWEEP_SLOW_8x1.yaml",
    "slowfast/Synthetic/SWEEP_VIT_8x1.yaml",
    "slowfast/Synthetic/SWEEP_X3D_8x1.yaml",
}


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


def test_every_published_setting_has_a_file_and_no_other_is_there():
    assert set(OWN) == OWN_SETTINGS
    assert set(FILES) <= FOUND
    assert {owner: len(files) for owner, files in PUBLISHED.items()} == {"slowfast": 108, "pgt": 72}
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
