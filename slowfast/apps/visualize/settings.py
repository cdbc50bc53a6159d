"""Settings of the visualization, and their check before a run: layers, maps of colors, and files of classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from torch import nn

from slowfast.apps.predict.drawn import check_drawing
from slowfast.apps.visualize.gradcam import find_layer
from slowfast.apps.visualize.layers import LayerChoice, color_map
from slowfast.apps.visualize.saved import read_scores
from slowfast.datasets.build import build_dataset
from slowfast.engine.task import build_task, check_classes
from slowfast.evaluation.class_plots import ClassPlots, class_names, read_subset
from slowfast.evaluation.predictions import ClassificationPredictions
from slowfast.models import build_model


def check(cfg: Any) -> None:
    """Check what `visualize` would refuse after a training and a test; weights and videos are not looked at.

    A file of predictions in OUTPUT_DIR may be one that this run is to write, so it is not read.

    Raises:
        FileNotFoundError: a file of TENSORBOARD is missing.
        ValueError: a setting does not fit, or matplotlib is missing.
    """
    board = cfg.TENSORBOARD
    check_drawing()
    if board.PREDICTIONS_PATH:
        own, path = os.path.realpath(cfg.OUTPUT_DIR), os.path.realpath(board.PREDICTIONS_PATH)
        if os.path.commonpath((own, path)) == own:
            check_classes_drawn(cfg)
        else:
            saved_scores(cfg)
    if board.MODEL_VIS.ENABLE or board.WRONG_PRED_VIS.ENABLE:
        check_pictures(cfg)
        # A model takes a second on the CPU, and not every builder can do with the meta device.
        check_layers(cfg, build_model(cfg))
        # The names of the data set are in its lists, which take long to read.
        by_name = board.WRONG_PRED_VIS.ENABLE and board.WRONG_PRED_VIS.SUBSET_PATH and not board.CLASS_NAMES_PATH
        wrong_subset(cfg, class_names(cfg, build_dataset(cfg, "test").info.class_names if by_name else None))


def check_classes_drawn(cfg: Any) -> None:
    """Check that something is drawn of saved predictions; ValueError if not."""
    board = cfg.TENSORBOARD
    if not board.ENABLE or not (board.CONFUSION_MATRIX.ENABLE or board.HISTOGRAM.ENABLE):
        raise ValueError(
            "TENSORBOARD.PREDICTIONS_PATH is set, and nothing is drawn of it: set CONFUSION_MATRIX.ENABLE or "
            "HISTOGRAM.ENABLE of TENSORBOARD to True"
        )


def saved_scores(cfg: Any) -> tuple[ClassificationPredictions, ClassPlots]:
    """Read the predictions of `TENSORBOARD.PREDICTIONS_PATH`, and what is drawn of them.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: neither picture is switched on, or a file does not fit.
    """
    check_classes_drawn(cfg)
    path = cfg.TENSORBOARD.PREDICTIONS_PATH
    saved = read_scores(path)
    if saved.scores.shape[1] != cfg.MODEL.NUM_CLASSES:
        raise ValueError(
            f"TENSORBOARD.PREDICTIONS_PATH {path} has scores of {saved.scores.shape[1]} classes, and MODEL.NUM_CLASSES "
            f"is {cfg.MODEL.NUM_CLASSES}"
        )
    names = None if saved.class_names is None else dict(enumerate(saved.class_names))
    return saved, ClassPlots.from_config(cfg, names)


def check_pictures(cfg: Any) -> None:
    """Check the sections `MODEL_VIS` and `WRONG_PRED_VIS`, without a model and its data.

    Raises:
        ValueError: a setting does not fit, or the model names no classes.
    """
    vis, wrong = cfg.TENSORBOARD.MODEL_VIS, cfg.TENSORBOARD.WRONG_PRED_VIS
    if vis.ENABLE or wrong.ENABLE:
        check_classes(cfg)
    key = "TENSORBOARD.MODEL_VIS"
    if vis.ENABLE and (vis.MODEL_WEIGHTS or vis.ACTIVATIONS) and not vis.LAYER_LIST:
        raise ValueError(f"{key}.LAYER_LIST is empty; name the layers whose weights or activations are drawn")
    if vis.ENABLE and vis.GRAD_CAM.ENABLE and len(vis.GRAD_CAM.LAYER_LIST) not in (1, len(cfg.DATA.INPUT_CHANNEL_NUM)):
        raise ValueError(
            f"{key}.GRAD_CAM.LAYER_LIST is {vis.GRAD_CAM.LAYER_LIST}; it takes one layer for each of the "
            f"{len(cfg.DATA.INPUT_CHANNEL_NUM)} pathways, such as s5/pathway0_res2 of a ResNet. GRAD_CAM.ENABLE "
            "False draws without it"
        )
    if vis.TOPK_PREDS < 1:
        raise ValueError(f"{key}.TOPK_PREDS is {vis.TOPK_PREDS}; at least 1 class has to be shown")
    for name in (vis.COLORMAP, vis.GRAD_CAM.COLORMAP):
        color_map(name)
    if wrong.ENABLE and (cfg.DETECTION.ENABLE or cfg.DATA.MULTI_LABEL):
        raise ValueError(
            "TENSORBOARD.WRONG_PRED_VIS compares the best class with one label a video; set its ENABLE to False "
            "for boxes and for several labels a video"
        )
    if cfg.DETECTION.ENABLE and build_task(cfg).clip_steps(cfg.DATA.NUM_FRAMES) is not None:
        raise ValueError(
            f"{key} does not draw boxes of a model that reads clips in steps (TASK {cfg.TASK}); set its ENABLE to "
            "False, or draw the clip model"
        )


def check_layers(cfg: Any, model: nn.Module) -> None:
    """Check that a model has the layers that are drawn; ValueError with the nearest names if not."""
    for name in [choice.name for choice in array_layers(cfg)] + cam_layers(cfg):
        find_layer(model, name)


def array_layers(cfg: Any) -> list[LayerChoice]:
    """Return the layers whose weights or activations are drawn.

    Raises:
        ValueError: an entry is not as `LayerChoice.parse` takes it.
    """
    vis = cfg.TENSORBOARD.MODEL_VIS
    arrays = vis.ENABLE and (vis.MODEL_WEIGHTS or vis.ACTIVATIONS)
    return [LayerChoice.parse(text) for text in vis.LAYER_LIST] if arrays else []


def cam_layers(cfg: Any) -> list[str]:
    """Return the layers of Grad-CAM; [] without."""
    vis = cfg.TENSORBOARD.MODEL_VIS
    return list(vis.GRAD_CAM.LAYER_LIST) if vis.ENABLE and vis.GRAD_CAM.ENABLE else []


def wrong_subset(cfg: Any, names: Sequence[str]) -> list[int] | None:
    """Read the labels whose wrong predictions are drawn; None for all.

    Raises:
        FileNotFoundError, ValueError: as `read_subset`.
    """
    wrong = cfg.TENSORBOARD.WRONG_PRED_VIS
    return read_subset(wrong.SUBSET_PATH, names) if wrong.ENABLE and wrong.SUBSET_PATH else None
