"""The models of the YAML files are built at full size, and run when small."""

import pytest
import torch

import pgt
from slowfast.config import load_config
from slowfast.engine.trial import random_batch
from slowfast.layers.norm import BatchNorm
from slowfast.models import build_model
from slowfast.models.losses import build_loss
from tests.config.published import FILES, OWN, path_of

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
        if cfg.MODEL.ADAPTER:
            steps = pgt.StepPlan.from_config(cfg).split(batch.inputs)
            _, memory = model(steps[0], seen=steps[0])
            (predictions, targets), _ = model(steps[1], memory)
        else:
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
