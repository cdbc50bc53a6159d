import json
from pathlib import Path

import numpy as np
import pytest
import torch

from slowfast.evaluation.classification import (
    ViewEnsemble,
    average_precision,
    classification_metrics,
    multilabel_map,
    topk_errors,
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
    assert topk_errors(scores, labels, (1, 5)) == [50.0, 0.0]


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
        assert average_precision(scores, positive) == pytest.approx(slow_average_precision(scores, positive))


def test_map_leaves_out_classes_without_positives():
    scores = torch.tensor([[0.9, 0.3], [0.1, 0.8]])
    assert multilabel_map(scores, torch.tensor([[1, 0], [0, 0]])) == 1.0
    with pytest.raises(ValueError, match="no class has a positive"):
        multilabel_map(scores, torch.zeros(2, 2))


def views(num_videos=3, num_views=4, classes=5):
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(num_videos, num_views, classes, generator=generator)
    order = torch.randperm(num_videos * num_views, generator=generator)
    return scores, order // num_views, order % num_views


@pytest.mark.parametrize("method", ["sum", "max"])
def test_ensemble_in_any_order_over_processes(method):
    scores, video, view = views()
    labels = torch.tensor([4, 0, 2])
    parts = [ViewEnsemble(3, 4, method, "abc") for _ in range(3)]
    for part, piece in zip(parts, (slice(0, 5), slice(5, 12), slice(12, 12)), strict=True):
        if len(video[piece]):
            part.add(scores[video[piece], view[piece]], labels[video[piece]], video[piece], view[piece])
    parts[2].merge(parts[0])
    parts[2].merge(parts[1])
    joined, joined_labels, videos = parts[2].result()
    expected = scores.sum(dim=1) if method == "sum" else scores.amax(dim=1)
    torch.testing.assert_close(joined, expected)
    assert (joined_labels.tolist(), videos) == ([4, 0, 2], [0, 1, 2])


def test_missing_view_names_the_video():
    scores, video, view = views()
    ensemble = ViewEnsemble(3, 4, "sum", ["a.mp4", "b.mp4", "c.mp4"])
    kept = ~((video == 1) & (view == 2))
    ensemble.add(scores[video, view][kept], video[kept], video[kept], view[kept])
    with pytest.raises(ValueError, match=r"views missing: b.mp4 \(views \[2\]\)"):
        ensemble.result()


def test_view_that_came_twice_names_the_video():
    scores, video, view = views()
    ensemble = ViewEnsemble(3, 4, "sum", ["a.mp4", "b.mp4", "c.mp4"])
    ensemble.add(scores[video, view], video, video, view)
    ensemble.add(scores[2:, 3], torch.tensor([2]), torch.tensor([2]), torch.tensor([3]))
    with pytest.raises(ValueError, match=r"more than once: c.mp4 \(views \[3\]\)"):
        ensemble.result()


def test_skipped_video_is_left_out():
    scores, video, view = views()
    ensemble = ViewEnsemble(3, 4, "sum", "abc")
    kept = video != 1
    ensemble.add(scores[video, view][kept], video[kept], video[kept], view[kept])
    ensemble.skip(1)
    joined, labels, videos = ensemble.result()
    torch.testing.assert_close(joined, scores[[0, 2]].sum(dim=1))
    assert (labels.tolist(), videos) == ([0, 2], [0, 2])


def test_no_scores_at_all():
    with pytest.raises(ValueError, match="no scores"):
        ViewEnsemble(2, 1, "sum", "ab").result()


def test_unknown_method():
    with pytest.raises(ValueError, match="ENSEMBLE_METHOD 'mean'"):
        ViewEnsemble(1, 1, "mean", "a")


@pytest.mark.parametrize("method", ["sum", "max"])
def test_further_scores_of_views_are_joined_the_same_way(method):
    scores, video, view = views()
    steps = torch.randn(3, 4, 6, 5, generator=torch.Generator().manual_seed(1))
    parts = [ViewEnsemble(3, 4, method, "abc") for _ in range(2)]
    for part, piece in zip(parts, (slice(0, 5), slice(5, 12)), strict=True):
        v, w = video[piece], view[piece]
        part.add(scores[v, w], torch.tensor([4, 0, 2])[v], v, w, {"steps": steps[v, w], "last": scores[v, w] ** 2})
    parts[0].merge(parts[1])
    parts[0].skip(1)
    joined = {"": parts[0].result()[0], **parts[0].result_others()}
    for name, values in (("", scores), ("steps", steps), ("last", scores**2)):
        expected = values.sum(dim=1) if method == "sum" else values.amax(dim=1)
        torch.testing.assert_close(joined[name], expected[[0, 2]])


def test_further_scores_must_come_with_every_view():
    ensemble = ViewEnsemble(1, 2, "sum", "a")
    one, first = torch.rand(1, 3), torch.tensor([0])
    ensemble.add(one, first, first, first, {"steps": one})
    with pytest.raises(ValueError, match=r"scores \[''\] came after scores \['', 'steps'\]"):
        ensemble.add(one, first, first, first + 1)
