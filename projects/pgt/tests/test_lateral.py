"""Lateral connections with memory against sums written out, and against one convolution over the whole clip."""

import pytest
import torch
from torch import nn

from pgt import StepPlan
from pgt.conversion import Rules, convert
from pgt.memory import CACHE_POLICIES, Carry, LastFrames
from pgt.operators.layers import MarkovConv3d
from slowfast.models import VideoModel, build_model
from slowfast.models.slowfast import FuseFastToSlow


def lateral_by_hand(fusion, new, memory):
    """Output i is the sum over taps around new frame i * alpha; before it memory, then 0; behind the step 0."""
    weight, alpha = fusion.conv_f2s.weight[..., 0, 0], fusion.conv_f2s.stride[0]
    taps, frames, outputs = weight.shape[2], new.shape[2], []
    past = new.new_zeros(*new.shape[:2], 0, *new.shape[3:]) if memory is None else memory
    for center in range(0, frames, alpha):
        total = 0
        for tap in range(taps):
            at = center + tap - taps // 2
            if -past.shape[2] <= at < frames:
                frame = new[:, :, at] if at >= 0 else past[:, :, at]
                total = total + torch.einsum("oc,bchw->bohw", weight[:, :, tap], frame)
        outputs.append(total)
    return fusion.relu(fusion.bn(torch.stack(outputs, dim=2)))


@pytest.mark.parametrize(("kernel", "alpha"), [(5, 4), (7, 4), (5, 8), (7, 2), (5, 1)])
@pytest.mark.parametrize(("overlap", "kind", "momentum"), [(1, "last", 0.0), (2, "max", 0.25), (4, "last", 0.0)])
@torch.no_grad()
def test_outputs_are_the_sums(parity, kernel, alpha, overlap, kind, momentum):
    fusion = FuseFastToSlow(2, 2, kernel, alpha, nn.BatchNorm3d)
    model = VideoModel()
    model.s1_fuse = fusion
    policy = CACHE_POLICIES.get(kind)(overlap, momentum)
    model = convert(model, Rules([LastFrames(1), policy], None, [1, 1], fusion=True))
    parity.fill_module(model).eval()
    assert type(fusion.conv_f2s) is MarkovConv3d and model.operators == {"s1_fuse.conv_f2s"}
    memory = remembered = None
    for count in (3, 2, 2, 1):
        new = torch.randn(2, 2, max(count * alpha, overlap), 3, 3)
        slow = torch.randn(2, 3, -(-new.shape[2] // alpha), 3, 3)
        carry = Carry(memory)
        with carry.active():
            joined, fast = fusion([slow, new])
        torch.testing.assert_close(joined, torch.cat([slow, lateral_by_hand(fusion, new, remembered)], dim=1))
        assert fast is new
        memory, remembered = carry.new, policy.update(new, remembered)


@pytest.mark.parametrize("kernel", [5, 7])
@pytest.mark.parametrize("sampling", ["published", "even"])
@torch.no_grad()
def test_steps_give_one_convolution_over_the_clip(progressive_cfg, parity, random_clip, run_steps, kernel, sampling):
    """Of each lateral connection's own fast frames, at every slow frame: k // 2 is under alpha and the overlap."""
    settings = ["SLOWFAST.FUSION_KERNEL_SZ", kernel, "PGT.SLOW_SAMPLING", sampling, "PGT.FUSION_MEMORY", True]
    cfg = progressive_cfg("slowfast", *settings)
    model, plan = parity.fill_module(build_model(cfg)).eval(), StepPlan.from_config(cfg)
    fusions = [model.s1_fuse, model.s2_fuse, model.s3_fuse, model.s4_fuse]
    seen = {fusion: ([], []) for fusion in fusions}
    for fusion in fusions:

        def keep(module, inputs, output):
            slow, fast = inputs[0]
            seen[module][0].append(fast)
            seen[module][1].append(output[0][:, slow.shape[1] :])

        fusion.register_forward_hook(keep)
    run_steps(model, plan.split(random_clip(cfg)))
    for fusion, (fast, lateral) in seen.items():
        chained, whole = torch.cat(lateral, dim=2), fusion.lateral(torch.cat(fast, dim=2))
        assert chained.shape[2] == plan.pathway_frames(0)
        torch.testing.assert_close(chained, whole, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_it_is_off_by_default_and_matters(progressive_cfg, parity, random_clip):
    off, on = progressive_cfg("slowfast"), progressive_cfg("slowfast", "PGT.FUSION_MEMORY", True)
    plain, fused = (parity.fill_module(build_model(cfg)).eval() for cfg in (off, on))
    laterals = {f"s{i}_fuse.conv_f2s" for i in range(1, 5)}
    assert fused.operators - plain.operators == laterals and not laterals & plain.operators
    steps, memories = StepPlan.from_config(on).split(random_clip(on)), [None, None]
    for s, step in enumerate(steps):
        scores = []
        for i, model in enumerate((plain, fused)):
            y, memories[i] = model(step, memories[i])
            scores.append(y)
        assert ((scores[0] - scores[1]).abs().max() > 1e-6) == (s > 0)


@pytest.mark.parametrize(
    ("variant", "settings", "message"),
    [
        ("slow", [], "a model of one pathway has none"),
        (
            "slowfast",
            ["PGT.STEPS", 2, "PGT.STEP_LEN", [4, 14], "PGT.OVERLAP", [1, 1], "DATA.NUM_FRAMES", 28, "PGT.SLOW_SAMPLING",
             "even"],
            r"STEP_LEN \[4, 14\].*ALPHA 4 .*STEP_LEN \[4, 16\] with PGT.OVERLAP \[1, 4\] fits",
        ),
        (
            "slowfast",
            ["PGT.MGRID", True, "PGT.MGRID_STEPS", [2], "PGT.MGRID_STEP_LEN", [[5, 18]], "PGT.MGRID_LRSCALES", [1.0],
             "PGT.SLOW_SAMPLING", "even"],
            r"PGT.STEP_LEN \[5, 18\]",
        ),
    ],
)  # fmt: skip
def test_steps_that_do_not_fit_are_named(progressive_cfg, variant, settings, message):
    with pytest.raises(ValueError, match=message):
        progressive_cfg(variant, "PGT.FUSION_MEMORY", True, *settings)


def test_a_step_of_other_lengths_is_named():
    fusion = FuseFastToSlow(2, 2, 5, 4, nn.BatchNorm3d)
    with pytest.raises(ValueError, match="3 frames and the fast one 13"):
        fusion([torch.zeros(1, 3, 3, 2, 2), torch.zeros(1, 2, 13, 2, 2)])
