"""X3D and RegNet3D in steps: which layers remember, what the heads remember, the published settings."""

import json
import re

import pytest
import torch
import yaml
from torch import nn

from pgt import StepPlan
from pgt.memory import Carry
from slowfast.checkpoint.io import find_checkpoints, load_checkpoint
from slowfast.config import load_config
from slowfast.engine.test import test as run_test
from slowfast.engine.train import train
from slowfast.models import build_model

SMALL = ["NUM_GPUS", 0, "DATA.TRAIN_CROP_SIZE", 32, "DATA.TEST_CROP_SIZE", 32, "MODEL.NUM_CLASSES", 20]
IN_STEPS = ["PGT.ENABLE", True, "PGT.STEP_LEN", [4], "PGT.STEPS", 3, "DATA.NUM_FRAMES", 10]
# Files without steps; frames of each are those of the file.
CLIP_FILES = [
    "Charades/X3D_L_K400", "Charades/X3D_M_K400", "Kinetics/X3D_L", "Kinetics/X3D_M", "Kinetics/X3D_XL",
    "Kinetics/X3D_XS", "Kinetics/R3D_8x8_400M", "Kinetics/R3D_8x8_400M_stepwise", "miniKinetics/R3D_8x8_400M",
]  # fmt: skip
STEP_FILES = ["Kinetics/R3D_PROG_36x8_400M", "miniKinetics/R3D_PROG_36x8_400M"]


@pytest.fixture
def of_file(repo, parity):
    """`of_file(name, *overrides) -> (cfg, model)` of a file in projects/pgt/configs at reduced size, in eval mode."""

    def build(name, *overrides):
        cfg = load_config(repo / f"projects/pgt/configs/{name}.yaml", [*SMALL, *overrides])
        return cfg, parity.fill_module(build_model(cfg)).eval()

    return build


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize("name", CLIP_FILES)
def test_published_settings_run(name, of_file, random_clip):
    cfg, model = of_file(name)
    scores = model(random_clip(cfg, batch=1))
    assert scores.shape == (1, 20)
    assert bool((scores >= 0).all()) and bool((scores <= 1).all())


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [*((name, []) for name in STEP_FILES), ("Kinetics/X3D_M", IN_STEPS), ("Kinetics/R3D_8x8_400M", IN_STEPS)],
)
def test_the_first_step_reaches_the_scores_of_the_third(name, settings, of_file, random_clip, run_steps):
    cfg, model = of_file(name, *settings)
    model, plan = model.double(), StepPlan.from_config(cfg)
    # In double, since the last frames alone carry little over a step: 1e-8 of the scores at eight frames a step.
    clips = [random_clip(cfg, batch=1, seed=seed, dtype=torch.float64) for seed in (0, 1)]
    steps, other = (plan.split(clip)[:3] for clip in clips)
    scores, memory = run_steps(model, steps)
    changed, _ = run_steps(model, [other[0], *steps[1:]])
    assert float((scores[2] - changed[2]).abs().max()) > 1e-10 * float(scores[2].abs().max())
    assert torch.equal(changed[2], run_steps(model, [other[0], *steps[1:]])[0][2])
    assert memory.keys() == model.operators
    assert {frames.shape[2] for frames in memory.values()} == {cfg.PGT.OVERLAP[0]}
    assert model.whole_clip(clips[0]).shape == (1, 20)


def test_memory_lies_at_temporal_convolutions_and_in_the_head(of_file):
    _, x3d = of_file("Kinetics/X3D_XS", *IN_STEPS)
    blocks = {f"{name}.branch2.b" for name, _ in x3d.named_modules() if re.fullmatch(r".*_res\d+", name)}
    assert len(blocks) == 26
    assert x3d.operators == blocks | {"s1.pathway0_stem.conv", "head.pool"}
    assert all(x3d.get_submodule(name).groups > 1 for name in x3d.operators - {"head.pool"})
    _, regnet = of_file("Kinetics/R3D_PROG_36x8_400M")
    blocks = {f"layer3.{i}.conv1" for i in range(7)} | {f"layer4.{i}.conv1" for i in range(12)}
    assert regnet.operators == blocks
    _, regnet = of_file("Kinetics/R3D_PROG_36x8_400M", "PGT.HEAD_CACHE", "last")
    assert regnet.operators == blocks | {"avgpool"}


@torch.no_grad()
@pytest.mark.parametrize(
    ("variant", "layer", "pool", "kind"),
    [("x3d", "conv_5_relu", "pool", "amax"), ("slow", None, "pathway0_avgpool", "mean")],
)
def test_a_max_cache_in_the_head(variant, layer, pool, kind, progressive_cfg, parity, random_clip):
    """As published: the head of X3D remembers the maximum, that of ResNet the mean."""
    cfg = progressive_cfg(variant, "PGT.CACHE", "max")
    model, seen = parity.fill_module(build_model(cfg)).eval(), []
    watched = model.head.get_submodule(layer) if layer else model.s5
    watched.register_forward_hook(lambda module, inputs, output: seen.append(output if layer else output[0]))
    _, memory = model(StepPlan.from_config(cfg).split(random_clip(cfg))[0])
    expected = getattr(torch, kind)(seen[0], dim=2, keepdim=True)
    torch.testing.assert_close(memory[f"head.{pool}"], expected)


