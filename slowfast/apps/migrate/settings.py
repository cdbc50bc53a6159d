"""Check files of PySlowFast's settings, key by key."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from slowfast.config import get_cfg, load_config
from slowfast.config.ignored_keys import reason_without_effect
from slowfast.config.merge import get_key, leaf_keys
from slowfast.config.projects import import_core
from slowfast.config.sources import file_layers
from slowfast.utils.errors import first_line, nearest_keys

_NAMING = ("MODEL.MODEL_NAME", "TRAIN.DATASET", "TEST.DATASET")


def check_settings(
    path: Path, registered: Collection[str] = (), own_script: bool = False
) -> list[tuple[str, str, str]]:
    """Return (name, verdict, what to do) for the keys of a file that do not work here, or else one for the file and one
    for each of its keys without effect.

    A file without a section of ours is none of settings: the list is empty. A file that names projects is not loaded,
    since that would import them.

    Args:
        registered: names of models and data sets that the project of the file registers.
        own_script: the project loads settings by itself, in a script that registers these.
    """
    import_core()
    defaults = get_cfg()
    try:
        values = file_layers(path)[-1].values
    except (ValueError, OSError) as error:
        return [(path.name, "missing", first_line(error))] if _names_a_section(path, defaults) else []
    if not isinstance(values, Mapping) or not any(key in defaults for key in values):
        return []
    known, found, idle = set(leaf_keys(defaults)), [], []
    own = {name.lower() for name in registered}
    named = []
    for key, value in _leaves(values, known):
        if key in _NAMING and str(value).lower() in own:
            named.append(f"{key} {value}")
            continue
        if key not in known and key != "PROJECTS":
            near = ", ".join(nearest_keys(key, sorted(known), 1))
            found.append((key, "missing", f"no such key; the nearest is {near}. A project adds keys of its own"))
        elif key in known and reason_without_effect(key) and value != get_key(defaults, key):
            idle.append((key, "same", f"without effect: {reason_without_effect(key)}"))
    if not found and named and "PROJECTS" not in values:
        hint = f"PROJECTS: [MODULE], which registers {', '.join(named)}"
        if own_script:
            return [(path.name, "same", f"works with a script of yours; for tools/run_net.py add {hint}")]
        return [(path.name, "missing", f"add {hint}")]
    if not found and "PROJECTS" not in values:
        found = _load(path)
    return found or [(path.name, "same", "the file loads"), *idle]


def _names_a_section(path: Path, defaults: Mapping[str, Any]) -> bool:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line.partition(":")[0] in defaults for line in lines)


def _load(path: Path) -> list[tuple[str, str, str]]:
    """Return the error of loading a file, as a list of one; [] if it loads."""
    former = logging.root.manager.disable
    logging.disable(logging.WARNING)  # what is ignored was told key by key
    try:
        load_config(path)
    except (ValueError, OSError) as error:
        return [(path.name, "missing", first_line(error))]
    finally:
        logging.disable(former)
    return []


def _leaves(values: Mapping[str, Any], known: set[str], prefix: str = "") -> list[tuple[str, Any]]:
    """Return full names and values of all keys."""
    found = []
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and key not in known:
            found += _leaves(value, known, f"{key}.")
        else:
            found.append((key, value))
    return found
