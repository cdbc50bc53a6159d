"""Build data sets by name, and the loaders of their batches."""

from __future__ import annotations

import multiprocessing
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from slowfast.config.resolve import num_labels
from slowfast.config.rules.run import share_of_batch
from slowfast.datasets.ava.dataset import AVA
from slowfast.datasets.base import ClipDataset, check_split
from slowfast.datasets.cater import Cater
from slowfast.datasets.charades import Charades
from slowfast.datasets.imagenet import ImageNet
from slowfast.datasets.kinetics import Kinetics
from slowfast.datasets.loading.batch import collate
from slowfast.datasets.loading.sampler import BatchShapes, EpochBatchSampler
from slowfast.datasets.ssv2 import SSv2
from slowfast.datasets.transforms.augmentation import Augmentation, ColorJitter
from slowfast.datasets.tuples import MultiLabelTupleDataset, TupleDataset
from slowfast.datasets.video_dataset import VideoDataset
from slowfast.runtime.device import device_of
from slowfast.runtime.distributed import get_local_world_size, get_rank, get_world_size
from slowfast.runtime.loader_workers import check_workers
from slowfast.runtime.logging import get_logger
from slowfast.runtime.seed import seed_all
from slowfast.utils.errors import naming_keys
from slowfast.utils.registry import REGISTRIES, Registry

logger = get_logger(__name__)

# Subclasses of `ClipDataset`, called as class(cfg, split). `bgr` says that the published loader of the data set reads
# frames as BGR; DATA.REVERSE_INPUT_CHANNEL True makes them RGB.
DATASET_REGISTRY = Registry("TRAIN.DATASET", "TEST.DATASET", ignore_case=True, facts={"bgr": False})
DATASET_REGISTRY.register("kinetics")(Kinetics)
DATASET_REGISTRY.register("charades", bgr=True)(Charades)
DATASET_REGISTRY.register("ssv2", bgr=True)(SSv2)
DATASET_REGISTRY.register("ava")(AVA)
DATASET_REGISTRY.register("imagenet")(ImageNet)
DATASET_REGISTRY.register("cater")(Cater)


def build_dataset(*arguments: Any) -> ClipDataset:
    """Build the data set `TRAIN.DATASET` (train, val) or `TEST.DATASET` (test).

    A registered class of PySlowFast's kind is read through `TupleDataset`.

    Args:
        arguments: `cfg, split`; or, as in PySlowFast, `name, cfg, split` with the name of the data set.

    Raises:
        ValueError: the split or the name does not exist; the class does not derive from `ClipDataset`; its kind of
            labels does not fit DETECTION.ENABLE, DATA.MULTI_LABEL, the loss or the head; and what the class raises.
    """
    *named, cfg, split = arguments
    check_split(split)
    key = "TEST.DATASET" if split == "test" else "TRAIN.DATASET"
    (name,) = named or [cfg.TEST.DATASET if split == "test" else cfg.TRAIN.DATASET]
    dataset = DATASET_REGISTRY.get(name, key)
    if isinstance(dataset, type) and issubclass(dataset, Dataset) and not issubclass(dataset, ClipDataset):
        make = partial(MultiLabelTupleDataset if cfg.DATA.MULTI_LABEL else TupleDataset, plain=dataset)
        dataset = make.func
    else:
        make = dataset
    if not (isinstance(dataset, type) and issubclass(dataset, ClipDataset)):
        raise ValueError(
            f"{key} {name} is {dataset!r}, which is not a data set: derive it from slowfast.datasets.VideoDataset "
            "(clips of videos) or ClipDataset"
        )
    if cfg.DETECTION.ENABLE and dataset.label_kind != "boxes":
        raise ValueError(
            f"{key} {name} has no boxes, but the model scores boxes (DETECTION.ENABLE True); set DETECTION.ENABLE "
            "False to score whole clips"
        )
    if not cfg.DETECTION.ENABLE:
        _check_labels(cfg, key, name, dataset.label_kind == "multi")
    built = make(cfg, split)
    source = f" ({built.info.source})" if built.info.source else ""
    logger.info("%s: %s%s", split, built.summary(num_labels(cfg)[0]), source)
    return built


def clip_class(name: str) -> type[VideoDataset]:
    """Return the class of a data set, for how it makes clips; `VideoDataset` for one without whole videos."""
    dataset = DATASET_REGISTRY.get(name)
    return dataset if issubclass(dataset, VideoDataset) else VideoDataset


