"""Attention, windows and positions in steps against the equations written out; MViT and TimeSformer as a whole."""

import copy
import functools

import pytest
import torch
from torch import nn

from pgt import StepPlan
from pgt.config import memory_frames, token_frames
from pgt.conversion import WINDOWS
from pgt.memory import Carry, LastFrames
from pgt.mgrid import epoch_config
from pgt.operators.attention import MarkovPoolingAttention, MarkovTimeAttention, StepPositions
from slowfast.config import load_config
from slowfast.engine.model_setup import ModelSetup, setup_model
from slowfast.engine.trial import Trial
from slowfast.layers.attention import Pooling, PoolingAttention, PoolingOptions
from slowfast.layers.conv import Conv3d
from slowfast.models import build_model
from slowfast.models.timesformer import TimeAttention
from slowfast.models.tokens import TokenModel


def windowed(layer, heads=1):
    """Return the layer with windows that read memory."""
    policy = LastFrames(layer.padding[0])
    return WINDOWS[type(layer)].from_layer(layer, "op", policy, heads=heads)


def call(layer, memory, *inputs):
    """Outputs of a layer with memory in a step, and its new memory."""
    carry = Carry(memory)
    with carry.active():
        y = layer(*inputs)
    return y, carry.new


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [(3, 1, 1), (5, 3, 3)])
def test_windows_with_the_last_frames_are_those_of_the_whole_video(kernel, stride):
    """Check that steps give the same patches as one convolution, if no window reaches ahead of its step."""
    torch.manual_seed(0)
    padding = (kernel[0] - stride, *(k // 2 for k in kernel[1:]))
    plain = Conv3d(2, 3, kernel, (stride, 2, 2), padding)
    stepped = windowed(copy.deepcopy(plain))
    video, outputs, memory = torch.randn(2, 2, 12, 6, 6), [], None
    for part in video.split([4, 6, 2], dim=2):
        y, memory = call(stepped, memory, part)
        outputs.append(y[:, :, : part.shape[2] // stride])
        assert memory["op"].shape == (2, 2, padding[0], 6, 6)
    torch.testing.assert_close(torch.cat(outputs, dim=2), plain(video)[:, :, : 12 // stride])


@pytest.mark.parametrize(
    "layer",
    [
        Conv3d(3, 3, 3, (1, 2, 2), 1, groups=3, bias=False),
        Conv3d(3, 3, 3, (2, 2, 2), 1, groups=3, bias=False),
        nn.MaxPool3d((3, 3, 3), (1, 2, 2), (1, 1, 1)),
        nn.MaxPool3d((5, 3, 3), (2, 1, 1), (2, 1, 1)),
        nn.AvgPool3d((3, 3, 3), (1, 2, 2), (1, 1, 1)),
    ],
    ids=repr,
)
@torch.no_grad()
def test_windows_read_memory_in_place_of_padding(layer):
    """Compare with the layer over [zeros or nothing; memory; step], without the outputs centered on memory."""
    plain, heads = layer, 2
    layer = windowed(copy.deepcopy(plain), heads)
    before, x = torch.randn(2 * heads, 3, 6, 4, 4), torch.randn(2 * heads, 3, 6, 4, 4)
    _, memory = call(layer, None, before)
    y, _ = call(layer, memory, x)
    stride = plain.stride[0]
    expected = plain(torch.cat([before, x], dim=2))[:, :, 6 // stride :]
    torch.testing.assert_close(y, expected)


def test_a_window_that_never_reaches_back_remembers_nothing(progressive_cfg):
    patches = ["MVIT.PATCH_KERNEL", [2, 4, 4], "MVIT.PATCH_STRIDE", [2, 4, 4], "MVIT.PATCH_PADDING", [0, 0, 0]]
    model = build_model(progressive_cfg("mvit", *patches))
    assert type(model.patch_embed.proj) is Conv3d and "patch_embed.proj" not in model.operators


def pooling_attention(num_prefix_tokens, stride_q=1, stride_k=1):
    torch.manual_seed(0)
    pools = [Pooling((1, 1, 1), (stride, 1, 1)) for stride in (stride_q, stride_k)]
    options = PoolingOptions("max", relative_space=True, relative_time=True, num_prefix_tokens=num_prefix_tokens)
    attention = PoolingAttention(8, 8, 2, *pools, (4, 2, 2), nn.LayerNorm, options).double()
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.5)
    return attention


def reference_read(attention, q, k, v, q_at, k_at):
    """Heads one by one; tokens with their (time, row, column), None for those of no position."""
    reads = []
    last = len(attention.rel_pos_t) // 2
    for head in zip(*(x.chunk(2, dim=-1) for x in (q, k, v)), strict=True):
        queries, keys, values = head
        scores = queries @ keys.transpose(1, 2) / queries.shape[-1] ** 0.5
        for i, place in enumerate(q_at):
            for j, other in enumerate(k_at):
                if place is not None and other is not None:
                    t, y, x = (a - b for a, b in zip(place, other, strict=True))
                    vector = attention.rel_pos_t[max(-last, min(last, t)) + last]
                    vector = vector + attention.rel_pos_h[y + 1] + attention.rel_pos_w[x + 1]
                    scores[:, i, j] = scores[:, i, j] + queries[:, i] @ vector
        reads.append(scores.softmax(-1) @ values)
    return torch.cat(reads, dim=-1)


def places(times, num_prefix_tokens):
    return [None] * num_prefix_tokens + [(t, y, x) for t in times for y in range(2) for x in range(2)]


@pytest.mark.parametrize("num_prefix_tokens", [0, 1])
@pytest.mark.parametrize("frames", [1, 3])
@torch.no_grad()
def test_queries_read_the_keys_carried_at_their_distance(num_prefix_tokens, frames):
    attention = pooling_attention(num_prefix_tokens)
    attention = MarkovPoolingAttention.from_layer(attention, "op", LastFrames(frames))
    parts = [torch.randn(2, num_prefix_tokens + 4 * length, 8, dtype=torch.float64) for length in (4, 3, 3)]
    memory, seen = None, []
    for step, tokens in enumerate(parts):
        length = (len(tokens[0]) - num_prefix_tokens) // 4
        y, memory = call(attention, memory, tokens, (length, 2, 2))
        q, k, v = attention.qkv(tokens).chunk(3, dim=-1)
        now = [x[:, num_prefix_tokens:] for x in (k, v)]
        if step:
            kept = [x[:, -4 * frames :] for x in seen]
            k, v = (
                torch.cat([x[:, :num_prefix_tokens], m, x[:, num_prefix_tokens:]], 1)
                for x, m in zip((k, v), kept, strict=True)
            )
            seen = [torch.cat(pair, dim=1) for pair in zip(seen, now, strict=True)]
        else:
            seen = now
        past = frames if step else 0
        q_at, k_at = places(range(length), num_prefix_tokens), places(range(-past, length), num_prefix_tokens)
        torch.testing.assert_close(y, attention.proj(reference_read(attention, q, k, v, q_at, k_at)))
        assert memory["op"].shape == (2, 16, frames, 2, 2)
        newest = torch.cat([x[:, -4 * frames :] for x in seen], dim=-1).unflatten(1, (frames, 2, 2))
        torch.testing.assert_close(memory["op"], newest.permute(0, 4, 1, 2, 3))


@pytest.mark.parametrize(("stride_q", "stride_k"), [(1, 1), (2, 1), (1, 2), (2, 2)])
@torch.no_grad()
def test_one_rule_of_distances_for_steps_with_and_without_memory(stride_q, stride_k):
    """For a whole step of queries the vectors of its own keys are the clip model's."""
    attention = pooling_attention(1, stride_q, stride_k)
    attention = MarkovPoolingAttention.from_layer(attention, "op", LastFrames(1))
    sizes = (4 // stride_q, 2, 2), (4 // stride_k, 2, 2)
    plain = attention.rel_pos(*sizes)[0]
    behind = attention._rel_pos_in_time(sizes[0][0], sizes[1][0] + 1, 1)
    torch.testing.assert_close(behind[:, 1:], plain)


@torch.no_grad()
def test_attention_over_time_with_all_frames_carried_is_that_of_the_whole_clip():
    torch.manual_seed(0)
    plain = TimeAttention(8, 2)
    stepped = MarkovTimeAttention.from_layer(copy.deepcopy(plain), "op", LastFrames(4))
    clip = torch.randn(2, 7, 5, 8)
    first, memory = call(stepped, None, clip[:, :4])
    second, _ = call(stepped, memory, clip[:, 4:])
    torch.testing.assert_close(first, plain(clip[:, :4]))
    torch.testing.assert_close(second, plain(clip)[:, 4:])
    assert memory["op"].shape == (2, 16, 4, 5, 1)


def test_absolute_positions_of_steps_and_of_a_whole_clip():
    model = TokenModel()
    model.position_fit = StepPositions(3)
    table = torch.arange(4.0).view(1, 4, 1, 1, 1)

    def times(frames, memory=None, step=True):
        if not step:
            return model.fit_positions(table, (frames, 1, 1)).flatten().tolist()
        with Carry(memory).active():
            return model.fit_positions(table, (frames, 1, 1)).flatten().tolist()

    some = {"op": torch.zeros(1)}
    assert times(4) == times(4, some) == times(4, step=False) == [0, 1, 2, 3]
    assert times(3, some) == [1, 2, 3]
    assert times(3) == times(3, step=False) == pytest.approx([1 / 6, 1.5, 3 - 1 / 6])
    assert times(9, step=False) == [0, 1, 2, 3, 1, 2, 3, 1, 2]


@pytest.mark.parametrize(("variant", "frames"), [("mvit", 3), ("timesformer", 1)])
@torch.no_grad()
def test_the_first_step_reaches_the_third(variant, frames, progressive_cfg, parity, random_clip, run_steps):
    """With the last frames alone: what a step remembers depends on what it has read."""
    cfg = progressive_cfg(variant, "PGT.ATTENTION_MEMORY", frames)
    model, plan = parity.fill_module(build_model(cfg)).eval(), StepPlan.from_config(cfg)
    steps, other = plan.split(random_clip(cfg)), plan.split(random_clip(cfg, seed=5))
    scores, _ = run_steps(model, steps)
    changed, memory = run_steps(model, [other[0], *steps[1:]])
    assert {v.shape[2] for name, v in memory.items() if name.endswith("attn")} == {frames}
    assert (scores[-1] - changed[-1]).abs().max() > 1e-6


@pytest.mark.parametrize("variant", ["mvit", "mvit_mean", "timesformer"])
@torch.no_grad()
def test_a_whole_clip_of_one_step_is_the_clip_model(
    variant, progressive_cfg, progressive_settings, parity, random_clip
):
    cfg = progressive_cfg(variant, "PGT.TPOOL_SIZE", [1])
    model, plan = parity.fill_module(build_model(cfg)).eval(), StepPlan.from_config(cfg)
    settings = progressive_settings(variant, "PGT.ENABLE", False, "DATA.NUM_FRAMES", plan.step_len[0])
    clip_model = build_model(load_config(None, settings)).eval()
    clip_model.load_state_dict(model.state_dict())
    inputs = random_clip(cfg)
    torch.testing.assert_close(model.whole_clip(plan.split(inputs)[0]), clip_model(plan.split(inputs)[0]))
    torch.testing.assert_close(model.whole_clip(inputs).sum(dim=1), torch.ones(2))


def test_sizes_that_follow_from_the_steps(progressive_cfg):
    cfg = progressive_cfg("mvit")
    assert cfg.MODEL.POSITIONS_FOR == [8, 32]
    assert (token_frames(cfg, 8), token_frames(cfg, 6), memory_frames(cfg)) == (4, 3, 1)
    assert memory_frames(progressive_cfg("mvit", "PGT.OVERLAP", [1], "DATA.NUM_FRAMES", 22)) == 1
    assert memory_frames(progressive_cfg("mvit", "PGT.OVERLAP", [6], "DATA.NUM_FRAMES", 12)) == 3
    assert memory_frames(progressive_cfg("timesformer", "PGT.OVERLAP", [3], "DATA.NUM_FRAMES", 18)) == 3
    with pytest.raises(ValueError, match="ATTENTION_MEMORY is 5; the first step of 8 frames has 4 positions"):
        progressive_cfg("mvit", "PGT.ATTENTION_MEMORY", 5)


def test_tables_keep_their_size_when_steps_change(progressive_cfg):
    cycle = ["PGT.MGRID", True, "PGT.MGRID_STEPS", [2], "PGT.MGRID_STEP_LEN", [[6]], "PGT.MGRID_LRSCALES", [1.0]]
    cfg = progressive_cfg("mvit", *cycle, "SOLVER.MAX_EPOCH", 4)
    model, other = build_model(cfg), build_model(epoch_config(cfg, 0))
    sizes = {name: table.shape for name, table in model.state_dict().items()}
    assert {name: table.shape for name, table in other.state_dict().items()} == sizes
    other.load_state_dict(model.state_dict())
    memory = None
    for step in StepPlan.from_config(epoch_config(cfg, 0)).split([torch.randn(1, 3, 10, 32, 32)]):
        scores, memory = other(step, memory)
        assert scores.isfinite().all() and memory


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("variant", ["mvit", "timesformer"])
def test_recomputed_steps_are_the_same(variant, full, progressive_cfg, parity, random_clip, run_with_gradients):
    cfg = progressive_cfg(variant, "PGT.FULL_GRADIENT", full)
    model, plan = parity.fill_module(build_model(cfg)).train(), StepPlan.from_config(cfg)
    expected = run_with_gradients(model, plan.split(random_clip(cfg)))
    again = setup_model(copy.deepcopy(model), torch.device("cpu"), ModelSetup(checkpoint_activations=True))
    assert again.blocks[0].checkpoint_activations
    found = run_with_gradients(again, plan.split(random_clip(cfg)))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["mvit", "timesformer"])
def test_compiled_steps_are_two_graphs(variant, progressive_cfg, parity, random_clip, run_with_gradients, monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    one_block = {
        "mvit": ["MVIT.DEPTH", 1, "MVIT.POOL_Q_STRIDE", [], "MVIT.DIM_MUL", [], "MVIT.HEAD_MUL", []],
        "timesformer": ["TIMESFORMER.DEPTH", 1],
    }
    cfg = progressive_cfg(variant, *one_block[variant])
    plain, plan = parity.fill_module(build_model(cfg)).train(), StepPlan.from_config(cfg)
    model = setup_model(copy.deepcopy(plain), torch.device("cpu"), ModelSetup(compile_mode="default"))
    torch._dynamo.utils.counters.clear()
    found, expected = (run_with_gradients(module, plan.split(random_clip(cfg))) for module in (model, plain))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MVITv2_S_PROG_72x4", "TIMESFORMER_PROG_36x8_B16"])
@torch.no_grad()
def test_our_settings_build_and_run(name, repo, run_steps):
    file = repo / f"projects/pgt/configs/Kinetics/{name}.yaml"
    small = ["NUM_GPUS", 0, "DATA.TRAIN_CROP_SIZE", 32, "DATA.TEST_CROP_SIZE", 32, "MVIT.EMBED_DIM", 16]
    small += ["TIMESFORMER.EMBED_DIM", 24, "TIMESFORMER.DEPTH", 2]
    cfg = load_config(file, small)
    model, plan = build_model(cfg).eval(), StepPlan.from_config(cfg)
    scores, _ = run_steps(model, plan.split([torch.rand(1, 3, cfg.DATA.NUM_FRAMES, 32, 32)]))
    assert plan.steps == 5 and scores.shape == (5, 1, 400)
    with torch.device("meta"):
        assert build_model(load_config(file, ["NUM_GPUS", 0])).operators


@pytest.mark.parametrize("variant", ["mvit", "mvit_reversible"])
def test_relative_positions_as_mask_and_as_channels(variant, progressive_cfg):
    """Give the same loss and gradients of a training iteration over several steps."""
    found = []
    for way in ("mask", "channels"):
        trial = Trial(progressive_cfg(variant, "MVIT.REL_POS_BIAS", way, "MODEL.DROPOUT_RATE", 0.0), training=True)
        gradients = {}
        for name, parameter in trial.model.named_parameters():
            # The optimizer's step forgets them.
            parameter.register_post_accumulate_grad_hook(
                lambda p, name=name, kept=gradients: kept.update({name: p.grad.clone()})
            )
        found.append((trial(), gradients))
        ways = {layer.bias_as for layer in trial.model.modules() if isinstance(layer, MarkovPoolingAttention)}
        assert ways == {way} and len(gradients) > 20
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
