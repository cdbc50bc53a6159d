"""Merge settings into the key tree; errors name the key, its place and the nearest known key."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from fvcore.common.config import CfgNode

from slowfast.config.projects import section_owners
from slowfast.config.sources import BASE_KEY, Layer
from slowfast.config.values import WrongType, read_value
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import nearest_keys, short

logger = get_logger(__name__)

# Type besides None of keys that may be None: their default is None, or published files say None.
NULLABLE = {
    "AUG.COLOR_JITTER": float,
    "AUG.MAX_MASK_PATCHES_PER_BLOCK": int,
    "MVIT.POOL_KVQ_KERNEL": list,
    "MVIT.POOL_KV_STRIDE_ADAPTIVE": list,
    "SOLVER.CLIP_GRAD_L2NORM": float,
    "SOLVER.CLIP_GRAD_VAL": float,
}
# Switches that may also be measured.
AUTO = "auto"
_SWITCHES = ("MODEL.COMPILE", "TRAIN.MIXED_PRECISION", "TRAIN.DEPTHWISE_FP32")
# Example of the items of lists whose default is empty.
ITEMS = {
    "AVA.BOX_FRAMES": [1],
    "AVA.TRAIN_PREDICT_BOX_LISTS": [""],
    "DATA.TRAIN_JITTER_ASPECT_RELATIVE": [1.0],
    "DATA.TRAIN_JITTER_SCALES_RELATIVE": [1.0],
    "DATA.TRAIN_NUM_FRAMES": [1],
    "MODEL.FREEZE_STAGES": [""],
    "MODEL.POSITIONS_FOR": [1],
    "PROJECTS": [""],
    "SLOWFAST.SLOW_INDICES": [0],
    "SOLVER.LRS": [1.0],
    "SOLVER.STEPS": [1.0],
    "TEST.NUM_TEMPORAL_CLIPS": [1],
    "TRAIN.CHECKPOINT_CLEAR_NAME_PATTERN": [""],
}
# Keys that may be infinite though their default is not: limits that are never reached, and steps that never begin.
_ENDLESS = ("SOLVER.CLIP_GRAD_L2NORM", "SOLVER.CLIP_GRAD_VAL", "SOLVER.STEPS", "TRAIN.KILL_LOSS_EXPLOSION_FACTOR")
_SHOWN = 5  # of many unknown keys, in messages


def merge_layer(cfg: CfgNode, layer: Layer, defaults: CfgNode) -> set[str]:
    """Write the layer's values into `cfg` and return the full names of the keys it set.

    A value is read as the type of its key in `defaults`.

    Raises:
        ValueError: an unknown key, a value of another type, a section in place of a value or the reverse.
    """
    unknown = list(_unknown(layer.values, defaults))
    if unknown:
        raise _unknown_keys(unknown, layer, defaults)
    changed = {key: _read(key, value, layer, defaults) for key, value in _leaves(layer, defaults)}
    for key, value in changed.items():
        set_key(cfg, key, value)
    return set(changed)


def leave_out_unknown(layer: Layer, defaults: CfgNode) -> None:
    """Drop unknown keys of known sections from the layer, with a warning.

    An unknown section stays and is an error later, since it may define the model.
    """
    unknown = [(path, holder) for path, holder in _unknown(layer.values, defaults) if len(path) > 1]
    for path, holder in unknown:
        holder.pop(path[-1], None)  # two sections of a file may share a mapping, by an alias
    if unknown:
        listed = ", ".join(_in_words(path) for path, _ in unknown[:_SHOWN])
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        logger.warning("%s has unknown settings, which are ignored: %s%s", layer.origin, listed, more)


def leaf_keys(cfg: CfgNode, prefix: str = "") -> Iterator[str]:
    """Yield the full names of all keys that hold a value, such as `RESNET.DEPTH`."""
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from leaf_keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def get_key(cfg: CfgNode, key: str) -> Any:
    """Return the value, or the section, of a full name; KeyError if there is none."""
    for name in key.split("."):
        cfg = cfg[name]
    return cfg


def set_key(cfg: CfgNode, key: str, value: Any) -> None:
    """Set the value of a full name, whose section exists."""
    section, _, leaf = key.rpartition(".")
    (get_key(cfg, section) if section else cfg)[leaf] = value


def _unknown(
    values: dict[Any, Any], node: CfgNode, above: tuple[Any, ...] = ()
) -> Iterator[tuple[tuple[Any, ...], dict[Any, Any]]]:
    """Yield the path of every key that is not in the tree, and the mapping that holds it."""
    for name, value in values.items():
        path = (*above, name)
        if name not in node:
            yield path, values
        elif isinstance(node[name], CfgNode) and isinstance(value, dict):
            yield from _unknown(value, node[name], path)


def _in_words(path: Sequence[Any]) -> str:
    """Return the name of a key in one short line, whatever it is made of."""
    names = [str(name) for name in path]
    return ".".join(short(name if name.isprintable() else repr(name)) for name in names)


def _unknown_keys(
    unknown: Sequence[tuple[tuple[Any, ...], dict[Any, Any]]], layer: Layer, defaults: CfgNode
) -> ValueError:
    """Return the error for unknown keys: the first with the nearest known one, the names of some others."""
    (path, holder), *others = unknown
    message = _unknown_key(path, holder[path[-1]], layer, defaults)
    if others:
        names = ", ".join(_in_words(other) for other, _ in others[:_SHOWN])
        message += f" {len(others)} more unknown: {names}{', ...' if len(others) > _SHOWN else '.'}"
    return ValueError(message)


def _unknown_key(path: tuple[Any, ...], value: Any, layer: Layer, defaults: CfgNode) -> str:
    """Return the message for an unknown key, with the nearest known one."""
    if len(path) == 1 and isinstance(value, dict):
        return _unknown_section(path[0], value, layer, defaults)
    known = set(leaf_keys(defaults)) if len(path) > 1 else {*leaf_keys(defaults), *defaults, BASE_KEY}
    key = _in_words(path)
    where = layer.where([str(name) for name in path])
    return f"Unknown config key {key} in {where}. The nearest known key is {nearest_keys(key, known)[0]}."


def _unknown_section(section: Any, values: dict[Any, Any], layer: Layer, defaults: CfgNode) -> str:
    """Return the message for an unknown section, with the first key set in it."""
    name = _in_words([section])
    key = next((f"{name}.{_in_words([inner])}" for inner in values), name)
    sections = {section for section, node in defaults.items() if isinstance(node, CfgNode)}
    nearest = nearest_keys(name, {*sections, *section_owners()})[0]
    same = key.replace(name, nearest, 1)
    near = f"key is {same}" if same in leaf_keys(defaults) else f"section is {nearest}"
    return (
        f"Unknown config key {key} in {layer.where([str(section)])}: there is no section {name}. The nearest known "
        f"{near}. If {name} is a project's section, install the project, or name its module in PROJECTS."
    )


def _leaves(
    layer: Layer, defaults: CfgNode, values: dict[Any, Any] | None = None, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, Any]]:
    """Yield (full name, raw value) of every value in the layer."""
    node = get_key(defaults, ".".join(path)) if path else defaults
    for name, value in (layer.values if values is None else values).items():
        here = (*path, str(name))
        key = ".".join(here)
        if not isinstance(node[name], CfgNode):
            yield key, value
        elif isinstance(value, dict):
            yield from _leaves(layer, defaults, value, here)
        elif value is not None:
            keys = ", ".join(list(node[name])[:3])
            raise ValueError(
                f"{key} in {layer.where(here)} is a section with keys such as {keys}; it cannot be set to "
                f"{_shown(value)}."
            )


def _read(key: str, value: Any, layer: Layer, defaults: CfgNode) -> Any:
    default = get_key(defaults, key)
    kind = bool if key in _SWITCHES else NULLABLE.get(key, type(default) if default is not None else None)
    path = key.split(".")
    if isinstance(value, dict):
        raise ValueError(
            f"{key} in {layer.where(path)} holds one value (default {default!r}) and is not a section, got keys "
            f"{short(', '.join(map(str, list(value)[:100])))}."
        )
    if key in _SWITCHES and value == AUTO:
        return AUTO
    endless = key in _ENDLESS or (isinstance(default, float) and math.isinf(default))
    try:
        read = read_value(value, kind, ITEMS.get(key, default), nullable=key in NULLABLE)
        if not endless and not _is_finite(read):
            raise WrongType("finite")
        return read
    except WrongType as error:
        raise ValueError(
            f"{key} in {layer.where(path)} is {_shown(value)} ({type(value).__name__}), but it must be "
            f"{error.args[0]}, such as its default {default!r}."
        ) from None


def _shown(value: Any) -> str:
    return short(repr(value[:300]) if isinstance(value, str) else value)


def _is_finite(value: Any) -> bool:
    """Return False for a number, also in lists, that is infinite or not a number."""
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
