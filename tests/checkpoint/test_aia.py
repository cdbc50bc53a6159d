"""AlphAction's names: the whole published list, and the published settings that start from such a file."""

import re
from pathlib import Path

import pytest
import torch

from slowfast.checkpoint import load_checkpoint, load_weights
from slowfast.checkpoint.formats.foreign_names import aia_key, rename_foreign
from slowfast.config import load_config
from slowfast.models import build_model

SETTINGS = Path(__file__).parents[2] / "projects/pgt/configs"
SMALL = ["NUM_GPUS", 0, "RESNET.WIDTH_PER_GROUP", 8, "PGT.ENABLE", False]


def foreign_name(key: str) -> str:
    """AlphAction's name of a state-dict key, put together the other way round."""
    *path, tensor = key.split(".")
    if path[0] == "head":
        return f"cls_head.pred.{tensor}"
    stage = int(path[0][1])
    if path[0].endswith("_fuse"):
        return f"fast.Tconv{stage}.{'conv' if path[1] == 'conv_f2s' else 'bn'}.{tensor}"
    front = "fast" if "pathway1" in path[1] else "slow"
    if path[1].endswith("_stem"):
        return f"{front}.{path[2]}1.{tensor}"
    number = re.search(r"(\d+)$", path[1])[1]
    layer = "shortcut" if path[2].startswith("branch1") else f"btnk.conv{'abc'.index(path[3][0]) + 1}"
    return f"{front}.res_nl{stage - 1}.res_{number}.{layer}.{'bn' if path[-1].endswith('_bn') else 'conv'}.{tensor}"


def test_every_published_name(aia_pairs):
    assert len(aia_pairs) == 536
    for name, key in aia_pairs:
        assert "module.backbone." + foreign_name(key) == name
        for prefix in ("module.backbone.", "backbone.", "module.", ""):
            assert aia_key(prefix + foreign_name(key)) == key
    assert aia_key("module.backbone.slow.res_nl1.res_0.btnk.conv4.conv.weight") is None
    assert aia_key("s1.pathway0_stem.conv.weight") is None
    foreign, own = (dict.fromkeys(names) for names in zip(*aia_pairs, strict=True))
    assert rename_foreign(foreign) == (own, "aia") and rename_foreign(own) == (own, "pytorch")


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["module.backbone.", ""])
@pytest.mark.parametrize(
    "file", ["Charades/SLOWFAST_16x8_R101_K600", "AVA/SLOWFAST_16x8_R101_K600", "Charades/SLOWFAST_PROG_76x8_R101_K600"]
)
def test_published_settings_are_filled_whole(file, prefix, tmp_path, randomized):
    cfg = load_config(SETTINGS / f"{file}.yaml", SMALL)
    assert cfg.TRAIN.CHECKPOINT_TYPE == "aia" and not cfg.SLOWFAST.FUSION_BN and not cfg.SLOWFAST.FUSION_RELU
    model = randomized(build_model(cfg))
    weights = {prefix + foreign_name(key): value.clone() for key, value in model.state_dict().items()}
    weights[f"{prefix}cls_head.pred.weight"] = torch.zeros(600, *model.state_dict()["head.projection.weight"].shape[1:])
    weights[f"{prefix}cls_head.pred.bias"] = torch.zeros(600)
    path = str(tmp_path / "SLOWFAST.pth")
    torch.save({"model": weights, "iteration": 3}, path)
    randomized(model, seed=1)
    report = load_weights(model, load_checkpoint(path, "aia")["model_state"], path, drop_classifier=True)
    assert not report.missing and not report.unexpected
    assert sorted(report.mismatched) == ["head.projection.bias", "head.projection.weight"]
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], weights[prefix + foreign_name(key)]) for key in report.matched)


def test_padding_of_the_stem_pool_is_the_settings_own():
    assert not load_config(SETTINGS / "Charades/SLOWFAST_16x8_R101_K600.yaml", SMALL).RESNET.STEM_POOL_PAD
