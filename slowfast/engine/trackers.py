"""Trackers: where statistics of training and test go besides the log: TensorBoard, wandb, mlflow and trackio.

`OUTPUT_DIR/tracker_runs.json` keeps what identifies the run in each, so a resumed training continues that run.
"""

from __future__ import annotations

import abc
import importlib.util
import json
import os
import struct
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from slowfast.config.merge import get_key, leaf_keys
from slowfast.runtime.distributed import atomic_write
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import short
from slowfast.utils.files import no_room_explained
from slowfast.utils.json_file import read_json

logger = get_logger(__name__)

RUNS_NAME = "tracker_runs.json"

# Scalars that TensorBoard has under PySlowFast's names too, of training and validation (`LOG_STYLE`).
_PUBLISHED_NAMES = {"top1_err": "Top1_err", "top5_err": "Top5_err", "ava_map": "mAP"}


class Tracker(abc.ABC):
    """Base class of trackers: a sink of scalars of one run; the main process alone has any."""

    @abc.abstractmethod
    def record(self, tag: str, values: Mapping[str, float], step: int) -> None:
        """Take in scalars `tag/name`; each tag has its own steps, which begin anew where a run was set back."""

    @abc.abstractmethod
    def close(self) -> None:
        """Write what is left, and end the run in the tracker."""


