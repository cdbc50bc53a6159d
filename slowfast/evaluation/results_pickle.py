"""PySlowFast's file of predictions: a plain pickle of [scores, labels], two tensors with a row for each video."""

from __future__ import annotations

import os
import pickle

import numpy as np
from torch import Tensor

from slowfast.checkpoint.formats.plain_pickle import RefusedPickleError, read_plain_pickle
from slowfast.evaluation.predictions import ClassificationPredictions
from slowfast.utils.files import atomic_write, regular_file


def write_pickle(path: str, scores: Tensor, labels: Tensor) -> None:
    """Write scores (V, classes) and labels (V,), or (V, classes) of 0 and 1, atomically in the main process."""
    atomic_write(os.path.abspath(path), pickle.dumps([scores, labels]))


def load_pickle(path: str) -> ClassificationPredictions:
    """Load a file of PySlowFast's, or one that `write_pickle` wrote; nothing in it is executed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or holds something else.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file of predictions {path}")
    try:
        with open(path, "rb", opener=regular_file) as stream:
            content = read_plain_pickle(stream, tensors=True)
        if not isinstance(content, list) or len(content) != 2:
            raise RefusedPickleError("it is not [scores, labels]")
        scores, labels = (np.asarray(part) for part in content)
        return ClassificationPredictions(scores, labels, [str(number) for number in range(len(scores))])
    except ValueError as error:
        raise ValueError(
            f"{path} is no file of predictions: neither .npz or .parquet of a test, nor PySlowFast's pickle of "
            f"[scores, labels] ({error})"
        ) from error
