"""Recomputed and compiled progressive models: the same memory, gradients and statistics, step by step."""

import contextlib
import copy
import gc
import threading
import weakref

import pytest
import torch

from pgt import StepPlan
from pgt.conversion import Rules, convert
from pgt.learned_rules import GatedFrames, Slots
from pgt.memory import AvgFrames, MaxFrames, reset
from pgt.model import ProgressiveModel
from pgt.task import ProgressiveTask, step_scores
from slowfast.config import load_config
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.ema import build_average
from slowfast.engine.model_setup import ModelSetup, setup_model
from slowfast.engine.optim_step import OptimStep, build_optim_step
from slowfast.models import build_model

CPU = torch.device("cpu")


def trained(cfg, model, clips):
    """Weights and statistics after one batch."""
    labels = torch.tensor([1, 3])
    update = build_optim_step(cfg, model, torch.optim.SGD(model.parameters(), lr=0.05))
    ProgressiveTask(cfg).train_step(model, Batch(clips, labels, labels, labels), update)
    return model.state_dict()


def assert_trained_alike(cfg, plain, clips):
    results = []
    for how in (ModelSetup(), ModelSetup(checkpoint_activations=True)):
        module = setup_model(copy.deepcopy(plain), CPU, how)
        torch.manual_seed(3)
        results.append(trained(cfg, module, clips))
    assert results[0].keys() == results[1].keys()
    assert [key for key in results[0] if not torch.equal(results[0][key], results[1][key])] == []


@pytest.mark.parametrize(
    "settings",
    [
        ["PGT.TRAIN_TOGETHER", True],
        ["PGT.FULL_GRADIENT", True],
        ["PGT.TRAIN_TOGETHER", False, "TRAIN.MIXED_PRECISION", True],
    ],
    ids=["together", "full_gradient", "per_step_mixed"],
)
def test_recomputed_steps_train_bit_for_bit(settings, one_block_model, progressive_cfg, random_clip):
    cfg = progressive_cfg("slow_basic", *settings)
    plain = tiny_progressive(one_block_model, cfg.PGT.FULL_GRADIENT, dropout=0.5)
    assert_trained_alike(cfg, plain, [clip[..., :16, :16] for clip in random_clip(cfg)])


@pytest.mark.slow
def test_recomputed_blocks_beside_nonlocal_ones_and_norms_over_parts(progressive_cfg, random_clip):
    settings = ["PGT.NL_NORM", "sub_batchnorm", "BN.NUM_SPLITS", 2, "BN.NORM_TYPE", "sub_batchnorm", "PGT.STEPS", 2]
    settings += ["DATA.NUM_FRAMES", 15, "RESNET.WIDTH_PER_GROUP", 4, "NONLOCAL.POOL", [[[1, 1, 1]]] * 4]
    cfg = progressive_cfg("progressive_nonlocal", *settings)
    torch.manual_seed(0)
    model = build_model(cfg).train()
    for block in (model.s3.pathway0_nonlocal1, model.s4.pathway0_nonlocal0):
        torch.nn.init.ones_(block.bn.weight)  # they start as the identity
    assert_trained_alike(cfg, model, [clip[..., :16, :16] for clip in random_clip(cfg)])


@pytest.mark.parametrize("full", [False, True])
def test_memory_is_written_once_and_let_go(full, progressive_cfg, parity, random_clip):
    """Backward, also in another thread, leaves the memory that was handed out as it was, and nothing behind."""
    cfg = progressive_cfg("slow_basic", "RESNET.WIDTH_PER_GROUP", 4, "PGT.FULL_GRADIENT", full)
    model = setup_model(parity.fill_module(build_model(cfg)).train(), CPU, ModelSetup(checkpoint_activations=True))
    steps = StepPlan.from_config(cfg).split(random_clip(cfg))
    first, memory = model(steps[0])
    scores, later = model(steps[1], memory)
    kept = {name: (id(frames), frames.detach().clone()) for name, frames in later.items()}
    watched = [weakref.ref(frames) for frames in memory.values()]
    backward = threading.Thread(target=scores.square().sum().backward)
    backward.start()
    backward.join()
    assert {name: id(frames) for name, frames in later.items()} == {name: i for name, (i, _) in kept.items()}
    assert all(torch.equal(frames, kept[name][1]) for name, frames in later.items())
    assert all(p.grad is not None for p in model.parameters())
    del first, memory, scores, later, backward
    gc.collect()
    assert [ref() for ref in watched] == [None] * len(watched)


