"""Visualize a model as PySlowFast does: the section TENSORBOARD, into TensorBoard and as files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from slowfast.apps.demo.drawing import Mark
from slowfast.apps.predict.drawn import check_drawing
from slowfast.apps.visualize import clips as pictures
from slowfast.apps.visualize.gradcam import grad_cam, normalized
from slowfast.apps.visualize.layers import array_picture, layer_weight, recorded_activations
from slowfast.apps.visualize.settings import (
    array_layers,
    cam_layers,
    check_layers,
    check_pictures,
    saved_scores,
    wrong_subset,
)
from slowfast.datasets.build import build_dataset
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.loading.batch import Batch, collate
from slowfast.engine.loop import predict_batches
from slowfast.engine.model_setup import move_model
from slowfast.engine.pictures import PictureWriter, encode_png
from slowfast.engine.resume import load_test_weights
from slowfast.engine.task import build_task
from slowfast.engine.trackers import TensorBoard
from slowfast.evaluation.class_plots import class_names
from slowfast.evaluation.classification import NO_LABEL, confusion_matrix
from slowfast.evaluation.prediction import Prediction
from slowfast.models import build_model
from slowfast.runtime.device import device_of
from slowfast.runtime.logging import get_logger
from slowfast.runtime.seed import seed_all
from slowfast.utils.text import one_line

logger = get_logger(__name__)


def visualize(cfg: Any) -> None:
    """Draw what the section TENSORBOARD asks for, see docs/visualization.md; in this process alone.

    Weights are those that a test would take, and clips those of the test split.

    Raises:
        FileNotFoundError: a checkpoint or a file of TENSORBOARD is missing.
        ValueError: a setting does not fit, nothing is to be drawn, or matplotlib is missing.
        OSError: a file cannot be written.
        RuntimeError: too many videos cannot be read.
    """
    board = cfg.TENSORBOARD
    if not (board.MODEL_VIS.ENABLE or board.WRONG_PRED_VIS.ENABLE or board.PREDICTIONS_PATH):
        raise ValueError(
            "there is nothing to visualize: set TENSORBOARD.MODEL_VIS.ENABLE or TENSORBOARD.WRONG_PRED_VIS.ENABLE to "
            "True, or TENSORBOARD.PREDICTIONS_PATH to a file of predictions"
        )
    check_drawing()
    seed_all(cfg.RNG_SEED)
    tracker = TensorBoard(cfg)
    try:
        if board.PREDICTIONS_PATH:
            _draw_saved(cfg, PictureWriter(cfg.OUTPUT_DIR, "predictions", [tracker]))
        if board.MODEL_VIS.ENABLE or board.WRONG_PRED_VIS.ENABLE:
            _ModelPictures(cfg, PictureWriter(cfg.OUTPUT_DIR, "", [tracker])).draw()
    finally:
        tracker.close()


def _draw_saved(cfg: Any, writer: PictureWriter) -> None:
    """Draw the confusion of classes in saved predictions; errors are those of `saved_scores`."""
    path = cfg.TENSORBOARD.PREDICTIONS_PATH
    saved, plots = saved_scores(cfg)
    confusion = confusion_matrix(torch.as_tensor(saved.scores), torch.as_tensor(saved.labels)).numpy()
    for tag, picture in plots.draw(confusion).items():
        writer.write(tag, picture)
    logger.info("drew %d picture(s) of %s, in %s", len(writer.paths), path, os.path.dirname(writer.paths[0]))


@dataclasses.dataclass
class _Drawn:
    """Hold what the model says about a batch.

    Attributes:
        prediction: scores, on the CPU.
        activations: outputs of the layers by title, of each call.
        maps: Grad-CAM (B, T, H, W), 0..1, per pathway; [] without.
    """

    prediction: Prediction
    activations: dict[str, list[Tensor]]
    maps: list[Tensor]


class _ModelPictures:
    """Pictures of a model on the clips of the test split: `MODEL_VIS` and `WRONG_PRED_VIS`."""

    def __init__(self, cfg: Any, writer: PictureWriter) -> None:
        board = cfg.TENSORBOARD
        self.cfg, self.vis, self.wrong, self.writer = cfg, board.MODEL_VIS, board.WRONG_PRED_VIS, writer
        check_pictures(cfg)
        self.choices, self.cam_layers = array_layers(cfg), cam_layers(cfg)
        self.with_maps = bool(self.cam_layers)
        self.device, self.task = device_of(cfg), build_task(cfg)
        model = build_model(cfg)
        load_test_weights(model, cfg)
        self.model = move_model(model, self.device, cfg.MODEL.MEMORY_FORMAT).eval()
        check_layers(cfg, model)
        self.dataset = build_dataset(cfg, "test")
        self.names = class_names(cfg, self.dataset.info.class_names)
        self.subset = wrong_subset(cfg, self.names)
        settings = ClipSettings.from_config(cfg, "test")
        self.colors = (settings.mean, settings.std, settings.reverse_channels)

    def draw(self) -> None:
        """Draw weights, then all clips of the test split."""
        if self.vis.ENABLE and self.vis.MODEL_WEIGHTS:
            for name in dict.fromkeys(choice.name for choice in self.choices):
                weight = layer_weight(self.model, name)
                if weight is None:
                    logger.warning("layer %s has no weight to draw", name)
                else:
                    self.writer.write(f"Layer Weights/{one_line(name)}", encode_png(array_picture(weight, False)))
        count = 0
        for batch in self._batches():
            drawn = self._run(batch)
            for row in range(batch.size):
                if self.vis.ENABLE:
                    self._draw_clip(batch, drawn, row, count)
                if self.wrong.ENABLE:
                    self._draw_if_wrong(batch, drawn, row, count)
                count += 1
        folder = os.path.join(self.cfg.OUTPUT_DIR, "visualization")
        logger.info("visualized %d clip(s): %d file(s) in %s", count, len(self.writer.paths), folder)

    def _batches(self) -> Iterator[Batch]:
        """Yield the batches of all clips of the test split; unreadable videos are left out, as in a test."""
        size = max(1, self.cfg.TEST.BATCH_SIZE // max(1, self.cfg.NUM_GPUS))
        # With boxes, clips of a batch have one size.
        size = 1 if self.cfg.DETECTION.ENABLE else size
        workers = self.cfg.DATA_LOADER.NUM_WORKERS
        for batch in DataLoader(self.dataset, size, collate_fn=collate, num_workers=workers):
            self.dataset.unreadable.update_from(batch.unreadable)
            self.dataset.unreadable.check()
            if batch.size:
                yield batch.to("cpu")

    def _run(self, batch: Batch) -> _Drawn:
        """Call the model on a batch: scores and activations, then Grad-CAM."""
        choices = self.choices if self.vis.ACTIVATIONS else []
        with recorded_activations(self.model, choices) as activations:
            ((_, prediction),) = predict_batches(self.task, self.model, [batch], self.cfg, self.device, None)
        maps = [normalized(part) for part in self._maps(batch, prediction)] if self.with_maps else []
        return _Drawn(prediction, dict(activations), [part.cpu() for part in maps])

    def _maps(self, batch: Batch, prediction: Prediction) -> list[Tensor]:
        """Compute Grad-CAM of each pathway, step by step for a task that reads clips in steps.

        In a step, the gradient is that of the step's own score: it ends at the memory.
        """
        batch, classes = batch.to(self.device), self._classes(batch, prediction).to(self.device)
        layers = self.cam_layers
        steps = self.task.clip_steps(batch.inputs[-1].shape[2])
        if steps is None:

            def whole(clips: list[Tensor]) -> Tensor:
                return self.task.predict(self.model, dataclasses.replace(batch, inputs=clips)).scores

            return grad_cam(self.model, batch.inputs, layers, classes, whole, per_frame=True)[0]
        maps = [torch.zeros_like(clip[:, 0]) for clip in batch.inputs]
        memory: Any = None
        for positions in steps:
            kept: list[Any] = []

            def one_step(clips: list[Tensor], memory: Any = memory, kept: list[Any] = kept) -> Tensor:
                scores, new = self.task.predict_step(self.model, clips, memory)
                kept.append(new)
                return scores

            parts = [clip[:, :, frames] for clip, frames in zip(batch.inputs, positions, strict=True)]
            found, _ = grad_cam(self.model, parts, layers, classes, one_step, per_frame=True)
            for whole_map, part, frames in zip(maps, found, positions, strict=True):
                whole_map[:, frames] = part
            memory = _detached(kept[0])
        return maps

    def _classes(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Return the classes that Grad-CAM explains, see `grad_cam`.

        Raises:
            ValueError: the true class is asked for, and a video has no label.
        """
        if not self.vis.GRAD_CAM.USE_TRUE_LABEL:
            return prediction.scores.argmax(dim=-1)
        labels = batch.labels if prediction.boxes is None else prediction.boxes.labels
        if labels.dim() == 1 and bool((labels == NO_LABEL).any()):
            raise ValueError(
                f"TENSORBOARD.MODEL_VIS.GRAD_CAM.USE_TRUE_LABEL is True, and {self.dataset.info.source} has no labels; "
                "set it to False"
            )
        return labels

    def _draw_clip(self, batch: Batch, drawn: _Drawn, row: int, number: int) -> None:
        """Draw a clip with its heat map, and the activations that it causes."""
        if self.vis.INPUT_VIDEO or self.with_maps:
            for pathway, clip in enumerate(batch.inputs):
                frames = pictures.clip_frames(clip[row], *self.colors)
                shown = [frames] if self.vis.INPUT_VIDEO else []
                if self.with_maps:
                    heat = drawn.maps[pathway][row]
                    shown.append(pictures.with_heat(frames, heat, self.vis.GRAD_CAM.COLORMAP))
                self._write_clip(f"Input {number}/Pathway {pathway + 1}", self._labeled(shown, drawn, row))
        for title, calls in drawn.activations.items():
            choice = next(choice for choice in self.choices if title.startswith(choice.title))
            for step, output in enumerate(calls, start=1):
                if len(output) % batch.size:
                    raise ValueError(
                        f"layer {choice.name} returns {tuple(output.shape)} for {batch.size} clips, which is not "
                        "divided by clips; take it out of TENSORBOARD.MODEL_VIS.LAYER_LIST"
                    )
                part = output.unflatten(0, (batch.size, -1))[row]
                part = choice.part_of(part[0] if len(part) == 1 else part)
                tag = f"Input {number}/Activations: {one_line(title)}" + (f", step {step}" if len(calls) > 1 else "")
                self.writer.write(tag, encode_png(array_picture(part, True)))

    def _labeled(self, shown: list[np.ndarray], drawn: _Drawn, row: int, title: str = "") -> np.ndarray:
        """Put views of a clip side by side, with its best classes below, or those of each box in each view."""
        prediction, most = drawn.prediction, self.vis.TOPK_PREDS
        height, width = shown[0].shape[1:3]
        shown = [pictures.enlarged(frames) for frames in shown]
        scores = (prediction.scores / prediction.summed).numpy()
        if prediction.boxes is None:
            frames = np.concatenate(shown, axis=2)
            return pictures.with_classes(frames, self.names, scores[row], most, self.vis.COLORMAP, title)
        marks = []
        for (clip, *box), values in zip(prediction.boxes.boxes.tolist(), scores, strict=True):
            if int(clip) == row:
                best = np.argsort(-values, kind="stable")[:most]
                labels = [f"{one_line(self.names[n])} {values[n]:.2f}" for n in best]
                marks.append(Mark(labels, np.array(box) / (width, height, width, height)))
        return np.concatenate([pictures.with_boxes(frames, marks) for frames in shown], axis=2)

    def _draw_if_wrong(self, batch: Batch, drawn: _Drawn, row: int, number: int) -> None:
        """Draw a clip whose best class is not its label, if its label is in the subset."""
        label, best = int(batch.labels[row]), int(drawn.prediction.scores[row].argmax())
        if label in (best, NO_LABEL) or (self.subset is not None and label not in self.subset):
            return
        found, true = (one_line(self.names[n]) for n in (best, label))
        for pathway, clip in enumerate(batch.inputs):
            frames = pictures.clip_frames(clip[row], *self.colors)
            labeled = self._labeled([frames], drawn, row, f"label: {true}")
            tag = f"{self.wrong.TAG}/Input {number}: predicted {_flat(found)}, label {_flat(true)}"
            self._write_clip(f"{tag}/Pathway {pathway + 1}", labeled)

    def _write_clip(self, tag: str, frames: np.ndarray) -> None:
        self.writer.record(tag, pictures.gif(frames))
        pictures.write_mp4(self.writer.new_path(tag, ".mp4"), frames)


def _flat(text: str) -> str:
    """Return text as one part of a tag."""
    return one_line(text).replace("/", ".")


def _detached(memory: Any) -> Any:
    """Return a memory, of tensors in dicts and lists, outside of the autograd graph."""
    if isinstance(memory, Tensor):
        return memory.detach()
    if isinstance(memory, dict):
        return {name: _detached(part) for name, part in memory.items()}
    return type(memory)(_detached(part) for part in memory) if isinstance(memory, list | tuple) else memory
