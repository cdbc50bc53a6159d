"""Published settings start as they are, by the program: some of each data set and task.

`python -m tests.config.starts` starts all of them.
"""

import pytest

from tests.config.starts import start, write_data

STARTED = [
    "pgt/AVA/SLOW_PROG_36x8_R50_K400.yaml",
    "pgt/miniKinetics/SLOW_PROG_36x8_R50_mgrid.yaml",
    "slowfast/AVA/SLOWFAST_32x2_R50_SHORT.yaml",
    "slowfast/Charades/SLOWFAST_16x8_R50_multigrid.yaml",
    "slowfast/ImageNet/MVITv2_T.yaml",
    "slowfast/Kinetics/REV_MVIT_B_16x4_CONV.yaml",
    "slowfast/Kinetics/pytorchvideo/CSN_32x2_R101.yaml",
    "slowfast/contrastive_ssl/BYOL_SlowR50_8x8.yaml",
    "slowfast/contrastive_ssl/linear_k400_Slow_8x8_R50_syn8.yaml",
    "slowfast/masked_ssl/in1k_VIT_B_MaskFeat_PT.yaml",
    "slowfast/masked_ssl/k400_VIT_B_16x4_MAE_PT.yaml",
]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("file", STARTED)
def test_a_published_setting_starts(file, places, published_files, tmp_path):
    assert start(published_files / file, places, tmp_path / "run") == ""
