"""How far a gradient that is cut between the steps of a clip is from the whole one, and what each takes in memory.

With t the truncated and f the full gradient of a batch, by layer: the direction cos(t, f) and the length |t| / |f|, as
mean and deviation over batches; and over the distribution that batches come from, what averaging over more of them
would not remove, the bias |E(t - f)| / |Ef|, next to what it would, the noise sqrt(E|f - Ef|^2) / |Ef|.
"""

from __future__ import annotations

import abc
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.apps.benchmark.compare import random_batch
from slowfast.datasets.build import build_loader
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.loop import epoch_batches
from slowfast.engine.model_setup import ModelSetup, setup_model
from slowfast.engine.optim_step import OptimStep, autocast_dtype
from slowfast.engine.resume import take_weights
from slowfast.engine.task import TASK_REGISTRY, Task, build_task
from slowfast.models import build_model
from slowfast.runtime.device import device_of, peak_memory_of
from slowfast.runtime.seed import seed_all

ALL = "all"
RANDOM = "random"


class StepTask(Task):
    """A task that reads a clip in steps and can cut the gradient between them."""

    @abc.abstractmethod
    def add_gradient(
        self, model: nn.Module, batch: Batch, update: OptimStep, steps: int, truncated: bool
    ) -> torch.Tensor:
        """Runs the forwards and backwards of the first `steps` steps of the clips, as in training, so that the
        gradient of their loss comes on top of the parameters' `.grad`; cut between steps or not.

        Returns:
            The loss, which is the same either way.
        """


class GradientOnly(OptimStep):
    """Handed to a task whose gradients are wanted and not its update: they stay in the parameters' `.grad`."""

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None):
        super().__init__(model, torch.optim.SGD(model.parameters()), autocast_dtype=dtype)

    def __call__(self) -> bool:
        return False


@dataclass(frozen=True)
class GapRow:
    """The gap of one layer, see above; None where a gradient is nil.

    `bias` and `noise` are None where so few batches cannot tell Ef from noise; a bias under `bias_floor` cannot be told
    from none.
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
    """Gathers the gradients of batch after batch and compares them.

    Args:
        names: of the parameters, in the order of the gradients.
    """

    def __init__(self, names: Sequence[str]):
        self.names = list(names)
        self._products: list[torch.Tensor] = []  # of every batch (3, 3, P): of t, f and t - f, each with each
        self._sums: list[tuple[torch.Tensor, torch.Tensor]] = []  # of every parameter: f and t - f, over batches

    def add(self, truncated: Sequence[torch.Tensor], full: Sequence[torch.Tensor]) -> None:
        """Takes in the gradients of one batch, a tensor a parameter."""
        triples = [(t, f, t - f) for t, f in zip(truncated, full, strict=True)]
        self._products.append(torch.stack([_products(triple) for triple in triples], dim=-1))
        sums = self._sums or [(0, 0)] * len(triples)
        self._sums = [(f.cpu() + a, d.cpu() + b) for (_, f, d), (a, b) in zip(triples, sums, strict=True)]

    def rows(self, depth: int | None) -> list[GapRow]:
        """All parameters together, then each layer.

        Args:
            depth: how many parts of a parameter's dotted name say which layer it is of; None for all, a row a
                parameter.
        """
        layers: dict[str, list[int]] = {ALL: list(range(len(self.names)))}
        for i, name in enumerate(self.names):
            layers.setdefault(".".join(name.split(".")[:depth]), []).append(i)
        products = torch.stack(self._products)
        of_sums = torch.stack([_products(pair) for pair in self._sums], dim=-1)
        return [self._row(name, members, products, of_sums) for name, members in layers.items()]

    def _row(self, name: str, members: list[int], products: torch.Tensor, of_sums: torch.Tensor) -> GapRow:
        """One layer's figures, from the products of each batch (N, 3, 3, P) and of the sums over batches (2, 2, P)."""
        products = products[..., members].sum(dim=-1)
        cosines = [_over(p[0][1], math.sqrt(p[0][0] * p[1][1])) for p in products.tolist()]
        ratios = [_over(math.sqrt(p[0][0]), math.sqrt(p[1][1])) for p in products.tolist()]
        sums = of_sums[..., members].sum(dim=-1)
        full = products[:, 1, 1].sum().item(), sums[0, 0].item()
        gap = products[:, 2, 2].sum().item(), sums[1, 1].item()
        size = sum(self._sums[i][0].numel() for i in members)
        tendency = _tendency(len(products), full, gap)
        return GapRow(name, size, *_mean_and_std(cosines), *_mean_and_std(ratios), *tendency)


