"""Data sets by name, and the loader that feeds a process with their batches.

A data set in one line, for the log of a run.
"""

from __future__ import annotations

import multiprocessing
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from slowfast.datasets.ava.dataset import AVA
from slowfast.datasets.charades import Charades
from slowfast.datasets.kinetics import Kinetics
from slowfast.datasets.loading.batch import collate
from slowfast.datasets.loading.batch_shapes import BatchShapes
from slowfast.datasets.loading.sampler import EpochBatchSampler
from slowfast.datasets.ssv2 import SSv2
from slowfast.runtime.device import device_of
from slowfast.runtime.distributed import get_local_world_size, get_rank, get_world_size
from slowfast.runtime.logging import get_logger
from slowfast.runtime.seed import seed_all
from slowfast.utils.errors import nearest_multiples
from slowfast.utils.registry import Registry
from slowfast.utils.rng import SPLITS

logger = get_logger(__name__)

# A class(cfg, split) a name; see `Kinetics` for what it offers. One whose batches have boxes has `has_boxes = True`,
# one whose videos have any number of labels `multi_label = True`.
DATASET_REGISTRY = Registry("TRAIN.DATASET", "TEST.DATASET", ignore_case=True)
DATASET_REGISTRY.register("kinetics")(Kinetics)
DATASET_REGISTRY.register("charades")(Charades)
DATASET_REGISTRY.register("ssv2")(SSv2)
DATASET_REGISTRY.register("ava")(AVA)


