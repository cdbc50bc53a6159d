"""Read a project that was written for PySlowFast, without running any of it, and tell what works here."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from slowfast.apps.migrate.settings import check_settings
from slowfast.compat import ABSENT, NAMES, absent, new_name
from slowfast.utils.errors import first_line, nearest_keys

SAME, MAPPED, MISSING = "same", "mapped", "missing"

_LOADS = "slowfast.utils.parser.load_config"  # what a script of the project's own loads settings by
_COPY = "a copy of PySlowFast, which hides this package and is not read; move what you changed in it to files of yours"
_SKIPPED = {"__pycache__", "node_modules", "site-packages", "build", "dist"}
_LARGEST = 2**20  # bytes of a file
_REGISTRIES = ("MODEL_REGISTRY", "DATASET_REGISTRY")
# What scripts look for in logs and folders of results; all of it is written with LOG_STYLE pyslowfast.
_IN_LOGS = ("json_stats.log", "json_stats:", "test_final", "test_iter", "val_iter", "min_top1_err", "min_top5_err")
_IN_LOGS += ("detections_latest.csv", "groundtruth_latest.csv")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that a project uses.

    Attributes:
        kind: "name" of a module or in it, "registered" class, "setting" or "log".
        name: what it is called there.
        verdict: `SAME` (works), `MAPPED` (works, and has another name here) or `MISSING`.
        here: what it is here, or what to do.
        places: "FILE:LINE" where it is used.
    """

    kind: str
    name: str
    verdict: str
    here: str
    places: tuple[str, ...]


def scan(folder: str | os.PathLike[str]) -> list[Finding]:
    """Return what the Python and YAML files of a folder use of PySlowFast, and what it is here.

    Raises:
        NotADirectoryError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"{folder} is no folder; give that of your project")
    places: dict[tuple[str, str, str, str], list[str]] = {}
    registered: set[str] = set()
    own_script = False
    # Settings last: they may name what the code registers.
    for path in sorted(_files(root), key=lambda path: path.suffix != ".py"):
        place = path.relative_to(root).as_posix()
        if path.suffix == ".py" and _is_published(path, root):
            found = [(("name", "slowfast", MISSING, _COPY), 0)]
        elif path.suffix == ".py":
            found = _of_python(path, root)
            registered |= {name for (kind, name, *_), _ in found if kind == "registered"}
            own_script |= any(name == _LOADS for (_, name, *_), _ in found)
        else:
            found = [(("setting", *verdict), 0) for verdict in check_settings(path, registered, own_script)]
        for what, line in found:
            places.setdefault(what, []).append(f"{place}:{line}" if line else place)
    return [Finding(*what, tuple(dict.fromkeys(where))) for what, where in sorted(places.items())]


def _files(root: Path) -> Iterator[Path]:
    """Yield the Python and YAML files, in order; links to folders, hidden folders and environments are passed over."""
    for folder, names, files in os.walk(root):
        here = Path(folder)
        names[:] = sorted(
            name
            for name in names
            if name not in _SKIPPED and not name.startswith(".") and not (here / name / "pyvenv.cfg").exists()
        )
        for name in sorted(files):
            path = here / name
            if path.suffix in (".py", ".yaml", ".yml") and path.is_file() and path.stat().st_size <= _LARGEST:
                yield path


def _is_published(path: Path, root: Path) -> bool:
    """Return True for a file of a copy of PySlowFast that PySlowFast has too."""
    parts = path.relative_to(root).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return parts[0] == "slowfast" and _is_module(module)


def _of_python(path: Path, root: Path) -> list[tuple[tuple[str, str, str, str], int]]:
    """Return what a Python file uses, and the lines."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old escapes in texts
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, RecursionError) as error:
            return [(("name", path.name, MISSING, f"this is no Python 3: {first_line(error)}"), 0)]
    reader = _Reader(root)
    reader.visit(tree)
    return reader.found


