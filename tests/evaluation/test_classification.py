import json
from pathlib import Path

import numpy as np
import pytest
import torch

from slowfast.evaluation.classification import (
    class_values,
    classification_metrics,
    confusion_matrix,
    topk_hits,
)

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module")
def case():
    arrays = np.load(FIXTURES / "classification.npz")
    expected = json.loads((FIXTURES / "classification.json").read_text())
    return {name: torch.from_numpy(arrays[name]) for name in arrays}, expected


def test_published_topk(case):
    arrays, expected = case
    metrics = classification_metrics(arrays["scores"], arrays["labels"])
    assert metrics["top1_acc"] == pytest.approx(expected["top1_percent"])
    assert metrics["top5_acc"] == pytest.approx(expected["top5_percent"])
    assert metrics["top1_err"] == pytest.approx(100 - expected["top1_percent"])


def test_published_multilabel_map(case):
    arrays, expected = case
    metrics = classification_metrics(arrays["multilabel_scores"], arrays["multilabel"])
    assert metrics == {"map": pytest.approx(expected["multilabel_mAP"], rel=1e-6)}


def test_k_is_clamped_to_the_class_count():
    scores, labels = torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([0, 1])
    assert topk_hits(scores, labels, (1, 5)).tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize("classes, names", [(5, {"top1"}), (6, {"top1", "top5"})])
def test_top5_is_left_out_where_it_is_always_right(classes, names):
    scores = torch.rand(8, classes, generator=torch.Generator().manual_seed(0))
    metrics = classification_metrics(scores, torch.zeros(8, dtype=torch.int64))
    assert set(metrics) == {f"{name}_{kind}" for name in names for kind in ("err", "acc")} | {"macro_acc"}


def slow_average_precision(scores, positive):
    """Mean over thresholds, by definition: recall gained at each distinct score times the precision there."""
    total, former_recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [p for s, p in zip(scores, positive, strict=True) if s >= threshold]
        recall = sum(chosen) / sum(positive)
        total += (recall - former_recall) * sum(chosen) / len(chosen)
        former_recall = recall
    return total


def test_average_precision_with_ties():
    generator = np.random.default_rng(0)
    for _ in range(20):
        scores = generator.integers(0, 6, 30) / 5.0
        positive = generator.random(30) < 0.3
        positive[0] = True
        _, (value,) = class_values(torch.from_numpy(scores)[:, None], torch.from_numpy(positive)[:, None].float())
        assert value == pytest.approx(slow_average_precision(scores, positive))


def test_map_leaves_out_classes_without_positives():
    scores = torch.tensor([[0.9, 0.3], [0.1, 0.8]])
    assert classification_metrics(scores, torch.tensor([[1, 0], [0, 0]])) == {"map": 1.0}
    with pytest.raises(ValueError, match="no class has a positive"):
        classification_metrics(scores, torch.zeros(2, 2))


@pytest.fixture
def by_class():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 6, (200,), generator=generator)
    labels[labels == 4] = 1  # class 4 has no samples
    return torch.randn(200, 6, generator=generator) + 2 * torch.nn.functional.one_hot(labels, 6), labels


def test_confusion_is_counted_one_by_one(by_class):
    scores, labels = by_class
    expected = np.zeros((6, 6), dtype=int)
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        expected[label, row.index(max(row))] += 1
    matrix = confusion_matrix(scores, labels)
    assert (matrix.numpy() == expected).all() and matrix.sum() == 200
    metrics = classification_metrics(scores, labels)
    assert 100 * matrix.diag().sum().item() / 200 == pytest.approx(metrics["top1_acc"])


def test_accuracy_by_class_and_macro_accuracy(by_class):
    scores, labels = by_class
    samples, values = class_values(scores, labels)
    means = []
    for number in range(6):
        mine = scores[labels == number]
        assert samples[number] == len(mine)
        if len(mine):
            means.append(100.0 * (mine.argmax(dim=1) == number).double().mean().item())
            assert values[number] == pytest.approx(means[-1])
    assert samples[4] == 0 and np.isnan(values[4])
    assert classification_metrics(scores, labels)["macro_acc"] == pytest.approx(sum(means) / 5)


def test_average_precision_by_class():
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(50, 4, generator=generator) < 0.3).float()
    labels[:, 2] = 0
    scores = torch.rand(50, 4, generator=generator)
    samples, values = class_values(scores, labels)
    assert samples.tolist() == labels.sum(dim=0).int().tolist()
    for number in (0, 1, 3):
        column = scores[:, number].double().numpy()
        assert values[number] == pytest.approx(slow_average_precision(column, labels[:, number].numpy() > 0))
    assert np.isnan(values[2])
    assert classification_metrics(scores, labels)["map"] == pytest.approx(values[[0, 1, 3]].sum() / 3)


def test_labels_that_do_not_fit():
    scores = torch.rand(2, 3)
    with pytest.raises(ValueError, match="one label a sample"):
        confusion_matrix(scores, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="labels from 0 to 3 do not fit 3"):
        confusion_matrix(scores, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="no samples"):
        classification_metrics(torch.rand(0, 3), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("several", [False, True])
def test_scores_that_are_no_numbers_are_not_measured(value, several):
    scores = torch.rand(4, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.eye(6)[:4] if several else torch.arange(4)
    assert classification_metrics(scores, labels)
    scores[2, 5] = value
    for measure in (classification_metrics, class_values):
        with pytest.raises(ValueError, match=r"1 of 4 samples are NaN or infinite.*: 2\. "):
            measure(scores, labels)
        with pytest.raises(ValueError, match=r"1 of 4 videos are NaN or infinite.*: c\. "):
            measure(scores, labels, "abcd")
    with pytest.raises(ValueError, match="NaN or infinite"):
        confusion_matrix(scores, torch.arange(4))
    scores[:] = value
    with pytest.raises(ValueError, match=r"4 of 4 samples are NaN or infinite.*: 0, 1, 2, 3\. "):
        classification_metrics(scores, labels)
