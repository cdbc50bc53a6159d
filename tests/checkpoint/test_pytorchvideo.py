"""Checkpoints of PyTorchVideo's models: every published name, and the scores of their own program.

`fixtures/pytorchvideo.json` was made with pytorchvideo 0.1.5, built as PySlowFast's wrappers build it. For each
published setting: the number of names in a checkpoint, and the SHA-256 of the sorted lines "NAME SHAPE"; for some, the
scores of eval mode with the weights of `fill.py` under their names, width 8 and 20 classes.
"""

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch

from slowfast.checkpoint import load_weights
from slowfast.checkpoint.formats.foreign_names import rename_foreign
from slowfast.checkpoint.zoo.entries import all_entries
from slowfast.config import load_config
from slowfast.models import MODEL_REGISTRY, build_model

ROOT = Path(__file__).parents[2]
MADE = json.loads((ROOT / "tests/fixtures/pytorchvideo.json").read_text())
LAYERS = {
    "branch1": "branch1_conv", "branch1_bn": "branch1_norm", "t": "conv_b.conv_t", "t_bn": "conv_b.norm",
    "a": "conv_a", "a_bn": "norm_a", "b": "conv_b", "b_bn": "norm_b", "c": "conv_c", "c_bn": "norm_c",
    "se.fc1": "norm_b.1.block.0", "se.fc2": "norm_b.1.block.2",
}  # fmt: skip
VIT = {"patch_embed.proj": "patch_embed.patch_model", "norm": "norm_embed", "head.projection": "head.proj"}


def their_name(key, cfg):
    """PyTorchVideo's name of a state-dict key, put together the other way round."""
    if "." not in key:  # class token and positions
        return f"model.cls_positional_encoding.{key}"
    path, tensor = key.rsplit(".", 1)
    kind = cfg.MODEL.MODEL_NAME
    if kind == "MViT":
        return f"model.{VIT.get(path, path)}.{tensor}"
    pooled = cfg.MODEL.ARCH in ("c2d", "i3d")
    pathway = (m := re.search(r"pathway(\d)_", path)) and m[1]
    front = f"multipathway_blocks.{pathway}." if kind == "SlowFast" and pathway else ""
    if path.startswith("head."):
        layer = path.removeprefix("head.")
        layer = {"projection": "proj", "conv_5": "pool.pre_conv", "conv_5_bn": "pool.pre_norm"}.get(layer, layer)
        block = 6 if pooled or kind == "SlowFast" else 5
        return f"model.blocks.{block}.{layer.replace('lin_5', 'pool.post_conv')}.{tensor}"
    stage = int(path[1])
    block = stage - 1 + (pooled and stage > 2)
    if path.endswith(("_fuse.conv_f2s", "_fuse.bn")):
        layer = "conv_fast_to_slow" if path.endswith("f2s") else "norm"
        return f"model.blocks.{block}.multipathway_fusion.{layer}.{tensor}"
    if stage == 1:
        layer = path.rpartition("stem.")[2]
        swapped = {"conv_xy": "conv.conv_t", "conv": "conv.conv_xy" if kind == "X3D" else "conv", "bn": "norm"}
        return f"model.blocks.0.{front}{swapped[layer]}.{tensor}"
    number, layer = re.search(r"_res(\d+)\.(?:branch2\.)?(.+)$", path).groups()
    theirs = LAYERS[layer]
    if layer == "b" and cfg.MODEL.ARCH == "r2plus1d":
        theirs = "conv_b.conv_xy"
    if layer == "b_bn" and kind == "X3D":
        theirs = "norm_b.0"
    branch = "" if layer.startswith("branch1") else "branch2."
    return f"model.blocks.{block}.{front}res_blocks.{number}.{branch}{theirs}.{tensor}"


def setting(name, *overrides):
    return load_config(ROOT / "configs" / f"{name}.yaml", ["NUM_GPUS", 0, *overrides])