class _Reader(ast.NodeVisitor):
    """Reader of one file: its imports of PySlowFast, what it registers, and texts that name logs.

    Attributes:
        found: (kind, name, verdict, here) and line of each thing.
    """

    def __init__(self, root: Path) -> None:
        self.found: list[tuple[tuple[str, str, str, str], int]] = []
        self._root = root
        self._modules: dict[str, str] = {}  # local name -> module of PySlowFast's

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name.split(".")[0] == "slowfast":
                self._modules[alias.asname or "slowfast"] = alias.name if alias.asname else "slowfast"
                self._use(alias.name, "", node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or (node.module or "").split(".")[0] != "slowfast":
            return
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            if _is_module(inner) or self._own_file(inner):
                self._modules[alias.asname or alias.name] = inner
                self._use(inner, "", node.lineno)
            else:
                self._use(node.module, alias.name, node.lineno)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        parts, inner = [node.attr], node.value
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if not isinstance(inner, ast.Name) or inner.id not in self._modules:
            self.generic_visit(node)
            return
        module = self._modules[inner.id]
        for part in reversed(parts):
            if not _is_module(f"{module}.{part}"):
                self._use(module, part, node.lineno)
                return
            module = f"{module}.{part}"
        if absent(module):
            self._use(module, "", node.lineno)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._registers(node)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._registers(node)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        for text in _IN_LOGS if isinstance(node.value, str) else ():
            if text in node.value:
                self.found.append((("log", text, SAME, "written with LOG_STYLE pyslowfast, the default"), node.lineno))

    def _registers(self, node: ast.ClassDef | ast.FunctionDef) -> None:
        for decorator in node.decorator_list:
            call = decorator.func if isinstance(decorator, ast.Call) else decorator
            if not isinstance(call, ast.Attribute) or call.attr != "register" or not isinstance(call.value, ast.Name):
                continue
            if call.value.id in _REGISTRIES:
                key = "MODEL.MODEL_NAME" if call.value.id == "MODEL_REGISTRY" else "TRAIN.DATASET, TEST.DATASET"
                here = f"works as it is: name it by {key}, and its module by PROJECTS"
                self.found.append((("registered", node.name, SAME, here), node.lineno))

    def _own_file(self, module: str) -> bool:
        """Return True if the project has a copy of PySlowFast with this module, which PySlowFast does not have."""
        path = self._root.joinpath(*module.split("."))
        return path.with_suffix(".py").is_file() and module not in NAMES and not absent(module)

    def _use(self, module: str, name: str, line: int) -> None:
        if self._own_file(module) and not _is_module(module):
            here = "a file of your copy of PySlowFast: move it beside your scripts, and import it under that name"
            self.found.append((("name", module, MISSING, here), line))
            return
        told = _verdict(module, name)
        if told is not None:
            self.found.append((("name", f"{module}.{name}" if name else module, *told), line))


def _is_module(name: str) -> bool:
    """Return True if PySlowFast's module `name` is known, or a module is here; only ours is imported."""
    if name in NAMES or absent(name):
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, AttributeError, ValueError):  # the part before the last dot is no package
        return False


def _verdict(module: str, name: str) -> tuple[str, str] | None:
    """Return the verdict on a name, "" for the module itself, and what it is here; None where nothing is to say."""
    if new_name(module, name):
        return MAPPED, new_name(module, name)
    full = f"{module}.{name}" if name else module
    if absent(full):
        return MISSING, ABSENT[absent(full)]
    if module in NAMES and not name:
        return None  # what is used of it is told
    if name == "*":
        return MISSING, "import the names one by one"
    if not _is_module(module):
        return MISSING, "there is no such module here"
    if not name:
        return SAME, module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = dir(importlib.import_module(module))
    known += NAMES.get(module, {})
    near = ", ".join(nearest_keys(name, known, 1))
    return (SAME, f"{module}.{name}") if name in known else (MISSING, f"no such name; the nearest is {near}")
