"""Find persons in frames with an ONNX file of a published detector, by onnxruntime (the extra `export`).

NanoDet (github.com/RangiLyu/nanodet) and YOLOX (github.com/Megvii-BaseDetection/YOLOX) are told apart by the shapes of
their outputs, for C classes (COCO's 80, or person alone) and N places of a grid with a cell per stride::

    NanoDet        (1, N, C) scores and (1, N, 4 x bins) distances, as two outputs, as two for each stride, or joined in
                   one (1, N, C + 4 x bins); strides 8, 16, 32; 8, 11 or 17 bins
    NanoDet-Plus   the same, with strides 8, 16, 32, 64
    YOLOX          (1, N, 4 + 1 + C): x, y, width, height, objectness, classes; strides 8, 16, 32

Scores are after the sigmoid; boxes are not decoded (of YOLOX, `decode_in_inference` False, as in the release's files).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from slowfast.utils.boxes import suppress
from slowfast.utils.errors import short

PERSON = 0  # class of COCO
_CLASSES = (80, 1)
_SIDES = (32, 44, 68)  # four sides of 8, 11 or 17 bins


@dataclass(frozen=True)
class _Family:
    """Describe how a family of detectors was published.

    Attributes:
        name: of the family.
        strides: pixels of the input per cell, one for each grid.
        center: place of a cell's point in it, in cells.
        keeps_ratio: frames are scaled by one factor and put at the top left, or else stretched to the input.
        fill: value of the rest of the input, 0 to 255.
        mean, std: of the pixels in BGR order, 0 to 255.
        most_iou: of two boxes that are both kept.
    """

    name: str
    strides: tuple[int, ...]
    center: float
    keeps_ratio: bool
    fill: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    most_iou: float


_COCO_BGR = {"mean": (103.53, 116.28, 123.675), "std": (57.375, 57.12, 58.395)}
_NANODET = _Family("NanoDet", (8, 16, 32), 0.5, True, 0, **_COCO_BGR, most_iou=0.6)
_NANODET_PLUS = _Family("NanoDet-Plus", (8, 16, 32, 64), 0.0, False, 0, **_COCO_BGR, most_iou=0.6)
_YOLOX = _Family("YOLOX", (8, 16, 32), 0.0, True, 114, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), most_iou=0.45)


def grid_cells(height: int, width: int, strides: Sequence[int]) -> np.ndarray:
    """Return column, row and stride of every cell of the grids over an input, row by row: (N, 3) float32."""
    grids = []
    for stride in strides:
        rows, columns = np.mgrid[: -(-height // stride), : -(-width // stride)]
        grids.append(np.stack([columns, rows, np.full(rows.shape, stride)], -1).reshape(-1, 3))
    return np.concatenate(grids).astype(np.float32)


def decode_nanodet(distances: np.ndarray, cells: np.ndarray, center: float) -> np.ndarray:
    """Return boxes from distributions of the distances to their sides (Li et al., Generalized Focal Loss, 2020).

    The distance of a side is the mean of its bins 0, 1, 2, ... by their softmax, in strides.

    Args:
        distances: (n, 4 x bins): left, top, right, bottom.
        cells: (n, 3), see `grid_cells`.
        center: place of a cell's point in it: 0.5 in NanoDet, 0 in NanoDet-Plus.

    Returns:
        (n, 4) x1, y1, x2, y2 in pixels of the input.
    """
    bins = distances.reshape(len(distances), 4, distances.shape[1] // 4)
    weights = np.exp(bins - bins.max(-1, keepdims=True))
    sides = (weights @ np.arange(bins.shape[-1], dtype=np.float32)) / weights.sum(-1)
    points = cells[:, :2] + center
    return np.concatenate([points - sides[:, :2], points + sides[:, 2:]], 1) * cells[:, 2:]


def decode_yolox(outputs: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return boxes from x and y relative to the cell and logarithms of width and height, all in strides.

    Args:
        outputs: (n, 4).
        cells: (n, 3), see `grid_cells`.

    Returns:
        (n, 4) x1, y1, x2, y2 in pixels of the input.
    """
    centers, halves = cells[:, :2] + outputs[:, :2], np.exp(outputs[:, 2:]) / 2
    return np.concatenate([centers - halves, centers + halves], 1) * cells[:, 2:]


