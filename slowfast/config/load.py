"""From a user's files and overrides to one frozen, checked configuration."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import yaml
from fvcore.common.config import CfgNode

from slowfast.config.defaults import get_cfg
from slowfast.config.ignored_keys import warn_of_ignored
from slowfast.config.merge import leave_out_unknown, merge_layer
from slowfast.config.projects import check_installed, find_projects, import_core
from slowfast.config.resolve import resolve
from slowfast.config.rules import validate
from slowfast.config.sources import Layer, file_layers, override_layer, text_layer


def load_config(path: str | os.PathLike[str] | None, overrides: Sequence[Any] = ()) -> CfgNode:
    """The configuration of a YAML file and of `KEY VALUE` overrides, checked and frozen.

    `path` None starts from the defaults alone. Files named by `_BASE_` come first, then the file, then the
    overrides. Projects (PROJECTS, and the installed owners of sections that the core does not know) are
    imported and add their keys before anything is merged; the result's PROJECTS names all of them. A project may
    lie in the folder of the file that names it.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: anything else that is wrong; the message names the key, where it stands and what to do.
    """
    layers = [] if path is None else file_layers(path)
    _find_beside(layers)
    cfg, defaults = _build([*layers, override_layer(overrides)])
    warn_of_ignored(cfg, defaults)
    return cfg


def cfg_to_yaml(cfg: CfgNode) -> str:
    """All settings as YAML text, to be kept inside a checkpoint."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(_plain(cfg), Dumper=dumper, sort_keys=True, allow_unicode=True, width=120)


def cfg_from_yaml(
    text: str, origin: str = "YAML text", overrides: Sequence[Any] = (), foreign: bool = False
) -> CfgNode:
    """The configuration that `cfg_to_yaml` wrote, checked and frozen.

    Keys without effect were reported when it was first loaded, so nothing is said of them again.

    Args:
        origin: names the text in messages.
        overrides: KEY VALUE pairs that come after it.
        foreign: the text may be of other code, or of another version of this; keys that are unknown in a known section
            are left out, with a warning, and no project is imported that is not installed as one.

    Raises:
        ValueError: as `load_config`.
    """
    layers = [text_layer(text, origin), *([override_layer(overrides)] if overrides else [])]
    return _build(layers, layers[:1] if foreign else [])[0]


def _build(layers: list[Layer], foreign: Sequence[Layer] = ()) -> tuple[CfgNode, CfgNode]:
    """The frozen configuration of the layers, and the defaults of the same keys; of `foreign` layers what is known."""
    import_core()
    cfg = get_cfg()
    sections = [name for layer in layers for name in layer.values if name not in cfg]
    names = _project_names(layers)
    for layer in foreign:
        # What the others name is permitted, and comes last: the order of projects belongs to the model.
        permitted = _project_names([other for other in layers if other is not layer])
        stored = _project_names([layer])
        check_installed(set(stored) - set(permitted), layer.origin)
        names = [*dict.fromkeys([*stored, *permitted])]
    projects = find_projects(names, sections)
    for project in projects:
        project.setup(cfg)
    defaults = cfg.clone()
    for layer in foreign:
        leave_out_unknown(layer, defaults)
    given = set().union(*(merge_layer(cfg, layer, defaults) for layer in layers))
    cfg.PROJECTS = [project.__name__ for project in projects]
    resolve(cfg, given)
    for project in projects:
        getattr(project, "resolve", _nothing)(cfg)
    validate(cfg)
    for project in projects:
        getattr(project, "validate", _nothing)(cfg)
    cfg.freeze()
    return cfg, defaults


def _find_beside(layers: Sequence[Layer]) -> None:
    """Let Python find modules beside the files that set PROJECTS, after all other places."""
    for layer in layers:
        folder = os.path.dirname(os.path.abspath(layer.origin))
        if "PROJECTS" in layer.values and folder not in sys.path:
            sys.path.append(folder)


def _project_names(layers: list[Layer]) -> list[str]:
    """The value PROJECTS will have once all layers are merged."""
    cfg, defaults = get_cfg(), get_cfg()
    for layer in layers:
        named = {key: value for key, value in layer.values.items() if key == "PROJECTS"}
        merge_layer(cfg, replace(layer, values=named), defaults)
    return cfg.PROJECTS


def _nothing(cfg: CfgNode) -> None:
    """Stands for a project's function that it does not need."""


def _plain(cfg: CfgNode) -> dict[str, Any]:
    return {name: _plain(value) if isinstance(value, CfgNode) else value for name, value in cfg.items()}
