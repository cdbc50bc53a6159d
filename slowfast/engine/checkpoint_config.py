"""The settings that a checkpoint itself brings, for testing it without a YAML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

import slowfast
from slowfast.checkpoint.io import load_checkpoint
from slowfast.checkpoint.zoo.entries import PREFIX, find_entry
from slowfast.config import cfg_from_yaml, get_cfg, load_config
from slowfast.config.sources import override_layer, text_layer
from slowfast.runtime.device import device_count
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

_CONFIGS = Path(slowfast.__file__).parents[1] / "configs"


def settings_of(file: str | None, overrides: Sequence[Any]) -> CfgNode:
    """The configuration of a command: a YAML file's, or without one that of the checkpoint to test.

    Raises:
        FileNotFoundError, ValueError: as `load_config`, or `settings_to_test`.
    """
    return load_config(file, overrides) if file else settings_to_test(overrides)


def settings_to_test(overrides: Sequence[Any]) -> CfgNode:
    """The configuration of the checkpoint that `TEST.CHECKPOINT_FILE_PATH` among `overrides` names, and they on top.

    It is only tested, on this host alone, with no more GPUs than there are, and OUTPUT_DIR is not that of its training;
    overrides come after this too. A file of the zoo without settings of its own takes those its entry names.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no checkpoint is named, it brings no settings or such as cannot be used, or training is asked for.
    """
    given = override_layer(overrides).values
    path = given.get("TEST", {}).get("CHECKPOINT_FILE_PATH", "")
    if not path:
        raise ValueError(
            "--cfg FILE is missing. It can be left out for testing a checkpoint that brings its settings: "
            "TEST.CHECKPOINT_FILE_PATH FILE"
        )
    if str(given.get("TRAIN", {}).get("ENABLE", False)).lower() == "true":
        raise ValueError("training needs --cfg FILE; without it a checkpoint can only be tested (TRAIN.ENABLE False)")
    return settings_of_checkpoint(path, overrides)


def settings_of_checkpoint(path: str, overrides: Sequence[Any] = ()) -> CfgNode:
    """The configuration of a checkpoint, fit for testing it here, and `overrides` on top.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it brings no settings, or such as cannot be used.
    """
    text, origin = load_checkpoint(path).get("cfg"), f"the settings in {path}"
    if isinstance(text, str) and text.strip():
        logger.info("settings are those in %s", path)
        asked = text_layer(text, origin).values.get("NUM_GPUS")
        return cfg_from_yaml(text, origin, [*_here(asked), *overrides], foreign=True)
    file = _CONFIGS / f"{find_entry(path).config}.yaml" if path.startswith(PREFIX) else None
    if file is None or not file.is_file():
        raise ValueError(f"{path} brings no settings; give those it was trained with: --cfg FILE")
    logger.info("settings are those of %s", file)
    return load_config(file, [*_here(load_config(file).NUM_GPUS), *overrides])


def _here(num_gpus: Any) -> list[Any]:
    """Overrides that make settings of a training, with so many GPUs a host, those of a test here."""
    defaults = get_cfg()
    wanted = num_gpus if isinstance(num_gpus, int) else defaults.NUM_GPUS
    return [
        *("TRAIN.ENABLE", False, "TEST.ENABLE", True, "OUTPUT_DIR", defaults.OUTPUT_DIR),
        *("TEST.SAVE_RESULTS_PATH", defaults.TEST.SAVE_RESULTS_PATH),
        *("NUM_GPUS", min(wanted, device_count()), "NUM_SHARDS", 1, "SHARD_ID", 0),
    ]
