"""Masks of the loader: how many places, of what shape, and from what randomness."""

import pytest
import torch

from slowfast.config import load_config
from slowfast.datasets.transforms.masking import build_masking, cube_mask, frame_mask, tube_mask


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rectangles(mask):
    """True if the masked places of (h, w) are a full rectangle."""
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    return bool(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all())


def test_cubes_cover_their_share_or_end_short():
    masks = torch.stack([cube_mask((8, 7, 7), 0.4, generator(seed)) for seed in range(40)])
    counts = masks.flatten(1).sum(1)
    # 8 * 7 * 7 * 0.4 = 156.8 places; published masks have 154 and 156.
    assert counts.max() == 157 and counts.float().mean() > 150 and counts.min() > 120
    often = masks.float().mean(0)
    assert (often > 0).float().mean() > 0.95 and often.min() < 0.2 and often.mean() > 0.38
    assert any(not torch.equal(mask[0], mask[-1]) for mask in masks)


def test_a_single_cube_is_a_box_smaller_than_the_window():
    # A block has at least h w / 5 = 20 places, up to rounding, so a second one does not fit.
    masks = [cube_mask((1, 10, 10), 0.2, generator(seed))[0] for seed in range(20)]
    masks = [mask for mask in masks if mask.any()]
    assert masks and all(16 <= int(mask.sum()) <= 20 and rectangles(mask) for mask in masks)
    assert not any(mask.all(0).any() or mask.all(1).any() for mask in masks)


@pytest.mark.parametrize("ratio", [0.25, 0.4])
def test_tubes_are_the_same_in_all_frames(ratio):
    counts = set()
    for seed in range(30):
        mask = tube_mask((4, 8, 8), ratio, generator(seed))
        assert all(torch.equal(frame, mask[0]) for frame in mask)
        counts.add(int(mask[0].sum()))
    assert max(counts) == round(64 * ratio)


def test_blocks_of_images_have_a_greatest_size():
    # 2 of 100 places: the least area is 0, the greatest 1.
    for seed in range(20):
        assert int(tube_mask((1, 10, 10), 0.02, generator(seed), most=1).sum()) <= 2
    wide = [tube_mask((1, 14, 14), 0.4, generator(seed), most=20)[0] for seed in range(10)]
    assert all(not rectangles(mask) for mask in wide)  # several blocks each


def test_frames_are_masked_whole():
    mask = frame_mask((8, 7, 7), 0.4, generator())
    whole = mask.flatten(1).all(1)
    assert int(whole.sum()) == 3 and torch.equal(whole, mask.flatten(1).any(1))
    drawn = torch.stack([frame_mask((8, 1, 1), 0.4, generator(seed)).flatten() for seed in range(200)])
    assert ((drawn.float().mean(0) - 3 / 8).abs() < 0.1).all()


@pytest.mark.parametrize("kind", [[], ["AUG.MASK_TUBE", True], ["AUG.MASK_FRAMES", True]])
def test_the_same_generator_draws_the_same_mask(kind):
    cfg = load_config(None, ["AUG.GEN_MASK_LOADER", True, "AUG.MASK_RATIO", 0.4, "DATA.NUM_FRAMES", 16, *kind])
    draw = build_masking(cfg)
    first = draw(generator(5))
    assert first.shape == (8, 7, 7) and first.dtype == torch.bool
    assert torch.equal(draw(generator(5)), first) and not torch.equal(draw(generator(6)), first)


def test_a_window_of_two_numbers_has_the_frames_of_the_tokens():
    settings = ["AUG.GEN_MASK_LOADER", True, "AUG.MASK_TUBE", True, "AUG.MASK_WINDOW_SIZE", [4, 5]]
    cfg = load_config(None, [*settings, "AUG.MASK_RATIO", 0.5, "DATA.NUM_FRAMES", 8])
    assert build_masking(cfg)(generator()).shape == (4, 4, 5)
    assert build_masking(load_config(None, [])) is None
