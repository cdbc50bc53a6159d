"""Runs with boxes that no data set here has stop before the first batch, and say why."""

import pytest

from slowfast.datasets.build import build_dataset


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", ["configs/AVA/SLOW_8x8_R50_SHORT.yaml", "projects/pgt/configs/AVA/SLOW_PROG_36x8_R50_K400.yaml"]
)
def test_a_published_setting_of_ava(tool, repo, tmp_path, file):
    settings = ["NUM_GPUS", 0, "OUTPUT_DIR", tmp_path / "out", "RESNET.WIDTH_PER_GROUP", 8]
    process = tool("run_net", "--cfg", repo / file, *settings)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert output.strip().splitlines()[-1].startswith("error: TRAIN.DATASET (or TEST.DATASET) is 'ava'")


@pytest.mark.parametrize(("split", "key"), [("train", "TRAIN.DATASET"), ("test", "TEST.DATASET")])
def test_a_data_set_without_boxes(tiny_cfg, split, key):
    cfg = tiny_cfg("DETECTION.ENABLE", True)
    with pytest.raises(ValueError, match=f"{key} kinetics has no boxes.*DETECTION.ENABLE False"):
        build_dataset(cfg, split)
