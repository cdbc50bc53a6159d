"""Measured results below a folder, and the rows whose settings they have."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from slowfast.apps.paper.rows import Row
from slowfast.apps.plot.runs import read_results
from slowfast.config import cfg_from_yaml, load_config
from slowfast.config.ignored_keys import reason_without_effect
from slowfast.config.merge import get_key, leaf_keys
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import short
from slowfast.utils.json_file import read_text

logger = get_logger(__name__)

# Patterns of settings by which no two results differ: places, logs, seeds, loading, and when a run saves.
_SAME = (
    *("OUTPUT_DIR", "LOG_*", "LOGS.*", "TENSORBOARD.*", "TRACKER.*", "DEMO.*", "BENCHMARK.*"),
    *("RNG_SEED", "SHARD_ID", "DIST.*", "DATA_LOADER.*", "DATA.PATH_TO_*", "DATA.PATH_PREFIX", "DATA.CACHE_VIDEOS"),
    *("AVA.FRAME_DIR", "AVA.FRAME_LIST_DIR", "AVA.ANNOTATION_DIR", "PROJECTS", "TRAIN.ENABLE", "TEST.ENABLE"),
    *("TRAIN.AUTO_RESUME", "TRAIN.CHECKPOINT_PERIOD", "TRAIN.EVAL_PERIOD", "TRAIN.CHECKPOINT_TYPE"),
    *("TEST.BATCH_SIZE", "TEST.CHECKPOINT_*", "TEST.SAVE_RESULTS_PATH"),
)
# Patterns of settings that make a row what it is, among those that a near match may have otherwise.
_DEFINING = (
    *("TRAIN.DATASET", "TEST.DATASET", "DATA.NUM_FRAMES", "DATA.TRAIN_NUM_FRAMES", "DATA.SAMPLING_RATE"),
    *("DATA.ENSEMBLE_METHOD", "DATA.MULTI_LABEL"),
)
# Patterns of settings that a near match may have otherwise: hardware, schedule, augmentation, views.
_NEAR = (
    *("NUM_GPUS", "NUM_SHARDS", "SOLVER.*", "TRAIN.*", "TEST.*", "DATA.*", "AVA.*", "AUG.*", "MIXUP.*", "EMA.*"),
    *("BN.*", "MODEL.DROPOUT_RATE", "MODEL.DROPCONNECT_RATE", "MODEL.MEMORY_FORMAT", "MODEL.COMPILE"),
    *("MODEL.ACT_CHECKPOINT", "MODEL.FP16_ALLREDUCE", "MODEL.FC_INIT_STD", "RESNET.ZERO_INIT_*"),
)
_START = "TRAIN.CHECKPOINT_FILE_PATH"
_LONGEST_SHOWN = 60

Settings = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Result:
    """A test: its folder, metrics, settings by full key, seed, and the time of its file."""

    folder: str
    metrics: Mapping[str, Any]
    settings: Settings
    seed: int
    written: float


@dataclasses.dataclass(frozen=True)
class Match:
    """A result and a row.

    Attributes:
        row: the row, or the nearest one if `other` is not empty.
        near: settings that differ and do not make it another row, in words.
        other: settings that differ and make it another row, in words.
    """

    row: Row
    near: tuple[str, ...]
    other: tuple[str, ...]


def find_results(folders: Sequence[str | os.PathLike[str]]) -> list[Result]:
    """Read every `test_results.json` in and below the folders that has a `config.yaml` beside it.

    Results without settings, or with settings that cannot be read, are left out with a warning.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: a file of results is damaged.
    """
    found = {}
    for folder in folders:
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
        for file in sorted(Path(folder).rglob("test_results.json")):
            found.setdefault(file.resolve(), file)
    results = (_read(file) for file in found.values())
    return [result for result in results if result is not None]


def _read(file: Path) -> Result | None:
    config = file.parent / "config.yaml"
    if not config.is_file():
        logger.warning("%s is left out: no config.yaml beside it says with which settings it was tested", file)
        return None
    try:
        cfg = cfg_from_yaml(read_text(config), str(config), foreign=True)
    except ValueError as error:
        logger.warning("%s is left out: %s", file, short(error))
        return None
    return Result(str(file.parent), read_results(str(file)), settings_of(cfg), cfg.RNG_SEED, file.stat().st_mtime)


def settings_of(cfg: CfgNode) -> dict[str, Any]:
    """Return the settings that may tell results apart, by full key."""
    keys = (key for key in leaf_keys(cfg) if not _fits(key, _SAME) and not reason_without_effect(key))
    settings = {key: get_key(cfg, key) for key in keys}
    # The folder of a file of weights is a place; its name says which weights.
    settings[_START] = os.path.basename(settings[_START])
    return settings


def row_settings(rows: Iterable[Row]) -> dict[str, dict[str, Any]]:
    """Return the settings of rows by name; each file is loaded once."""
    level = logging.getLogger("slowfast").level
    files: dict[Path, dict[str, Any]] = {}
    found = {}
    try:
        # What a file's own settings are warned of concerns who runs it.
        logging.getLogger("slowfast").setLevel(logging.ERROR)
        for row in rows:
            files[row.config] = files.get(row.config) or settings_of(load_config(row.config))
            found[row.name] = files[row.config]
    finally:
        logging.getLogger("slowfast").setLevel(level)
    return found


def matches(result: Result, rows: Mapping[str, Row], settings: Mapping[str, Settings]) -> list[Match]:
    """Return the rows whose settings a result has, or the nearest row alone.

    Rows of the same settings are all returned. Where several rows differ from the result in settings that make no
    other row, those with the fewest differences are returned.

    Args:
        settings: of the rows, see `row_settings`.
    """
    compared = [_compare(row, settings[row.name], result.settings) for row in rows.values()]
    fitting = [match for match in compared if not match.other]
    if not fitting:
        return [min(compared, key=lambda match: (len(match.other), len(match.near)))]
    fewest = min(len(match.near) for match in fitting)
    return [match for match in fitting if len(match.near) == fewest]


def _compare(row: Row, published: Settings, measured: Settings) -> Match:
    near, other = [], []
    for key in sorted(published.keys() | measured.keys()):
        here, there = measured.get(key), published.get(key)
        if here != there:
            told = f"{key} {short(here, _LONGEST_SHOWN)} (row: {short(there, _LONGEST_SHOWN)})"
            differs_near = _fits(key, _NEAR) and not _fits(key, _DEFINING)
            (near if differs_near else other).append(told)
    return Match(row, tuple(near), tuple(other))


def _fits(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)
