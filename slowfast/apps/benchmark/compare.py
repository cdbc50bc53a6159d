"""Prediction and training iterations on random clips: variants, and their time and memory."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from fvcore.common.config import CfgNode

from slowfast.datasets.loading.batch import Batch, Boxes
from slowfast.datasets.transforms.masking import build_masking
from slowfast.engine.model_setup import ModelSetup, setup_model
from slowfast.engine.optim import build_optimizer, set_lr
from slowfast.engine.optim_step import autocast, autocast_dtype, build_optim_step
from slowfast.engine.task import build_task, dummy_inputs, task_class
from slowfast.layers.conv import use_plain_convolutions
from slowfast.models import build_model
from slowfast.runtime.device import device_of, peak_memory_of, synchronize
from slowfast.runtime.seed import seed_all, seeded_generator

BASELINE = "baseline"
# Works to measure: prediction and training iteration on whole clips, and by the config's own task in steps.
WORKS = ("forward", "train", "forward_steps", "train_steps")
# Overrides of each part of a variant's name; parts are joined with +.
VARIANTS = {
    "config": (),
    "fp32": ("TRAIN.MIXED_PRECISION", False),
    "bf16": ("TRAIN.MIXED_PRECISION", True, "TRAIN.MIXED_PRECISION_DTYPE", "bf16"),
    "fp16": ("TRAIN.MIXED_PRECISION", True, "TRAIN.MIXED_PRECISION_DTYPE", "fp16"),
    "compile": ("MODEL.COMPILE", True),
    "contiguous": ("MODEL.MEMORY_FORMAT", "contiguous"),
    "channels_last": ("MODEL.MEMORY_FORMAT", "channels_last"),
    "recompute": ("MODEL.ACT_CHECKPOINT", True),
    "unfolded": ("TEST.FOLD_NORMS", False),
}
_BASELINE_SETTINGS = (*VARIANTS["fp32"], *VARIANTS["contiguous"], *VARIANTS["unfolded"], "MODEL.COMPILE", False)
_SHORTEST_TURN = 0.2  # seconds; shorter works are repeated within a turn


@dataclass(frozen=True)
class Variant:
    """One benchmark variant: the baseline or a candidate.

    Attributes:
        name: `BASELINE`, or parts of `VARIANTS` joined with +.
        cfg: config of the variant.
        plain: run convolutions as plain `nn.Conv3d` modules.
    """

    name: str
    cfg: CfgNode
    plain: bool = False


def variant_settings(name: str) -> tuple[Any, ...]:
    """Return the overrides KEY, VALUE, ... of a variant such as bf16+compile; ValueError for an unknown part."""
    parts = name.split("+")
    unknown = [part for part in parts if part not in VARIANTS]
    if unknown:
        raise ValueError(f"variant {name!r}: {', '.join(unknown)} is not one of {', '.join(VARIANTS)} (joined with +)")
    return sum((VARIANTS[part] for part in parts), ())


def clip_config(cfg: CfgNode) -> CfgNode:
    """Return the config with which the same model reads the same clips at once."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TASK = cfg.MODEL.ADAPTER = ""
    cfg.freeze()
    return cfg


def make_variant(load: Callable[[Sequence[Any]], CfgNode], work: str, name: str, steps: int | None = None) -> Variant:
    """Build a variant of a work.

    Args:
        load: overrides -> config.
        work: of `WORKS`.
        name: `BASELINE` or a variant. The baseline always reads whole clips: in steps, it is training end to end.
        steps: number of steps of a clip; None for that of the config.

    Raises:
        ValueError: an unknown variant, a task without steps, or settings that do not fit.
    """
    plain = name == BASELINE
    cfg = load(_BASELINE_SETTINGS if plain else variant_settings(name))
    if steps is not None:
        cfg = task_class(cfg).steps_config(cfg, steps)
    if plain or not work.endswith("_steps"):
        cfg = clip_config(cfg)
    return Variant(name, cfg, plain)


