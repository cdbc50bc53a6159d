"""Setting up a model: same names and numbers with all options."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from slowfast.checkpoint.io import find_checkpoints, load_checkpoint
from slowfast.checkpoint.weights import compare_weights
from slowfast.engine.model_setup import ModelSetup, compile_model, freeze_features, freeze_stages, setup_model
from slowfast.engine.optim import build_optimizer
from slowfast.engine.precise_bn import update_bn_stats
from slowfast.engine.test import test as run_test
from slowfast.engine.train import train
from slowfast.layers.activation_checkpoint import CheckpointedBlock
from slowfast.models import build_model

CPU = torch.device("cpu")


def a_batch(seed=0, frames=4, size=32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 3, frames, size, size, generator=generator)], torch.tensor([0, 1, 1, 0])


def two_steps(model, dtype=None):
    """Losses of two SGD steps, dropout seeded."""
    optimizer, losses = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05), []
    torch.manual_seed(7)
    for seed in range(2):
        inputs, labels = a_batch(seed)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            loss = F.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return torch.stack(losses)


def assert_same_bits(a, b):
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("norm", "dtype"),
    [([], None), ([], torch.bfloat16), (["BN.NORM_TYPE", "sub_batchnorm", "BN.NUM_SPLITS", 2], torch.bfloat16)],
    ids=["plain", "mixed", "sub_norm_mixed"],
)
def test_recomputed_blocks_train_bit_for_bit(tiny_cfg, dtype, norm):
    """Weights, running statistics and their counters after two steps, with dropout."""
    torch.manual_seed(0)
    plain = build_model(tiny_cfg(*norm)).train()
    model = setup_model(copy.deepcopy(plain), CPU, ModelSetup(checkpoint_activations=True))
    assert sum(isinstance(m, CheckpointedBlock) and m.checkpoint_activations for m in model.modules()) == 8
    assert torch.equal(two_steps(model, dtype), two_steps(plain, dtype))
    assert_same_bits(model.state_dict(), plain.state_dict())


class DropoutBlock(CheckpointedBlock):
    """Residual block that draws random numbers, and counts its runs."""

    def __init__(self):
        super().__init__()
        self.linear, self.dropout, self.calls = nn.Linear(6, 6), nn.Dropout(0.5), 0

    def forward_block(self, x):
        self.calls += 1
        return x + self.dropout(self.linear(x).tanh())


def test_random_draws_are_repeated_and_nothing_is_recomputed_without_gradients():
    torch.manual_seed(0)
    plain = DropoutBlock()
    block = copy.deepcopy(plain)
    block.checkpoint_activations = True
    x = torch.randn(3, 6)
    for module in (plain, block):
        torch.manual_seed(1)
        module(x).square().sum().backward()
    assert torch.equal(block.linear.weight.grad, plain.linear.weight.grad)
    assert (plain.calls, block.calls) == (1, 2)
    with torch.no_grad():
        block(x)
    assert block.calls == 3


def test_memory_of_recomputed_blocks(tiny_cfg):
    """Bytes that autograd keeps for the backward pass."""

    def kept(model):
        sizes = {}

        def pack(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(a_batch()[0]).sum()
        return sum(sizes.values()) - sum(p.numel() * 4 for p in model.parameters())

    model = build_model(tiny_cfg()).train()
    whole = kept(model)
    assert kept(setup_model(model, CPU, ModelSetup(checkpoint_activations=True))) < 0.5 * whole


def test_a_model_without_residual_blocks_is_named():
    with pytest.raises(ValueError, match="ACT_CHECKPOINT True.*Linear has no CheckpointedBlock"):
        setup_model(nn.Linear(2, 2), CPU, ModelSetup(checkpoint_activations=True))


def test_frozen_stages(tiny_cfg):
    frozen = ("s1", "s2", "*pathway0_res1")
    model = setup_model(build_model(tiny_cfg()), CPU, ModelSetup(freeze=frozen, checkpoint_activations=True))
    plain = build_model(tiny_cfg())
    assert model.state_dict().keys() == plain.state_dict().keys()
    before = copy.deepcopy(model.state_dict())
    optimizer = build_optimizer(model.train(), tiny_cfg("MODEL.FREEZE_STAGES", frozen))
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    two_steps(model)
    for name, parameter in model.named_parameters():
        fixed = name.startswith(("s1.", "s2.")) or "pathway0_res1." in name
        assert (parameter.grad is None and id(parameter) not in trained) or not fixed, name
        assert torch.equal(parameter, before[name]) == fixed, name
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]) == (name.startswith(("s1.", "s2.")) or "pathway0_res1." in name), name
    assert not model.s2.pathway0_res0.branch2.a_bn.training and model.s3.pathway0_res0.branch2.a_bn.training
    assert model.s2.training


def test_a_frozen_head_still_gives_logits(tiny_cfg):
    model = build_model(tiny_cfg()).train()
    freeze_stages(model, ["head"])
    model.train()
    assert model.head.training and model(a_batch()[0]).sum(dim=1).sub(1).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["s9"], r"'s9'.*no module of ResNet; the nearest is s.*stages are s1, s2"),
        (["s*", "head"], "no parameter to train"),
    ],
)
def test_what_cannot_be_frozen_is_named(tiny_cfg, names, message):
    with pytest.raises(ValueError, match=message):
        freeze_stages(build_model(tiny_cfg()), names)


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["MODEL.MODEL_NAME", "X3D", "RESNET.TRANS_FUNC", "x3d_transform", "MODEL.ARCH", "x3d"],
        ["MODEL.MODEL_NAME", "MViT", "MODEL.ARCH", "mvit", "MVIT.DEPTH", 1, "MVIT.EMBED_DIM", 8],
    ],
    ids=["slow", "x3d", "mvit"],
)
def test_linear_probe(tiny_cfg, settings):
    """Train the classifier as on constant features, and nothing else; running statistics move."""
    cfg = tiny_cfg(*settings, "MODEL.DETACH_FINAL_FC", True, "MODEL.DROPOUT_RATE", 0.0)
    model = build_model(cfg)
    plain = copy.deepcopy(model)
    setup_model(model, CPU, ModelSetup.from_config(cfg))
    optimizer = build_optimizer(model.train(), cfg)
    before = copy.deepcopy(model.state_dict())
    inputs, labels = a_batch()
    F.cross_entropy(model(inputs), labels).backward()
    F.cross_entropy(plain.train()(inputs), labels).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {"head.projection.weight", "head.projection.bias"}
    for name in trained:
        torch.testing.assert_close(model.get_parameter(name).grad, plain.get_parameter(name).grad)
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in changed if not name.endswith(("running_mean", "running_var", "tracked"))} == trained
    assert any(name.endswith("running_mean") for name in changed) == any("running_mean" in name for name in before)


def test_a_linear_probe_needs_a_classifier(tiny_cfg):
    with pytest.raises(ValueError, match="Linear has no slowfast.models.heads.Classifier"):
        freeze_features(nn.Linear(2, 2))
    regnet = build_model(tiny_cfg("MODEL.MODEL_NAME", "RegNet", "MODEL.ARCH", "regnet"))
    with pytest.raises(ValueError, match="MODEL.FREEZE_STAGES name what is not trained of .*fc"):
        freeze_features(regnet)
    model = build_model(tiny_cfg())
    freeze_stages(model, ["head"])
    with pytest.raises(ValueError, match="a frozen one .MODEL.FREEZE_STAGES"):
        freeze_features(model)


def assert_trains_alike(model, plain, inputs, labels):
    gradients = []
    for module in (plain, model):
        loss = F.cross_entropy(module(inputs), labels)
        gradients.append(torch.autograd.grad(loss, list(module.parameters())))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)
    assert model.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(model.state_dict(), plain.state_dict(), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("recomputed", [False, True])
def test_compiled_equals_eager(one_block_model, fast_compiler, recomputed):
    """Check that one graph is compiled per shape in training, and one for evaluation."""
    plain = one_block_model().train()
    model = setup_model(
        copy.deepcopy(plain), CPU, ModelSetup(compile_mode="default", checkpoint_activations=recomputed)
    )
    torch._dynamo.utils.counters.clear()
    for frames in (4, 3, 4):
        assert_trains_alike(model, plain, *a_batch(frames, frames, 16))
    inputs, _ = a_batch(0, 4, 16)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(inputs), plain.eval()(inputs), rtol=1e-5, atol=1e-5)
    for seed in (1, 2):  # measured uncompiled, for compiling with the hooks that measure would be for nothing
        for module in (plain, model):
            update_bn_stats(module, [a_batch(seed, 4, 16)[0]], lambda m, x: m(x))
        torch.testing.assert_close(model.state_dict(), plain.state_dict(), rtol=1e-5, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.slow
def test_compiled_to_machine_code_equals_eager(one_block_model):
    plain = one_block_model().train()
    model = setup_model(copy.deepcopy(plain), CPU, ModelSetup(compile_mode="default"))
    assert_trains_alike(model, plain, *a_batch(0, 4, 16))


@pytest.mark.slow
def test_without_a_compiler_the_error_says_what_to_do(tmp_path):
    code = (
        "import torch\nfrom slowfast.engine.model_setup import compile_model\n"
        "compile_model(torch.nn.Linear(2, 2), 'default', torch.device('cpu'))"
    )
    env = {"CXX": "/nowhere/g++", "PATH": "/nowhere", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: MODEL.COMPILE True") and "MODEL.COMPILE False" in last, done.stderr


COMPILES = """
import pathlib, sys, torch
from slowfast.engine.model_setup import compile_failures_explained, compile_model

