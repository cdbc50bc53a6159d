"""Operations of RandAugment against Pillow's, which the published code uses."""

import cv2
import numpy as np
import pytest

from slowfast.datasets.transforms import rand_augment as ops

HEIGHT, WIDTH = 60, 84


@pytest.fixture(scope="module")
def frames():
    """Three smooth color pictures of different range, the last of one color in one channel."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (3, HEIGHT, WIDTH, 3), np.uint8)
    smooth = np.stack([cv2.GaussianBlur(frame, (0, 0), 2.5) for frame in noise]).astype(float)
    smooth = (smooth - 128) * 2.5 + 128
    smooth[1] = smooth[1] * 0.5 + 30
    smooth[2, ..., 1] = 77
    return smooth.clip(0, 255).astype(np.uint8)


def by_pillow(frames, operation):
    image = pytest.importorskip("PIL.Image")
    return np.stack([np.asarray(operation(image.fromarray(frame))) for frame in frames])


def difference(a, b):
    return np.abs(a.astype(int) - b.astype(int))


@pytest.mark.parametrize(
    ("ours", "pillows"),
    [
        (ops.auto_contrast, lambda i, o, e: o.autocontrast(i)),
        (ops.equalize, lambda i, o, e: o.equalize(i)),
        (ops.invert, lambda i, o, e: o.invert(i)),
        (lambda f: ops.posterize(f, 3), lambda i, o, e: o.posterize(i, 3)),
        (lambda f: ops.posterize(f, 8), lambda i, o, e: i),
        (lambda f: ops.solarize(f, 100), lambda i, o, e: o.solarize(i, 100)),
        (lambda f: ops.solarize_add(f, 60), lambda i, o, e: i.point([v + 60 * (v < 128) for v in range(256)] * 3)),
        (lambda f: ops.brightness(f, 1.63), lambda i, o, e: e.Brightness(i).enhance(1.63)),
        (lambda f: ops.brightness(f, 0.37), lambda i, o, e: e.Brightness(i).enhance(0.37)),
    ],
    ids=["auto", "equalize", "invert", "post 3", "post 8", "solarize", "add", "brighter", "darker"],
)
def test_values_as_in_pillow(ours, pillows, frames):
    image_ops, enhance = pytest.importorskip("PIL.ImageOps"), pytest.importorskip("PIL.ImageEnhance")
    assert np.array_equal(ours(frames), by_pillow(frames, lambda image: pillows(image, image_ops, enhance)))


@pytest.mark.parametrize("factor", [0.1, 0.55, 1.0, 1.9])
@pytest.mark.parametrize(
    ("ours", "pillows"),
    [(ops.contrast, "Contrast"), (ops.color, "Color"), (ops.sharpness, "Sharpness")],
    ids=["contrast", "color", "sharpness"],
)
def test_enhancing_as_in_pillow(ours, pillows, factor, frames):
    """Pillow cuts to whole numbers between its steps, which this does once."""
    enhance = pytest.importorskip("PIL.ImageEnhance")
    expected = by_pillow(frames, lambda image: getattr(enhance, pillows)(image).enhance(factor))
    assert difference(ours(frames, factor), expected).max() <= 2
    if factor == 1:
        assert np.array_equal(ours(frames, factor), frames)


@pytest.mark.parametrize(
    ("ours", "matrix"),
    [
        (lambda f, i: ops.shear_x(f, 0.21, i), (1, 0.21, 0, 0, 1, 0)),
        (lambda f, i: ops.shear_y(f, -0.3, i), (1, 0, 0, -0.3, 1, 0)),
        (lambda f, i: ops.translate_x(f, 0.25, i), (1, 0, 0.25 * WIDTH, 0, 1, 0)),
        (lambda f, i: ops.translate_y(f, -0.31, i), (1, 0, 0, 0, 1, -0.31 * HEIGHT)),
    ],
    ids=["shear x", "shear y", "translate x", "translate y"],
)
@pytest.mark.parametrize(
    ("interpolation", "name", "tolerance"),
    [(cv2.INTER_NEAREST, "NEAREST", 0.5), (cv2.INTER_LINEAR, "BILINEAR", 0.5), (cv2.INTER_CUBIC, "BICUBIC", 0.6)],
    ids=["nearest", "bilinear", "bicubic"],
)
def test_moving_as_in_pillow(ours, matrix, interpolation, name, tolerance, frames):
    image = pytest.importorskip("PIL.Image")
    expected = by_pillow(
        frames,
        lambda i: i.transform(
            i.size, image.Transform.AFFINE, matrix, getattr(image.Resampling, name), fillcolor=ops.FILL
        ),
    )
    check_moved(ours(frames, interpolation), expected, tolerance)


def check_moved(found, expected, tolerance):
    """Compare without the border of what comes in, where OpenCV blends and Pillow does not."""
    inside = (difference(expected, np.array(ops.FILL)).max(axis=-1) > 0)[..., None] & np.ones(3, bool)
    assert np.mean(difference(found, expected)[inside]) < tolerance
    outside = cv2.erode((~inside[0, ..., 0]).astype(np.uint8), np.ones((5, 5)), borderValue=1) > 0
    assert (found[0][outside] == ops.FILL).all()
    assert 0.02 < outside.mean() < 0.5


@pytest.mark.parametrize("degrees", [25.0, -14.5])
def test_turning_as_in_pillow(degrees, frames):
    image = pytest.importorskip("PIL.Image")
    expected = by_pillow(frames, lambda i: i.rotate(degrees, image.Resampling.BILINEAR, fillcolor=ops.FILL))
    check_moved(ops.rotate(frames, degrees, cv2.INTER_LINEAR), expected, 0.6)


def test_frames_are_changed_apart_and_left_alone(frames):
    """Compare with each frame alone, and the frames given with a copy."""
    before = frames.copy()
    changes = [
        ops.auto_contrast,
        ops.equalize,
        lambda f: ops.contrast(f, 1.5),
        lambda f: ops.color(f, 0.2),
        lambda f: ops.sharpness(f, 1.9),
        lambda f: ops.rotate(f, 10, cv2.INTER_CUBIC),
        lambda f: ops.solarize(f, 50),
    ]
    for change in changes:
        together = change(frames)
        assert np.array_equal(together[1:2], change(frames[1:2]))
        assert not np.array_equal(together, frames)
        assert together.dtype == np.uint8 and together.shape == frames.shape
    assert np.array_equal(frames, before)


def test_tiny_frames():
    frames = np.full((1, 2, 1, 3), 9, np.uint8)
    assert np.array_equal(ops.sharpness(frames, 1.9), frames)
    assert np.array_equal(ops.equalize(frames), frames)
    assert np.array_equal(ops.auto_contrast(frames), frames)