@torch.no_grad()
def test_a_block_of_x3d_in_a_step(progressive_cfg, parity):
    """Memory enters at the depthwise convolution alone; squeeze-excitation averages over the step's own frames."""
    model = parity.fill_module(build_model(progressive_cfg("x3d"))).eval()
    block = model.s3.pathway0_res0
    branch, x = block.branch2, torch.randn(2, 16, 3, 8, 8)
    memory = torch.randn(2, branch.b.in_channels, 1, 8, 8)
    with Carry({branch.b.name: memory}).active():
        y = block(x)
    z = torch.cat([memory, branch.a_relu(branch.a_bn(branch.a(x)))], dim=2)
    plain = nn.functional.conv3d(z, branch.b.weight, None, (1, 2, 2), 1, groups=branch.b.groups)[:, :, 1:]
    inner = branch.b_bn(plain)
    gates = branch.se.fc2(branch.se.fc1(inner.mean(dim=(2, 3, 4), keepdim=True)).relu()).sigmoid()
    expected = block.shortcut(x) + branch.c_bn(branch.c(nn.functional.silu(inner * gates)))
    torch.testing.assert_close(y, expected.relu())


@torch.no_grad()
@pytest.mark.parametrize("temporal", ["avg", "max"])
def test_a_whole_clip_is_scored_at_some_positions_in_time(temporal, progressive_cfg, parity, random_clip):
    cfg = progressive_cfg("x3d", "PGT.TPOOL_SIZE", [2], "MODEL.FINAL_POOL", ["avg", temporal])
    model = parity.fill_module(build_model(cfg)).eval()
    clip = random_clip(cfg)
    head, (features,) = model.head, model.forward_features(clip)
    frames = head.conv_5_relu(head.conv_5_bn(head.conv_5(features))).mean(dim=(3, 4))
    halves = frames.unflatten(2, (2, 11))
    pooled = halves.mean(dim=3) if temporal == "avg" else halves.amax(dim=3)
    wide = head.lin_5(pooled[..., None, None]).relu()[..., 0, 0].transpose(1, 2)
    torch.testing.assert_close(model.whole_clip(clip), head.projection(wide).softmax(dim=2).mean(dim=1))


@torch.no_grad()
def test_a_clip_models_weights_are_the_progressive_ones(repo):
    """Compare the keys of the clip model with those of the model in steps."""
    keys = json.loads((repo / "tests/fixtures/parity/state_dicts/x3d_xs.keys.json").read_text())
    name = repo / "projects/pgt/configs/Kinetics/X3D_XS.yaml"
    model = build_model(load_config(name, [*SMALL, *IN_STEPS]))
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == keys


@pytest.mark.parametrize("data", ["Kinetics", "miniKinetics"])
def test_the_published_files_of_regnet_train_and_test(data, repo, sweep_data, shallow, tmp_path):
    published = json.loads((repo / "tests/fixtures/published_settings/pgt.json").read_text())
    for name in ("R3D_8x8_400M.yaml", "R3D_PROG_36x8_400M.yaml"):
        (tmp_path / name).write_text(yaml.safe_dump(published[f"{data}/{name}"]))
    small = [
        *SMALL, "MODEL.NUM_CLASSES", 8, "DATA.PATH_TO_DATA_DIR", str(sweep_data), "DATA.PATH_PREFIX", "",
        "DATA.SAMPLING_RATE", 1, "DATA.TARGET_FPS", 4, "DATA.TRAIN_JITTER_SCALES", [32, 40], "TRAIN.BATCH_SIZE", 6,
        "TEST.BATCH_SIZE", 6, "DATA_LOADER.NUM_WORKERS", 0, "SOLVER.MAX_EPOCH", 1, "SOLVER.WARMUP_EPOCHS", 0,
        "OUTPUT_DIR", str(tmp_path / "run"),
    ]  # fmt: skip
    cfg = load_config(tmp_path / "R3D_PROG_36x8_400M.yaml", small)
    assert (list(cfg.PGT.STEP_LEN), cfg.PGT.STEPS, cfg.DATA.NUM_FRAMES) == ([8], 5, 36)
    assert (cfg.TEST.NUM_ENSEMBLE_VIEWS, cfg.TEST.NUM_SPATIAL_CROPS) == (3, 3)
    torch.manual_seed(0)
    train(cfg)
    assert 0 <= run_test(cfg)["top1_acc"] <= 100
    state = load_checkpoint(find_checkpoints(cfg.OUTPUT_DIR)[-1].path)["model_state"]
    assert bool(state["layer4.0.bn3.weight"].abs().max() > 0)  # it has left its initial zero
    assert int(state["bn1.num_batches_tracked"]) > 0
