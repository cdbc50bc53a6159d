"""Read settings from YAML files with their `_BASE_` chains, YAML text, and KEY VALUE overrides.

Each becomes a `Layer`: a nested dict with its origin, so that a message can name file and line.
"""

import ast
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slowfast.runtime.logging import get_logger

BASE_KEY = "_BASE_"
COMMAND_LINE = "the overrides"
# The loader in C, if PyYAML was built with it, is ten times faster.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST_REPEATED = 10_000  # values that the aliases of a text may repeat
logger = get_logger(__name__)


@dataclass(frozen=True)
class Layer:
    """Settings of one origin; `text` is their YAML, None for overrides."""

    origin: str
    values: dict[str, Any]
    text: str | None = None

    def where(self, path: Sequence[str]) -> str:
        """Return the origin of the key at `path`, with its line if known."""
        line = _line_of(self.text, path) if self.text is not None else None
        return self.origin if line is None else f"{self.origin}, line {line}"


def file_layers(path: str | os.PathLike[str]) -> list[Layer]:
    """Read a file and the files of its `_BASE_` chain, in the order of merging.

    A relative `_BASE_` starts at the folder of the file that names it. Several bases are merged in order.

    Raises:
        FileNotFoundError: a file of the chain is missing.
        ValueError: not YAML, a YAML tag that builds a Python object, or a circular chain.
    """
    return _chain(Path(os.path.expanduser(path)), ())


def _chain(path: Path, parents: tuple[Path, ...]) -> list[Layer]:
    path = Path(os.path.normpath(path))
    trail = " -> ".join(str(p) for p in (*parents, path))
    if path.resolve() in [parent.resolve() for parent in parents]:
        raise ValueError(f"{BASE_KEY} is circular: {trail}. Remove one of these links.")
    if not path.is_file():
        kind = "is a folder, not a config file" if path.is_dir() else "does not exist"
        via = f" (reached by {BASE_KEY}: {trail})" if parents else ""
        raise FileNotFoundError(f"Config file {path} {kind}{via}.")
    layer = text_layer(_read(path), str(path))
    layers = [
        base_layer
        for base in _bases(layer)
        for base_layer in _chain(path.parent / os.path.expanduser(base), (*parents, path))
    ]
    return [*layers, layer]


def _bases(layer: Layer) -> list[str]:
    """Remove `_BASE_` from the layer's values and return its file names."""
    bases = layer.values.pop(BASE_KEY, None) or []
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        where = layer.where([BASE_KEY])
        raise ValueError(f"{BASE_KEY} in {where} must be a file name or a list of them, got {bases!r}.")
    return bases


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"Config file {path} is not UTF-8 text ({error}).") from error


