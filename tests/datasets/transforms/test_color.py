"""Color noise against the published steps, one after the other over whole pictures."""

import math

import numpy as np
import pytest
import torch

from slowfast.datasets.transforms import pixels as transforms
from slowfast.datasets.transforms.augmentation import ColorJitter

VALUES = (0.225, 0.224, 0.229)
DIRECTIONS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.814), (-0.5836, -0.6948, 0.4203))
PLAIN = transforms.normalization([0.0], [1.0])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def colored(noise, frames, seed):
    """Return the frames with noise, (3, T, H, W), 0 to 1 without it."""
    colors = transforms.compose(noise.sample(frames, generator(seed)), PLAIN)
    return transforms.to_clip(frames, colors).numpy().astype(np.float64)


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (3, 8, 10, 3), np.uint8)


def published_jitter(clip, strength, seed):
    """As written down for AVA: a random order of three blends, each with the picture as it is by then."""
    g = generator(seed)
    weights = np.array([0.299, 0.587, 0.114]).reshape(3, 1, 1, 1)
    for kind in torch.randperm(3, generator=g).tolist():
        factor = 1 + (2 * torch.rand((), generator=g, dtype=torch.float64).item() - 1) * strength
        gray = (clip * weights).sum(axis=0, keepdims=True)
        other = [0, gray.mean(axis=(2, 3), keepdims=True), gray][kind]
        clip = factor * clip + (1 - factor) * other
    return clip


@pytest.mark.parametrize("seed", range(8))
def test_jitter(seed, frames):
    expected = published_jitter(frames.transpose(3, 0, 1, 2) / 255, 0.4, seed)
    assert np.allclose(colored(ColorJitter(jitter=0.4), frames, seed), expected, atol=1e-5)


def test_lighting_moves_a_clip_along_the_main_directions(frames):
    noise = ColorJitter(lighting_std=0.1, eigvals=VALUES, eigvecs=DIRECTIONS)
    plain = frames.transpose(3, 0, 1, 2) / 255
    moves = []
    for seed in range(3000):
        move = (colored(noise, frames[:1, :1, :1], seed) - plain[:, :1, :1, :1]).ravel()
        moves.append(move)
    whole = colored(noise, frames, 5) - plain
    assert np.allclose(whole, whole[:, :1, :1, :1], atol=1e-6)  # every pixel of every frame alike
    # In the main directions, which stand at right angles, the amounts are independent: normal, 0.1 times the value.
    amounts = np.array(moves) @ np.linalg.inv(np.array(DIRECTIONS)).T
    assert amounts.mean(axis=0) == pytest.approx([0, 0, 0], abs=0.002)
    assert amounts.std(axis=0) == pytest.approx(0.1 * np.array(VALUES), rel=0.05)
    correlation = np.corrcoef(amounts.T) - np.eye(3)
    assert np.abs(correlation).max() < 0.06


def test_gray(frames):
    clips = [colored(ColorJitter(gray=0.25), frames, seed) for seed in range(400)]
    gray = [np.allclose(clip, clip[:1], atol=1e-6) for clip in clips]
    assert np.mean(gray) == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 400))
    expected = (frames @ [0.299, 0.587, 0.114]) / 255
    assert np.allclose(clips[gray.index(True)][0], expected, atol=1e-6)
    assert np.allclose(clips[gray.index(False)], frames.transpose(3, 0, 1, 2) / 255, atol=1e-6)


def test_nothing_by_default(frames):
    g = generator()
    assert np.array_equal(ColorJitter().sample(frames, g), np.eye(3, 4))
    assert torch.equal(g.get_state(), generator().get_state())
