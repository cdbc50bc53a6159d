"""Find persons in frames with a model of detectron2, where that is installed."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from slowfast.runtime.device import find_device
from slowfast.utils.errors import short

_PERSON = 0  # class of COCO


class Detectron2Detector:
    """A detector of detectron2's model zoo.

    Args:
        config: name in detectron2's model zoo, such as `COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml`, or a YAML file.
        weights: path or address of its weights; "" for random ones.
        least_score: of a person, 0 to 1.
        device: of the model, such as "cpu"; None for the GPU if there is one.

    Raises:
        ValueError: detectron2 is not installed, or cannot build the model or read the weights.
    """

    def __init__(self, config: str, weights: str, least_score: float, device: str | None = None) -> None:
        try:
            from detectron2 import model_zoo
            from detectron2.config import get_cfg
            from detectron2.engine import DefaultPredictor
        except ImportError as error:
            raise ValueError(
                f"finding persons with detectron2 needs that library, which cannot be imported ({short(error)}). "
                "Install it as its INSTALL.md says, or name an ONNX detector, such as zoo://person_nanodet"
            ) from error
        cfg = get_cfg()
        try:
            cfg.merge_from_file(config if os.path.isfile(config) else model_zoo.get_config_file(config))
            cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = cfg.MODEL.RETINANET.SCORE_THRESH_TEST = least_score
            cfg.MODEL.WEIGHTS = weights
            cfg.MODEL.DEVICE = str(find_device(device))
            self._predictor = DefaultPredictor(cfg)
        except Exception as error:  # detectron2 has no common type
            raise ValueError(
                f"detectron2 cannot build {config} (DEMO.DETECTRON2_CFG) with the weights {weights} "
                f"(DEMO.DETECTRON2_WEIGHTS): {short(error, 300)}"
            ) from error

    @staticmethod
    def from_config(cfg: Any, least_score: float, device: str | None = None) -> Detectron2Detector:
        """Build the model of `DEMO.DETECTRON2_CFG` and `DEMO.DETECTRON2_WEIGHTS`; raises as the class does."""
        demo = cfg.DEMO
        config = demo.DETECTRON2_OBJECT_DETECTION_MODEL_CFG or demo.DETECTRON2_CFG
        weights = demo.DETECTRON2_OBJECT_DETECTION_MODEL_WEIGHTS or demo.DETECTRON2_WEIGHTS
        return Detectron2Detector(config, weights, least_score, device)

    def __call__(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the persons in a frame (H, W, 3) uint8, RGB.

        Returns:
            Boxes (n, 4) float32, x1, y1, x2, y2 in pixels of the frame; and scores (n,) float32. Best score first.
        """
        # Its predictor takes BGR and turns it as the model's config says.
        found = self._predictor(np.ascontiguousarray(frame[:, :, ::-1]))["instances"].to("cpu")
        persons = found[found.pred_classes == _PERSON]
        return persons.pred_boxes.tensor.numpy(), persons.scores.numpy()
