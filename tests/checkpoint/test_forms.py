"""Files of other forms: PySlowFast's, safetensors, norms of parts of a batch, and the wrong CHECKPOINT_TYPE."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from slowfast.checkpoint import load_checkpoint, load_weights, write_tensor_file
from slowfast.config import load_config
from slowfast.models import build_model


def weights_of(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("old_format", [False, True])
def test_a_file_of_pyslowfast(tiny_cfg, tmp_path, randomized, old_format):
    """Its keys, among them the state of the optimizer and the settings as text."""
    model = randomized(build_model(tiny_cfg()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    path = str(tmp_path / "checkpoint_epoch_00010.pyth")
    state = {
        "epoch": 9,
        "model_state": model.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "cfg": "TASK: ''\n",
    }
    torch.save(state | {"scaler_state": {}}, path, _use_new_zipfile_serialization=not old_format)
    saved = load_checkpoint(path, "pytorch")
    assert saved["epoch"] == 9 and saved["cfg"] == "TASK: ''\n" and "optimizer_state" in saved
    assert load_weights(build_model(tiny_cfg()), saved["model_state"], path).is_exact


@pytest.mark.parametrize("container", ["model_state", "state_dict", "model", None])
def test_where_files_keep_their_weights(tmp_path, container):
    weights = {"module.a": torch.ones(2)}
    torch.save({container: weights, "epoch": 3} if container else weights, tmp_path / "x.pth")
    saved = load_checkpoint(str(tmp_path / "x.pth"))
    assert list(saved["model_state"]) == ["module.a"] and saved.get("epoch") == (3 if container else None)


def test_tensor_file_and_back(tiny_cfg, tmp_path, randomized):
    model = randomized(build_model(tiny_cfg()).to(memory_format=torch.channels_last_3d))
    path = str(tmp_path / "folder" / "some.safetensors")
    weights = weights_of(model) | {"tied": model.state_dict()["head.projection.bias"]}
    weights["tied.too"] = weights["tied"]
    write_tensor_file(weights, path, "TASK: x\n", epoch=4)
    saved = load_checkpoint(path, "pytorch")
    assert (saved["epoch"], saved["cfg"]) == (4, "TASK: x\n")
    assert saved["model_state"].keys() == weights.keys()
    assert all(torch.equal(value, saved["model_state"][key]) for key, value in weights.items())
    write_tensor_file({"a": torch.ones(1)}, path)
    assert load_checkpoint(path).keys() == {"model_state"}
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["some.safetensors"]


def test_a_damaged_tensor_file(tmp_path):
    path = tmp_path / "some.safetensors"
    write_tensor_file({"a": torch.ones(100)}, str(path))
    whole = path.read_bytes()
    for bad in (whole[:-40], whole[:30], whole.replace(b"F32", b"F99"), whole[:8] + b"{" * 10 + whole[18:]):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match="some.safetensors"):
            load_checkpoint(str(path))


@pytest.fixture
def file_of(tmp_path):
    """Return a function that writes a small file of a kind and returns its path."""

    def write(kind):
        path = tmp_path / f"{kind}.file"
        if kind == "caffe2":
            path.write_bytes(pickle.dumps({"blobs": {"conv1_w": np.ones((2, 2), "f4")}}, 2))
        else:
            name = {"aia": "backbone.slow.res_nl1.res_0.btnk.conv1.conv.weight", "pytorch": "s1.weight"}[kind]
            torch.save({"model_state": {name: torch.ones(1)}}, path)
        return str(path)

    return write


@pytest.mark.parametrize("wanted", ["pytorch", "caffe2", "aia"])
@pytest.mark.parametrize("found", ["pytorch", "caffe2", "aia"])
def test_the_wrong_type_says_what_to_set(file_of, found, wanted):
    path = file_of(found)
    if found == wanted:
        assert load_checkpoint(path, wanted)["model_state"]
        return
    with pytest.raises(ValueError, match=f"{found}.file .*TEST.CHECKPOINT_TYPE is {wanted}; set .*_TYPE {found}"):
        load_checkpoint(path, wanted, "TEST.CHECKPOINT_TYPE")


def test_norms_of_parts_as_other_code_saves_them(randomized):
    """Norm of the whole inside, statistics of the parts beside it, the affine map outside."""
    plain = nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4))
    randomized(plain)
    state = plain.state_dict()
    raw = {key: state[key] for key in ("0.weight", "0.bias", "1.weight", "1.bias")}
    raw |= {f"1.bn.{name}": state[f"1.{name}"] for name in ("running_mean", "running_var", "num_batches_tracked")}
    raw |= {f"1.split_bn.{name}": torch.zeros(8) for name in ("running_mean", "running_var")}
    target = randomized(copy.deepcopy(plain), seed=1)
    report = load_weights(target, raw, "file")
    assert report.is_exact and sorted(report.transformed) == [
        "1.num_batches_tracked",
        "1.running_mean",
        "1.running_var",
    ]
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in state.items())


def test_a_report_names_what_was_transformed(randomized):
    model = nn.Sequential(nn.Conv3d(3, 4, 1, bias=False))
    report = load_weights(model, {"0.weight": torch.ones(4, 3)}, "file")
    assert "1 of them transformed" in report.describe() and "0.weight" in report.describe()
    assert torch.equal(model[0].weight, torch.ones(4, 3, 1, 1, 1))


def test_strict_refuses_what_has_no_counterpart():
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="CHECKPOINT_STRICT.*\n.*\n.*other.weight"):
        load_weights(model, weights_of(model) | {"other.weight": torch.ones(1)}, "file", strict=True)
    assert load_weights(model, weights_of(model), "file", strict=True).is_exact


def test_positions_of_another_crop_are_interpolated_and_named():
    small = ["NUM_GPUS", 0, "MVIT.EMBED_DIM", 16, "DATA.NUM_FRAMES", 4]
    crops = [["DATA.TRAIN_CROP_SIZE", size, "DATA.TEST_CROP_SIZE", size] for size in (32, 64)]
    file = Path(__file__).parents[2] / "configs/Kinetics/MVIT_B_16x4_CONV.yaml"
    source, target = (build_model(load_config(file, [*small, *crop])) for crop in crops)
    report = load_weights(target, weights_of(source), "file")
    assert report.is_exact and report.transformed == {"pos_embed_spatial": "positions interpolated"}
