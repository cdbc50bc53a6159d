"""Masks of tokens. Shapes: a mask is (B, T, h, w) bool, True where masked."""

import torch
import torch.nn.functional as F

from slowfast.layers.attention import Size


def random_mask(
    batch: int, thw: Size, ratio: float, tube: bool = False, per_frame: bool = False, device: torch.device | None = None
) -> torch.Tensor:
    """Draw a mask (batch, T, H, W) that leaves int(L * (1 - ratio)) of the L places of each sample.

    Args:
        thw: (T, H, W).
        ratio: masked share, 0 to 1.
        tube: mask the same places in all frames.
        per_frame: leave equally many places in each frame, int(H * W * (1 - ratio)).

    Raises:
        ValueError: no place is left.
    """
    frames, places = thw[0], thw[1] * thw[2]
    if per_frame and not tube:
        noise = torch.rand(batch * frames, places, device=device)
    else:
        noise = torch.rand(batch, 1 if tube else frames, places, device=device).expand(-1, frames, -1).flatten(1)
    left = int(noise.shape[1] * (1 - ratio))
    if left < 1:
        raise ValueError(f"AUG.MASK_RATIO {ratio} leaves none of {noise.shape[1]} tokens visible; lower it")
    return _all_but_smallest(noise, left).view(batch, *thw)


def _all_but_smallest(noise: torch.Tensor, left: int) -> torch.Tensor:
    """Return a mask (N, L) that is False at the `left` smallest numbers of each row; of equal ones, the first."""
    order = noise.argsort(dim=1, stable=True)
    return torch.ones_like(noise, dtype=torch.bool).scatter_(1, order[:, :left], False)


def equal_counts(mask: torch.Tensor) -> torch.Tensor:
    """Return a mask that leaves the mean number of places visible, rounded down, in each sample.

    Blocks of the loader may mask fewer places than asked for, and samples of a batch need sequences of one length.
    Places are masked or shown at random in addition.
    """
    flat = mask.flatten(1)
    left = int((~flat).sum()) // len(flat)
    if left < 1:
        raise ValueError("the masks of the loader leave no token visible; lower AUG.MASK_RATIO")
    return _all_but_smallest(flat + torch.rand(flat.shape, device=mask.device) / 2, left).view_as(mask)


def enlarge(mask: torch.Tensor, thw: Size) -> torch.Tensor:
    """Enlarge a mask (B, T, h, w) to (B, T, H, W) by nearest neighbor.

    Raises:
        ValueError: it has another number of frames.
    """
    if mask.shape[1] != thw[0]:
        raise ValueError(
            f"the mask has {mask.shape[1]} frames and the tokens have {thw[0]}; AUG.MASK_WINDOW_SIZE is [time, height, "
            "width] with the time of the tokens, DATA.NUM_FRAMES / MVIT.PATCH_STRIDE[0]"
        )
    return mask if mask.shape[1:] == thw else F.interpolate(mask.float(), size=tuple(thw[1:])).bool()


def given(mask: torch.Tensor | None) -> torch.Tensor:
    """Return the mask of the loader; ValueError if there is none."""
    if mask is None:
        raise ValueError("the model takes the mask of the loader; set AUG.GEN_MASK_LOADER True")
    return mask
