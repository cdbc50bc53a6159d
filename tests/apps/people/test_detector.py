"""Person detectors: decoding against slow references, and ONNX files made here whose answers are known."""

import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from slowfast.apps.people.detector import PersonDetector, decode_nanodet, decode_yolox, grid_cells
from slowfast.datasets.video import open as decode
from slowfast.utils.boxes import iou, suppress

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
SIZE = 64
PRESENT = os.environ.get("SLOWFAST_TEST_DETECTOR", "")


def slow_cells(height, width, strides):
    return [
        (column, row, stride)
        for stride in strides
        for row in range(math.ceil(height / stride))
        for column in range(math.ceil(width / stride))
    ]


def slow_iou(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def test_cells_are_row_by_row_from_the_finest_grid():
    for height, width in ((64, 64), (72, 40)):
        assert grid_cells(height, width, (8, 16, 32)).tolist() == [
            list(cell) for cell in slow_cells(height, width, (8, 16, 32))
        ]
    # The published numbers of places at 416 pixels.
    assert len(grid_cells(416, 416, (8, 16, 32))) == 3549
    assert len(grid_cells(416, 416, (8, 16, 32, 64))) == 3598


@pytest.mark.parametrize("bins", [8, 11])
@pytest.mark.parametrize("center", [0.5, 0.0])
def test_nanodet_boxes_equal_a_slow_reference(bins, center):
    cells = slow_cells(32, 64, (8, 16))
    logits = np.random.default_rng(bins).normal(0, 3, (len(cells), 4 * bins)).astype(np.float32)
    expected = []
    for (column, row, stride), values in zip(cells, logits.tolist(), strict=True):
        sides = []
        for side in range(4):
            weights = [math.exp(value) for value in values[side * bins : (side + 1) * bins]]
            sides.append(stride * sum(k * weight for k, weight in enumerate(weights)) / sum(weights))
        x, y = (column + center) * stride, (row + center) * stride
        expected.append([x - sides[0], y - sides[1], x + sides[2], y + sides[3]])
    np.testing.assert_allclose(decode_nanodet(logits, np.array(cells, np.float32), center), expected, atol=1e-4)
    huge = decode_nanodet(logits + 1000, np.array(cells, np.float32), center)
    np.testing.assert_allclose(huge, expected, atol=0.02)


def test_yolox_boxes_equal_a_slow_reference():
    cells = slow_cells(32, 64, (8, 16))
    outputs = np.random.default_rng(0).normal(0, 1, (len(cells), 4)).astype(np.float32)
    expected = []
    for (column, row, stride), (x, y, width, height) in zip(cells, outputs.tolist(), strict=True):
        x, y = (column + x) * stride, (row + y) * stride
        width, height = math.exp(width) * stride, math.exp(height) * stride
        expected.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    np.testing.assert_allclose(decode_yolox(outputs, np.array(cells, np.float32)), expected, rtol=1e-5, atol=1e-4)


def test_suppression_equals_a_slow_reference():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 30, (60, 2))
    boxes, scores = np.concatenate([low, low + rng.uniform(5, 30, (60, 2))], 1), rng.uniform(0, 1, 60)
    overlaps = iou(boxes[:, None], boxes[:20])
    assert overlaps.shape == (60, 20)
    np.testing.assert_allclose(overlaps[3, :5], [slow_iou(boxes[3], boxes[n]) for n in range(5)])
    kept = []
    for number in sorted(range(60), key=lambda n: -scores[n]):
        if all(slow_iou(boxes[number], boxes[other]) <= 0.3 for other in kept):
            kept.append(number)
    assert 5 < len(kept) < 55
    assert suppress(boxes, scores, 0.3).tolist() == kept
    assert iou(np.zeros((1, 4)), np.zeros((1, 4))).item() == 0