def random_batch(cfg: CfgNode, count: int | None = None) -> Batch:
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


def _random_boxes(cfg: CfgNode, count: int | None = None) -> Boxes:
    """Return one box for each clip of `random_batch`, in the middle of the picture, with a random label."""
    count, crop = count or cfg.TRAIN.BATCH_SIZE, cfg.DATA.TRAIN_CROP_SIZE
    sides = torch.tensor([0.25, 0.25, 0.75, 0.75]) * crop
    index = torch.arange(count)
    boxes = torch.cat([index[:, None], sides.expand(count, -1)], dim=1)
    return Boxes(boxes, _random_labels(cfg, count), index, torch.zeros_like(index))


def _random_labels(cfg: CfgNode, count: int) -> torch.Tensor:
    """Return labels of `count` samples, in the form that the loss takes."""
    labels = torch.randint(cfg.MODEL.NUM_CLASSES, (count,))
    if cfg.DATA.MULTI_LABEL or cfg.MODEL.LOSS_FUNC != "cross_entropy":
        labels = torch.nn.functional.one_hot(labels, cfg.MODEL.NUM_CLASSES).float()
    return labels


def prepare_work(variant: Variant, training: bool) -> Callable[[], None]:
    """Return a function that trains on, or predicts, one batch. Equal configs have equal weights.

    The learning rate is 0, which costs the same and keeps the weights over many iterations on noise.
    """
    cfg = variant.cfg
    seed_all(cfg.RNG_SEED)
    device, model = device_of(cfg), build_model(cfg)
    if variant.plain:
        use_plain_convolutions(model)
    model = setup_model(model, device, ModelSetup.from_config(cfg), training)
    task, batch = build_task(cfg), random_batch(cfg).to(device)
    if not training:
        model.eval()

        @torch.no_grad()
        def predict() -> None:
            with autocast(device, autocast_dtype(cfg)):
                task.predict(model, batch)

        return predict
    model.train()
    optimizer = build_optimizer(model, cfg)
    set_lr(optimizer, 0.0)
    optim_step = build_optim_step(cfg, model, optimizer)

    def train() -> None:
        task.train_step(model, batch, optim_step)

    return train


def measure_alone(variant: Variant, training: bool, iterations: int) -> dict[str, float]:
    """Measure the time of one variant in `iterations`, or with 0 its memory; each after an iteration to warm up.

    Returns:
        `seconds`, the median of an iteration; or `process_mib`, the peak memory in use, and `peak_mib`, the part of it
        above the idle process (libraries, model, optimizer state and batch).
    """
    device, work = device_of(variant.cfg), prepare_work(variant, training)
    if not iterations:
        return peak_memory_of(work, device)
    _seconds(work, 1, device)
    return {"seconds": statistics.median(_seconds(work, 1, device) for _ in range(iterations))}


def compare(variants: Sequence[Variant], training: bool, rounds: int) -> list[dict[str, Any]]:
    """Measure the time of variants in turn, A B A B, in this process.

    Returns:
        For every variant its `name`; `first`, the seconds of the first iteration (with compilation); and `seconds` of
        an iteration in each round.
    """
    device = device_of(variants[0].cfg)
    works = [prepare_work(variant, training) for variant in variants]
    first = [_seconds(work, 1, device) for work in works]
    counts = [max(1, round(_SHORTEST_TURN / _seconds(work, 1, device))) for work in works]
    turns = [[_seconds(work, count, device) for work, count in zip(works, counts, strict=True)] for _ in range(rounds)]
    return [
        {"name": variant.name, "first": first[i], "seconds": [turn[i] for turn in turns]}
        for i, variant in enumerate(variants)
    ]


def _seconds(work: Callable[[], None], count: int, device: torch.device) -> float:
    """Return the mean seconds of `count` calls in a row."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(count):
        work()
    synchronize(device)
    return (time.perf_counter() - start) / count
