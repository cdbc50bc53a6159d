"""Pictures of a run: PNG files in `OUTPUT_DIR/visualization`, and the same bytes for TensorBoard."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from slowfast.datasets.base import ClipDataset
from slowfast.engine.trackers import TensorBoard
from slowfast.evaluation.class_plots import ClassPlots
from slowfast.evaluation.evaluators import Evaluator, VideoEvaluator
from slowfast.runtime.distributed import atomic_write, is_main_process
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

FOLDER_NAME = "visualization"
_LONGEST_PART = 80  # characters of a file name


class PictureWriter:
    """Writer of pictures by tag, to files and for TensorBoard.

    Args:
        output_dir: the run's folder.
        part: folder in `OUTPUT_DIR/visualization`.
        boards: files for TensorBoard.

    Attributes:
        paths: files so far.
    """

    def __init__(self, output_dir: str, part: str, boards: Sequence[TensorBoard]) -> None:
        self._folder, self._boards = os.path.join(output_dir, FOLDER_NAME, part), boards
        self.paths: list[str] = []

    def write(self, tag: str, png: bytes, step: int = 0) -> None:
        """Write a picture to a file, and record it.

        Raises:
            OSError: the file cannot be written.
        """
        atomic_write(self.new_path(tag, ".png"), png)
        self.record(tag, png, step)

    def record(self, tag: str, encoded: bytes, step: int = 0) -> None:
        """Record a picture, PNG or GIF, for TensorBoard alone."""
        for board in self._boards:
            board.record_picture(tag, encoded, step)

    def new_path(self, tag: str, ending: str) -> str:
        """Return a path for the file of a tag: what stands between two slashes is a folder, in lower case."""
        parts = [re.sub(r"\W+", "_", part)[:_LONGEST_PART].strip("_").lower() or "_" for part in tag.split("/")]
        path, number = os.path.join(self._folder, *parts), 1
        # Names that differ in signs only would have one file.
        while (found := f"{path}{f'_{number}' if number > 1 else ''}{ending}") in self.paths:
            number += 1
        self.paths.append(found)
        return found


def encode_png(picture: np.ndarray) -> bytes:
    """Encode a picture (H, W, 3) uint8, RGB, as PNG."""
    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()


def draw_classes(
    cfg: Any, dataset: ClipDataset, evaluator: Evaluator, part: str, boards: Sequence[TensorBoard] | None, step: int
) -> None:
    """Draw the confusion of classes in rank 0, if TENSORBOARD asks for it.

    An evaluator of a project that keeps no predictions is passed over.

    Args:
        part: see `PictureWriter`.
        boards: files for TensorBoard; None opens such files for these pictures.

    Raises:
        ValueError: see `ClassPlots.from_config`.
        OSError: a file cannot be written.
    """
    if not is_main_process() or not isinstance(evaluator, VideoEvaluator):
        return
    plots = ClassPlots.from_config(cfg, dataset.info.class_names)
    if plots is None:
        return
    with contextlib.ExitStack() as stack:
        if boards is None:
            boards = [TensorBoard(cfg)]
            stack.callback(boards[0].close)
        writer = PictureWriter(cfg.OUTPUT_DIR, part, boards)
        for tag, picture in plots.draw(evaluator.predictions().confusion()).items():
            writer.write(tag, picture, step)
    logger.info("drew %d picture(s) of classes, in %s", len(writer.paths), os.path.dirname(writer.paths[0]))