@pytest.mark.parametrize("name", MADE)
def test_every_name_of_a_published_checkpoint(name):
    cfg = setting(name)
    with torch.device("meta"):
        own = build_model(cfg).state_dict()
    theirs = {their_name(key, cfg): value for key, value in own.items()}
    lines = sorted(f"{key} {list(value.shape)}" for key, value in theirs.items())
    assert len(lines) == MADE[name]["names"]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == MADE[name]["sha256"]
    for prefix in ("model.", "module.model.", ""):
        renamed, kind = rename_foreign({prefix + key.removeprefix("model."): value for key, value in theirs.items()})
        assert kind == "pytorch" and renamed.keys() == own.keys()
        assert all(renamed[key] is own[key] for key in own)
    assert rename_foreign(own) == (own, "pytorch")


@pytest.mark.parametrize("name", [name for name, made in MADE.items() if "scores" in made])
@torch.no_grad()
def test_scores_are_those_of_their_program(name, parity, relative_error):
    crop = MADE[name]["crop"]
    cfg = setting(
        name, "RESNET.WIDTH_PER_GROUP", 8, "MODEL.NUM_CLASSES", 20,
        "DATA.TRAIN_CROP_SIZE", crop, "DATA.TEST_CROP_SIZE", crop,
    )  # fmt: skip
    model = build_model(cfg).eval()
    fill = parity.fill_tensor
    weights = {(theirs := their_name(key, cfg)): fill(theirs, value) for key, value in model.state_dict().items()}
    assert load_weights(model, rename_foreign(weights)[0], name, strict=True).is_exact
    clip = parity.make_clip(name, (1, 3, cfg.DATA.NUM_FRAMES, crop, crop))
    slow = clip[:, :, torch.linspace(0, cfg.DATA.NUM_FRAMES - 1, cfg.DATA.NUM_FRAMES // cfg.SLOWFAST.ALPHA).long()]
    scores = model([slow, clip] if cfg.MODEL.MODEL_NAME == "SlowFast" else [clip])
    assert relative_error(scores, [MADE[name]["scores"]]) < 1e-4


def test_boxes_heads_and_unknown_names():
    weights = {
        "model.blocks.1.res_blocks.0.branch1_conv.weight": 0, "detection_head.proj.bias": 1, "other.thing": 2,
        "model.blocks.1.res_blocks.0.branch9.weight": 3,
    }  # fmt: skip
    assert rename_foreign(weights)[0] == {
        "s2.pathway0_res0.branch1.weight": 0, "head.projection.bias": 1, "other.thing": 2,
        "model.blocks.1.res_blocks.0.branch9.weight": 3,
    }  # fmt: skip


def test_the_zoo_lists_them_with_their_settings():
    entries = [entry for entry in all_entries() if entry.name.startswith("ptv_")]
    assert {entry.config for entry in entries} == {name for name in MADE if "MVIT" not in name}
    assert len(entries) == 16


@pytest.mark.parametrize(("key", "value", "ours"), [
    ("MODEL.MODEL_NAME", "PTVSlowFastAcoustic", "SlowFast"), ("TRAIN.DATASET", "ptvava", "ava"),
])  # fmt: skip
def test_what_has_no_counterpart_names_ours(key, value, ours):
    with pytest.raises(ValueError, match=rf"{key} is '{value}'; it can be .*\b{ours}\b"):
        load_config(None, [key, value])


def test_any_case_of_a_data_set():
    cfg = load_config(None, ["TRAIN.DATASET", "Ptvssv2", "TEST.DATASET", "ptvkinetics"])
    assert (cfg.TRAIN.DATASET, cfg.TEST.DATASET) == ("ssv2", "kinetics")


def test_a_model_of_a_project_keeps_its_name(monkeypatch):
    monkeypatch.setattr(MODEL_REGISTRY, "_objects", dict(MODEL_REGISTRY._objects))
    monkeypatch.setattr(MODEL_REGISTRY, "_facts", dict(MODEL_REGISTRY._facts))
    MODEL_REGISTRY.register("PTVX3D")(lambda cfg: None)
    cfg = load_config(None, ["MODEL.MODEL_NAME", "PTVX3D"])
    assert cfg.MODEL.MODEL_NAME == "PTVX3D" and cfg.X3D.SHORTCUT_BN