def text_layer(text: str, origin: str) -> Layer:
    """Parse YAML text, a mapping or empty, into plain values; Python objects are never built.

    Raises:
        ValueError: not YAML, or a tag that builds an object; with `origin` and the line.
    """
    try:
        root, values = _parse(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # PyYAML raises ValueError for a date that does not exist.
        problem = _problem(error)
        if "tag" in problem:
            problem += ". Config files hold plain values; tags that build objects are never obeyed"
        raise ValueError(f"{origin}{_mark(error)}: not valid YAML: {problem}.") from error
    if root is None:
        return Layer(origin, {}, text)
    if not isinstance(values, dict):
        raise ValueError(
            f"{origin}: the top level must be 'SECTION:' and 'KEY: value' lines, got {type(values).__name__} "
            f"{str(values)[:60]!r}."
        )
    _warn_of_repeats(root, origin)
    return Layer(origin, values, text)


def _parse(text: str) -> tuple[yaml.Node | None, Any]:
    """Return the node tree of the text, which has line numbers, and its plain values."""
    loader = _LOADER(text)
    try:
        root = loader.get_single_node()
        if root is not None:
            _check_aliases(root)
        return root, None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()


def _check_aliases(root: yaml.Node) -> None:
    """Check how much aliases repeat: ten in each of ten lists make 500 characters into 10 billion values.

    Raises:
        ValueError: they make more than `_MOST_REPEATED` values, or a value that contains itself.
    """
    sizes: dict[int, int | None] = {}  # of nodes with all that is below; None while a node is being measured

    def measure(node: yaml.Node) -> int:
        key = id(node)
        if key not in sizes:
            sizes[key] = None
            parts = node.value if isinstance(node, yaml.CollectionNode) else []
            parts = [part for pair in parts for part in pair] if isinstance(node, yaml.MappingNode) else parts
            sizes[key] = 1 + sum(map(measure, parts))
        if sizes[key] is None:
            raise ValueError(f"the alias on line {node.start_mark.line + 1} leads to a value that contains itself")
        return sizes[key]

    repeated = measure(root) - len(sizes)
    if repeated > _MOST_REPEATED:
        raise ValueError(f"its aliases repeat {repeated} values, more than {_MOST_REPEATED}; write the values out")


def override_layer(overrides: Sequence[Any]) -> Layer:
    """Read a flat sequence KEY VALUE KEY VALUE ..., of shell words or Python values.

    Raises:
        ValueError: an odd number of items, KEY=VALUE, a key that is not text, `_BASE_`, a key inside another's value.
    """
    overrides = list(overrides)
    joined = [word for word in overrides[::2] if isinstance(word, str) and "=" in word]
    if joined:
        key, _, value = joined[0].partition("=")
        raise ValueError(f"Overrides come in pairs KEY VALUE, got {joined[0]!r}. Write: {key} {value}")
    if len(overrides) % 2:
        raise ValueError(
            f"Overrides come in pairs KEY VALUE, got {len(overrides)} items: "
            f"{' '.join(map(str, overrides))}. Write a value with spaces in quotes."
        )
    layer = Layer(COMMAND_LINE, {})
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        if not isinstance(key, str):
            raise ValueError(f"Overrides come in pairs KEY VALUE, but the key {key!r} is not text.")
        if key == BASE_KEY:
            raise ValueError(f"{BASE_KEY} works inside a config file only, not as an override.")
        _put(layer.values, key, _unquoted(value))
    return layer


def _unquoted(value: Any) -> Any:
    """Remove the quotes that a shell left around text: `"','"` is a comma."""
    if not isinstance(value, str) or value[:1] not in ("'", '"'):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, leaf = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ValueError(f"Override {key}: {section} already has the value {values!r}, so it is not a section.")
    if isinstance(value, dict) and isinstance(values.get(leaf), dict):
        for name, item in value.items():
            _put(values[leaf], name, item)
    else:
        values[leaf] = value


def _mark(error: Exception) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return f", line {mark.line + 1}" if mark is not None else ""


def _problem(error: Exception) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or not error.problem:
        return str(error).splitlines()[0]
    return f"{error.problem} {error.context}" if error.context else error.problem


def _line_of(text: str, path: Sequence[str]) -> int | None:
    """Return the line, from 1, of the key at `path`; of a repeated key the last, which counts."""
    node, line = yaml.compose(text, yaml.SafeLoader), None
    for name in path:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = [(key, value) for key, value in pairs if key.value == name]
        if not found:
            return line
        line, node = found[-1][0].start_mark.line + 1, found[-1][1]
    return line


def _warn_of_repeats(root: yaml.Node, origin: str) -> None:
    """Warn of repeated keys: YAML silently keeps the last, so a repeated section loses its first part."""
    pending, done = [root], set()
    while pending:
        node = pending.pop()
        if not isinstance(node, yaml.MappingNode) or id(node) in done:
            continue
        done.add(id(node))  # an alias may lead back to a node
        seen: dict[Any, int] = {}
        for key, value in node.value:
            pending.append(value)
            line = key.start_mark.line + 1
            if key.value in seen:
                logger.warning(
                    "%s: %s is on line %d and again on line %d; only the second counts.",
                    origin,
                    key.value,
                    seen[key.value],
                    line,
                )
            seen[key.value] = line
