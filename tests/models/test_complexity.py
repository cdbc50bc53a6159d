"""Parameters and multiply-adds of the published settings against published figures."""

import pytest
import torch
from torch import nn

from slowfast.config import load_config
from slowfast.models import build_model
from slowfast.models.complexity import complexity

# Setting, crop (None: DATA.TRAIN_CROP_SIZE), million parameters, GFLOPs of a view; None where it is not published.
X3D = "X3D (arXiv 2004.04730), section 4; PySlowFast's model zoo"
SLOWFAST = "SlowFast (arXiv 1812.03982), section 4: 256 pixels"
PYTORCHVIDEO = "PyTorchVideo's model zoo: the same models; its operations count norms too"
MVIT = "MViT (arXiv 2104.11227), section 4"
MVITV2 = "MViTv2 (arXiv 2112.01526), section 6"
PUBLISHED = [
    ("Kinetics/X3D_XS", None, 3.8, None, X3D),
    ("Kinetics/X3D_S", None, 3.8, 1.96, X3D),
    ("Kinetics/X3D_M", None, 3.8, 4.73, X3D),
    ("Kinetics/X3D_L", None, 6.2, 18.37, X3D),
    ("Kinetics/SLOW_4x16_R50", 256, 32.45, 27.3, SLOWFAST),
    ("Kinetics/SLOW_8x8_R50", 256, 32.45, 54.5, SLOWFAST),
    ("Kinetics/SLOWFAST_4x16_R50", 256, 34.48, 36.1, SLOWFAST),
    ("Kinetics/SLOWFAST_8x8_R50", 256, 34.57, 65.7, SLOWFAST),
    ("Kinetics/c2/SLOWFAST_8x8_R101_50_50", 256, None, 106, SLOWFAST),
    ("Kinetics/c2/SLOWFAST_8x8_R101_101_101", 256, 62.83, None, PYTORCHVIDEO),
    ("Kinetics/c2/SLOWFAST_16x8_R101_50_50", 256, 53.77, 213, SLOWFAST),
    ("Kinetics/c2/SLOWFAST_NLN_16x8_R101_50_50", 256, None, 234, SLOWFAST),
    ("Kinetics/C2D_8x8_R50", 256, 24.33, None, PYTORCHVIDEO),
    ("Kinetics/I3D_8x8_R50", 256, 28.04, None, PYTORCHVIDEO),
    ("Kinetics/MVIT_B_16x4_CONV", None, 36.6, 70.5, MVIT),
    # The file has 24 layers.
    ("Kinetics/MVIT_B_32x3_CONV", None, 52.9, 236, MVIT),
    ("Kinetics/MVITv2_S_16x4", None, 34.5, 64.5, MVITV2),
    ("Kinetics/MVITv2_B_32x3", None, 51.2, 225, MVITV2),
    # 0.59 TFLOPs are published for three views.
    ("Kinetics/TIMESFORMER_8x32_B16", None, 121.4, 196.7, "TimeSformer (arXiv 2102.05095), table 2"),
    ("SSv2/MVITv2_S_16x4", None, 34.4, 64.5, MVITV2),
    ("SSv2/MVITv2_B_32x3", None, 51.1, 225, MVITV2),
    ("SSv2/MVITv2_L_40x3", None, 213.1, 2828, MVITV2),
]


@pytest.mark.parametrize(
    ("name", "crop", "parameters", "gflops", "source"), [pytest.param(*row, id=row[0]) for row in PUBLISHED]
)
def test_published_settings(repo, name, crop, parameters, gflops, source):
    size = complexity(load_config(repo / f"configs/{name}.yaml", ["NUM_GPUS", 0]), crop)
    if parameters is not None:
        assert size.parameters / 1e6 == pytest.approx(parameters, rel=0.01), source
    if gflops is not None:
        assert size.multiply_adds / 1e9 == pytest.approx(gflops, rel=0.01), source


def test_mvit_of_16_layers_over_32_frames(repo):
    size = complexity(
        load_config(repo / "configs/Kinetics/MVIT_B_16x4_CONV.yaml", ["NUM_GPUS", 0, "DATA.NUM_FRAMES", 32])
    )
    assert size.parameters / 1e6 == pytest.approx(36.6, rel=0.01), MVIT
    assert size.multiply_adds / 1e9 == pytest.approx(170, rel=0.01), MVIT


def test_every_convolution_and_linear_map_is_counted_as_it_ran(tiny_model):
    cfg = load_config(None, [*tiny_model, "RESNET.NUM_GROUPS", 2, "RESNET.TRANS_FUNC", "bottleneck_transform"])
    model, counted = build_model(cfg).eval(), []

    def count(layer, inputs, output):
        if isinstance(layer, nn.Conv3d):
            counted.append(output.numel() * layer.weight[0].numel())
        elif isinstance(layer, nn.Linear):
            counted.append(output.numel() * layer.in_features)

    for layer in model.modules():
        layer.register_forward_hook(count)
    with torch.no_grad():
        model([torch.zeros(1, 3, 8, 32, 32)])
    size = complexity(cfg)
    assert size.multiply_adds == sum(counted)
    assert size.parameters == sum(p.numel() for p in model.parameters())
    assert f"{sum(counted) / 1e9:.2f} GFLOPs" in str(size)


def test_counting_leaves_random_numbers_alone(tiny_model):
    cfg = load_config(None, tiny_model)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    complexity(cfg)
    assert torch.equal(torch.rand(3), expected)


def block(tokens, dim):
    """Multiply-adds of a transformer block: four linear maps, attention, MLP of four times the width."""
    return 4 * tokens * dim**2 + 2 * tokens**2 * dim + 8 * tokens * dim**2


def test_masked_pretraining_counts_visible_tokens_and_the_decoder(repo):
    size = complexity(load_config(repo / "configs/masked_ssl/k400_VIT_B_16x4_MAE_PT.yaml", ["NUM_GPUS", 0]))
    tokens, dim, narrow = 8 * 14 * 14, 768, 512
    kept = int(tokens * 0.1)
    expected = tokens * dim * (3 * 2 * 16 * 16) + 12 * block(1 + kept, dim) + (1 + kept) * dim * narrow
    expected += 4 * block(1 + tokens, narrow) + (tokens - kept) * narrow * (3 * 16 * 16)
    assert size.multiply_adds == expected


def test_masked_pretraining_of_mvit_costs_what_all_tokens_cost(repo):
    pretraining, fine_tuning = (
        complexity(load_config(repo / f"configs/masked_ssl/k400_MVITv2_S_16x4_{name}.yaml", ["NUM_GPUS", 0]))
        for name in ("MaskFeat_PT", "FT")
    )
    # Its last stage has stride 1 in place of 2.
    assert 1 < pretraining.multiply_adds / fine_tuning.multiply_adds < 1.4
