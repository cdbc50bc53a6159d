"""The layers of the code: which package may import which, and that the core imports no project."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "slowfast").rglob("*.py"))
OURS = [*CORE, *sorted((ROOT / "projects").glob("*/*/**/*.py")), *sorted((ROOT / "tools").glob("*.py"))]
OURS = [path for path in [*OURS, *sorted((ROOT / "demo").glob("*.py"))] if "tests" not in path.parts]

# A package may import those below it, and itself.
LAYERS = [
    {"config", "layers", "utils", "runtime"},
    {"models", "datasets", "evaluation", "checkpoint"},
    {"engine"},
    {"compat"},
    {"apps"},
]
OPTIONAL = {"torchvision", "detectron2", "pytorchvideo", "matplotlib", "submitit", "pyarrow", "torchcodec"}
OPTIONAL |= {"onnx", "onnxruntime", "onnxscript", "PIL"}
OPTIONAL |= {"starlette", "uvicorn", "websockets", "anyio"}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> set[str]:
    """Full names of the modules a file imports, at any depth in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{named(path)}: a relative import hides which layer it comes from"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer_of(package: str) -> int:
    return next(level for level, packages in enumerate(LAYERS) if package in packages)


def test_the_files_are_found():
    assert len(CORE) > 30
    assert {path.relative_to(ROOT).parts[0] for path in OURS} == {"slowfast", "projects", "tools", "demo"}


@pytest.mark.parametrize("path", CORE, ids=named)
def test_core_imports_no_project(path):
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"pgt", "projects", "tools", "demo", "tests", "examples"}


def test_tools_import_no_project():
    roots = {name.split(".")[0] for path in (ROOT / "tools").glob("*.py") for name in imports(path)}
    assert not roots & {"pgt", "projects", "demo", "tests", "examples"}


@pytest.mark.parametrize("path", [path for path in CORE if path.parent != ROOT / "slowfast"], ids=named)
def test_imports_point_one_way(path):
    here = path.relative_to(ROOT / "slowfast").parts[0]
    others = {name.split(".")[1] for name in imports(path) if name.startswith("slowfast.")}
    packages = others & set().union(*LAYERS)
    upward = {other for other in packages if other != here and layer_of(other) > layer_of(here)}
    assert upward == set(), f"{here} imports {upward}"


MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in CORE if path.name != "__init__.py"}


def test_no_import_goes_in_a_circle():
    # Also imports inside functions, and those for type checkers: two files of a circle cannot be read one by one.
    graph = {name: imports(path) & MODULES.keys() for name, path in MODULES.items()}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(graph) > 100  # raises CycleError


def test_no_package_has_a_circle_between_its_parts():
    parts: dict[str, dict[str, set[str]]] = {}
    for name, path in MODULES.items():
        for other in imports(path) & MODULES.keys():
            here, there = name.split("."), other.split(".")
            depth = next(place for place, (a, b) in enumerate(zip(here, there, strict=False)) if a != b)
            parts.setdefault(".".join(here[:depth]), {}).setdefault(here[depth], set()).add(there[depth])
    assert {"slowfast", "slowfast.apps", "slowfast.datasets", "slowfast.checkpoint"} <= parts.keys()
    for package, graph in parts.items():
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            pytest.fail(f"{package}: {' imports '.join(reversed(error.args[1]))}")


@pytest.mark.parametrize("path", OURS, ids=named)
def test_no_function_is_over_70_lines(path):
    lengths = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert {name: length for name, length in lengths.items() if length > 70} == {}


@pytest.mark.parametrize("path", OURS, ids=named)
def test_only_one_module_names_the_accelerator(path):
    if named(path) == "slowfast/runtime/device.py":
        return
    tree = ast.parse(path.read_text())
    calls = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "cuda"]
    texts = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"cuda(:\d+)?", node.value)
    ]
    assert calls == []
    assert texts == []


# Imports every file of ours while none of the extras can be imported, as on a machine without them.
IMPORT_ALL = """
import importlib, importlib.util, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {optional!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
for name in {core!r}:
    importlib.import_module(name)
print("pgt" in sys.modules)
sys.path[:0] = {folders!r}
for name in {others!r}:
    importlib.import_module(name)
"""


def test_no_module_needs_an_extra_to_be_imported():
    core = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in CORE
        if path.name != "__main__.py"
    ]
    others = [path for path in OURS if path not in CORE and path.name != "__main__.py"]
    folders = sorted({str(path.parent) for path in others if path.parent.name in ("tools", "demo")})
    names = [
        path.stem if str(path.parent) in folders else ".".join(path.relative_to(ROOT).with_suffix("").parts[2:])
        for path in others
    ]
    names = [name.removesuffix(".__init__") for name in names]
    assert {"benchmark", "sweep", "pgt", "pgt.plan"} <= set(names)
    code = IMPORT_ALL.format(optional=OPTIONAL, core=core, folders=folders, others=names)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"
