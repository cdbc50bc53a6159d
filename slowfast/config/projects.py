"""Projects: modules outside this package that add config sections, models and tasks.

A project is a module with `setup(cfg)`, which adds its keys to the tree and registers its parts. `setup` runs once for
every config that is loaded, so it must allow repeated calls. A module that registers its parts while it is imported
needs none. Two further functions are optional: `resolve(cfg)` may change settings after the user's are merged, and
`validate(cfg)` raises ValueError. They run in the order of PROJECTS.

A project is named by `PROJECTS: [module]`, or found by a config section that it owns: its distribution declares an
entry point in the group `slowfast.projects`, whose name is the section and whose value is the module.
"""

from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from fvcore.common.config import CfgNode

from slowfast.config.defaults import get_cfg
from slowfast.utils.registry import REGISTRIES

GROUP = "slowfast.projects"
# Packages of the core that register objects. Imported by name and late: they import the configuration.
_CORE = (
    "slowfast.models",
    "slowfast.datasets",
    "slowfast.engine.task",
    "slowfast.engine.contrastive",
    "slowfast.engine.masked",
    "slowfast.engine.optim",
)


def import_core() -> None:
    """Import the modules that register objects of the core: models, data sets, tasks, optimizers and others."""
    for name in _CORE:
        import_module(name)


def section_owners() -> dict[str, str]:
    """Return the module of each config section that an installed project owns.

    Raises:
        ValueError: two modules claim one section.
    """
    owners: dict[str, str] = {}
    for entry in entry_points(group=GROUP):
        if owners.setdefault(entry.name, entry.module) != entry.module:
            raise ValueError(
                f"Two installed projects own the config section {entry.name}: {owners[entry.name]} and "
                f"{entry.module}. Uninstall one of them."
            )
    return owners


def import_project(name: str, reason: str) -> ModuleType:
    """Import the module of a project; `reason`, for messages, says what asks for it.

    Raises:
        ValueError: the module does not import, or neither has a `setup` nor registers anything.
    """
    if not name or name.startswith("."):
        raise ValueError(f"Project {name!r} ({reason}) is not the full name of a module, such as package.module.")
    try:
        module = import_module(name)
    except ImportError as error:
        raise ValueError(
            f"Project {name!r} ({reason}) does not import: {error}. Correct the name; or put the module beside "
            "the YAML file that names it, or into a folder of PYTHONPATH; or install it with 'pip install -e FOLDER', "
            "where FOLDER holds its pyproject.toml or setup.py."
        ) from error
    if not callable(vars(module).get("setup")) and not _registers(module):
        raise ValueError(
            f"Module {name!r} ({reason}) is not a project: it has no function setup(cfg), and registers nothing."
        )
    return module


def _registers(module: ModuleType) -> bool:
    """Return True if a module, one inside it, or one that it imports or imports from, registers an object."""
    objects = [registry.get(name) for registry in REGISTRIES.values() for name in registry]
    homes = {getattr(registered, "__module__", "") for registered in objects}
    return any(f"{home}.".startswith(f"{module.__name__}.") for home in homes) or any(
        value.__name__ in homes if isinstance(value, ModuleType) else any(value is known for known in objects)
        for value in vars(module).values()
    )


def call_project(module: ModuleType, name: str, cfg: CfgNode) -> Any:
    """Call an optional function of a project with the config; return None if the project does not define it."""
    function = vars(module).get(name)
    return None if function is None else function(cfg)


def check_installed(names: Iterable[str], origin: str) -> None:
    """Refuse projects that no installed distribution declares: a file must not have code run.

    Raises:
        ValueError: with their names, and the override that permits them.
    """
    strangers = sorted(set(names) - set(section_owners().values()))
    if strangers:
        raise ValueError(
            f"{origin} names the project(s) {', '.join(strangers)}, which no installed distribution declares (entry "
            f"points, group {GROUP}). Importing them runs their code. If you trust it, add to the command line: "
            f'PROJECTS "{strangers}" (the order of all projects stays that of {origin})'
        )


def find_projects(names: Iterable[str], sections: Iterable[str]) -> list[ModuleType]:
    """Import the projects in `names`, then the installed owners of `sections`."""
    owners = section_owners()
    reasons = dict.fromkeys(names, "named by PROJECTS")
    for section in sections:
        if section in owners:
            reasons.setdefault(owners[section], f"owner of the config section {section}")
    return [import_project(name, reason) for name, reason in reasons.items()]


def activate_projects(cfg: CfgNode) -> None:
    """Register the parts of the projects in a loaded config, in a process that did not load it."""
    scratch = get_cfg()
    for name in cfg.PROJECTS:
        call_project(import_project(name, "named by PROJECTS"), "setup", scratch)


def add_adapter(cfg: CfgNode, name: str) -> None:
    """Append a model adapter to MODEL.ADAPTER, unless it is there; adapters are applied in that order.

    For the `resolve` of a project, which calls `remove_adapter` if it is switched off: a stored configuration may hold
    the name. The value is one name, or several joined by "+".
    """
    names = [*_adapters(cfg), name]
    cfg.MODEL.ADAPTER = "+".join(dict.fromkeys(names))


def remove_adapter(cfg: CfgNode, name: str) -> None:
    """Take a model adapter out of MODEL.ADAPTER, if it is there."""
    cfg.MODEL.ADAPTER = "+".join(other for other in _adapters(cfg) if other != name)


def set_task(cfg: CfgNode, name: str, owner: str) -> None:
    """Set TASK for a project.

    Args:
        owner: what asks for it, such as "PGT.ENABLE True".

    Raises:
        ValueError: TASK is set to another one, by the user or by another project.
    """
    if cfg.TASK not in ("", name):
        raise ValueError(
            f"TASK is {cfg.TASK!r}, but {owner} sets it to {name!r}, and a run has one task. Leave TASK out, or do "
            f"without {owner}."
        )
    cfg.TASK = name


def _adapters(cfg: CfgNode) -> list[str]:
    return REGISTRIES["MODEL.ADAPTER"].names(cfg.MODEL.ADAPTER)