def build_dataset(cfg: Any, split: str) -> Dataset:
    """The data set `TRAIN.DATASET` (train, val) or `TEST.DATASET` (test).

    Raises:
        ValueError: no such split, no data set of that name, one without boxes under DETECTION.ENABLE, or one of as
            many labels as DATA.MULTI_LABEL does not say; and what the data set raises.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    key = "TEST.DATASET" if split == "test" else "TRAIN.DATASET"
    name = cfg.TEST.DATASET if split == "test" else cfg.TRAIN.DATASET
    dataset = DATASET_REGISTRY.get(name, key)
    if cfg.DETECTION.ENABLE and not getattr(dataset, "has_boxes", False):
        raise ValueError(
            f"{key} {name} has no boxes, but the model scores boxes (DETECTION.ENABLE True); set DETECTION.ENABLE "
            "False to score whole clips"
        )
    if not cfg.DETECTION.ENABLE:
        _check_labels(cfg, key, name, getattr(dataset, "multi_label", False))
    built = dataset(cfg, split)
    source = getattr(built, "source", "")
    logger.info("%s: %s%s", split, describe(built, cfg.MODEL.NUM_CLASSES), f" ({source})" if source else "")
    return built


def _check_labels(cfg: Any, key: str, name: str, multi_label: bool) -> None:
    """Settings, loss and head are for as many labels a video as the data set has; a model alone may be given any."""
    if multi_label and not cfg.DATA.MULTI_LABEL:
        raise ValueError(
            f"{key} {name} has any number of labels a video, but DATA.MULTI_LABEL is False; set it to True, with "
            "MODEL.LOSS_FUNC bce_logit, MODEL.HEAD_ACT sigmoid and, as published, DATA.ENSEMBLE_METHOD max"
        )
    if cfg.DATA.MULTI_LABEL and not multi_label:
        raise ValueError(
            f"DATA.MULTI_LABEL is True, but {key} {name} has one label a video; set it to False, with MODEL.LOSS_FUNC "
            "cross_entropy and MODEL.HEAD_ACT softmax"
        )
    if multi_label and cfg.MODEL.LOSS_FUNC != "bce_logit":
        raise ValueError(
            f"MODEL.LOSS_FUNC is {cfg.MODEL.LOSS_FUNC}, but with DATA.MULTI_LABEL True a video has any number of "
            "labels; set bce_logit, or MULTI_LABEL False."
        )
    if multi_label and cfg.MODEL.HEAD_ACT == "softmax":
        raise ValueError(
            "MODEL.HEAD_ACT is softmax, under which classes compete, but with DATA.MULTI_LABEL True a video has any "
            "number of labels; set sigmoid, or MULTI_LABEL False."
        )
    if multi_label and key == "TEST.DATASET" and cfg.DATA.ENSEMBLE_METHOD != "max":
        logger.warning(
            "DATA.ENSEMBLE_METHOD is %s; published results on %s are of max, since an action fills a part of a video",
            cfg.DATA.ENSEMBLE_METHOD,
            name,
        )


def train_sampler(cfg: Any, num_samples: int) -> EpochBatchSampler:
    """The batches of this process in training; ValueError where the batch size cannot be."""
    share, shapes, plain = _share_of(cfg, "TRAIN"), BatchShapes.from_config(cfg), cfg.MULTIGRID.DEFAULT_B
    try:
        return EpochBatchSampler(num_samples, share, True, cfg.RNG_SEED, get_rank(), get_world_size(), shapes)
    except ValueError as error:
        if not plain:
            raise
        factor = shapes.size_factor(0) * cfg.TRAIN.BATCH_SIZE // plain
        raise ValueError(f"{error}, which multigrid (MULTIGRID) enlarges {factor} times") from error


def _share_of(cfg: Any, section: str) -> int:
    """Clips of a batch for each process of this host."""
    size, processes = cfg[section].BATCH_SIZE, get_local_world_size()
    if size % processes:
        raise ValueError(
            f"{section}.BATCH_SIZE {size} cannot be shared evenly by the {processes} processes of a host, which have "
            f"it together; set it to {nearest_multiples(size, processes)}"
        )
    return size // processes


def build_loader(cfg: Any, split: str, former: Dataset | None = None) -> DataLoader:
    """Loader of `Batch`es for this process.

    With `former`, a data set of the same split under settings that make other clips, its videos are not listed and
    decoded again, if it offers `reshaped(cfg)`.

    `loader.batch_sampler.set_epoch(epoch, start_iteration)` chooses what the next pass reads. With the same
    seed the batches are the same whatever the number of workers. So is their order in training; in val and test each
    worker makes a run of neighboring samples, and samples of other `batch_groups` (an attribute that the data set may
    have: a number for each sample) do not share a batch. The state of the global random generators is left alone.

    Raises:
        ValueError: a batch size no process can fill; and what `build_dataset` raises.
    """
    dataset = former.reshaped(cfg) if hasattr(former, "reshaped") else build_dataset(cfg, split)
    workers = cfg.DATA_LOADER.NUM_WORKERS
    if split == "train":
        sampler = train_sampler(cfg, len(dataset))
    else:
        share = _share_of(cfg, "TEST" if split == "test" else "TRAIN")
        sampler = EpochBatchSampler(
            len(dataset),
            share,
            False,
            cfg.RNG_SEED,
            get_rank(),
            get_world_size(),
            workers=workers,
            groups=getattr(dataset, "batch_groups", None),
        )
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=cfg.DATA_LOADER.PREFETCH_FACTOR if workers else None,
        pin_memory=cfg.DATA_LOADER.PIN_MEMORY and device_of(cfg).type != "cpu",
        worker_init_fn=_start_worker,
        # Its own generator: otherwise each pass would draw a number from the global one.
        generator=torch.Generator().manual_seed(cfg.RNG_SEED),
        multiprocessing_context=_context(cfg) if workers else None,
    )


def _context(cfg: Any) -> multiprocessing.context.BaseContext | None:
    """Forked workers share cached videos; other ways of starting would copy them into each."""
    forks = cfg.DATA.CACHE_VIDEOS and "fork" in multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("fork") if forks else None


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)  # workers are the parallelizm; more threads each would fight for the cores
    seed_all(torch.initial_seed() % 2**32)


def describe(dataset: Any, num_classes: int | None = None) -> str:
    """What a data set holds, from what it has read anyway: videos, views, classes, key frames and boxes.

    Args:
        dataset: any that has a length; of `num_videos`, `view_plan`, `labels`, or, with boxes, `key_frames`,
            `box_counts` and `num_labels`, whatever it has is told.
        num_classes: of the model, if known.
    """
    parts = [f"{len(dataset)} samples"]
    videos, views = getattr(dataset, "num_videos", None), getattr(dataset, "view_plan", "")
    if getattr(dataset, "has_boxes", False):
        names = {name for name, _ in dataset.key_frames}
        parts = [f"{len(dataset.key_frames)} key frames of {len(names)} videos", f"{sum(dataset.box_counts)} boxes"]
        if hasattr(dataset, "num_labels"):
            parts[-1] += f" with {dataset.num_labels} labels"
    elif videos is not None:
        parts = [f"{videos} videos", *([views] if views else [])]
    seen = classes_seen(dataset)
    if seen is not None:
        parts.append(f"{len(seen)} classes occur" + (f" of {num_classes}" if num_classes else ""))
    return ", ".join(parts)


def classes_seen(dataset: Any) -> set[int] | None:
    """The classes among a data set's labels, from 0; None where it does not tell them."""
    told = getattr(dataset, "classes_seen", None)
    if told is not None:
        return told
    labels = getattr(dataset, "labels", None)
    if labels is None or len(labels) == 0:
        return None
    if isinstance(labels, torch.Tensor) and labels.dim() == 2:
        return set(labels.any(dim=0).nonzero().flatten().tolist())
    if isinstance(labels[0], torch.Tensor):
        return set(torch.stack(list(labels)).any(dim=0).nonzero().flatten().tolist())
    return {int(label) for label in labels}
