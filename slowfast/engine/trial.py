"""Training iterations and predictions on clips of noise, to measure them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from slowfast.datasets.loading.batch import Batch, Boxes
from slowfast.datasets.transforms.masking import build_masking
from slowfast.engine.model_setup import ModelSetup, setup_model
from slowfast.engine.optim import build_optimizer, set_lr
from slowfast.engine.optim_step import autocast, autocast_dtype, build_optim_step
from slowfast.engine.task import build_task, dummy_inputs
from slowfast.layers.conv import use_plain_convolutions
from slowfast.models import build_model
from slowfast.runtime.device import device_of, synchronize
from slowfast.runtime.seed import seed_all, seeded_generator


def random_batch(cfg: Any, count: int | None = None) -> Batch:
    """Return a batch of `count` clips of noise (None: TRAIN.BATCH_SIZE), of the config's frames, training crop and
    pathways; with boxes for a model that scores boxes, and masks if the loader draws them.
    """
    count = count or cfg.TRAIN.BATCH_SIZE
    inputs, index = dummy_inputs(cfg, count, cfg.DATA.TRAIN_CROP_SIZE), torch.arange(count)
    batch = Batch(inputs=inputs, labels=_random_labels(cfg, count), video=index, view=torch.zeros_like(index))
    if draw_mask := build_masking(cfg):
        batch.mask = torch.stack([draw_mask(seeded_generator(0, "train", i)) for i in range(count)])
    if cfg.DETECTION.ENABLE:
        batch.key_frames = [_random_boxes(cfg, count) for _ in cfg.AVA.BOX_FRAMES or [None]]
    return batch


def _random_boxes(cfg: Any, count: int | None = None) -> Boxes:
    """Return one box for each clip of `random_batch`, in the middle of the picture, with a random label."""
    count, crop = count or cfg.TRAIN.BATCH_SIZE, cfg.DATA.TRAIN_CROP_SIZE
    sides = torch.tensor([0.25, 0.25, 0.75, 0.75]) * crop
    index = torch.arange(count)
    boxes = torch.cat([index[:, None], sides.expand(count, -1)], dim=1)
    return Boxes(boxes, _random_labels(cfg, count), index, torch.zeros_like(index))


def _random_labels(cfg: Any, count: int) -> Tensor:
    """Return labels of `count` samples, in the form that the loss takes."""
    labels = torch.randint(cfg.MODEL.NUM_CLASSES, (count,))
    if cfg.DATA.MULTI_LABEL or cfg.MODEL.LOSS_FUNC != "cross_entropy":
        labels = torch.nn.functional.one_hot(labels, cfg.MODEL.NUM_CLASSES).float()
    return labels


class Trial:
    """A model that trains on, or predicts, one batch of noise at each call. Equal configs have equal weights.

    A call returns the loss, or the scores. The learning rate is 0, which costs the same and keeps the weights over many
    iterations on noise.

    Args:
        training: a call is a training iteration; False: a prediction.
        plain: run convolutions as plain `nn.Conv3d` modules.
        count: clips of the batch; None for TRAIN.BATCH_SIZE.

    Attributes:
        model: after `setup_model`.
    """

    def __init__(self, cfg: Any, training: bool, plain: bool = False, count: int | None = None) -> None:
        seed_all(cfg.RNG_SEED)
        self._device, self._dtype, self._training = device_of(cfg), autocast_dtype(cfg), training
        model = build_model(cfg)
        if plain:
            use_plain_convolutions(model)
        self.model = setup_model(model, self._device, ModelSetup.from_config(cfg), training)
        self._task, self._batch = build_task(cfg), random_batch(cfg, count).to(self._device)
        self.model.train(training)
        if training:
            optimizer = build_optimizer(self.model, cfg)
            set_lr(optimizer, 0.0)
            self._optim_step = build_optim_step(cfg, self.model, optimizer)

    def __call__(self) -> Tensor:
        if not self._training:
            return self._predict()
        return self._task.train_step(self.model, self._batch, self._optim_step)["loss"]

    def result(self) -> Tensor:
        """Return the scores; of a model without classes, the loss of a training iteration."""
        if not self._task.evaluates:
            return self()
        self.model.eval()
        scores = self._predict()
        self.model.train(self._training)
        return scores

    @torch.no_grad()
    def _predict(self) -> Tensor:
        with autocast(self._device, self._dtype):
            return self._task.predict(self.model, self._batch).scores


def seconds_of(work: Callable[[], Any], count: int, device: torch.device) -> float:
    """Return the mean seconds of `count` calls in a row."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(count):
        work()
    synchronize(device)
    return (time.perf_counter() - start) / count
