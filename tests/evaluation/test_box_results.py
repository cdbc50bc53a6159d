"""Scores of boxes from clips and processes."""

import pytest
import torch

from slowfast.evaluation.ensembles import BoxResults

KEY_FRAMES = [("a", 902), ("a", 903), ("b", 902), ("b", 903)]
COUNTS = [2, 0, 1, 3]


def entries(seed=0, count=60, classes=4):
    generator = torch.Generator().manual_seed(seed)
    places = [(frame, box) for frame, size in enumerate(COUNTS) for box in range(size)]
    drawn = torch.cat([torch.arange(6), torch.randint(0, 6, (count - 6,), generator=generator)])
    key_frame, number = torch.tensor(places)[drawn].T
    return key_frame, number, torch.randn(count, classes, generator=generator), drawn


@pytest.mark.parametrize("method", ["sum", "max"])
def test_entries_of_a_box_are_joined_over_processes(method):
    key_frame, number, scores, drawn = entries()
    steps = torch.randn(60, 3, 4, generator=torch.Generator().manual_seed(1))
    parts = [BoxResults(KEY_FRAMES, COUNTS, method) for _ in range(3)]
    for part, piece in zip(parts[:2], (slice(0, 17), slice(17, 60)), strict=True):
        part.add(key_frame[piece], number[piece], scores[piece], {"steps": steps[piece]})
    parts[2].merge(parts[0])
    parts[2].merge(parts[1])
    joined, frames, numbers = parts[2].result()
    assert list(zip(frames.tolist(), numbers.tolist(), strict=True)) == [(0, 0), (0, 1), (2, 0), (3, 0), (3, 1), (3, 2)]
    for values, got in ((scores, joined), (steps, parts[2].result_others()["steps"])):
        for box in range(6):
            mine = values[drawn == box]
            torch.testing.assert_close(got[box], mine.mean(dim=0) if method == "sum" else mine.amax(dim=0))


def test_stand_ins_are_passed_over():
    results = BoxResults([("a", 902)], [1], "sum")
    results.add(torch.tensor([0, -1]), torch.tensor([0, 5]), torch.tensor([[1.0], [9.0]]))
    assert results.result()[0].tolist() == [[1.0]]


def test_missing_boxes_name_their_key_frames():
    results = BoxResults(KEY_FRAMES, COUNTS, "max")
    results.add(torch.tensor([0, 0, 3]), torch.tensor([0, 1, 1]), torch.rand(3, 2))
    with pytest.raises(ValueError, match=r"b, second 902 \(1 of 1\); b, second 903 \(2 of 3\)$"):
        results.result()
    many = BoxResults([("v", second) for second in range(8)], [1] * 8, "max")
    with pytest.raises(ValueError, match="v, second 4 .* and 3 more key frames"):
        many.result()


def test_skipped_key_frames_are_left_out():
    key_frame, number, scores, _ = entries()
    results, other = BoxResults(KEY_FRAMES, COUNTS, "sum"), BoxResults(KEY_FRAMES, COUNTS, "sum")
    results.add(key_frame[key_frame < 3], number[key_frame < 3], scores[key_frame < 3])
    other.skip(3)
    results.merge(other)
    joined, frames, _ = results.result()
    assert (len(joined), frames.tolist(), results.skipped) == (3, [0, 0, 2], {3})
    for frame in (0, 2):
        results.skip(frame)
    with pytest.raises(ValueError, match="no scores of boxes in any of the 4 key frames"):
        results.result()


def test_a_box_that_is_not_there():
    results = BoxResults(KEY_FRAMES, COUNTS, "sum")
    with pytest.raises(ValueError, match=r"no box 2 in key frame \('a', 902\), which has 2"):
        results.add(torch.tensor([0]), torch.tensor([2]), torch.rand(1, 2))
    with pytest.raises(ValueError, match="4 key frames have 1 numbers"):
        BoxResults(KEY_FRAMES, [1], "sum")
    with pytest.raises(ValueError, match="ENSEMBLE_METHOD 'mean'"):
        BoxResults(KEY_FRAMES, COUNTS, "mean")
