"""Markov operators against the equations written out frame by frame."""

import pytest
import torch
from torch import nn

from pgt.memory import CACHE_POLICIES, AvgFrames, Carry, LastFrames, WholeStep
from pgt.operators.attention import MarkovNonLocal
from pgt.operators.layers import MarkovConv3d, MarkovPool, StepFusion
from slowfast.layers.nonlocal_ import NonLocal
from slowfast.layers.pool import SpaceTimePool
from slowfast.models.slowfast import FuseFastToSlow


def call(op, x, memory):
    carry = Carry({} if memory is None else {"op": memory})
    with carry.active():
        y = op(x)
    return y, carry.new.get("op")


def reference_cache(z, frames, kind):
    """Adaptive pooling over time, one output frame after another."""
    if kind == "last":
        return z[:, :, -frames:]
    total, out = z.shape[2], []
    for i in range(frames):
        window = z[:, :, (i * total) // frames : ((i + 1) * total + frames - 1) // frames]
        out.append(window.mean(dim=2) if kind == "avg" else window.amax(dim=2))
    return torch.stack(out, dim=2)


@pytest.mark.parametrize("kernel", [(3, 1, 1), (5, 3, 3), (7, 1, 1)])
@pytest.mark.parametrize("overlap", [1, 2, 4])
@pytest.mark.parametrize("kind", ["last", "max", "avg"])
@pytest.mark.parametrize("momentum", [0.0, 0.25])
def test_convolution_is_the_equation(kernel, overlap, kind, momentum):
    torch.manual_seed(0)
    padding = tuple(k // 2 for k in kernel)
    plain = nn.Conv3d(2, 3, kernel, stride=(1, 2, 2), padding=padding)
    op = MarkovConv3d.from_layer(plain, "op", CACHE_POLICIES.get(kind)(overlap, momentum))
    memory = expected_memory = None
    for frames in (5, 4, 3):
        x = torch.randn(2, 2, frames, 6, 6)
        z = x if expected_memory is None else torch.cat([expected_memory, x], dim=2)
        expected = plain(z)[:, :, z.shape[2] - frames :]
        cache = reference_cache(z, overlap, kind)
        if expected_memory is not None:
            cache = (1 - momentum) * cache + momentum * expected_memory
        expected_memory = cache
        y, memory = call(op, x, memory)
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(memory, expected_memory)


@pytest.mark.parametrize("temporal", ["avg", "max"])
def test_head_pool_sees_memory_and_step(temporal):
    pool = MarkovPool.from_layer(SpaceTimePool(4, 2, "avg", temporal), "op", AvgFrames(1), positions=2)
    memory, x = torch.randn(2, 3, 1, 2, 2), torch.randn(2, 3, 4, 2, 2)
    y, new = call(pool, x, memory)
    z = torch.cat([memory, x], dim=2)
    space = z.mean(dim=(3, 4))
    torch.testing.assert_close(y.flatten(1), space.mean(dim=2) if temporal == "avg" else space.amax(dim=2))
    torch.testing.assert_close(new, z.mean(dim=2, keepdim=True))


@pytest.mark.parametrize("temporal", ["avg", "max"])
def test_head_pool_of_a_whole_clip_keeps_positions(temporal):
    pool = MarkovPool.from_layer(SpaceTimePool(4, 2, "avg", temporal), "op", None, positions=2)
    x = torch.randn(1, 3, 6, 2, 2)
    space = x.mean(dim=(3, 4))
    halves = [space[:, :, :3], space[:, :, 3:]]
    expected = torch.stack([h.mean(dim=2) if temporal == "avg" else h.amax(dim=2) for h in halves], dim=2)
    torch.testing.assert_close(pool(x)[..., 0, 0], expected)


def test_nonlocal_queries_attend_to_the_step_before():
    torch.manual_seed(0)
    block = MarkovNonLocal.from_layer(NonLocal(4, 2, (1, 2, 2)).double().eval(), "op", WholeStep())
    nn.init.normal_(block.bn.weight)
    memory = before = None
    for frames in (3, 2, 2):
        x = torch.randn(2, 4, frames, 4, 4, dtype=torch.float64)
        y, memory = call(block, x, memory)
        context = nn.functional.max_pool3d(x if before is None else before, (1, 2, 2))
        theta, phi, g = (conv(z).flatten(2) for conv, z in zip(
            (block.conv_theta, block.conv_phi, block.conv_g), (x, context, context), strict=True
        ))  # fmt: skip
        read = torch.zeros_like(theta)
        for b in range(2):
            for n in range(theta.shape[2]):
                weights = (
                    torch.stack([theta[b, :, n] @ phi[b, :, p] for p in range(phi.shape[2])]).div(2**0.5).softmax(0)
                )
                read[b, :, n] = sum(w * g[b, :, p] for p, w in enumerate(weights))
        torch.testing.assert_close(y, x + block.bn(block.conv_out(read.reshape(2, 2, frames, 4, 4))))
        assert torch.equal(memory, x) and memory.data_ptr() != x.data_ptr()
        before = x


def test_surplus_lateral_frames_are_dropped_at_the_start_of_a_step_and_a_lack_is_named():
    fusion = StepFusion.from_layer(FuseFastToSlow(2, 2, 5, 4, nn.BatchNorm3d).eval())
    slow, fast = torch.randn(1, 3, 2, 2, 2), torch.randn(1, 2, 12, 2, 2)
    with Carry(None).active():
        joined, _ = fusion([slow, fast])
        with pytest.raises(ValueError, match="4 fast frames give 1 lateral frames for 2 slow"):
            fusion([slow, fast[:, :, :4]])
    assert torch.equal(joined, torch.cat([slow, fusion.lateral(fast)[:, :, 1:]], dim=1))
    with pytest.raises(ValueError, match="2 frames and the fast one 12"):
        fusion([slow, fast])


def test_memory_of_another_batch_or_size_is_named():
    op = MarkovConv3d.from_layer(nn.Conv3d(2, 2, (3, 1, 1), padding=(1, 0, 0)), "op", LastFrames(1))
    with pytest.raises(ValueError, match=r"memory of op has shape \(3, 2, 1, 4, 4\)"):
        call(op, torch.zeros(2, 2, 4, 4, 4), torch.zeros(3, 2, 1, 4, 4))


def test_a_step_shorter_than_the_memory_is_named():
    with pytest.raises(ValueError, match="2 frames here cannot fill 3"):
        LastFrames(3).update(torch.zeros(1, 1, 2, 1, 1), None)


@pytest.mark.parametrize("kind", ["last", "max", "avg"])
def test_memory_owns_its_frames(kind):
    x = torch.randn(2, 2, 4, 3, 3)
    for memory in (None, torch.randn(2, 2, 4, 3, 3)):
        for momentum in (0.0, 0.5):
            new = CACHE_POLICIES.get(kind)(4, momentum).update(x, memory)
            assert new.untyped_storage().nbytes() == new.numel() * new.element_size()
            assert new.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
