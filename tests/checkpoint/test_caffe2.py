"""Caffe2's blobs: every published name, the models of other depths, and the files as Python 2 wrote them."""

import copy
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from slowfast.checkpoint import load_checkpoint, load_weights
from slowfast.checkpoint.formats.foreign_names import is_training_state, state_dict_key
from slowfast.config import load_config
from slowfast.models import build_model

ROOT = Path(__file__).parents[2]
SETTINGS = ["slow_8x8_r50", "slowfast_8x8_r50", "i3d_nln_8x8_r50", "c2d_8x8_r50"]
NORM = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
SMALL = ["NUM_GPUS", 0, "RESNET.WIDTH_PER_GROUP", 8, "MODEL.NUM_CLASSES", 7, "BN.NORM_TYPE", "batchnorm"]


def blob_name(key: str, last_block: dict[str, int]) -> str:
    """Return the blob name of a state-dict key, by an independent reverse mapping."""
    *path, tensor = key.split(".")
    fast = "t_" if "pathway1" in key or "_fuse" in key else ""
    if path[0] == "head":
        return "pred_w" if tensor == "weight" else "pred_b"
    stage = path[0][1]
    if path[0].endswith("_fuse"):
        front = "pool1" if stage == "1" else f"res{stage}_{last_block[stage]}_branch2c_bn"
        return f"{fast}{front}_subsample_" + ("w" if path[1] == "conv_f2s" else f"bn_{NORM[tensor]}")
    if path[1].endswith("_stem"):
        return f"{fast}conv1_w" if path[2] == "conv" else f"{fast}res_conv1_bn_{NORM[tensor]}"
    number = re.search(r"(\d+)$", path[1])[1]
    if "nonlocal" in path[1]:
        front = f"{fast}nonlocal_conv{stage}_{number}"
        plain = f"{front}_{path[2].removeprefix('conv_')}_{tensor[0]}"
        return f"{front}_bn_{NORM[tensor]}" if path[2] == "bn" else plain
    layer = "".join(path[2:]).removesuffix("_bn")
    return f"{fast}res{stage}_{number}_{layer}_" + (f"bn_{NORM[tensor]}" if path[-1].endswith("_bn") else "w")


def blobs_of(model) -> dict[str, np.ndarray]:
    weights = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    last_block = {}
    for key in weights:
        if match := re.match(r"s(\d)\.pathway1_res(\d+)\.", key):
            last_block[match[1]] = max(last_block.get(match[1], 0), int(match[2]))
    return {blob_name(key, last_block): value.numpy() for key, value in weights.items()}


def write_python2(path, blobs, protocol=2):
    """Write a pickle as numpy under Python 2 did: arrays by `numpy.core.multiarray._reconstruct`, bytes as text."""
    text = pickle.dumps({"blobs": blobs}, protocol=protocol)
    path.write_bytes(text.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    return str(path)


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_published_name(caffe2_pairs, setting):
    pairs = caffe2_pairs[setting]
    assert len(pairs) > 260
    assert [(blob, state_dict_key(blob)) for blob, _ in pairs] == [tuple(pair) for pair in pairs]
    last_block = {"2": 2, "3": 3, "4": 5, "5": 2}
    assert [blob_name(key, last_block) for _, key in pairs] == [blob for blob, _ in pairs]


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_names_fill_every_key(caffe2_pairs, setting, parity_keys):
    keys = {key for key in parity_keys(setting) if not key.endswith("num_batches_tracked")}
    assert {state_dict_key(blob) for blob, _ in caffe2_pairs[setting]} == keys


@pytest.mark.parametrize(
    "file",
    [
        "Kinetics/c2/SLOW_8x8_R50",
        "Kinetics/c2/C2D_NOPOOL_8x8_R50",
        "Charades/SLOWFAST_16x8_R50",
        pytest.param("Kinetics/I3D_NLN_8x8_R101", marks=pytest.mark.slow),
        pytest.param("AVA/c2/SLOWFAST_32x2_R101_50_50", marks=pytest.mark.slow),
    ],
)
def test_files_of_other_settings_load_whole(file, tmp_path, randomized):
    cfg = load_config(ROOT / "configs" / f"{file}.yaml", SMALL)
    source = randomized(build_model(cfg))
    target = randomized(copy.deepcopy(source), seed=1)
    blobs = blobs_of(source)
    training = {"lr": np.float32(0.1), "model_iter": np.array([5]), "conv1_w_momentum": blobs["conv1_w"] * 0}
    # As in the published files, a 1x1x1 kernel may come without its last dimensions.
    blobs["res2_0_branch1_w"] = blobs["res2_0_branch1_w"].reshape(blobs["res2_0_branch1_w"].shape[:2])
    path = write_python2(tmp_path / "some.pkl", blobs | training)
    report = load_weights(target, load_checkpoint(path, "caffe2")["model_state"], path)
    assert report.is_exact and list(report.transformed) == ["s2.pathway0_res0.branch1.weight"]
    loaded = target.state_dict()
    for key, value in source.state_dict().items():
        assert torch.equal(value, loaded[key]) or key.endswith("num_batches_tracked"), key


def test_another_head_and_unknown_blobs_are_reported(tmp_path):
    cfg = load_config(ROOT / "configs/Kinetics/c2/SLOW_8x8_R50.yaml", SMALL)
    blobs = blobs_of(build_model(cfg)) | {"rois_x": np.zeros(3, "f4")}
    del blobs["res5_2_branch2c_w"]
    path = write_python2(tmp_path / "some.pkl", blobs)
    other = build_model(load_config(ROOT / "configs/Kinetics/c2/SLOW_8x8_R50.yaml", [*SMALL, "MODEL.NUM_CLASSES", 5]))
    weights = load_checkpoint(path)["model_state"]
    with pytest.raises(ValueError, match="CHECKPOINT_DROP_MISMATCH"):
        load_weights(other, weights, path, allow_missing=True)
    report = load_weights(other, weights, path, allow_missing=True, drop_classifier=True)
    assert report.missing == ["s5.pathway0_res2.branch2.c.weight"] and report.unexpected == ["rois_x"]
    assert sorted(report.mismatched) == ["head.projection.bias", "head.projection.weight"]


def test_state_of_the_optimizer_is_no_weight():
    assert all(is_training_state(name) for name in ("lr", "model_iter", "conv1_w_momentum", "pred_b_momentum"))
    assert not any(is_training_state(name) for name in ("pred_w", "conv1_w", "rois", "res2_0_branch2a_bn_riv"))


@pytest.mark.parametrize(
    "name", ["conv1_x", "res2_0_branch1_s", "nonlocal_conv3_1_bn_w", "t_pred_w", "pred_w_extra", ""]
)
def test_names_of_nothing(name):
    assert state_dict_key(name) is None
