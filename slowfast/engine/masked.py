"""Masked pre-training: the task, and pictures of what a model predicts behind the masks."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.hooks import Hook
from slowfast.engine.model_setup import unwrap
from slowfast.engine.optim_step import OptimStep
from slowfast.engine.pictures import PictureWriter, encode_png
from slowfast.engine.state import TrainState
from slowfast.engine.task import TASK_REGISTRY, Task, check_classes
from slowfast.evaluation.prediction import Prediction
from slowfast.models.losses import build_loss
from slowfast.models.masked import MaskMViT, pixel_targets
from slowfast.runtime.distributed import is_main_process
from slowfast.runtime.seed import rng_state, set_rng_state

_CLIPS_SHOWN = 4
_MASKED = 0.5  # gray level of masked places


@TASK_REGISTRY.register("masked")
class MaskedTask(Task):
    """Pre-train a `MaskMViT` on clips without labels."""

    evaluates, pretrains = False, True

    def __init__(self, cfg: Any):
        self.loss, self.cfg = build_loss(cfg), cfg

    def train_step(self, model: nn.Module, batch: Batch, optim_step: OptimStep) -> dict[str, Tensor]:
        with optim_step.sync():
            with optim_step.autocast():
                predictions, targets = model(batch.inputs, batch.mask)
                if not len(predictions[0]):
                    raise ValueError(
                        f"no token of {batch.size} clip(s) is masked, so there is no loss; raise AUG.MASK_RATIO, or "
                        "AUG.MASK_WINDOW_SIZE if no block fits it"
                    )
                loss = self.loss(predictions, targets)
            optim_step.backward(loss)
        optim_step()
        return {"loss": loss.detach()}

    def predict(self, model: nn.Module, batch: Batch) -> Prediction:
        """Raise ValueError: no class is predicted."""
        check_classes(self.cfg)

    def hooks(self) -> list[Hook]:
        return [MaskPictures(ClipSettings.from_config(self.cfg, "train"))] if self.cfg.VIS_MASK.ENABLE else []


class MaskPictures(Hook):
    """Picture of the last batch of each epoch, `OUTPUT_DIR/visualization/mask/epoch_N.png`.

    See `draw_masked` for its rows.

    Args:
        settings: of the training clips, to undo their normalization.
    """

    def __init__(self, settings: ClipSettings) -> None:
        self.settings = settings
        self.batch: Batch | None = None

    def after_step(self, state: TrainState, batch: Batch, result: dict[str, Tensor]) -> None:
        if state.iteration == state.epoch_length and is_main_process():
            self.batch = batch

    def after_epoch(self, state: TrainState) -> None:
        if self.batch is None:
            return
        model, batch, self.batch = unwrap(state.model), self.batch, None
        masks = None if batch.mask is None else batch.mask[:_CLIPS_SHOWN]
        # A mask that the model draws must not advance the random state of the run.
        before = rng_state(state.device)
        picture = self.draw(model, batch.inputs[0][:_CLIPS_SHOWN], masks)
        set_rng_state(before, state.device)
        writer = PictureWriter(state.cfg.OUTPUT_DIR, "mask", [])
        writer.write(f"epoch_{state.epoch + 1}", encode_png(picture))

    def draw(self, model: nn.Module, clip: Tensor, mask: Tensor | None) -> np.ndarray:
        """Draw the picture of clips (B, 3, T, H, W); a project that trains otherwise may override it."""
        return draw_masked(model, clip, mask, self.settings)


@torch.no_grad()
def draw_masked(model: MaskMViT, clip: Tensor, mask: Tensor | None, settings: ClipSettings) -> np.ndarray:
    """Draw three rows for each clip: frames, frames behind the mask, and predictions in the masked places.

    A column is the first frame of a token. Predicted HOG features are drawn as edges, with those of the clip around
    them. Of several decoded blocks the last one is shown. Pixels that a model predicts normalized are drawn with mean
    and deviation of the clip's own, as published.

    Args:
        clip: (B, 3, T, H, W), normalized.
        mask: see `MaskMViT.forward`.
        settings: of the clip.

    Returns:
        (3 * B * H, T' * W, 3) uint8, RGB.
    """
    training = model.training
    model.eval()
    (*_, (predicted, used)) = model.decode(model.patch_embed(clip), mask)
    model.train(training)
    thw, index = tuple(used.shape[1:]), len(model.pred_head.projections) - 1
    everywhere = torch.ones_like(used)
    values = model.targets(clip, index, everywhere).unflatten(0, used.shape).to(predicted.dtype)
    values[used] = predicted
    frames = _pixels(pixel_targets(clip, thw, normalize=False), clip.shape, thw, settings)
    if model.target.hog:
        filled = _edges(values, model.hogs[index].bins, clip.shape[1])
    else:
        filled = _pixels(_raw_pixels(values, clip, thw, model), clip.shape, thw, settings)
    places = used.cpu().numpy().repeat(frames.shape[2] // thw[1], 2).repeat(frames.shape[3] // thw[2], 3)[..., None]
    rows = np.stack([frames, np.where(places, _MASKED, frames), filled], axis=1)  # (B, 3, T', H, W, 3)
    rows = rows.transpose(0, 1, 3, 2, 4, 5).reshape(-1, thw[0] * frames.shape[3], 3)
    return np.rint(rows.clip(0, 1) * 255).astype(np.uint8)


def _raw_pixels(values: Tensor, clip: Tensor, thw: tuple[int, int, int], model: MaskMViT) -> Tensor:
    """Undo the normalization of tokens (B, T', H', W', values), by mean and deviation of the clip's own."""
    if not model.target.normalize:
        return values
    variance, mean = torch.var_mean(
        pixel_targets(clip, thw, model.target.first_frame, normalize=False), dim=-1, keepdim=True
    )
    return values * (variance + 1e-6).sqrt() + mean


def _pixels(values: Tensor, shape: torch.Size, thw: tuple[int, int, int], settings: ClipSettings) -> np.ndarray:
    """Return the first frame of each token as pictures (B, T', H, W, 3) of 0 to 1, RGB."""
    channels, high, wide = shape[1], shape[3] // thw[1], shape[4] // thw[2]
    tokens = values[..., : high * wide * channels].float().unflatten(-1, (high, wide, channels))
    pictures = tokens.permute(0, 1, 2, 4, 3, 5, 6).flatten(4, 5).flatten(2, 3).cpu().numpy()
    pictures = pictures[..., ::-1] if settings.reverse_channels else pictures
    return pictures * np.array(settings.std) + np.array(settings.mean)


def _edges(values: Tensor, bins: int, channels: int) -> np.ndarray:
    """Draw HOG features (B, T', H', W', channels * bins * cells) as edges, (B, T', H, W, 3) of 0 to 1."""
    side = math.isqrt(values.shape[-1] // (channels * bins))
    cells = values.float().unflatten(-1, (channels, bins, side, side)).mean(4).clamp(min=0)  # the mean of the colors
    cells = cells.permute(0, 1, 2, 5, 3, 6, 4).flatten(4, 5).flatten(2, 3)  # (B, T', rows, columns, bins)
    stamps = torch.from_numpy(np.stack([_edge(math.pi * (k + 0.5) / bins) for k in range(bins)])).to(cells)
    drawn = torch.einsum("btrck,kyx->btrycx", cells, stamps).flatten(4, 5).flatten(2, 3)
    return drawn[..., None].expand(-1, -1, -1, -1, 3).cpu().numpy()


def _edge(angle: float, side: int = 8) -> np.ndarray:
    """Draw a line across a cell, perpendicular to a gradient at `angle` from the y axis."""
    stamp, middle = np.zeros((side, side), np.float32), (side - 1) / 2
    dx, dy = math.cos(angle) * middle, -math.sin(angle) * middle
    ends = [(round(middle + sign * dx), round(middle + sign * dy)) for sign in (-1, 1)]
    return cv2.line(stamp, *ends, 1.0)