class Model(torch.nn.Module):
    def forward(self, x):
        return x.exp() + 1

files = lambda: {str(path) for path in pathlib.Path(sys.argv[1]).rglob("*.so")}
model = Model()
compile_model(model, "default", torch.device("cpu"))
before = files()
with compile_failures_explained(True):
    model(torch.ones(3))
print(*(files() - before))
"""


@pytest.mark.slow
def test_a_damaged_cache_of_compiled_code(tmp_path):
    """Damage the cache as a job does that is killed while compiling; the error names the file to remove."""
    command = [sys.executable, "-c", COMPILES, str(tmp_path)]
    env = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    first = subprocess.run(command, capture_output=True, text=True, env=env, timeout=180)
    assert first.returncode == 0, first.stderr
    made = first.stdout.split()
    assert made
    for path in made:
        os.truncate(path, 0)
    second = subprocess.run(command, capture_output=True, text=True, env=env, timeout=180)
    assert second.returncode == 1
    last = second.stderr.strip().splitlines()[-1]
    assert "CompileError: MODEL.COMPILE True: PyTorch failed to compile" in last
    assert "TORCHINDUCTOR_CACHE_DIR" in last


@pytest.mark.slow
def test_scores_and_gradients_outlast_the_next_replay_of_a_cuda_graph(one_block_model, replays):
    plain = one_block_model().train()
    model = setup_model(copy.deepcopy(plain), CPU, ModelSetup(compile_mode="max-autotune"))
    results = []
    for module in (plain, model):
        scores = []
        for seed in (1, 2):
            inputs, labels = a_batch(seed, 4, 16)
            scores.append(module(inputs))
            F.cross_entropy(scores[-1], labels).backward()
        results.append([*scores, *(parameter.grad for parameter in module.parameters())])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    assert "max-autotune" in replays.modes


def test_compiling_leaves_names_and_copies_alone(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    model = nn.Sequential(nn.Linear(2, 2))
    keys = list(model.state_dict())
    compile_model(model, "default", CPU)
    assert list(model.state_dict()) == keys
    twin = copy.deepcopy(model)
    assert twin._compiled_call_impl is None and torch.equal(twin(torch.ones(1, 2)), model(torch.ones(1, 2)))


def test_checkpoints_interchange_between_all_settings(tiny_cfg, tmp_path):
    """Resume a run with all options on with all of them off, and the reverse."""
    on = ["MODEL.ACT_CHECKPOINT", True, "EMA.ENABLE", True, "SOLVER.LAYER_DECAY", 0.8, "BN.NORM_TYPE", "sub_batchnorm"]
    on += ["BN.NUM_SPLITS", 2]
    for first, second in ((on, []), ([], on)):
        folder = ["OUTPUT_DIR", str(tmp_path / str(len(first)))]
        train(tiny_cfg(*first, *folder, "SOLVER.MAX_EPOCH", 1))
        path = find_checkpoints(folder[1])[-1].path
        other = build_model(tiny_cfg(*second))
        saved = load_checkpoint(path)
        assert compare_weights(other, saved["model_state"]).is_exact
        assert ("ema_state" in saved) == bool(first)
        train(tiny_cfg(*second, "TRAIN.CHECKPOINT_FILE_PATH", path, "TRAIN.CHECKPOINT_EPOCH_RESET", True,
                       "SOLVER.MAX_EPOCH", 1, "OUTPUT_DIR", str(tmp_path / f"{len(first)} then")))  # fmt: skip
        assert run_test(tiny_cfg(*second, *folder))["checkpoint"] == path


def test_synchronized_norms_do_not_train_on_the_cpu(tiny_cfg):
    cfg = tiny_cfg("BN.NORM_TYPE", "sync_batchnorm")
    with pytest.raises(ValueError, match="trains on GPUs only.*set BN.NORM_TYPE batchnorm"):
        setup_model(build_model(cfg), CPU)
    model = setup_model(build_model(cfg), CPU, training=False).eval()
    assert model(a_batch()[0]).shape == (4, 2)