@pytest.mark.parametrize(("together", "updates"), [(True, 1), (False, 3)])
def test_the_average_counts_every_update(together, updates, one_block_model, progressive_cfg, random_clip):
    """Apply the formula to the weights after each update of one batch of three steps."""
    settings = ["PGT.STEP_LEN", [4], "DATA.NUM_FRAMES", 10, "EMA.ENABLE", True, "EMA.DECAY", 0.5]
    cfg = progressive_cfg("slow_basic", "PGT.TRAIN_TOGETHER", together, *settings)
    model, weights, labels = tiny_progressive(one_block_model), [], torch.tensor([1, 3])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    average = build_average(cfg, model, optimizer)
    optimizer.register_step_post_hook(lambda *_: weights.append(model.head.projection.weight.detach().clone()))
    batch = Batch([clip[..., :16, :16] for clip in random_clip(cfg)], labels, labels, labels)
    ProgressiveTask(cfg).train_step(model, batch, build_optim_step(cfg, model, optimizer))
    assert len(weights) == average.n_averaged == updates
    expected = weights[0]
    for present in weights[1:]:
        expected = 0.5 * expected + 0.5 * present
    torch.testing.assert_close(average.module.head.projection.weight, expected)
    assert torch.equal(expected, weights[-1]) == together


def tiny_progressive(one_block_model, full=False, dropout=0.0, learned=False):
    body, head = (GatedFrames(1, 0.25), Slots(1)) if learned else (MaxFrames(1, 0.25), AvgFrames(1))
    model = convert(one_block_model(dropout), Rules([body], [head], [2]))
    model.full_gradient = full
    return model.train()


PLAN = StepPlan((4,), (1,), 4)


def assert_steps_alike(run_with_gradients, model, plain, training):
    """Compare scores, memory, gradients and statistics of a clip in steps."""
    clip = torch.randn(2, 3, PLAN.num_frames, 16, 16, generator=torch.Generator().manual_seed(1))
    results = []
    for module in (plain.train(training), model.train(training)):
        with contextlib.nullcontext() if training else torch.no_grad():
            results.append(run_with_gradients(module, PLAN.split([clip])))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dict(model.state_dict()), dict(plain.state_dict()), rtol=1e-5, atol=1e-5)


