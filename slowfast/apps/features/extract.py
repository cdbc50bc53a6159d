"""Extract features of whole videos, from in front of a model's head.

A clip model gives features of clips that cover the video or are evenly spaced. A model that reads in steps reads the
video from the first frame to the last, carries its memory all the way, and gives features of steps.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from slowfast.apps.features.files import FORMAT_VERSION, FeatureFolder, VideoFeatures
from slowfast.apps.features.rows import VideoRows
from slowfast.config import cfg_to_yaml
from slowfast.config.merge import get_key, leaf_keys
from slowfast.datasets.build import build_dataset, clip_class
from slowfast.datasets.clips.streaming import Chunk, ClipWindows, StepWindows, StreamingDataset
from slowfast.datasets.clips.temporal_sampling import SpanSampling
from slowfast.datasets.loading.unreadable import UnreadableFiles
from slowfast.datasets.video.find import VideoOpener
from slowfast.datasets.video.open import VideoReader
from slowfast.datasets.video_dataset import read_paths
from slowfast.engine.consistency import check_consistency, weight_facts
from slowfast.engine.model_setup import ModelSetup, setup_model
from slowfast.engine.optim_step import autocast, autocast_dtype
from slowfast.engine.resume import load_test_weights
from slowfast.engine.task import Task, build_task
from slowfast.models import build_model
from slowfast.runtime.device import device_of
from slowfast.runtime.distributed import (
    all_gather_object,
    atomic_write,
    barrier,
    get_local_world_size,
    get_rank,
    get_world_size,
    is_main_process,
)
from slowfast.runtime.loader_workers import check_workers, shield_workers, worker_deaths_explained
from slowfast.runtime.logging import get_logger
from slowfast.runtime.run_lock import run_lock
from slowfast.runtime.seed import seed_all
from slowfast.utils.errors import check_choice
from slowfast.utils.json_file import read_json

logger = get_logger(__name__)

KINDS = ("pooled", "spatial")
ABOUT_NAME = "features.json"
_NAMED = 5  # videos that a message names
_LAYER = "forward_features"  # method of the model
# Settings that do not change the features of a video.
_INDIFFERENT_SECTIONS = {"TRAIN", "SOLVER", "DATA_LOADER", "TENSORBOARD", "LOGS", "DIST", "MULTIGRID", "EMA"}
_INDIFFERENT_KEYS = {"OUTPUT_DIR", "NUM_GPUS", "NUM_SHARDS", "SHARD_ID", "LOG_PERIOD", "LOG_MODEL_INFO", "DIST_BACKEND"}
_INDIFFERENT_KEYS |= {"LOG_STYLE"}
_INDIFFERENT_KEYS |= {"DATA.PATH_TO_DATA_DIR", "DATA.PATH_PREFIX", "DATA.PATH_LABEL_SEPARATOR", "DATA.SKIP_ROWS"}
_INDIFFERENT_KEYS |= {"DATA.CACHE_VIDEOS", "DATA.MAX_UNREADABLE_FRACTION", "DATA.MAX_FRAME_PIXELS", "RNG_SEED"}
_INDIFFERENT_KEYS |= {"DATA.MEDIA_FORMATS_EXTRA", "DATA.INDEX_CACHE"}
_INDIFFERENT_KEYS |= {"TEST.CHECKPOINT_FILE_PATH", "TEST.ENABLE", "TEST.DATASET", "TEST.SAVE_RESULTS_PATH"}


@dataclasses.dataclass(frozen=True)
class FeatureOptions:
    """Options of an extraction.

    Attributes:
        output: folder of the files.
        kind: "pooled", the mean over time and space (C,), or "spatial", the mean over time (C, H, W). Channels of
            all pathways are concatenated.
        tile: clips cover the video; False takes `TEST.NUM_ENSEMBLE_VIEWS` evenly spaced clips. Models that read in
            steps ignore it.
        half: write float16.
        file_format: "npz" or "parquet".
        one_file: also write one file of all videos.
        videos: paths of the videos; () for `csv`.
        csv: list of videos, lines `path` or `path label`; "" for the test list of the config.
    """

    output: str
    kind: str = "pooled"
    tile: bool = True
    half: bool = False
    file_format: str = "npz"
    one_file: bool = False
    videos: tuple[str, ...] = ()
    csv: str = ""

    def __post_init__(self) -> None:
        check_choice("the kind of features", self.kind, KINDS)


def extract(cfg: Any, options: FeatureOptions) -> dict[str, Any]:
    """Write features of videos, of `TEST.NUM_SPATIAL_CROPS` crops; videos that have a file are skipped.

    Returns:
        `videos`, `written`, `already_there`, and `unreadable` (path -> first cause).

    Raises:
        FileNotFoundError, ValueError: a list or checkpoint is missing or does not fit, the model defines no
            `forward_features`, or the folder holds features made with other settings. ValueError also if features of
            some videos are NaN or infinite; these have no file, the others are written.
        OSError: a file cannot be written.
        UnreadableError: more videos than `DATA.MAX_UNREADABLE_FRACTION` cannot be read; the others are written.
    """
    paths, labels, places, open_video = _list_videos(cfg, options)
    task = build_task(cfg)
    folder = FeatureFolder(options.output, options.file_format)
    label_of = _one_label_each(paths, labels, places, folder)
    with run_lock(options.output):
        seed_all(cfg.RNG_SEED)
        device = device_of(cfg)
        model = build_model(cfg)
        checkpoint = load_test_weights(model, cfg)
        check_consistency(lambda: weight_facts(model))
        about = _describe(cfg, options, model, checkpoint, in_steps=task.stream_steps(1) is not None)
        _keep_together(options.output, about)
        setup_model(model, device, ModelSetup.from_config(cfg), training=False).eval()
        extraction = _Extraction(cfg, options, task, model, device)
        there, unreadable, broken = extraction.run(label_of, open_video, folder, about)
        summary = _summary(len(label_of), there, unreadable, broken)
        _save_about(options.output, {**about, "result": summary})
        readable = [path for path in label_of if path not in unreadable and path not in broken]
        if options.one_file and is_main_process() and readable:
            logger.info("all of them in %s", folder.join(readable, about))
        barrier()
    unreadable.check()
    if broken:
        raise ValueError(
            f"features of {len(broken)} of {len(label_of)} videos are NaN or infinite, and have no file; the others "
            f"have one. The first: {', '.join(sorted(broken)[:_NAMED])}. Check the weights and these videos, or write "
            "float32 (no --half) computed in full precision (TRAIN.MIXED_PRECISION False)"
        )
    return summary


def _list_videos(
    cfg: Any, options: FeatureOptions
) -> tuple[list[str], list[int], list[str], Callable[[str], VideoReader]]:
    """List the videos to read: those of the options, else those of the test split of `TEST.DATASET`.

    Returns:
        Paths, labels (-1 for none, or for several), the place of each for messages, and the function that opens a path.

    Raises:
        FileNotFoundError, ValueError: the list is missing or empty.
    """
    if options.videos:
        count = len(options.videos)
        return (
            list(options.videos),
            [-1] * count,
            ["--videos"] * count,
            VideoOpener.from_config(cfg, cfg.DATA.TARGET_FPS),
        )
    data = cfg.DATA
    if options.csv or cfg.TEST.DATASET.lower() == "kinetics":
        # Lines without a label are fine here, and the data set would refuse them.
        csv = options.csv or os.path.join(data.PATH_TO_DATA_DIR, "test.csv")
        if not (options.csv or os.path.isfile(csv)):
            raise FileNotFoundError(
                f"there is no list of videos {csv}; give --csv FILE or --videos FILE ..., or set DATA.PATH_TO_DATA_DIR"
            )
        paths, labels, lines = read_paths(csv, data.PATH_LABEL_SEPARATOR, data.PATH_PREFIX, data.SKIP_ROWS)
        labels, places = [-1 if label is None else label for label in labels], [f"{csv}, line {n}" for n in lines]
        return paths, labels, places, VideoOpener.from_config(cfg, cfg.DATA.TARGET_FPS)
    dataset = build_dataset(cfg, "test")
    labels = list(dataset.labels) if dataset.label_kind == "single" else [-1] * len(dataset.videos)
    places = [f"video {number} of {dataset.info.source}" for number in range(len(labels))]
    return list(dataset.videos), labels, places, dataset.open_video


def _one_label_each(
    paths: Sequence[str], labels: Sequence[int], places: Sequence[str], folder: FeatureFolder
) -> dict[str, int]:
    """Return path -> label of the different videos; one that is listed twice, under whatever paths, is one video.

    A warning names a video with several labels, of which the last one counts.
    """
    videos: dict[str, tuple[str, int, str]] = {}
    changed = []
    for path, label, place in zip(paths, labels, places, strict=True):
        file = folder.path_of(path)
        former = videos.get(file)
        if former is not None and former[1] != label:
            changed.append((path, former[1], former[2], label, place))
        videos[file] = (path, label, place)
    if changed:
        logger.warning(
            "%s has label %d (%s), and label %d (%s): the last one is written; %d lines give a video another label",
            *changed[0], len(changed),
        )  # fmt: skip
    return {path: label for path, label, _ in videos.values()}


def _describe(cfg: Any, options: FeatureOptions, model: nn.Module, checkpoint: str, in_steps: bool) -> dict[str, Any]:
    """Describe how the features are made, for the files."""
    return {
        "version": FORMAT_VERSION,
        "kind": options.kind,
        "layer": _LAYER,
        "windows": "steps" if in_steps else "clips that cover the video" if options.tile else "clips evenly spread",
        "dtype": "float16" if options.half else "float32",
        "model": type(model).__name__,
        "checkpoint": checkpoint,
        "weights": weight_facts(model)["weights to start from"],
        "mixed_precision": str(autocast_dtype(cfg)),
        "settings": {key: get_key(cfg, key) for key in leaf_keys(cfg) if _matters(key)},
        "config": cfg_to_yaml(cfg),
    }


def _matters(key: str) -> bool:
    return key.split(".")[0] not in _INDIFFERENT_SECTIONS and key not in _INDIFFERENT_KEYS


def _keep_together(output: str, about: dict[str, Any]) -> None:
    """Write into the folder how its features are made.

    Raises:
        ValueError: it holds features made with other settings; the message lists the differences.
    """
    path = os.path.join(output, ABOUT_NAME)
    if os.path.isfile(path):
        found = _flat(read_json(path, dict, "the description that an extraction writes; name another folder"))
        wanted = _flat(json.loads(json.dumps(about)))
        names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        if names:
            lines = [f"  {name}: {found.get(name)} there, {wanted.get(name)} now" for name in names]
            raise ValueError(
                f"{output} holds features made with other settings; name another folder\n" + "\n".join(lines)
            )
    barrier()  # no process writes before all have read
    _save_about(output, about)


def _flat(about: dict[str, Any]) -> dict[str, Any]:
    """Return what has to agree: the weights count, not the file they came from."""
    rest = {key: about.get(key) for key in about if key not in ("settings", "config", "checkpoint", "result")}
    settings = about.get("settings")
    return {**rest, **(settings if isinstance(settings, dict) else {})}


def _save_about(output: str, about: dict[str, Any]) -> None:
    atomic_write(os.path.join(output, ABOUT_NAME), json.dumps(about, indent=2) + "\n")


def _summary(videos: int, there: set[str], unreadable: UnreadableFiles, broken: set[str]) -> dict[str, Any]:
    written = videos - len(there) - len(unreadable) - len(broken)
    counts = (videos, unreadable.kind, written, len(there), len(unreadable))
    logger.info("%d %ss: %d written, %d were there, %d unreadable", *counts)
    summary = {"videos": videos, "written": written, "already_there": len(there), "unreadable": dict(unreadable)}
    return {**summary, "not_finite": sorted(broken)} if broken else summary


class _Extraction:
    """Extraction of features with one model.

    Args:
        task: defines the features and the steps.
        model: set up, in eval mode.
    """

    def __init__(self, cfg: Any, options: FeatureOptions, task: Task, model: nn.Module, device: torch.device) -> None:
        self.cfg, self.options, self.task, self.model, self.device = cfg, options, task, model, device
        self.dtype = autocast_dtype(cfg)
        self.settings = clip_class(cfg.TEST.DATASET).clip_settings(cfg, "test")

    def run(
        self,
        label_of: Mapping[str, int],
        open_video: Callable[[str], VideoReader],
        folder: FeatureFolder,
        about: dict[str, Any],
    ) -> tuple[set[str], UnreadableFiles, set[str]]:
        """Write the missing files; each process takes its share.

        Args:
            label_of: path -> label of all videos, which are different ones.
            open_video: path -> `VideoReader`.
            folder, about: folder of the files, and what to write of how they are made.

        Returns:
            The videos that had files, the unreadable videos of all processes, and those with features that are NaN or
            infinite, which get no file.
        """
        unique = list(label_of)
        there = {path for path in unique if folder.has(path)}
        barrier()  # all processes have the same list
        todo = [number for number, path in enumerate(unique) if path not in there]
        kind = "image" if clip_class(self.cfg.TEST.DATASET).unit == "images" else "video"
        most = self.cfg.DATA.MAX_UNREADABLE_FRACTION
        unreadable = UnreadableFiles(len(unique), most, "left out", kind=kind)
        bar = tqdm(total=len(unique), initial=len(there), unit=kind, disable=not is_main_process(), dynamic_ncols=True)
        begun: dict[int, VideoRows] = {}
        broken: set[str] = set()
        with bar, worker_deaths_explained(), contextlib.ExitStack() as on_exit:
            on_exit.callback(lambda: [rows.close() for rows in begun.values()])
            for chunk in self._loader(unique, todo[get_rank() :: get_world_size()], open_video):
                path = unique[chunk.video]
                if chunk.cause:
                    unreadable.add(path, chunk.cause)
                else:
                    if chunk.video not in begun:
                        begun[chunk.video] = VideoRows(folder.folder)
                    rows = begun[chunk.video]
                    features, rows.memory = self._features(chunk, rows.memory)
                    rows.add(chunk, features)
                    if chunk.is_last and not rows.is_finite:
                        broken.add(path)
                    elif chunk.is_last and (cause := _write(folder, rows.record(path, label_of[path], chunk), about)):
                        unreadable.add(path, cause)
                if chunk.is_last:
                    if chunk.video in begun:
                        begun.pop(chunk.video).close()
                    # Other processes have about as many videos, and are about as far.
                    bar.update(min(get_world_size(), bar.total - bar.n))
        for others, broken_there in all_gather_object((dict(unreadable), broken)):
            unreadable.update_from(others.items())
            broken |= broken_there
        return there, unreadable, broken

    def _loader(
        self, paths: Sequence[str], numbers: Sequence[int], open_video: Callable[[str], VideoReader]
    ) -> DataLoader:
        crops = self.settings.spatial_views
        steps = self.task.stream_steps(1) is not None
        windows = (
            StepWindows(self.settings, self.task.stream_steps)
            if steps
            else ClipWindows(self.settings, self.options.tile)
        )
        # A step needs the memory of the step before it.
        at_once = 1 if steps else max(1, self.cfg.TEST.BATCH_SIZE // get_local_world_size() // crops)
        clips = clip_class(self.cfg.TEST.DATASET).maker(self.settings, open_video, SpanSampling())
        workers = min(self.cfg.DATA_LOADER.NUM_WORKERS, len(numbers))
        check_workers(workers)
        loader = DataLoader(
            StreamingDataset(paths, numbers, open_video, windows, clips, at_once),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=self.cfg.DATA_LOADER.PREFETCH_FACTOR if workers else None,
            worker_init_fn=_one_thread,
        )
        shield_workers(loader)
        return loader

    @torch.no_grad()
    def _features(self, chunk: Chunk, memory: Any) -> tuple[np.ndarray, Any]:
        """Return rows (windows x crops, C, ...) and the memory after them."""
        inputs = [clip.to(self.device, non_blocking=True) for clip in chunk.inputs]
        with autocast(self.device, self.dtype):
            features, memory = self.task.features(self.model, inputs, memory)
        reduced = _reduce_features(features, self.options.kind)
        return reduced.to(torch.float16 if self.options.half else torch.float32).cpu().numpy(), memory


def _reduce_features(features: Sequence[torch.Tensor], kind: str) -> torch.Tensor:
    """Reduce features (B, C, T, H, W) of the pathways to one float32 tensor: (B, C) pooled, (B, C, H, W) spatial."""
    dims = (2, 3, 4) if kind == "pooled" else (2,)
    return torch.cat([pathway.float().mean(dim=dims) for pathway in features], dim=1)


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)  # parallelism comes from the workers


def _write(folder: FeatureFolder, record: VideoFeatures, about: dict[str, Any]) -> str:
    """Write a video's file; return why it cannot have one, or ""."""
    try:
        folder.write(record, about)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return f"its features cannot be written: {error.strerror}: {folder.path_of(record.path)}"
    return ""
