"""Task of contrastive learning: several clips of each video, and evaluation by nearest neighbors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from slowfast.datasets.loading.batch import Batch
from slowfast.engine.hooks import Hook
from slowfast.engine.model_setup import unwrap
from slowfast.engine.optim_step import OptimStep
from slowfast.engine.state import TrainState
from slowfast.engine.task import TASK_REGISTRY, Task
from slowfast.evaluation.prediction import Prediction
from slowfast.models.contrastive_methods import ContrastiveModel, MoCo
from slowfast.runtime.distributed import get_world_size
from slowfast.utils.errors import naming_keys

_CLIP_KEYS = ("CONTRASTIVE.TYPE", "CONTRASTIVE.SEQUENTIAL", "DATA.TRAIN_CROP_NUM_TEMPORAL")


@TASK_REGISTRY.register("contrastive")
class ContrastiveTask(Task):
    """Train a `ContrastiveModel`; a batch holds the clips of each video one after the other.

    Class scores are the votes of the nearest training videos, see `MemoryBank`.
    """

    pretrains, steady = True, False

    def __init__(self, cfg: Any):
        self.cfg = cfg
        self.evaluates = cfg.CONTRASTIVE.KNN_ON
        # Place in training of the next batch: epochs and iterations done, and progress in epochs, also of the batch
        # before.
        self.epoch, self.iteration, self.progress, self.before = 0, 0, 0.0, 0.0

    def hooks(self) -> list[Hook]:
        """Return the hook that tells the task the place in training."""
        return [_Place()]

    def train_step(self, model: nn.Module, batch: Batch, optim_step: OptimStep) -> dict[str, Tensor]:
        """Train on a batch; while MoCo's queue fills up in the first epoch, weights stay."""
        net: ContrastiveModel = unwrap(model)
        count = int(batch.view.max()) + 1
        clips = [[pathway[view::count] for pathway in batch.inputs] for view in range(count)]
        fills = self._queue_fills(net, batch.size // count)

        def run(module: nn.Module, inputs: list[Tensor]) -> Any:
            with optim_step.autocast():
                return module(inputs)

        total = torch.zeros((), device=batch.video.device)
        with naming_keys(self.cfg, *_CLIP_KEYS):
            passes = net.passes(run, model, clips, self.progress, self.before)
        for number, compute in enumerate(passes, 1):
            with torch.no_grad() if fills else optim_step.sync(last=number == len(passes)):
                loss = compute()
                if not fills:
                    optim_step.backward(loss)
            total += loss.detach()
        net.finish(self.progress)
        net.remember(batch.video[::count], batch.labels[::count])
        if not fills:
            optim_step()
        return {"loss": net.shown_loss(total, count)}

    def _queue_fills(self, net: ContrastiveModel, videos: int) -> bool:
        """Return True in the first iterations of MoCo, until the queue could hold keys alone."""
        return (
            isinstance(net, MoCo) and not self.epoch and self.iteration * videos * get_world_size() < len(net.queue_x)
        )

    def predict(self, model: nn.Module, batch: Batch) -> Prediction:
        net: ContrastiveModel = unwrap(model)
        if net.knn_mem is None:
            raise ValueError("CONTRASTIVE.KNN_ON is False, so the model gives features and no class scores")
        return Prediction(net.knn_mem.votes(net(batch.inputs), self.cfg.CONTRASTIVE.NUM_CLASSES_DOWNSTREAM))


class _Place(Hook):
    """Tell the task the place in training, and the model how many training videos there are."""

    def before_epoch(self, state: TrainState) -> None:
        # Averaged weights (EMA) share the bank.
        bank = unwrap(state.model).knn_mem
        for model in state.models:
            model.knn_mem = bank
        if bank is not None:
            bank.reserve(state.loader.dataset.num_videos)

    def before_step(self, state: TrainState, batch: Batch) -> None:
        task = state.task
        task.epoch, task.iteration, task.progress = state.epoch, state.iteration, state.progress
        task.before = max(state.progress - 1 / state.epoch_length, 0.0)