def network(path: Path, family: str, split: str = "joined", size=SIZE) -> str:
    """Write a detector whose score of a person, in each cell, is the mean of its blue pixels, 0 to 1.

    A box of NanoDet reaches 1, 2, 3 and 0 strides to the left, top, right and bottom of its point. One of YOLOX is as
    large as its cell. `split`: outputs "joined" in one, as "two", or two for each "stride".
    """
    make, constant = onnx.helper.make_node, onnx.numpy_helper.from_array
    strides = (8, 16, 32, 64) if family == "NanoDet-Plus" else (8, 16, 32)
    scale, shift = (1 / 255, 0.0) if family == "YOLOX" else (57.375 / 255, 103.53 / 255)
    constants = {
        "zero": np.array([0]), "one": np.array([1]), "flat": np.array([1, -1, 1]),
        "scale": np.float32(scale), "shift": np.float32(shift),
    }  # fmt: skip
    nodes = [make("Slice", ["image", "zero", "one", "one"], ["blue"])]
    places = [len(slow_cells(SIZE, SIZE, (stride,))) for stride in strides]
    for stride, count in zip(strides, places, strict=True):
        nodes += [
            make("AveragePool", ["blue"], [f"p{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2),
            make("Reshape", [f"p{stride}", "flat"], [f"q{stride}"]),
            make("Mul", [f"q{stride}", "scale"], [f"m{stride}"]),
            make("Add", [f"m{stride}", "shift"], [f"cls{stride}"]),
        ]
        logits = np.zeros((1, count, 4, 8), np.float32)
        logits[0, :, [0, 1, 2, 3], [1, 2, 3, 0]] = 90
        constants[f"d{stride}"] = logits.reshape(1, count, 32)
        nodes.append(make("Identity", [f"d{stride}"], [f"dis{stride}"]))
    outputs = [name for stride in strides[::-1] for name in (f"dis{stride}", f"cls{stride}")]
    if split != "stride":
        nodes += [make("Concat", [f"{kind}{s}" for s in strides], [kind], axis=1) for kind in ("cls", "dis")]
        outputs = ["cls", "dis"]
    if split == "joined":
        parts = ["cls", "dis"]
        if family == "YOLOX":
            parts = ["sides", "cls", "sure"]
            constants |= {
                name: np.full((1, sum(places), n), n % 4, np.float32) for name, n in (("sides", 4), ("sure", 1))
            }
        nodes.append(make("Concat", parts, ["output"], axis=2))
        outputs = ["output"]
    float32 = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "detector",
        [onnx.helper.make_tensor_value_info("image", float32, [1, 3, size, size])],
        [onnx.helper.make_tensor_value_info(name, float32, None) for name in outputs],
        [constant(np.asarray(value), name) for name, value in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return str(path)


def blue_at(rows: slice, columns: slice) -> np.ndarray:
    """Make a red frame of 64 x 128 with a blue part; red, which is not looked at, is not mistaken for blue."""
    frame = np.zeros((64, 128, 3), np.uint8)
    frame[..., 0] = 255
    frame[rows, columns] = (0, 0, 255)
    return frame


# The blue part fills the cell of stride 8 in row 1 and column 4 of the input, which shows the frame at half its size
# with its ratio, or at half its width when stretched.
@pytest.mark.parametrize(
    ("family", "split", "rows", "box"),
    [
        ("NanoDet", "joined", slice(16, 32), [56, -8, 120, 24]),
        ("NanoDet", "two", slice(16, 32), [56, -8, 120, 24]),
        ("NanoDet", "stride", slice(16, 32), [56, -8, 120, 24]),
        ("NanoDet-Plus", "joined", slice(8, 16), [48, -8, 112, 8]),
        ("NanoDet-Plus", "stride", slice(8, 16), [48, -8, 112, 8]),
        ("YOLOX", "joined", slice(16, 32), [56, 8, 72, 24]),
    ],
)
def test_a_person_is_found_where_the_frame_has_one(tmp_path, family, split, rows, box):
    detector = PersonDetector(network(tmp_path / "d.onnx", family, split), least_score=0.6)
    assert (detector.family, detector.height, detector.width) == (family, SIZE, SIZE)
    boxes, scores = detector(blue_at(rows, slice(64, 80)))
    np.testing.assert_allclose(boxes, [box], atol=1e-4)
    np.testing.assert_allclose(scores, [1.0], atol=1e-5)
    none, no_scores = detector(np.zeros((48, 31, 3), np.uint8))
    assert none.shape == (0, 4) and no_scores.shape == (0,)


@pytest.mark.parametrize(("family", "fill"), [("NanoDet", 0), ("YOLOX", 114)])
def test_the_rest_of_the_input_has_the_published_shade(tmp_path, family, fill):
    detector = PersonDetector(network(tmp_path / "d.onnx", family), least_score=0.0)
    _, scores = detector(np.full((64, 128, 3), 255, np.uint8))
    np.testing.assert_allclose([scores.max(), scores.min()], [1.0, fill / 255], atol=1e-5)


@pytest.mark.parametrize("frame", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.float32)])
def test_frames_of_another_kind_are_refused(tmp_path, frame):
    with pytest.raises(ValueError, match=f"{frame.dtype} of shape"):
        PersonDetector(network(tmp_path / "d.onnx", "NanoDet"))(frame)


def test_files_that_are_no_such_detector_are_refused(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"none\.onnx"):
        PersonDetector(str(tmp_path / "none.onnx"))
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ValueError, match=r"text\.onnx cannot be read"):
        PersonDetector(str(tmp_path / "text.onnx"))
    with pytest.raises(ValueError, match="fixed size"):
        PersonDetector(network(tmp_path / "d.onnx", "NanoDet", size="side"))
    # Scores and distances of two strides alone.
    model = onnx.load(network(tmp_path / "d.onnx", "NanoDet", "stride"))
    del model.graph.output[-2:]
    onnx.save(model, str(tmp_path / "d.onnx"))
    with pytest.raises(ValueError, match=r"\(1, 16, 1\).* 64 x 64 are none of"):
        PersonDetector(str(tmp_path / "d.onnx"))
    with pytest.raises(ValueError, match="1.5"):
        PersonDetector(network(tmp_path / "d.onnx", "NanoDet"), least_score=1.5)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="pip install onnxruntime"):
        PersonDetector(str(tmp_path / "d.onnx"))


@pytest.mark.skipif(not PRESENT, reason="SLOWFAST_TEST_DETECTOR names no folder of a detector and its expected boxes")
def test_a_real_detector_finds_the_expected_persons():
    folder = Path(PRESENT)
    expected = json.loads((folder / "expected.json").read_text())
    detector = PersonDetector(str(folder / expected["model"]), expected["score_above"])
    with decode.open(str(folder / expected["video"])) as video:
        for number, truth in expected["frames"].items():
            boxes, scores = detector(video.frames([int(number)])[0])
            # Colors differ by the version of FFmpeg that converts them.
            np.testing.assert_allclose(boxes, truth["boxes"], atol=0.2)
            np.testing.assert_allclose(scores, truth["scores"], atol=0.003)
