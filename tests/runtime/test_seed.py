import random

import numpy as np
import torch

from slowfast.runtime.seed import rng_state, seed_all, set_rng_state


def draws():
    return random.random(), random.gauss(0, 1), np.random.randn(), np.random.rand(), torch.rand(3).tolist()


def test_state_survives_a_safe_file(tmp_path):
    seed_all(5)
    draws()
    torch.save(rng_state(), tmp_path / "state.pt")
    expected = draws()
    draws()
    set_rng_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draws() == expected


def test_seeds():
    seed_all(5)
    first = draws()
    seed_all(5)
    assert draws() == first
    seed_all(5, rank=1)
    other = draws()
    assert all(a != b for a, b in zip(first, other, strict=True))
