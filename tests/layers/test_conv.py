"""The convolution of the models against PyTorch's own."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from slowfast.layers import conv
from slowfast.layers.conv import Conv3d, depthwise_convolutions, pack_weights, set_planar

# Channels in and out, kernel, stride, padding, dilation, groups, bias.
CASES = {
    "pointwise": (6, 5, 1, 1, 0, 1, 1, False),
    "pointwise, wide": (128, 136, 1, 1, 0, 1, 1, True),
    "pointwise, wide, strided": (128, 128, 1, (1, 2, 2), 0, 1, 1, False),
    "pointwise, strided in time": (128, 128, 1, (2, 1, 1), 0, 1, 1, False),
    "pointwise, padded": (3, 4, 1, 1, 1, 1, 1, True),
    "pointwise, grouped": (6, 4, 1, 1, 0, 1, 2, False),
    "frames": (6, 8, (1, 3, 3), (1, 2, 2), (0, 1, 1), 1, 1, True),
    "frames, wide": (128, 130, (1, 3, 3), (1, 2, 2), (0, 1, 1), 1, 1, True),
    "frames, wide, dilated": (128, 128, (1, 3, 3), 1, (0, 2, 2), (1, 2, 2), 1, False),
    "frames, uneven": (128, 128, (1, 3, 2), (1, 3, 2), (0, 0, 1), (1, 1, 2), 1, False),
    "frames, strided in time": (6, 8, (1, 3, 3), (2, 1, 1), (0, 1, 1), 1, 1, False),
    "frames, grouped": (8, 12, (1, 3, 3), 1, (0, 1, 1), 1, 4, False),
    "frames, padded in time": (6, 8, (1, 3, 3), 1, (1, 1, 1), 1, 1, False),
    "time": (6, 8, (3, 1, 1), 1, (1, 0, 0), 1, 1, False),
    "time, wide": (128, 128, (3, 1, 1), 1, (1, 0, 0), 1, 1, True),
    "time, wide, strided": (128, 128, (5, 1, 1), (2, 1, 1), (2, 0, 0), 1, 1, False),
    "time, wide, strided in space": (128, 128, (3, 1, 1), (1, 2, 2), (1, 0, 0), 1, 1, False),
    "time, unpadded": (128, 128, (2, 1, 1), 1, 0, 1, 1, False),
    "whole": (3, 8, (5, 7, 7), (1, 2, 2), (2, 3, 3), 1, 1, False),
    "depthwise": (6, 6, 3, 1, 1, 1, 6, True),
    "depthwise, strided": (6, 6, 3, (1, 2, 2), 1, 1, 6, False),
    "depthwise, time": (6, 6, (5, 1, 1), 1, (2, 0, 0), 1, 6, False),
    "depthwise, long": (6, 6, (7, 1, 1), 1, (3, 0, 0), 1, 6, False),
    "depthwise, one tap in time": (6, 6, (1, 3, 3), 1, (0, 1, 1), 1, 6, False),
    "depthwise, unpadded": (6, 6, 3, 1, 0, 1, 6, False),
    "depthwise, dilated in space": (6, 6, 3, 1, (1, 2, 2), (1, 2, 2), 6, False),
    "depthwise, strided in time": (6, 6, 3, 2, 1, 1, 6, False),
    "depthwise, more out than in": (6, 12, 3, 1, 1, 1, 6, False),
}


@pytest.fixture(params=["products", "convolutions"], autouse=True)
def way(request, monkeypatch):
    """Compute in the way of processors on which matrix products are as fast as convolutions, or as they are not."""
    products = request.param == "products"
    monkeypatch.setattr(conv, "_FAST_FLOAT32_PRODUCTS", products)
    monkeypatch.setattr(conv, "_FEW_POSITIONS", 1000 if products else 0)


def convolutions(name, dtype=torch.float64):
    c_in, c_out, kernel, stride, padding, dilation, groups, bias = CASES[name]
    torch.manual_seed(0)
    plain = nn.Conv3d(c_in, c_out, kernel, stride, padding, dilation, groups, bias).to(dtype)
    ours = Conv3d(c_in, c_out, kernel, stride, padding, dilation, groups, bias).to(dtype)
    ours.load_state_dict(plain.state_dict())
    clip = torch.randn(2, c_in, 4, 7, 6, dtype=dtype)
    return plain, ours, clip


def results(conv, clip):
    """Output and gradients of input and parameters."""
    clip = clip.clone().requires_grad_()
    y = conv(clip)
    generator = torch.Generator().manual_seed(1)
    y.backward(torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.dtype))
    return [y.detach(), clip.grad, *(parameter.grad for parameter in conv.parameters())]


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_are_those_of_pytorch(name):
    plain, ours, clip = convolutions(name)
    torch.testing.assert_close(results(ours, clip), results(plain, clip), rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(ours(clip), plain(clip), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_layout_of_clip_and_weights_is_of_no_matter(name):
    plain, ours, clip = convolutions(name)
    ours.to(memory_format=torch.channels_last_3d)
    laid = clip.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(results(ours, laid), results(plain, clip), rtol=1e-9, atol=1e-9)
    sliced = torch.randn(2, 2 * clip.shape[1], 4, 7, 6, dtype=clip.dtype)[:, ::2]
    torch.testing.assert_close(ours(sliced), plain(sliced), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["pointwise, wide", "frames, wide", "time, wide", "whole", "depthwise"])
def test_autocast_computes_in_its_type_and_gives_gradients_in_the_weights(name):
    plain, ours, clip = convolutions(name, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = results(ours, clip), results(plain, clip)
    assert [tensor.dtype for tensor in found] == [tensor.dtype for tensor in expected]
    assert found[0].dtype == torch.bfloat16
    for ours_, plain_ in zip(found, expected, strict=True):
        assert (ours_ - plain_).abs().max() <= 0.03 * plain_.abs().max()


@pytest.mark.parametrize("channels_last", [True, False])
def test_depthwise_convolutions_can_stay_in_float32(channels_last):
    pair = nn.Sequential(Conv3d(6, 6, 3, padding=1, groups=6), Conv3d(6, 4, 1), Conv3d(4, 4, 3, padding=1, groups=2))
    assert depthwise_convolutions(pair) == [pair[0]]
    pair[0].full_precision = True
    set_planar(pair, channels_last)
    clip = torch.randn(2, 6, 4, 5, 5)
    plain = results(copy.deepcopy(pair[0]), clip)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = results(pair[0], clip)
        assert [pair[1](clip).dtype, pair[2](pair[1](clip)).dtype] == [torch.bfloat16] * 2
        half = clip.to(torch.bfloat16)
        assert torch.equal(pair[0](half), pair[0](half.float()))
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(found, plain)
    pair[0].full_precision = False
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert pair[0](clip).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["pointwise, wide", "frames, wide", "time, wide", "depthwise"])
def test_what_needs_no_gradient_gets_none(name):
    _, ours, clip = convolutions(name)
    ours(clip).sum().backward()  # the first convolution of a network: its clip takes none
    assert ours.weight.grad is not None and clip.grad is None
    ours.requires_grad_(False)
    clip.requires_grad_()
    ours(clip).sum().backward()
    plain, _, same = convolutions(name)
    same.requires_grad_()
    plain(same).sum().backward()
    torch.testing.assert_close(clip.grad, same.grad)


@pytest.fixture
def half():
    """Skip where oneDNN has no bfloat16."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor has no bfloat16")