def _tendency(count: int, full: tuple[float, float], gap: tuple[float, float]) -> tuple[float | None, ...]:
    """Bias, its floor, and noise.

    |Ex|^2 is estimated by the mean of <x, y> over all pairs of different batches, whose noise is independent; the
    mean of |x|^2 / count, the floor, is about what noise alone gives or takes.

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
    """Scalar products of each tensor with each, in double precision, on the CPU."""
    stacked = torch.stack([x.detach().reshape(-1).double() for x in vectors])
    return (stacked @ stacked.T).cpu()


def _over(a: float, b: float) -> float | None:
    return a / b if b > 0 else None


def _mean_and_std(values: list[float | None]) -> tuple[float | None, float | None]:
    """Mean and standard deviation; None where a value is, and for the deviation of one value."""
    if None in values:
        return None, None
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def measure_gap(
    task: StepTask, model: nn.Module, batches: Iterable[Batch], steps: Sequence[int], seed: int = 0
) -> list[Gap]:
    """Compares the two gradients of each batch, for each number of steps.

    The model is put into train mode. Both gradients have the same dropout masks, and the same norm statistics, since
    these come from the forward passes, which are the same.
    """
    model.train()
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gaps = [Gap(list(parameters)) for _ in steps]
    update = GradientOnly(model)
    for number, batch in enumerate(batches):
        batch = batch.to(update.device)
        for count, gap in zip(steps, gaps, strict=True):
            gradients = []
            for truncated in (True, False):
                seed_all(seed + number)
                task.add_gradient(model, batch, update, count, truncated)
                gradients.append([torch.zeros_like(p) if p.grad is None else p.grad for p in parameters.values()])
                model.zero_grad(set_to_none=True)
            gap.add(*gradients)
    return gaps


def step_task(cfg: CfgNode, steps: Sequence[int]) -> tuple[StepTask, list[int]]:
    """The task of a configuration, and the numbers of steps to look at: those given, or 1 to all.

    Raises:
        ValueError: the task has no steps, or fewer.
    """
    task = build_task(cfg)
    if not hasattr(task, "add_gradient"):
        able = [name for name in TASK_REGISTRY if hasattr(TASK_REGISTRY.get(name), "add_gradient")]
        raise ValueError(
            f"TASK {cfg.TASK or 'clip'!r} reads a clip at once, so there is no gradient between steps to cut; tasks "
            f"here that read it in steps: {', '.join(able) or 'none (PROJECTS names modules that may bring one in)'}"
        )
    steps = sorted(set(steps)) or list(range(1, task.num_steps + 1))
    if steps[0] < 1 or steps[-1] > task.num_steps:
        raise ValueError(f"steps {steps} are asked for, but a clip of this configuration has 1 to {task.num_steps}")
    return task, steps


def gap_of_weights(
    cfg: CfgNode, steps: Sequence[int], num_batches: int, weights: Sequence[str]
) -> Iterator[tuple[str, list[Gap]]]:
    """Measures the gap on training batches of a configuration, in full precision.

    Args:
        weights: files of checkpoints, or "random".

    Yields:
        Each of `weights` with the gaps, one a number of steps.

    Raises:
        ValueError: a checkpoint that does not fit, or fewer batches in the training set.
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
    """The configuration without what makes clips of some batches shorter or smaller."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATA.TRAIN_NUM_FRAMES, cfg.MULTIGRID.SHORT_CYCLE = [], False
    cfg.freeze()
    return cfg


def gradient_memory(cfg: CfgNode, steps: int, truncated: bool) -> dict[str, float]:
    """Memory of one gradient of a random batch; the keys are those of `peak_memory_of`."""
    task, _ = step_task(cfg, [steps])
    seed_all(cfg.RNG_SEED)
    device = device_of(cfg)
    model = setup_model(build_model(cfg), device, ModelSetup.from_config(cfg)).train()
    batch, update = random_batch(cfg).to(device), GradientOnly(model, autocast_dtype(cfg))

    def work() -> Any:
        model.zero_grad(set_to_none=True)
        task.add_gradient(model, batch, update, steps, truncated)

    work()  # to warm up
    model.zero_grad(set_to_none=True)
    return peak_memory_of(work, device)
