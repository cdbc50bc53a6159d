"""Load a configuration from YAML files and overrides, or from the text stored in a checkpoint."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import yaml
from fvcore.common.config import CfgNode

from slowfast.config.defaults import get_cfg
from slowfast.config.ignored_keys import warn_of_ignored
from slowfast.config.merge import leave_out_unknown, merge_layer
from slowfast.config.projects import call_project, check_installed, find_projects, import_core
from slowfast.config.resolve import resolve
from slowfast.config.rules import validate
from slowfast.config.sources import Layer, file_layers, override_layer, text_layer

_LONGEST_MESSAGE = 1000  # characters


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):
    """Writes a list that two settings share twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def load_config(path: str | os.PathLike[str] | None, overrides: Sequence[Any] = ()) -> CfgNode:
    """Load a YAML file and `KEY VALUE` overrides; return a checked, frozen configuration.

    Files named by `_BASE_` are merged first, then the file, then the overrides. Projects are imported before that, and
    add their keys: those in PROJECTS, and installed owners of sections that the core does not know. PROJECTS of the
    result names all of them. A project may lie in the folder of the file that names it.

    Args:
        path: YAML file; None for the defaults alone.
        overrides: flat sequence of keys and values.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: any other mistake; the message names the key, its place and the remedy.
    """
    layers = [] if path is None else file_layers(path)
    _find_beside(layers)
    cfg, defaults = _build([*layers, override_layer(overrides)])
    warn_of_ignored(cfg, defaults)
    return cfg


def cfg_to_yaml(cfg: CfgNode) -> str:
    """Return all settings as YAML text without aliases, for a checkpoint."""
    return yaml.dump(_plain(cfg), Dumper=_Dumper, sort_keys=True, allow_unicode=True, width=120)


def cfg_from_yaml(
    text: str, origin: str = "YAML text", overrides: Sequence[Any] = (), foreign: bool = False
) -> CfgNode:
    """Load the text that `cfg_to_yaml` wrote; return a checked, frozen configuration.

    It does not warn of ignored keys: `load_config` did.

    Args:
        origin: name of the text in messages.
        overrides: flat sequence of keys and values, merged after the text.
        foreign: the text may come from other code or another version. Unknown keys of known sections are dropped with a
            warning. Only installed projects, and those that `overrides` name, are imported, in the text's order.

    Raises:
        ValueError: as `load_config`.
    """
    layers = [text_layer(text, origin), *([override_layer(overrides)] if overrides else [])]
    return _build(layers, layers[:1] if foreign else [])[0]


def _build(layers: list[Layer], foreign: Sequence[Layer] = ()) -> tuple[CfgNode, CfgNode]:
    """Return the frozen configuration of the layers, and the defaults of the same keys."""
    import_core()
    cfg = get_cfg()
    sections = [name for layer in layers for name in layer.values if name not in cfg]
    names = _project_names(layers)
    for layer in foreign:
        # The order of projects is part of the model, so the stored one counts; the others only permit the import.
        permitted = _project_names([other for other in layers if other is not layer])
        stored = _project_names([layer])
        check_installed(set(stored) - set(permitted), layer.origin)
        names = [*dict.fromkeys([*stored, *permitted])]
    projects = find_projects(names, sections)
    for project in projects:
        call_project(project, "setup", cfg)
    defaults = cfg.clone()
    for layer in foreign:
        leave_out_unknown(layer, defaults)
    given = set().union(*(merge_layer(cfg, layer, defaults) for layer in layers))
    cfg.PROJECTS = [project.__name__ for project in projects]
    try:
        resolve(cfg, given)
        _call(projects, "resolve", cfg)
        validate(cfg)
        _call(projects, "validate", cfg)
    except ValueError as error:
        text = str(error)
        if len(text) <= _LONGEST_MESSAGE:
            raise
        # A message begins with key and value, and ends with the remedy.
        raise ValueError(f"{text[: _LONGEST_MESSAGE // 2]} ... {text[-_LONGEST_MESSAGE // 2 :]}") from error
    cfg.freeze()
    return cfg, defaults


def _find_beside(layers: Sequence[Layer]) -> None:
    """Let Python find modules beside the files that set PROJECTS, after all other places."""
    for layer in layers:
        folder = os.path.dirname(os.path.abspath(layer.origin))
        if "PROJECTS" in layer.values and folder not in sys.path:
            sys.path.append(folder)


def _project_names(layers: list[Layer]) -> list[str]:
    """Return the value of PROJECTS after merging the layers."""
    cfg, defaults = get_cfg(), get_cfg()
    for layer in layers:
        named = {key: value for key, value in layer.values.items() if key == "PROJECTS"}
        merge_layer(cfg, replace(layer, values=named), defaults)
    return cfg.PROJECTS


def _call(projects: Sequence[ModuleType], name: str, cfg: CfgNode) -> None:
    """Call a function of the projects that define it; `resolve` and `validate` are optional."""
    for project in projects:
        call_project(project, name, cfg)


def _plain(cfg: CfgNode) -> dict[str, Any]:
    return {name: _plain(value) if isinstance(value, CfgNode) else value for name, value in cfg.items()}
