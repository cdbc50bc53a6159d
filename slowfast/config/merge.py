"""Merge settings into the key tree; errors name the key, its place and the nearest known key."""

from collections.abc import Iterator
from typing import Any

from fvcore.common.config import CfgNode

from slowfast.config.projects import section_owners
from slowfast.config.sources import BASE_KEY, Layer
from slowfast.config.values import WrongType, read_value
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import nearest_keys

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
# Example of the items of lists whose default is empty.
ITEMS = {
    "AVA.TRAIN_PREDICT_BOX_LISTS": [""],
    "DATA.TRAIN_JITTER_ASPECT_RELATIVE": [1.0],
    "DATA.TRAIN_JITTER_SCALES_RELATIVE": [1.0],
    "DATA.TRAIN_NUM_FRAMES": [1],
    "PROJECTS": [""],
    "SLOWFAST.SLOW_INDICES": [0],
    "SOLVER.LRS": [1.0],
    "SOLVER.STEPS": [1.0],
    "TEST.NUM_TEMPORAL_CLIPS": [1],
    "TRAIN.CHECKPOINT_CLEAR_NAME_PATTERN": [""],
}


def merge_layer(cfg: CfgNode, layer: Layer, defaults: CfgNode) -> set[str]:
    """Write the layer's values into `cfg` and return the full names of the keys it set.

    A value is read as the type of its key in `defaults`.

    Raises:
        ValueError: an unknown key, a value of another type, a section in place of a value or the reverse.
    """
    changed = {key: _read(key, value, layer, defaults) for key, value in _leaves(layer, defaults)}
    for key, value in changed.items():
        set_key(cfg, key, value)
    return set(changed)


def leave_out_unknown(layer: Layer, defaults: CfgNode) -> None:
    """Drop unknown keys of known sections from the layer, with a warning.

    An unknown section stays and is an error later, since it may define the model.
    """
    unknown = []
    pending = [((str(name),), value, defaults[name]) for name, value in layer.values.items() if name in defaults]
    while pending:
        path, values, node = pending.pop()
        if not isinstance(node, CfgNode) or not isinstance(values, dict):
            continue
        unknown += [".".join((*path, str(name))) for name in values if name not in node]
        for name in [name for name in values if name not in node]:
            del values[name]
        pending += [((*path, str(name)), value, node[name]) for name, value in values.items()]
    if unknown:
        logger.warning("%s has unknown settings, which are ignored: %s", layer.origin, ", ".join(unknown))


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


def _unknown_key(path: tuple[str, ...], value: Any, layer: Layer, defaults: CfgNode) -> ValueError:
    """Return the error for an unknown key, with the nearest known one."""
    if len(path) == 1 and isinstance(value, dict):
        return _unknown_section(path[0], value, layer, defaults)
    key = ".".join(path)
    known = set(leaf_keys(defaults)) if len(path) > 1 else {*leaf_keys(defaults), *defaults, BASE_KEY}
    nearest = nearest_keys(key, known)[0]
    return ValueError(f"Unknown config key {key} in {layer.where(path)}. The nearest known key is {nearest}.")


def _unknown_section(name: str, values: dict[Any, Any], layer: Layer, defaults: CfgNode) -> ValueError:
    """Return the error for an unknown section, with the first key set in it."""
    key = next((f"{name}.{inner}" for inner in values), name)
    sections = {section for section, node in defaults.items() if isinstance(node, CfgNode)}
    section = nearest_keys(name, {*sections, *section_owners()})[0]
    same = key.replace(name, section, 1)
    nearest = f"key is {same}" if same in leaf_keys(defaults) else f"section is {section}"
    return ValueError(
        f"Unknown config key {key} in {layer.where((name,))}: there is no section {name}. The nearest known {nearest}. "
        f"If {name} is a project's section, install the project, or name its module in PROJECTS."
    )


def _leaves(
    layer: Layer, defaults: CfgNode, values: dict[Any, Any] | None = None, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, Any]]:
    """Yield (full name, raw value) of every value in the layer."""
    node = get_key(defaults, ".".join(path)) if path else defaults
    for name, value in (layer.values if values is None else values).items():
        here = (*path, str(name))
        key = ".".join(here)
        if name not in node:
            raise _unknown_key(here, value, layer, defaults)
        if not isinstance(node[name], CfgNode):
            yield key, value
        elif isinstance(value, dict):
            yield from _leaves(layer, defaults, value, here)
        elif value is not None:
            keys = ", ".join(list(node[name])[:3])
            raise ValueError(
                f"{key} in {layer.where(here)} is a section with keys such as {keys}; it cannot be set to {value!r}."
            )


def _read(key: str, value: Any, layer: Layer, defaults: CfgNode) -> Any:
    default = get_key(defaults, key)
    kind = NULLABLE.get(key, type(default) if default is not None else None)
    path = key.split(".")
    if isinstance(value, dict):
        raise ValueError(
            f"{key} in {layer.where(path)} holds one value (default {default!r}) and is not a section, got keys "
            f"{', '.join(map(str, value))}."
        )
    try:
        return read_value(value, kind, ITEMS.get(key, default), nullable=key in NULLABLE)
    except WrongType as error:
        raise ValueError(
            f"{key} in {layer.where(path)} is {value!r} ({type(value).__name__}), but it must be "
            f"{error.args[0]}, such as its default {default!r}."
        ) from None
    except RecursionError:
        raise ValueError(f"{key} in {layer.where(path)} is a list that contains itself.") from None
