"""Predictions to draw: of a test, and PySlowFast's pickles, of which nothing is executed."""

import pickle

import numpy as np
import pytest
import torch

from slowfast.apps.visualize.saved import read_scores
from slowfast.evaluation.predictions import ClassificationPredictions

SCORES = np.array([[0.75, 0.25], [0.5, 0.5], [0.125, 0.875]], np.float32)
LABELS = np.array([0, 1, 1])


@pytest.mark.parametrize("kind", ["tensors", "arrays", "strided"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_pyslowfast_pickles(kind, protocol, tmp_path):
    """PySlowFast writes `pickle.dump([video_preds, video_labels])`, of tensors on the CPU."""
    parts = [SCORES, LABELS]
    if kind != "arrays":
        parts = [torch.from_numpy(part) for part in parts]
    if kind == "strided":
        parts = [parts[0].t().contiguous().t(), torch.stack([parts[1], parts[1]], 1)[:, 1]]
    (tmp_path / "predictions.pkl").write_bytes(pickle.dumps(parts, protocol))
    found = read_scores(str(tmp_path / "predictions.pkl"))
    np.testing.assert_array_equal(found.scores, SCORES)
    assert found.labels.tolist() == LABELS.tolist() and found.class_names is None


def test_ours(tmp_path):
    saved = ClassificationPredictions(SCORES, LABELS, ["a", "b", "c"], class_names=["run", "walk"])
    saved.save(tmp_path / "predictions.npz")
    found = read_scores(str(tmp_path / "predictions.npz"))
    assert found.class_names == ["run", "walk"] and found.labels.tolist() == [0, 1, 1]


class Harmful:
    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('executed').touch()",))


def huge():
    """A tensor whose pickle says that it has 10 ** 9 numbers, all at one place."""
    return pickle.dumps([torch.zeros(1).expand(10**9), torch.zeros(1)])


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps([Harmful(), LABELS]),
        pickle.dumps([SCORES]),
        pickle.dumps({"scores": SCORES}),
        pickle.dumps([SCORES, LABELS[:2]]),
        pickle.dumps([torch.from_numpy(SCORES), torch.from_numpy(LABELS)])[:-40],
        pickle.dumps([SCORES, torch.zeros(3).untyped_storage()]),
        huge(),
        b"",
        b"text",
    ],
    ids=["code", "one", "dict", "shapes", "cut", "storage", "huge", "empty", "text"],
)
def test_other_files(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.pkl is no file of predictions") as caught:
        read_scores(str(tmp_path / "other.pkl"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()
    with pytest.raises(FileNotFoundError):
        read_scores(str(tmp_path / "nowhere.pkl"))


def test_labels_that_are_not_one_a_video(tmp_path):
    several = ClassificationPredictions(SCORES, np.eye(3, 2, dtype=np.int64), ["a", "b", "c"])
    several.save(tmp_path / "several.npz")
    with pytest.raises(ValueError, match="no single label"):
        read_scores(str(tmp_path / "several.npz"))
