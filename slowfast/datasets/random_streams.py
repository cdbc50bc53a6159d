"""Random numbers that depend on named facts alone, never on who draws them or what was drawn before."""

from __future__ import annotations

import numpy as np
import torch

SPLITS = ("train", "val", "test")


def generator_of(seed: int, split: str, *numbers: int) -> torch.Generator:
    """A generator whose stream depends on the arguments alone; different arguments give unrelated streams."""
    words = np.random.SeedSequence([seed % 2**64, SPLITS.index(split), *numbers]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) >> 1)
