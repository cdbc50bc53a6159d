"""Load the config stored in a checkpoint, so that it can be tested without --cfg."""

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


def load_run_config(file: str | None, overrides: Sequence[Any]) -> CfgNode:
    """Load the config of a YAML file, or without one (None) that of the checkpoint `TEST.CHECKPOINT_FILE_PATH`.

    Without a file the run only tests, see `load_checkpoint_config`.

    Raises:
        FileNotFoundError, ValueError: as `load_config` and `load_checkpoint_config`; without a file also if no
            checkpoint is named, or training is asked for.
    """
    return load_config(file, overrides) if file else _load_test_config(overrides)


def _load_test_config(overrides: Sequence[Any]) -> CfgNode:
    given = override_layer(overrides).values
    path = given.get("TEST", {}).get("CHECKPOINT_FILE_PATH", "")
    if not path:
        raise ValueError(
            "--cfg FILE is missing. Without it a checkpoint can be tested with its own config: "
            "TEST.CHECKPOINT_FILE_PATH FILE"
        )
    if str(given.get("TRAIN", {}).get("ENABLE", False)).lower() == "true":
        raise ValueError("training needs --cfg FILE; without it a checkpoint can only be tested (TRAIN.ENABLE False)")
    return load_checkpoint_config(path, overrides)


def load_checkpoint_config(path: str, overrides: Sequence[Any] = ()) -> CfgNode:
    """Load the config stored in a checkpoint, changed for testing on this host, with `overrides` on top.

    The run only tests, on this host, with at most the GPUs there are, and with the default OUTPUT_DIR. A zoo file
    without a config takes the one that its zoo entry names.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file holds no config, or one that cannot be used.
    """
    text, origin = load_checkpoint(path).get("cfg"), f"the config in {path}"
    if isinstance(text, str) and text.strip():
        logger.info("config: stored in %s", path)
        asked = text_layer(text, origin).values.get("NUM_GPUS")
        return cfg_from_yaml(text, origin, [*_here(asked), *overrides], foreign=True)
    file = _CONFIGS / f"{find_entry(path).config}.yaml" if path.startswith(PREFIX) else None
    if file is None or not file.is_file():
        raise ValueError(f"{path} holds no config; give the one it was trained with: --cfg FILE")
    logger.info("config: %s", file)
    return load_config(file, [*_here(load_config(file).NUM_GPUS), *overrides])


def _here(num_gpus: Any) -> list[Any]:
    """Return the overrides that turn a training config into one for testing on this host."""
    defaults = get_cfg()
    wanted = num_gpus if isinstance(num_gpus, int) else defaults.NUM_GPUS
    return [
        *("TRAIN.ENABLE", False, "TEST.ENABLE", True, "OUTPUT_DIR", defaults.OUTPUT_DIR),
        *("TEST.SAVE_RESULTS_PATH", defaults.TEST.SAVE_RESULTS_PATH),
        *("NUM_GPUS", min(wanted, device_count()), "NUM_SHARDS", 1, "SHARD_ID", 0),
    ]