def assert_alike_in_threads(run_steps, model, plain, at_once):
    """Compare the scores of two videos in one compiled model, each in a thread of its own, one by one or at once."""
    videos = [torch.randn(2, 3, PLAN.num_frames, 16, 16, generator=torch.Generator().manual_seed(s)) for s in range(2)]

    expected, results = {}, {}

    def work(module, number, scores):
        with torch.no_grad():
            scores[number], _ = run_steps(module, PLAN.split([videos[number]]))

    for number in range(2):
        work(plain, number, expected)
    threads = [threading.Thread(target=work, args=(model, number, results)) for number in range(2)]
    for thread in threads:
        thread.start()
        if not at_once:
            thread.join()
    for thread in threads:
        thread.join()
    torch.testing.assert_close(results, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("learned", [False, True])
def test_compiled_steps_equal_eager_ones_in_four_graphs(
    learned, one_block_model, fast_compiler, run_steps, run_with_gradients
):
    """One graph for the first step and one for all others, in training and in evaluation; none is broken."""
    plain = tiny_progressive(one_block_model, learned=learned)
    model = setup_model(copy.deepcopy(plain), CPU, ModelSetup(compile_mode="default"))
    torch._dynamo.utils.counters.clear()
    assert_steps_alike(run_with_gradients, model, plain, training=True)
    assert_steps_alike(run_with_gradients, model, plain, training=False)
    assert_alike_in_threads(run_steps, model, plain, at_once=False)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 4
    # Not counted: PyTorch 2.13 may miss a graph that another thread looks up at that moment, and compile it once more.
    assert_alike_in_threads(run_steps, model, plain, at_once=True)
    assert not torch._dynamo.utils.counters["graph_break"]
    assert isinstance(model, ProgressiveModel)


@pytest.mark.slow
@torch.no_grad()
def test_compiled_steps_take_samples_at_their_start(one_block_model, fast_compiler):
    plain = tiny_progressive(one_block_model).eval()
    model = setup_model(copy.deepcopy(plain), CPU, ModelSetup(compile_mode="default"))
    first, second = PLAN.split([torch.randn(2, 3, PLAN.num_frames, 16, 16)])[:2]
    _, memory = plain(first)
    expected, new = plain(second, reset(memory, [1]))
    scores, found = model(second, reset(memory, [1]))
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, new, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_compiled_steps_with_full_gradient(one_block_model, fast_compiler, run_with_gradients):
    plain = tiny_progressive(one_block_model, full=True)
    model = setup_model(copy.deepcopy(plain), CPU, ModelSetup(compile_mode="default"))
    assert_steps_alike(run_with_gradients, model, plain, training=True)


@pytest.mark.slow
def test_compiled_and_recomputed_steps_equal_eager_ones(one_block_model, fast_compiler, progressive_settings):
    plain = tiny_progressive(one_block_model)
    model = setup_model(copy.deepcopy(plain), CPU, ModelSetup(compile_mode="default", checkpoint_activations=True))
    clip = torch.randn(2, 3, PLAN.num_frames, 16, 16, generator=torch.Generator().manual_seed(1))
    memories = []
    for module in (plain, model):
        memory, update = None, OptimStep(module, torch.optim.SGD(module.parameters(), lr=0.05))
        for step in PLAN.split([clip]):
            scores, memory = module(step, memory)
            update.backward(scores.square().sum())
        update()
        memories.append(memory)
    torch.testing.assert_close(*memories, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dict(model.state_dict()), dict(plain.state_dict()), rtol=1e-4, atol=1e-5)
    settings = ["PGT.FULL_GRADIENT", True, "MODEL.ACT_CHECKPOINT", True, "MODEL.COMPILE", True]
    with pytest.raises(ValueError, match="set PGT.FULL_GRADIENT False, or one of the other two"):
        load_config(None, progressive_settings("slow", *settings))


@pytest.mark.slow
@pytest.mark.parametrize("key", ["PGT.TRAIN_TOGETHER", "PGT.FULL_GRADIENT"])
def test_what_replays_overwrite_is_kept(key, one_block_model, replays, progressive_cfg, random_clip):
    """Memory goes into the next call of a CUDA graph, and gradients of several calls are summed."""
    cfg = progressive_cfg("slow_basic", key, True)
    plain = tiny_progressive(one_block_model, cfg.PGT.FULL_GRADIENT)
    model = setup_model(copy.deepcopy(plain), CPU, ModelSetup(compile_mode="reduce-overhead"))
    clips = [clip[..., :16, :16] for clip in random_clip(cfg)]
    for _ in range(2):
        torch.testing.assert_close(trained(cfg, model, clips), trained(cfg, plain, clips), rtol=1e-4, atol=1e-5)
    plan, scores = StepPlan.from_config(cfg), []
    with torch.no_grad():
        for module in (model.eval(), plain.eval()):
            scores.append(step_scores(module, clips, plan))
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-5)
    assert "reduce-overhead" in replays.modes