class PersonDetector:
    """A published detector that finds persons in frames; the file decides which one it is.

    Args:
        path: the ONNX file.
        least_score: persons with a lower score are left out, 0 to 1. A tracker needs those of low scores too.

    Attributes:
        family: "NanoDet", "NanoDet-Plus" or "YOLOX".
        height, width: of the network's input.

    Raises:
        FileNotFoundError: no such file.
        ValueError: onnxruntime is not installed or cannot read the file, the size of its input is not fixed, or its
            outputs are of none of these detectors.
    """

    def __init__(self, path: str, least_score: float = 0.1) -> None:
        if not 0 <= least_score <= 1:
            raise ValueError(f"the least score of a person is {least_score}; it must be 0 to 1")
        self.least_score = least_score
        self._session = _session(path)
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        if len(shape) != 4 or shape[1] != 3 or not all(isinstance(side, int) and side > 0 for side in shape[2:]):
            raise ValueError(
                f"{path}: the inputs are {short([one.shape for one in inputs])}; a detector takes one of (1, 3, "
                "height, width) with numbers for height and width, so export it with a fixed size"
            )
        self._input, (self.height, self.width) = inputs[0].name, shape[2:]
        try:
            outputs = self._run(np.zeros((1, 3, self.height, self.width), np.float32))
        except Exception as error:  # onnxruntime has no common type
            raise ValueError(f"{path} does not run on a black frame: {short(error, 300)}") from error
        family = _family_of([output.shape for output in outputs], self.height, self.width)
        if family is None:
            raise ValueError(
                f"{path}: outputs of {short([output.shape for output in outputs], 200)} for an input of "
                f"{self.height} x {self.width} are none of NanoDet, NanoDet-Plus or YOLOX with COCO's 80 classes or one"
            )
        self._family, self.family = family, family.name
        self._cells = grid_cells(self.height, self.width, family.strides)

    def __call__(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the persons in a frame.

        Args:
            frame: (H, W, 3) uint8, RGB.

        Returns:
            Boxes (n, 4) float32, x1, y1, x2, y2 in pixels of the frame, which may reach out of it; and scores (n,)
            float32. Best score first.

        Raises:
            ValueError: a frame of another shape or type.
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or not frame.size or frame.dtype != np.uint8:
            raise ValueError(
                f"a frame is {frame.dtype} of shape {frame.shape}; it must be uint8 (height, width, 3), RGB"
            )
        image, scale = self._prepared(frame)
        outputs = self._run(image)
        scores, sides = _scores_and_sides(self._family, outputs)
        chosen = np.flatnonzero(scores >= self.least_score)
        if self._family is _YOLOX:
            boxes = decode_yolox(sides[chosen], self._cells[chosen])
        else:
            boxes = decode_nanodet(sides[chosen], self._cells[chosen], self._family.center)
        kept = suppress(boxes, scores[chosen], self._family.most_iou)
        return (boxes[kept] / scale).astype(np.float32), scores[chosen][kept]

    def _run(self, image: np.ndarray) -> list[np.ndarray]:
        return self._session.run(None, {self._input: image})

    def _prepared(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the input (1, 3, height, width) float32, and the scale of x1, y1, x2, y2: (4,)."""
        height, width = frame.shape[:2]
        scales = np.array([self.width / width, self.height / height])
        if self._family.keeps_ratio:
            scales[:] = scales.min()
        # As published, cut to whole pixels; a product such as 311.9999 is 312.
        columns, rows = np.maximum((scales * (width, height) + 1e-6).astype(int), 1).tolist()
        canvas = np.full((self.height, self.width, 3), self._family.fill, np.uint8)
        canvas[:rows, :columns] = cv2.resize(
            cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), (columns, rows), interpolation=cv2.INTER_LINEAR
        )
        pixels = (canvas - np.float32(self._family.mean)) / np.float32(self._family.std)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]), np.tile(scales, 2)


def _session(path: str) -> Any:
    """Open an ONNX file on the CPU; raises as `PersonDetector`."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            "finding persons needs onnxruntime, not installed here: pip install onnxruntime (the extra `export`)"
        ) from error
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no ONNX file of a detector {path}")
    try:
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common type
        raise ValueError(f"{path} cannot be read as ONNX: {short(error, 300)}") from error


def _family_of(shapes: Sequence[tuple[int, ...]], height: int, width: int) -> _Family | None:
    """Return the family whose outputs have these shapes for an input of this size; None if there is none."""
    if any(len(shape) != 3 or shape[0] != 1 for shape in shapes):
        return None
    widths = [shape[2] for shape in shapes]
    if len(shapes) == 1:
        joined = {classes + sides for classes in _CLASSES for sides in _SIDES}
        nanodet, yolox = widths[0] in joined, widths[0] in {classes + 5 for classes in _CLASSES}
        places = shapes[0][1]
    else:
        scores, sides = ([shape for shape in shapes if shape[2] in known] for known in (_CLASSES, _SIDES))
        places = sum(shape[1] for shape in scores)
        alike = sorted(shape[1] for shape in scores) == sorted(shape[1] for shape in sides)
        nanodet, yolox = len(scores) + len(sides) == len(shapes) and alike and len(set(widths)) == 2, False
    for family in (_YOLOX,) if yolox else (_NANODET, _NANODET_PLUS) if nanodet else ():
        if len(grid_cells(height, width, family.strides)) == places:
            return family
    return None


def _scores_and_sides(family: _Family, outputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of persons (N,), and what the boxes are decoded from, (N, 4) or (N, 4 x bins)."""
    if family is _YOLOX:
        return outputs[0][0, :, 4] * outputs[0][0, :, 5 + PERSON], outputs[0][0, :, :4]
    if len(outputs) == 1:
        width = outputs[0].shape[2]
        classes = next(classes for classes in _CLASSES if width - classes in _SIDES)
        return outputs[0][0, :, PERSON], outputs[0][0, :, classes:]
    # Outputs of single strides, in any order: the finest grid has the most places.
    ordered = sorted((output[0] for output in outputs), key=len, reverse=True)
    scores = np.concatenate([output for output in ordered if output.shape[1] in _CLASSES])
    return scores[:, PERSON], np.concatenate([output for output in ordered if output.shape[1] in _SIDES])
