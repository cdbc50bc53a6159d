"""Work on random clips, ready to be measured: predicting, or a training iteration, as a configuration has it."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from fvcore.common.config import CfgNode

from slowfast.apps.dummy_inputs import dummy_inputs
from slowfast.datasets.loading.batch import Batch, Boxes
from slowfast.engine.model_setup import ModelSetup, setup_model
from slowfast.engine.optim import build_optimizer, set_lr
from slowfast.engine.optim_step import autocast, autocast_dtype, build_optim_step
from slowfast.engine.task import build_task, task_class
from slowfast.layers.conv import use_plain_convolutions
from slowfast.models import build_model
from slowfast.runtime.device import device_of, peak_memory_of, synchronize
from slowfast.runtime.seed import seed_all

BASELINE = "baseline"
# What can be measured: predicting and training on whole clips, and by the configuration's own task, in steps.
WORKS = ("forward", "train", "forward_steps", "train_steps")
# What a word of a variant's name asks for; words are joined with +.
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
_SHORTEST_TURN = 0.2  # seconds


@dataclass(frozen=True)
class Variant:
    """One way to do a work.

    Attributes:
        name: "baseline" or a variant's.
        cfg: its settings.
        plain: run convolutions as plain `nn.Conv3d` modules.
    """

    name: str
    cfg: CfgNode
    plain: bool = False


def variant_settings(name: str) -> tuple[Any, ...]:
    """The overrides KEY, VALUE, ... of a variant such as bf16+compile.

    Raises:
        ValueError: an unknown word.
    """
    unknown = [word for word in name.split("+") if word not in VARIANTS]
    if unknown:
        raise ValueError(f"variant {name!r}: {', '.join(unknown)} is not one of {', '.join(VARIANTS)} (joined with +)")
    return sum((VARIANTS[word] for word in name.split("+")), ())


def has_steps(cfg: CfgNode) -> bool:
    """Whether the configuration's own task reads a clip in steps."""
    return build_task(cfg).stream_steps(1) is not None


def steps_config(cfg: CfgNode, steps: int) -> CfgNode:
    """The settings for clips of that many steps.

    Raises:
        ValueError: the task has no steps.
    """
    return task_class(cfg).steps_config(cfg, steps)


def clip_config(cfg: CfgNode) -> CfgNode:
    """The settings with which the same model reads the same clips at once."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TASK = cfg.MODEL.ADAPTER = ""
    cfg.freeze()
    return cfg


def make_variant(load: Callable[[Sequence[Any]], CfgNode], work: str, name: str, steps: int | None = None) -> Variant:
    """One way to do a work.

    Args:
        load: from overrides to settings.
        name: `BASELINE` or a variant; the baseline reads whole clips whatever the work, so that for training in steps
            it is training end to end.
        steps: of a clip; None for the configuration's.

    Raises:
        ValueError: an unknown variant, steps that the task does not have, or settings that do not fit.
    """
    plain = name == BASELINE
    cfg = load(_BASELINE_SETTINGS if plain else variant_settings(name))
    if steps is not None:
        cfg = steps_config(cfg, steps)
    if plain or not work.endswith("_steps"):
        cfg = clip_config(cfg)
    return Variant(name, cfg, plain)


def random_batch(cfg: CfgNode, count: int | None = None) -> Batch:
    """`count` clips of noise (None: TRAIN.BATCH_SIZE), of the configuration's frames, training crop and pathways; with
    boxes for a model that scores boxes.
    """
    count = count or cfg.TRAIN.BATCH_SIZE
    inputs, index = dummy_inputs(cfg, count, cfg.DATA.TRAIN_CROP_SIZE), torch.arange(count)
    batch = Batch(inputs=inputs, labels=_random_labels(cfg, count), video=index, view=torch.zeros_like(index))
    if cfg.DETECTION.ENABLE:
        batch.key_frames = [random_boxes(cfg, count) for _ in cfg.AVA.BOX_FRAMES or [None]]
    return batch


def random_boxes(cfg: CfgNode, count: int | None = None) -> Boxes:
    """A box for each clip of `random_batch`, the middle of the picture, with a random label."""
    count, crop = count or cfg.TRAIN.BATCH_SIZE, cfg.DATA.TRAIN_CROP_SIZE
    sides = torch.tensor([0.25, 0.25, 0.75, 0.75]) * crop
    index = torch.arange(count)
    boxes = torch.cat([index[:, None], sides.expand(count, -1)], dim=1)
    return Boxes(boxes, _random_labels(cfg, count), index, torch.zeros_like(index))


def _random_labels(cfg: CfgNode, count: int) -> torch.Tensor:
    """Of `count` samples, in the form that the loss takes."""
    labels = torch.randint(cfg.MODEL.NUM_CLASSES, (count,))
    if cfg.DATA.MULTI_LABEL or cfg.MODEL.LOSS_FUNC != "cross_entropy":
        labels = torch.nn.functional.one_hot(labels, cfg.MODEL.NUM_CLASSES).float()
    return labels


def prepare_work(arm: Variant, training: bool) -> Callable[[], None]:
    """A call that trains on, or predicts, one batch, as the tools do; arms with equal settings have equal weights.

    The learning rate is 0, which costs the same, so that weights stay sane over many iterations on noise.
    """
    cfg = arm.cfg
    seed_all(cfg.RNG_SEED)
    device, model = device_of(cfg), build_model(cfg)
    if arm.plain:
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


def benchmark_training(cfg: CfgNode, iterations: int) -> dict[str, float]:
    """Time and memory of training iterations as the configuration has them; see `measure_alone`."""
    return measure_alone(Variant("", cfg), True, iterations)


def measure_alone(arm: Variant, training: bool, iterations: int) -> dict[str, float]:
    """Does the work once to warm up, `iterations` times by the clock, and once more to see the memory.

    Returns:
        `seconds`, the median of an iteration, unless `iterations` is 0; `process_mib`, the most memory in use at a
        time, and `peak_mib`, how much of it is over what the idle process holds: libraries, model, optimizer state and
        batch.
    """
    device, work = device_of(arm.cfg), prepare_work(arm, training)
    _seconds(work, 1, device)
    seconds = [_seconds(work, 1, device) for _ in range(iterations)]
    return {**({"seconds": statistics.median(seconds)} if seconds else {}), **peak_memory_of(work, device)}


def compare(arms: Sequence[Variant], training: bool, rounds: int) -> list[dict[str, Any]]:
    """Does the work in every way in turn, A B A B, in this process.

    A turn of a short work is several iterations in a row.

    Returns:
        For every arm its `name`; `first`, seconds of the first iteration (compiling included); and `seconds` of an
        iteration in each round.
    """
    device = device_of(arms[0].cfg)
    works = [prepare_work(arm, training) for arm in arms]
    first = [_seconds(work, 1, device) for work in works]
    counts = [max(1, round(_SHORTEST_TURN / _seconds(work, 1, device))) for work in works]
    turns = [[_seconds(work, count, device) for work, count in zip(works, counts, strict=True)] for _ in range(rounds)]
    return [{"name": arm.name, "first": first[i], "seconds": [turn[i] for turn in turns]} for i, arm in enumerate(arms)]


def _seconds(work: Callable[[], None], count: int, device: torch.device) -> float:
    """Seconds of one of `count` calls in a row."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(count):
        work()
    synchronize(device)
    return (time.perf_counter() - start) / count