class TensorBoard(Tracker):
    """Files for TensorBoard; its errors, such as a full disk, end the training.

    Args:
        cfg: config of the run.
        first_step: what was written of this step and of later ones is dropped; None drops nothing.
    """

    def __init__(self, cfg: Any, first_step: int | None = None) -> None:
        # Imported here because it takes seconds.
        from torch.utils.tensorboard import SummaryWriter

        self._folder = os.path.join(cfg.OUTPUT_DIR, cfg.TENSORBOARD.LOG_DIR or f"runs-{cfg.TRAIN.DATASET}")
        self._writer = SummaryWriter(self._folder, purge_step=first_step)
        self._for_scripts = cfg.LOG_STYLE == "pyslowfast"

    def record(self, tag: str, values: Mapping[str, float], step: int) -> None:
        with no_room_explained(self._folder):
            for name, value in values.items():
                self._writer.add_scalar(f"{tag}/{name}", value, step)
                if self._for_scripts and tag in ("Train", "Val") and name in _PUBLISHED_NAMES:
                    self._writer.add_scalar(f"{tag}/{_PUBLISHED_NAMES[name]}", value, step)

    def record_picture(self, tag: str, encoded: bytes, step: int) -> None:
        """Take in a picture, PNG or GIF."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        # The writer's own method takes pixels, and would encode them a second time, without the frames of a GIF.
        place, kind = (16, ">II") if encoded.startswith(b"\x89PNG") else (6, "<HH")
        width, height = struct.unpack_from(kind, encoded, place)
        picture = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded)
        with no_room_explained(self._folder):
            self._writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=picture)]), step)

    def close(self) -> None:
        with no_room_explained(self._folder):
            self._writer.close()


class _NamedTracker(Tracker):
    """Base class of the trackers of TRACKER.NAMES.

    Args:
        cfg: config of the run.
        run: what identified the run when it began; "" begins a new one.

    Attributes:
        run: what identifies it.
    """

    run: str

    def __init__(self, cfg: Any, run: str) -> None:
        self.run = run


class _Wandb(_NamedTracker):
    def __init__(self, cfg: Any, run: str) -> None:
        import wandb

        self._run = wandb.init(
            project=cfg.TRACKER.PROJECT,
            name=_run_name(cfg),
            id=run or None,
            resume="allow" if run else None,
            dir=cfg.OUTPUT_DIR,
            config=_settings(cfg),
        )
        self._tags: set[str] = set()
        super().__init__(cfg, self._run.id)

    def record(self, tag: str, values: Mapping[str, float], step: int) -> None:
        # wandb has one step for all, which only grows: iterations and epochs are axes of their own.
        axis = f"{tag}/step"
        if tag not in self._tags:
            self._run.define_metric(f"{tag}/*", step_metric=axis)
            self._tags.add(tag)
        self._run.log({**_named(tag, values), axis: step})

    def close(self) -> None:
        self._run.finish()


class _Mlflow(_NamedTracker):
    def __init__(self, cfg: Any, run: str) -> None:
        import mlflow

        self._mlflow = mlflow
        mlflow.set_experiment(cfg.TRACKER.PROJECT)
        active = mlflow.start_run(run_id=run or None, run_name=None if run else _run_name(cfg))
        # A file, since mlflow's parameters cannot change where a run is resumed.
        mlflow.log_dict(_settings(cfg), "settings.json")
        super().__init__(cfg, active.info.run_id)

    def record(self, tag: str, values: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics(_named(tag, values), step=step)

    def close(self) -> None:
        self._mlflow.end_run()


class _Trackio(_NamedTracker):
    def __init__(self, cfg: Any, run: str) -> None:
        import trackio

        # It finds runs by their name, so that has to be of this run alone.
        name = run or f"{_run_name(cfg)}-{uuid.uuid4().hex[:8]}"
        self._run = trackio.init(
            project=cfg.TRACKER.PROJECT, name=name, resume="allow" if run else "never", config=_settings(cfg)
        )
        super().__init__(cfg, name)

    def record(self, tag: str, values: Mapping[str, float], step: int) -> None:
        self._run.log(_named(tag, values), step=step)

    def close(self) -> None:
        self._run.finish()


_TRACKERS: dict[str, type[_NamedTracker]] = {"wandb": _Wandb, "mlflow": _Mlflow, "trackio": _Trackio}


class _Guarded(Tracker):
    """A named tracker whose first error is told in a warning; the run goes on without it."""

    def __init__(self, name: str, cfg: Any, run: str) -> None:
        self._name, self._cfg, self._tracker = name, cfg, None
        self._guard(lambda: self._start(run))

    def record(self, tag: str, values: Mapping[str, float], step: int) -> None:
        if self._tracker is not None:
            self._guard(lambda: self._tracker.record(tag, values, step))

    def close(self) -> None:
        if self._tracker is not None:
            self._guard(self._tracker.close)

    def _start(self, run: str) -> None:
        self._tracker = _TRACKERS[self._name](self._cfg, run)
        runs = read_runs(self._cfg.OUTPUT_DIR) | {self._name: self._tracker.run}
        atomic_write(os.path.join(self._cfg.OUTPUT_DIR, RUNS_NAME), json.dumps(runs, indent=2) + "\n")

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # each of them raises types of its own, and those of its network
            self._tracker = None
            logger.warning(
                "the rest of this run is not in %s (%s: %s)", self._name, type(error).__name__, short(error, 300)
            )


def check_trackers(cfg: Any) -> None:
    """Check that the packages of `TRACKER.NAMES` are installed, without importing them.

    Raises:
        ValueError: one is not; with the command that installs it.
    """
    for name in cfg.TRACKER.NAMES:
        found = importlib.util.find_spec(name)
        # A folder of that name is found too, such as wandb's own files in the current one.
        if found is None or found.origin is None:
            raise ValueError(
                f"TRACKER.NAMES has {name!r}, which is not installed: pip install {name}, or take it out of the list"
            )


def build_trackers(cfg: Any, first_step: int | None) -> list[Tracker]:
    """Return the trackers of a training that begins with step `first_step`; a resumed one continues its runs.

    A test, `first_step` None, continues those of the training in its folder.
    """
    runs = {} if first_step == 0 else read_runs(cfg.OUTPUT_DIR)
    found: list[Tracker] = [_Guarded(name, cfg, runs.get(name, "")) for name in dict.fromkeys(cfg.TRACKER.NAMES)]
    return [*found, *([TensorBoard(cfg, first_step)] if cfg.TENSORBOARD.ENABLE else [])]


def read_runs(output_dir: str) -> dict[str, str]:
    """Return what identifies the run, by tracker; {} without a file, or for one that is no such file."""
    path = os.path.join(output_dir, RUNS_NAME)
    try:
        runs = read_json(path, dict, '{"wandb": "...", ...}')
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("new runs begin in the trackers: %s", error)
        return {}
    return {name: run for name, run in runs.items() if isinstance(run, str)}


def _run_name(cfg: Any) -> str:
    return cfg.TRACKER.RUN_NAME or os.path.basename(os.path.abspath(cfg.OUTPUT_DIR))


def _settings(cfg: Any) -> dict[str, Any]:
    return {key: get_key(cfg, key) for key in leaf_keys(cfg)}


def _named(tag: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{tag}/{name}": value for name, value in values.items()}
