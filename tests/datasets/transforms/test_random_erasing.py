"""Random erasing: how often, where, how much, and with what."""

import numpy as np
import pytest
import torch

from slowfast.datasets.transforms.augmentation import ERASING_MODES, RandomErasing

MARK = 100.0


def erased(erasing, seed, frames=3, height=40, width=60):
    clip = torch.full((3, frames, height, width), MARK)
    erasing(clip, torch.Generator().manual_seed(seed))
    return clip, (clip != MARK).any(dim=0).numpy()


def test_as_often_as_set():
    share = np.mean([erased(RandomErasing(0.25, "const", 1), seed)[1].any() for seed in range(1000)])
    assert share == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("mode", ERASING_MODES)
def test_one_rectangle_at_the_same_place_of_all_frames(mode):
    areas, shapes = [], []
    for seed in range(300):
        clip, where = erased(RandomErasing(1.0, mode, 1), seed)
        assert (where == where[:1]).all()
        rows, columns = np.flatnonzero(where[0].any(axis=1)), np.flatnonzero(where[0].any(axis=0))
        assert where[0].sum() == len(rows) * len(columns)
        areas.append(where[0].mean())
        shapes.append(len(rows) / len(columns))
        filled = clip[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        if mode == "const":
            assert (filled == 0).all()
        elif mode == "rand":
            assert (filled == filled[..., :1, :1]).all()
            assert len(filled[..., 0, 0].unique()) == 9  # its own for each frame and channel
        else:
            assert len(filled.unique()) > 0.99 * filled.numel()
    assert 0.01 < min(areas) < 0.04 and 0.3 < max(areas) < 0.35
    assert np.median(areas) == pytest.approx((0.02 + 1 / 3) / 2, abs=0.025)
    assert 0.28 < min(shapes) < 0.5 and 2 < max(shapes) < 3.5


def test_noise_is_that_of_a_normalized_clip():
    filled = torch.cat([erased(RandomErasing(1.0, "pixel", 1), seed)[0].flatten() for seed in range(20)])
    filled = filled[filled != MARK]
    assert filled.mean().item() == pytest.approx(0, abs=0.02)
    assert filled.std().item() == pytest.approx(1, abs=0.02)


def test_several_rectangles_share_the_area():
    one = [erased(RandomErasing(1.0, "const", 1), seed)[1][0] for seed in range(300)]
    many = [erased(RandomErasing(1.0, "const", 4), seed)[1][0] for seed in range(300)]
    assert max(where.mean() for where in many) <= 0.36
    # A clip with one rectangle has all rows and columns of it filled; of several some are apart.
    apart = [where.sum() < where.any(axis=1).sum() * where.any(axis=0).sum() for where in many]
    assert 0.6 < np.mean(apart) < 0.78
    assert not any(where.sum() < where.any(axis=1).sum() * where.any(axis=0).sum() for where in one)
