"""Confusion matrix, table of classes and macro accuracy."""

import math

import numpy as np
import pytest
import torch

from slowfast.evaluation.class_table import class_table, confusion_matrix, macro_accuracy
from slowfast.evaluation.classification import average_precision, multilabel_map, topk_errors


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 6, (200,), generator=generator)
    labels[labels == 4] = 1  # class 4 has no samples
    return torch.randn(200, 6, generator=generator) + 2 * torch.nn.functional.one_hot(labels, 6), labels


def test_confusion_is_counted_one_by_one(case):
    scores, labels = case
    expected = np.zeros((6, 6), dtype=int)
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        expected[label, row.index(max(row))] += 1
    matrix = confusion_matrix(scores, labels)
    assert (matrix.numpy() == expected).all() and matrix.sum() == 200
    assert 100 * matrix.diag().sum().item() / 200 == pytest.approx(100 - topk_errors(scores, labels)[0])


def test_table_and_macro_accuracy(case):
    scores, labels = case
    rows = class_table(scores, labels, list("abcdef"))
    assert [(row.number, row.name) for row in rows] == list(enumerate("abcdef"))
    means = []
    for row in rows:
        mine = scores[labels == row.number]
        assert row.samples == len(mine)
        if len(mine):
            means.append(100.0 * (mine.argmax(dim=1) == row.number).double().mean().item())
            assert row.value == pytest.approx(means[-1])
    assert rows[4].samples == 0 and math.isnan(rows[4].value)
    assert macro_accuracy(scores, labels) == pytest.approx(sum(means) / 5)


def test_table_of_several_labels():
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(50, 4, generator=generator) < 0.3).float()
    labels[:, 2] = 0
    scores = torch.rand(50, 4, generator=generator)
    rows = class_table(scores, labels)
    assert [row.samples for row in rows] == labels.sum(dim=0).int().tolist()
    for row in (rows[0], rows[1], rows[3]):
        column = scores[:, row.number].double().numpy()
        assert row.value == pytest.approx(average_precision(column, labels[:, row.number].numpy() > 0))
    assert math.isnan(rows[2].value) and rows[2].name == "2"
    values = [row.value for row in rows if row.samples]
    assert multilabel_map(scores, labels) == pytest.approx(sum(values) / 3)


def test_what_does_not_fit():
    scores = torch.rand(2, 3)
    with pytest.raises(ValueError, match="one label a sample"):
        confusion_matrix(scores, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="labels from 0 to 3 do not fit 3"):
        confusion_matrix(scores, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="1 names for 3 classes"):
        class_table(scores, torch.tensor([0, 1]), ["a"])
    with pytest.raises(ValueError, match="no samples"):
        macro_accuracy(torch.rand(0, 3), torch.zeros(0, dtype=torch.int64))
