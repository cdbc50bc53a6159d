"""The demo's YAML files: one small model three ways, and no method short of training."""

from pathlib import Path

import pytest
import torch

from pgt import StepPlan
from slowfast.config import load_config
from slowfast.models import build_model

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "configs/Synthetic/SWEEP_SLOW_8x1.yaml"
PGT = ROOT / "projects/pgt/configs/Synthetic/SWEEP_PGT_36x1.yaml"
MEMORY_OFF = ROOT / "projects/pgt/configs/Synthetic/SWEEP_PGT_36x1_MEMORY_OFF.yaml"


@pytest.mark.parametrize("path", [CLIP, PGT, MEMORY_OFF], ids=lambda path: path.stem)
def test_the_model_is_small_and_the_same(path):
    cfg = load_config(str(path))
    model = build_model(cfg)
    reference = build_model(load_config(str(CLIP)))
    assert 0.28e6 < sum(parameter.numel() for parameter in model.parameters()) < 0.30e6
    shapes = {name: tensor.shape for name, tensor in reference.state_dict().items()}
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == shapes


def test_pgt_reads_the_video_in_five_steps():
    cfg = load_config(str(PGT))
    plan = StepPlan.from_config(cfg)
    assert [len(frames) for frames in plan.frame_ranges()] == [8, 7, 7, 7, 7]
    assert (cfg.PGT.CACHE, cfg.PGT.CACHE_MOMENTUM, cfg.PGT.STEP_WEIGHTS, cfg.PGT.FULL_GRADIENT) == (
        "max",
        0.0,
        [],
        False,
    )


def test_baselines_get_no_fewer_updates():
    """Batches are equal, so epochs count updates; a clip is 36 / 8 times as cheap, so equal seconds take more."""
    clip, progressive, off = (load_config(str(path)) for path in (CLIP, PGT, MEMORY_OFF))
    assert clip.TRAIN.BATCH_SIZE == progressive.TRAIN.BATCH_SIZE == off.TRAIN.BATCH_SIZE
    assert off.SOLVER.MAX_EPOCH > progressive.SOLVER.MAX_EPOCH
    assert clip.SOLVER.MAX_EPOCH * 8 >= progressive.SOLVER.MAX_EPOCH * 32


def test_memory_off_forgets_and_pgt_remembers():
    changed = []
    for path in (PGT, MEMORY_OFF):
        model = build_model(load_config(str(path))).eval()
        first = torch.randn(2, 2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
        second = torch.randn(2, 3, 7, 32, 32, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            scores = [model([second], model([clip], None)[1])[0] for clip in first]
        changed.append(not torch.equal(*scores))
    assert changed == [True, False]