@pytest.mark.parametrize("name", CASES)
def test_packed_weights_compute_the_same(name):
    plain, ours, clip = convolutions(name, torch.float32)
    pack_weights(ours)
    with torch.no_grad():
        for each in (clip, clip[:1, :, :3, 1:], clip):  # weights are packed for the first of them
            torch.testing.assert_close(ours(each), plain(each))
        found = ours(clip.contiguous(memory_format=torch.channels_last_3d))
    assert name == "pointwise, padded" or found.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(results(ours, clip), results(plain, clip), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["pointwise, wide", "frames, wide", "time, wide", "frames, grouped"])
def test_packed_weights_follow_changes(name, half):
    plain, ours, clip = convolutions(name, torch.float32)
    pack_weights(ours)

    def check(rtol=1e-4, atol=1e-3):
        with torch.no_grad():
            torch.testing.assert_close(ours(clip), plain(clip), rtol=rtol, atol=atol)

    check()
    for model in (plain, ours):
        with torch.no_grad():
            model.weight.mul_(-2)
    check()
    changed = {key: value + 1 for key, value in plain.state_dict().items()}
    plain.load_state_dict(changed)
    ours.load_state_dict(changed)
    check()
    for model in (plain, ours):
        model.weight = nn.Parameter(model.weight.detach() - 3)
    check()
    with torch.autocast("cpu", torch.bfloat16):
        check(rtol=0.02, atol=0.5)  # of numbers up to 100
        assert ours(clip).dtype == torch.bfloat16
    check()
    plain.bfloat16()
    ours.bfloat16()
    clip = clip.bfloat16()
    check(rtol=0.02, atol=0.5)


