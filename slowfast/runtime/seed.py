"""Random numbers: seeding, saving and restoring a process; stateless seeding; scalars from a generator."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Generator

from slowfast.runtime.device import device_rng_state, set_device_rng_state
from slowfast.utils.errors import short

_WORDS = 624  # of a Mersenne Twister


def seed_all(seed: int, rank: int = 0) -> None:
    """Seed Python, NumPy and PyTorch (all devices), differently on each rank."""
    value = (seed + 1_000_003 * rank) % 2**32
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


def seed_all_but_gpus(seed: int) -> None:
    """Seed Python, NumPy and PyTorch on the CPU, where GPUs go on with what they have drawn."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


def rng_state(device: torch.device | None = None) -> dict[str, Any]:
    """Return the state of all generators as numbers and tensors, which load without unpickling code."""
    version, python_words, python_gauss = random.getstate()
    kind, words, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": [version, list(python_words), python_gauss],
        "numpy": [kind, torch.from_numpy(words.astype(np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "device": device_rng_state(device) if device is not None else None,
    }


def set_rng_state(state: dict[str, Any], device: torch.device | None = None) -> None:
    """Restore a state of `rng_state`.

    Raises:
        ValueError, TypeError, KeyError, AttributeError, RuntimeError: it is no such state.
    """
    version, python_words, python_gauss = state["python"]
    if not isinstance(python_gauss, (float, type(None))):  # Python takes any object, and fails when it is used
        raise ValueError(f"Python's random state has the next normal number {short(python_gauss)}")
    random.setstate((version, tuple(python_words), python_gauss))
    kind, words, position, has_gauss, gauss = state["numpy"]
    if words.shape != (_WORDS,) or not 0 <= position <= _WORDS:
        # NumPy would read beyond the words.
        raise ValueError(f"NumPy's random state has {tuple(words.shape)} words and the position {short(position)}")
    np.random.set_state((kind, words.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"].cpu())
    if device is not None:
        set_device_rng_state(state["device"], device)


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
