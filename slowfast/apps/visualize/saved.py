"""Scores and labels of saved predictions: ours, and those of PySlowFast."""

from __future__ import annotations

import os

import numpy as np

from slowfast.checkpoint.formats.plain_pickle import RefusedPickleError, read_plain_pickle
from slowfast.evaluation.predictions import ClassificationPredictions, load
from slowfast.utils.files import regular_file


def read_scores(path: str) -> ClassificationPredictions:
    """Read predictions: .npz or .parquet of a test here, or PySlowFast's pickle of [scores, labels].

    A pickle is read without executing anything.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file has another format, or no single label a video.
    """
    if path.endswith((".npz", ".parquet")):
        found = load(path)
        if not isinstance(found, ClassificationPredictions):
            raise ValueError(f"{path} has scores of boxes; pictures of classes take scores of whole videos")
    else:
        found = _read_pickle(path)
    if found.labels.ndim != 1 or not found.labeled:
        raise ValueError(f"{path} has no single label for each video, so there is no confusion of classes to draw")
    return found


def _read_pickle(path: str) -> ClassificationPredictions:
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
