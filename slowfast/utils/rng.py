"""Stateless seeding, and scalar random numbers from a `torch.Generator`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator

SPLITS = ("train", "val", "test")


def seeded_generator(seed: int, split: str, *numbers: int) -> torch.Generator:
    """Return a generator seeded from (seed, split, *numbers) alone, independent for other arguments."""
    words = np.random.SeedSequence([seed % 2**64, SPLITS.index(split), *numbers]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) >> 1)


def uniform(generator: Generator, low: float = 0.0, high: float = 1.0) -> float:
    """Sample from U[low, high)."""
    return low + torch.rand((), generator=generator, dtype=torch.float64).item() * (high - low)


def bernoulli(generator: Generator, probability: float) -> bool:
    """Return True with this probability."""
    return uniform(generator) < probability


def randint(generator: Generator, below: int) -> int:
    """Sample an integer from 0 to `below` - 1 uniformly."""
    return int(torch.randint(below, (), generator=generator))


def normal(generator: Generator, mean: float = 0.0, std: float = 1.0) -> float:
    """Sample from N(mean, std^2)."""
    return mean + std * torch.randn((), generator=generator, dtype=torch.float64).item()