def test_threads_of_two_precisions_share_packed_weights(half):
    plain, ours, clip = convolutions("frames, wide", torch.float32)
    pack_weights(ours)

    def predict(dtype):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            truth = plain(clip)
            for _ in range(30):
                found = ours(clip)
                assert found.dtype == dtype
                torch.testing.assert_close(found, truth, rtol=0.02, atol=0.02 if dtype == torch.bfloat16 else 1e-5)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(predict, dtype) for dtype in (torch.float32, torch.bfloat16) * 2]:
            done.result()


def test_a_model_with_packed_weights_can_be_copied_and_saved(tmp_path):
    plain, ours, clip = convolutions("frames, wide", torch.float32)
    pack_weights(ours)
    with torch.inference_mode():
        ours(clip)
        twin = copy.deepcopy(ours)
        torch.save(ours, tmp_path / "model.pt")
        for each in (twin, torch.load(tmp_path / "model.pt", weights_only=False)):
            torch.testing.assert_close(each(clip), plain(clip))


def test_other_weights_than_a_layers_own_are_not_taken_for_packed_ones():
    plain, ours, clip = convolutions("time, wide", torch.float32)
    pack_weights(ours)
    with torch.no_grad():
        ours(clip)
        part = ours.convolve(clip, ours.weight[:, :, 1:], None, (0, 0, 0))
        torch.testing.assert_close(part, nn.functional.conv3d(clip, plain.weight[:, :, 1:]))


def test_outputs_keep_channels_last_so_that_nothing_is_copied_between_layers():
    for name in set(CASES) - {"pointwise, padded"}:  # which no model has
        _, ours, clip = convolutions(name, torch.float32)
        laid = clip.contiguous(memory_format=torch.channels_last_3d)
        assert ours(laid).is_contiguous(memory_format=torch.channels_last_3d), name


def test_plain_convolutions_can_be_asked_for():
    _, ours, clip = convolutions("frames, wide")
    model = nn.Sequential(ours)
    set_planar(model, False)
    assert model(clip).is_contiguous()
    plain = copy.deepcopy(model)
    set_planar(plain, True)
    assert plain(clip).is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(plain(clip), model(clip))


def test_a_depthwise_convolution_of_no_clips_has_gradients():
    conv = Conv3d(4, 4, 3, padding=1, groups=4)
    clips = torch.zeros(0, 4, 3, 5, 5, requires_grad=True)
    conv(clips).sum().backward()
    assert clips.grad.shape == clips.shape and not conv.weight.grad.any()


@pytest.mark.parametrize("arguments", [{"padding": "same"}, {"padding": 1, "padding_mode": "circular"}])
def test_arguments_that_no_model_has_are_left_to_pytorch(arguments):
    torch.manual_seed(0)
    plain, ours = nn.Conv3d(2, 3, 3, **arguments), Conv3d(2, 3, 3, **arguments)
    ours.load_state_dict(plain.state_dict())
    clip = torch.randn(1, 2, 4, 5, 5)
    torch.testing.assert_close(ours(clip), plain(clip))
    torch.testing.assert_close(ours(clip[0]), plain(clip[0]))