def _check_labels(cfg: Any, key: str, name: str, multi_label: bool) -> None:
    """Check settings, loss and head against the data set's labels per video."""
    if multi_label and not cfg.DATA.MULTI_LABEL:
        raise ValueError(
            f"{key} {name} has any number of labels per video, but DATA.MULTI_LABEL is False; set it to True, with "
            "MODEL.LOSS_FUNC bce_logit, MODEL.HEAD_ACT sigmoid and, as published, DATA.ENSEMBLE_METHOD max"
        )
    if cfg.DATA.MULTI_LABEL and not multi_label:
        raise ValueError(
            f"DATA.MULTI_LABEL is True, but {key} {name} has one label per video; set it to False, with "
            "MODEL.LOSS_FUNC cross_entropy and MODEL.HEAD_ACT softmax"
        )
    if multi_label and not REGISTRIES["MODEL.LOSS_FUNC"].fact(cfg.MODEL.LOSS_FUNC, "multi_label"):
        raise ValueError(
            f"MODEL.LOSS_FUNC is {cfg.MODEL.LOSS_FUNC}, but with DATA.MULTI_LABEL True a video has any number of "
            "labels; set bce_logit, or MULTI_LABEL False."
        )
    if multi_label and cfg.MODEL.HEAD_ACT == "softmax" and cfg.MODEL.MODEL_NAME != "RegNet":  # whose head ignores it
        raise ValueError(
            "MODEL.HEAD_ACT is softmax, under which classes compete, but with DATA.MULTI_LABEL True a video has any "
            "number of labels; set sigmoid, or MULTI_LABEL False."
        )
    if multi_label and key == "TEST.DATASET" and cfg.DATA.ENSEMBLE_METHOD != "max":
        logger.warning(
            "DATA.ENSEMBLE_METHOD is %s; published results on %s use max, since an action fills only a part of a video",
            cfg.DATA.ENSEMBLE_METHOD,
            name,
        )


def train_sampler(cfg: Any, num_samples: int) -> EpochBatchSampler:
    """Build the batch sampler of training for this process; ValueError if the batch size is impossible."""
    share, shapes, plain = _share_of(cfg, "TRAIN"), BatchShapes.from_config(cfg), cfg.MULTIGRID.DEFAULT_B
    with naming_keys(cfg, "TRAIN.BATCH_SIZE", *(["DATA.LOADER_CHUNK_SIZE"] if cfg.DATA.LOADER_CHUNK_SIZE else [])):
        try:
            return EpochBatchSampler(
                num_samples,
                share,
                True,
                cfg.RNG_SEED,
                get_rank(),
                get_world_size(),
                shapes,
                chunk=cfg.DATA.LOADER_CHUNK_SIZE,
                chunked=cfg.DATA.LOADER_CHUNK_OVERALL_SIZE,
            )
        except ValueError as error:
            if not plain:
                raise
            factor = shapes.size_factor(0) * cfg.TRAIN.BATCH_SIZE // plain
            raise ValueError(f"{error}, which multigrid (MULTIGRID) enlarges {factor} times") from error


def _share_of(cfg: Any, section: str) -> int:
    """Return the clips of a batch for each process of this host."""
    return share_of_batch(section, cfg[section].BATCH_SIZE, get_local_world_size())


def build_loader(cfg: Any, split: str, former: ClipDataset | None = None) -> DataLoader:
    """Build the loader of `Batch`es for this process.

    `loader.batch_sampler.set_epoch(epoch, start_iteration)` chooses what the next pass reads. For one seed, batches do
    not depend on the number of workers, nor does their order in training. The global random generators are not used.

    Args:
        cfg: the configuration.
        split: train, val or test.
        former: data set of the same split under settings that make other clips, to be reshaped instead of read again.

    Raises:
        ValueError: a batch size that no process can fill; and what `build_dataset` raises.
    """
    dataset = build_dataset(cfg, split) if former is None else former.reshaped(cfg)
    workers = cfg.DATA_LOADER.NUM_WORKERS
    check_workers(workers)
    if split == "train":
        _check_bytes(cfg)
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
            groups=dataset.batch_groups,
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
        # Without a generator each pass would draw a number from the global one.
        generator=torch.Generator().manual_seed(cfg.RNG_SEED),
        multiprocessing_context=_context(cfg) if workers else None,
    )


def _check_bytes(cfg: Any) -> None:
    """Check that 8 bits hold all that augmentation makes of a training clip (`DATA_LOADER.NORMALIZE_ON_DEVICE`).

    Raises:
        ValueError: they do not, with the setting that is in the way.
    """
    if not cfg.DATA_LOADER.NORMALIZE_ON_DEVICE:
        return
    a = Augmentation.from_config(cfg)
    causes = {
        "colors are changed beyond 0 to 255 (AUG.COLOR_JITTER, AVA.TRAIN_USE_COLOR_AUGMENTATION or "
        "DATA.COLOR_RND_GRAYSCALE)": a.color_jitter != ColorJitter(),
        "DATA.TIME_DIFF_PROB makes differences, below 0": a.time_differences > 0,
        "AUG.RE_PROB draws normalized noise": a.erasing is not None,
    }
    found = [cause for cause, holds in causes.items() if holds]
    if found:
        raise ValueError(
            f"DATA_LOADER.NORMALIZE_ON_DEVICE True hands over training clips as 8-bit pixels, but {found[0]}; turn "
            "that off, or set NORMALIZE_ON_DEVICE False"
        )


def _context(cfg: Any) -> multiprocessing.context.BaseContext | None:
    """Fork workers if videos are cached, so that they share them; other start methods would copy them."""
    forks = cfg.DATA.CACHE_VIDEOS and "fork" in multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("fork") if forks else None


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)  # more threads per worker would compete for the cores
    seed_all(torch.initial_seed() % 2**32)
