"""Random numbers that depend on named facts alone, never on who draws them or what was drawn before.

Single random numbers from a `torch.Generator` that the caller passes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator

SPLITS = ("train", "val", "test")


def seeded_generator(seed: int, split: str, *numbers: int) -> torch.Generator:
    """A generator whose stream depends on the arguments alone; different arguments give unrelated streams."""
    words = np.random.SeedSequence([seed % 2**64, SPLITS.index(split), *numbers]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) >> 1)


def uniform(generator: Generator, low: float = 0.0, high: float = 1.0) -> float:
    """A number from `low` to under `high`, every one as likely."""
    return low + torch.rand((), generator=generator, dtype=torch.float64).item() * (high - low)


def chance(generator: Generator, probability: float) -> bool:
    """True with this probability."""
    return uniform(generator) < probability


def whole(generator: Generator, below: int) -> int:
    """A whole number from 0 to under `below`, every one as likely."""
    return int(torch.randint(below, (), generator=generator))


def normal(generator: Generator, mean: float = 0.0, std: float = 1.0) -> float:
    """A number of a normal distribution."""
    return mean + std * torch.randn((), generator=generator, dtype=torch.float64).item()
