"""PySlowFast's file of predictions: a plain pickle of [scores, labels], two tensors with a row for each video."""

from __future__ import annotations

import os
import pickle

import numpy as np
from torch import Tensor

from slowfast.checkpoint.formats.plain_pickle import RefusedPickleError, read_plain_pickle
from slowfast.runtime.distributed import atomic_write
from slowfast.utils.files import regular_file


def write_pickle(path: str, scores: Tensor, labels: Tensor) -> None:
    """Write scores (V, classes) and labels (V,), or (V, classes) of 0 and 1, atomically in the main process."""
    atomic_write(os.path.abspath(path), pickle.dumps([scores, labels]))


def read_pickle(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the scores and labels of a file; nothing in it is executed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or holds something else.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file of predictions {path}")
    with open(path, "rb", opener=regular_file) as stream:
        content = read_plain_pickle(stream, tensors=True)
    if not isinstance(content, list) or len(content) != 2:
        raise RefusedPickleError("it is not [scores, labels]")
    scores, labels = (np.asarray(part) for part in content)
    return scores, labels
