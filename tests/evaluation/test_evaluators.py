"""Evaluators: scores of views and boxes, from batches and processes, joined and measured."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from slowfast.datasets.loading.batch import Batch, Boxes
from slowfast.evaluation import evaluators
from slowfast.evaluation.ava import BoxRows
from slowfast.evaluation.evaluators import BoxEvaluator, VideoEvaluator
from slowfast.evaluation.prediction import Prediction
from slowfast.evaluation.predictions import load

KEY_FRAMES = [("a", 902), ("a", 903), ("b", 902), ("b", 903)]
COUNTS = [2, 0, 1, 3]


@pytest.fixture
def gather(monkeypatch):
    """`gather(parts)`: gather evaluators, in the order of ranks, as their processes would; all hold the result."""

    def exchange(parts):
        asked = []
        monkeypatch.setattr(evaluators, "all_gather_object", lambda item: asked.append(copy.deepcopy(item)) or [item])
        for part in parts:
            part.gather()
        # Each evaluator gathers twice: the numbers that were skipped, then its scores.
        for part in parts:
            answers = iter([copy.deepcopy(asked[0::2]), copy.deepcopy(asked[1::2])])
            monkeypatch.setattr(evaluators, "all_gather_object", lambda item, answers=answers: next(answers))
            part.gather()

    return exchange


def add_views(evaluator, scores, labels, video, view, **others):
    evaluator.process(Batch([], labels, video, view), Prediction(scores, **others))


def views(num_videos=3, num_views=4, classes=5):
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(num_videos, num_views, classes, generator=generator)
    order = torch.randperm(num_videos * num_views, generator=generator)
    return scores, order // num_views, order % num_views


@pytest.mark.parametrize("method", ["sum", "max"])
def test_views_are_joined_in_any_order_over_processes(method, gather):
    scores, video, view = views()
    steps = torch.randn(3, 4, 6, 5, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([4, 0, 2])
    parts = [VideoEvaluator("abc", 4, method) for _ in range(3)]
    for part, piece in zip(parts, (slice(0, 5), slice(5, 12), slice(12, 12)), strict=True):
        v, w = video[piece], view[piece]
        if len(v):
            others = {"steps": steps[v, w], "variants": {"last": scores[v, w] ** 2}}
            add_views(part, scores[v, w], labels[v], v, w, **others)
    parts[2].skip(1)
    gather(parts)
    found = parts[0].predictions()
    for values, joined in ((scores, found.scores), (steps, found.steps), (scores**2, found.variants["last"])):
        expected = values.sum(dim=1) if method == "sum" else values.amax(dim=1)
        np.testing.assert_allclose(joined, expected[[0, 2]], rtol=1e-6)
    assert (found.labels.tolist(), found.videos, parts[0].counts()) == ([4, 2], ["a", "c"], {"videos": 2})


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("method", ["sum", "max"])
@pytest.mark.parametrize("where", ["scores", "steps", "variants"])
def test_a_single_score_of_a_single_view_that_is_no_number_is_found(where, method, value, gather):
    """It is in one class of one of four views, in the process that comes last, and in one kind of score."""
    scores, video, view = views()
    parts = [VideoEvaluator(["a.mp4", "b.mp4", "c.mp4"], 4, method) for _ in range(2)]
    for part, piece in zip(parts, (slice(0, 5), slice(5, 12)), strict=True):
        v, w = video[piece], view[piece]
        given = {name: scores[v, w].clone() for name in ("scores", "steps", "variants")}
        bad = ((v == 1) & (w == view[video == 1][-1])).nonzero().flatten()
        given[where][bad, 3] = value
        others = {"steps": given["steps"][:, None], "variants": {"last": given["variants"]}}
        add_views(part, given["scores"], torch.tensor([4, 0, 2])[v], v, w, **others)
    gather(parts)
    with pytest.raises(ValueError, match=r"1 of 3 videos are NaN or infinite.*: b\.mp4\. "):
        parts[0].evaluate()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("method", ["sum", "max"])
def test_a_single_score_of_a_box_that_is_no_number_is_found(method, value):
    key_frame, number, scores, drawn = entries()
    scores[(drawn == 3).nonzero().flatten()[-1], 2] = value
    evaluator = boxes(method)
    add_boxes(evaluator, key_frame, number, scores)
    with pytest.raises(ValueError, match=r"are NaN or infinite.*: b, second 903\. "):
        evaluator.evaluate()


def test_missing_view_names_the_video():
    scores, video, view = views()
    evaluator = VideoEvaluator(["a.mp4", "b.mp4", "c.mp4"], 4)
    kept = ~((video == 1) & (view == 2))
    add_views(evaluator, scores[video, view][kept], video[kept], video[kept], view[kept])
    with pytest.raises(ValueError, match=r"views missing: b.mp4 \(views \[2\]\)"):
        evaluator.evaluate()


def test_view_that_came_twice_names_the_video():
    scores, video, view = views()
    evaluator = VideoEvaluator(["a.mp4", "b.mp4", "c.mp4"], 4)
    add_views(evaluator, scores[video, view], video, video, view)
    add_views(evaluator, scores[2:, 3], torch.tensor([2]), torch.tensor([2]), torch.tensor([3]))
    with pytest.raises(ValueError, match=r"more than once: c.mp4 \(views \[3\]\)"):
        evaluator.evaluate()


def test_videos_without_scores_and_other_mistakes():
    with pytest.raises(ValueError, match="no scores"):
        VideoEvaluator("ab", 1).evaluate()
    for make in (lambda: VideoEvaluator("a", 1, "mean"), lambda: boxes("mean")):
        with pytest.raises(ValueError, match="'mean'"):
            make()
    evaluator, one, first = VideoEvaluator("a", 2), torch.rand(1, 3), torch.tensor([0])
    add_views(evaluator, one, first, first, first, steps=one[:, None])
    with pytest.raises(ValueError, match=r"scores \[''\] came after scores \['', 'steps'\]"):
        add_views(evaluator, one, first, first, first + 1)


def test_classes_without_a_name_are_named_by_their_number():
    scores, video, view = views()
    evaluator = VideoEvaluator("abc", 4, class_names={1: "run"})
    add_views(evaluator, scores[video, view], video, video, view)
    assert evaluator.predictions().class_names == ["0", "run", "2", "3", "4"]


def boxes(method="sum", counts=COUNTS, key_frames=KEY_FRAMES, classes=4):
    truth = BoxRows([("a", 902)], [0], [[0, 0, 1, 1]], [1])
    where = [np.tile([0.0, 0.0, 1.0, 1.0], (count, 1)) for count in counts]
    names = {number: f"class {number}" for number in range(1, classes + 1)}
    return BoxEvaluator(key_frames, where, names, truth, method=method)


def add_boxes(evaluator, key_frame, number, scores):
    nothing = torch.zeros(0)
    evaluator.process(SimpleNamespace(), Prediction(scores, Boxes(nothing, nothing, key_frame, number)))


def entries(seed=0, count=60, classes=4):
    generator = torch.Generator().manual_seed(seed)
    places = [(frame, box) for frame, size in enumerate(COUNTS) for box in range(size)]
    drawn = torch.cat([torch.arange(6), torch.randint(0, 6, (count - 6,), generator=generator)])
    key_frame, number = torch.tensor(places)[drawn].T
    return key_frame, number, torch.randn(count, classes, generator=generator), drawn


@pytest.mark.parametrize("method", ["sum", "max"])
def test_scores_of_a_box_are_joined_over_processes(method, gather):
    key_frame, number, scores, drawn = entries()
    parts = [boxes(method) for _ in range(3)]
    for part, piece in zip(parts[:2], (slice(0, 17), slice(17, 60)), strict=True):
        add_boxes(part, key_frame[piece], number[piece], scores[piece])
    gather(parts)
    found = parts[2].predictions()
    assert found.key_frame.tolist() == [0, 0, 2, 3, 3, 3]
    for box in range(6):
        mine = scores[drawn == box]
        expected = mine.mean(dim=0) if method == "sum" else mine.amax(dim=0)
        np.testing.assert_allclose(found.scores[box], expected, rtol=1e-5)


def test_boxes_of_other_moments_are_passed_over():
    evaluator = boxes(counts=[1], key_frames=[("a", 902)], classes=1)
    add_boxes(evaluator, torch.tensor([0, -1]), torch.tensor([0, 5]), torch.tensor([[1.0], [9.0]]))
    assert evaluator.predictions().scores.tolist() == [[1.0]]


def test_missing_boxes_name_their_key_frames():
    evaluator = boxes("max")
    add_boxes(evaluator, torch.tensor([0, 0, 3]), torch.tensor([0, 1, 1]), torch.rand(3, 4))
    with pytest.raises(ValueError, match=r"b, second 902 \(1 of 1\); b, second 903 \(2 of 3\)$"):
        evaluator.evaluate()
    many = boxes("max", [1] * 8, [("v", second) for second in range(8)])
    with pytest.raises(ValueError, match="v, second 4 .* and 3 more key frames"):
        many.evaluate()


def test_skipped_key_frames_are_left_out(gather):
    key_frame, number, scores, _ = entries()
    evaluator, other = boxes(), boxes()
    add_boxes(evaluator, key_frame[key_frame < 3], number[key_frame < 3], scores[key_frame < 3])
    other.skip(3)
    gather([evaluator, other])
    found = evaluator.predictions()
    assert (found.key_frame.tolist(), found.excluded, evaluator.skipped) == ([0, 0, 2], [("b", 903)], {3})
    assert evaluator.counts() == {"key_frames": 3, "videos": 2}
    for frame in (0, 2):
        evaluator.skip(frame)
    assert evaluator.counts() == {"key_frames": 1, "videos": 1}
    with pytest.raises(ValueError, match="no scores of boxes in any of the 4 key frames"):
        evaluator.evaluate()


def test_a_box_that_is_not_there():
    with pytest.raises(ValueError, match=r"no box 2 in key frame \('a', 902\), which has 2"):
        add_boxes(boxes(), torch.tensor([0]), torch.tensor([2]), torch.rand(1, 4))
    with pytest.raises(ValueError, match="4 key frames have 1 arrays"):
        boxes(counts=[1])


def test_the_evaluation_is_named_with_the_numbers(tmp_path):
    """A sure but wrong box at a key frame without ground truth counts in one evaluation alone."""
    for evaluation, ap in (("pyslowfast", 0.5), ("activitynet", 1.0)):
        truth = BoxRows([("a", 902)], [0], [[0, 0, 1, 1]], [1])
        where = [np.array([[0.0, 0.0, 1.0, 1.0]])] * 2
        evaluator = BoxEvaluator(KEY_FRAMES[:2], where, {1: "stand"}, truth, evaluation=evaluation)
        add_boxes(evaluator, torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([[0.5], [0.9]]))
        assert evaluator.evaluate() == {"ava_map": ap, "ava_classes": 1}
        assert evaluator.protocol() == {"ava_evaluation": evaluation}
        path = str(tmp_path / f"{evaluation}.npz")
        evaluator.save(path, str(tmp_path), {})
        assert load(path).metrics()["ava_map"] == ap


def test_the_pickle_has_a_row_for_each_video_of_the_list(tmp_path):
    evaluator = VideoEvaluator("abc", 2, "max")
    for video in (0, 2):
        add_views(evaluator, torch.rand(2, 4), torch.tensor([3, 3]), torch.tensor([video] * 2), torch.tensor([0, 1]))
    add_views(evaluator, torch.rand(1, 4), torch.tensor([3]), torch.tensor([1]), torch.tensor([0]))
    evaluator.skip(1)
    evaluator.gather()
    assert evaluator.save_pickle(str(tmp_path / "x.pkl"))
    found = load(tmp_path / "x.pkl")
    assert found.labels.tolist() == [3, 0, 3] and found.scores[1].tolist() == [0] * 4
    np.testing.assert_array_equal(found.scores[[0, 2]], evaluator.predictions().scores)
