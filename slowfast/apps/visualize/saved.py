"""Scores and labels of saved predictions: ours, and those of PySlowFast."""

from __future__ import annotations

from slowfast.evaluation.predictions import ClassificationPredictions, load, load_pickle


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
        found = load_pickle(path)
    if found.labels.ndim != 1 or not found.labeled:
        raise ValueError(f"{path} has no single label for each video, so there is no confusion of classes to draw")
    return found
