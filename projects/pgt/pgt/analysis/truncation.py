"""Truncated and full gradients of progressive training compared, and the memory that each takes.

The truncated gradient t of a batch is cut at the memory of every step, the full gradient f is not. Figures by layer:
cosine cos(t, f) and norm ratio |t| / |f|, as mean and standard deviation over batches. The bias is
|E(t - f)| / |Ef| over the distribution of batches; averaging over more batches does not remove it. It does remove the
noise, sqrt(E|f - Ef|^2) / |Ef|.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from fvcore.common.config import CfgNode
from torch import nn

from pgt.model import ProgressiveModel
from pgt.task import ProgressiveTask
from slowfast.datasets.build import build_loader
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.loop import epoch_batches
from slowfast.engine.model_setup import ModelSetup, setup_model
from slowfast.engine.optim_step import OptimStep, autocast_dtype
from slowfast.engine.resume import take_weights
from slowfast.engine.task import build_task
from slowfast.engine.trial import random_batch
from slowfast.models import build_model
from slowfast.runtime.device import device_of, peak_memory_of
from slowfast.runtime.seed import seed_all

ALL = "all"
RANDOM = "random"


class GradientOnly(OptimStep):
    """Optimizer step that leaves the weights and the gradients as they are."""

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None):
        super().__init__(model, torch.optim.SGD(model.parameters()), autocast_dtype=dtype)

    def __call__(self) -> bool:
        return False


def add_gradient(
    task: ProgressiveTask,
    model: ProgressiveModel,
    batch: Batch,
    optim_step: GradientOnly,
    steps: int,
    truncated: bool,
) -> torch.Tensor:
    """Add the gradient of the first `steps` steps of the clips to `.grad`, by the training code of the task.

    Args:
        optim_step: does not update, so that the gradients stay.
        truncated: cut the gradient at every memory; otherwise it flows through all steps.

    Returns:
        The loss, the weighted mean over steps, which is the same either way.
    """
    shorter = copy.copy(task)
    shorter.plan = replace(task.plan, steps=steps)
    shorter.weights = task.weights[:steps]
    shorter.together, shorter.gradient_steps = True, 1 if truncated else steps
    inputs = [clip[:, :, : shorter.plan.pathway_frames(p)] for p, clip in enumerate(batch.inputs)]
    former = model.full_gradient
    model.full_gradient = not truncated
    try:
        return shorter.train_step(model, replace(batch, inputs=inputs), optim_step)["loss"]
    finally:
        model.full_gradient = former


@dataclass(frozen=True)
class _GapRow:
    """Figures of one layer, see above; None where a gradient is zero.

    `bias` and `noise` are None where the batches are too few to tell Ef from noise. A bias below `bias_floor` may be
    zero.
    """

    name: str
    parameters: int
    cosine: float | None
    cosine_std: float | None
    norm_ratio: float | None
    norm_ratio_std: float | None
    bias: float | None
    bias_floor: float | None
    noise: float | None


class Gap:
    """Accumulator of the two gradients over batches.

    Args:
        names: of the parameters, in the order of the gradients.
    """

    def __init__(self, names: Sequence[str]):
        self.names = list(names)
        self._products: list[torch.Tensor] = []  # of every batch (3, 3, P): of t, f and t - f, each with each
        self._sums: list[tuple[torch.Tensor, torch.Tensor]] = []  # of every parameter: f and t - f, over batches

    def add(self, truncated: Sequence[torch.Tensor], full: Sequence[torch.Tensor]) -> None:
        """Add the gradients of one batch, a tensor a parameter.

        Raises:
            ValueError: a gradient is NaN or infinite; with its parameter and the number of the batch.
        """
        for name, t, f in zip(self.names, truncated, full, strict=True):
            if not (t.isfinite().all() and f.isfinite().all()):
                raise ValueError(
                    f"the gradient of {name} on batch {len(self._products)} is NaN or infinite, so there is nothing to "
                    "compare; check the weights and the videos"
                )
        triples = [(t, f, t - f) for t, f in zip(truncated, full, strict=True)]
        self._products.append(torch.stack([_products(triple) for triple in triples], dim=-1))
        sums = self._sums or [(0, 0)] * len(triples)
        self._sums = [(f.cpu() + a, d.cpu() + b) for (_, f, d), (a, b) in zip(triples, sums, strict=True)]

    def rows(self, depth: int | None) -> list[_GapRow]:
        """Return the figures of all parameters together, then of each layer.

        Args:
            depth: number of parts of a parameter's dotted name that name its layer; None for a row a parameter.
        """
        layers: dict[str, list[int]] = {ALL: list(range(len(self.names)))}
        for i, name in enumerate(self.names):
            layers.setdefault(".".join(name.split(".")[:depth]), []).append(i)
        products = torch.stack(self._products)
        of_sums = torch.stack([_products(pair) for pair in self._sums], dim=-1)
        return [self._row(name, members, products, of_sums) for name, members in layers.items()]

    def _row(self, name: str, members: list[int], products: torch.Tensor, of_sums: torch.Tensor) -> _GapRow:
        """Return the figures of one layer, from the products of each batch (N, 3, 3, P) and of the sums (2, 2, P)."""
        products = products[..., members].sum(dim=-1)
        cosines = [_over(p[0][1], math.sqrt(p[0][0] * p[1][1])) for p in products.tolist()]
        ratios = [_over(math.sqrt(p[0][0]), math.sqrt(p[1][1])) for p in products.tolist()]
        sums = of_sums[..., members].sum(dim=-1)
        full = products[:, 1, 1].sum().item(), sums[0, 0].item()
        gap = products[:, 2, 2].sum().item(), sums[1, 1].item()
        size = sum(self._sums[i][0].numel() for i in members)
        tendency = _tendency(len(products), full, gap)
        return _GapRow(name, size, *_mean_and_std(cosines), *_mean_and_std(ratios), *tendency)


def _tendency(count: int, full: tuple[float, float], gap: tuple[float, float]) -> tuple[float | None, ...]:
    """Return bias, its floor, and noise.

    |Ex|^2 is estimated by the mean of <x, y> over all pairs of different batches, whose noise is independent. The floor
    is the mean of |x|^2 / count: about the estimate's error by noise alone.

    Args:
        full, gap: of f and t - f: squared norms summed over batches, squared norm of the sum.
    """
    if count < 2:
        return None, None, None
    (ff, ff_floor), (dd, dd_floor) = (
        ((of_sum - squares) / (count * (count - 1)), squares / count**2) for squares, of_sum in (full, gap)
    )
    if ff <= ff_floor:
        return None, None, None
    noise = math.sqrt(max(full[0] / count - ff, 0.0) / ff)
    return math.sqrt(max(dd, 0.0) / ff), math.sqrt(dd_floor / ff), noise


def _products(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the scalar products of each tensor with each, in double precision, on the CPU."""
    stacked = torch.stack([x.detach().reshape(-1).double() for x in vectors])
    return (stacked @ stacked.T).cpu()


def _over(a: float, b: float) -> float | None:
    return a / b if b > 0 else None


def _mean_and_std(values: list[float | None]) -> tuple[float | None, float | None]:
    """Return mean and standard deviation; None if a value is None, and for the deviation of one value."""
    if None in values:
        return None, None
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def measure_gap(
    task: ProgressiveTask, model: ProgressiveModel, batches: Iterable[Batch], steps: Sequence[int], seed: int = 0
) -> list[Gap]:
    """Compare the two gradients of each batch, for each number of steps.

    The model is put into train mode. Both gradients come of the same forward pass, so dropout masks and norm statistics
    are the same.

    Raises:
        ValueError: a gradient is NaN or infinite.
    """
    model.train()
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gaps = [Gap(list(parameters)) for _ in steps]
    optim_step = GradientOnly(model)
    for number, batch in enumerate(batches):
        batch = batch.to(optim_step.device)
        for count, gap in zip(steps, gaps, strict=True):
            gradients = []
            for truncated in (True, False):
                seed_all(seed + number)
                add_gradient(task, model, batch, optim_step, count, truncated)
                gradients.append([torch.zeros_like(p) if p.grad is None else p.grad for p in parameters.values()])
                model.zero_grad(set_to_none=True)
            gap.add(*gradients)
    return gaps


def step_task(cfg: CfgNode, steps: Sequence[int]) -> tuple[ProgressiveTask, list[int]]:
    """Build the task of a config, and the numbers of steps to measure: those given, or 1 to all.

    Raises:
        ValueError: the task is not progressive, or has fewer steps.
    """
    task = build_task(cfg)
    if not isinstance(task, ProgressiveTask):
        raise ValueError(
            f"TASK {cfg.TASK or 'clip'!r} reads a clip at once, so there is no gradient between steps to cut; add pgt "
            "to PROJECTS and set PGT.ENABLE True"
        )
    steps = sorted(set(steps)) or list(range(1, task.num_steps + 1))
    if steps[0] < 1 or steps[-1] > task.num_steps:
        raise ValueError(f"steps {steps} are asked for, but a clip of this configuration has 1 to {task.num_steps}")
    return task, steps


def gap_of_weights(
    cfg: CfgNode, steps: Sequence[int], num_batches: int, weights: Sequence[str]
) -> Iterator[tuple[str, list[Gap]]]:
    """Measure the gap on training batches of a config, in full precision.

    Args:
        weights: checkpoint files, or "random".

    Yields:
        Each of `weights` with the gaps, one a number of steps.

    Raises:
        ValueError: a checkpoint that does not fit, fewer batches in the training set, or a gradient that is NaN or
            infinite.
        FileNotFoundError: no such file.
    """
    task, steps = step_task(cfg, steps)
    loader = build_loader(_clips_of_one_shape(cfg), "train")
    if not 1 <= num_batches <= len(loader):
        raise ValueError(
            f"{num_batches} batches are asked for; the training set has 1 to {len(loader)} of TRAIN.BATCH_SIZE "
            f"{cfg.TRAIN.BATCH_SIZE}"
        )
    for source in weights:
        seed_all(cfg.RNG_SEED)
        model, device = build_model(cfg), device_of(cfg)
        if source != RANDOM:
            take_weights(model, cfg, source)
        model = setup_model(model, device, replace(ModelSetup.from_config(cfg), compile_mode=""))
        batches = epoch_batches(loader, 0, 0, num_batches)
        yield source, measure_gap(task, model, batches, steps, cfg.RNG_SEED)


def _clips_of_one_shape(cfg: CfgNode) -> CfgNode:
    """Return the config without settings that make the clips of some batches shorter or smaller."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATA.TRAIN_NUM_FRAMES, cfg.MULTIGRID.SHORT_CYCLE = [], False
    cfg.freeze()
    return cfg


def gradient_memory(cfg: CfgNode, steps: int, truncated: bool) -> dict[str, float]:
    """Return the memory of one gradient of a random batch; the keys are those of `peak_memory_of`."""
    task, _ = step_task(cfg, [steps])
    seed_all(cfg.RNG_SEED)
    device = device_of(cfg)
    model = setup_model(build_model(cfg), device, ModelSetup.from_config(cfg)).train()
    batch, optim_step = random_batch(cfg).to(device), GradientOnly(model, autocast_dtype(cfg))

    def work() -> None:
        add_gradient(task, model, batch, optim_step, steps, truncated)
        model.zero_grad(set_to_none=True)

    return peak_memory_of(work, device)
