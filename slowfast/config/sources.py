"""Read settings from YAML files with their `_BASE_` chains, YAML text, and KEY VALUE overrides.

Each becomes a `Layer`: a nested dict with its origin, so that a message can name file and line.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slowfast.config.values import DEEPEST, LONGEST, literal
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import short

BASE_KEY = "_BASE_"
COMMAND_LINE = "the overrides"
# The loader in C, if PyYAML was built with it, is ten times faster.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Bounds that keep a wrong file from filling memory. All settings written out are 20 KB with 2,000 keys and values.
_MOST_BYTES = 1 << 20
_MOST_VALUES = 50_000
_MOST_FILES = 100
_SHOWN = 5  # of many repeated keys or files, in messages
logger = get_logger(__name__)


@dataclass(frozen=True)
class Layer:
    """Settings of one origin; `root` is the node tree of their YAML, None for overrides and empty text."""

    origin: str
    values: dict[str, Any]
    root: yaml.Node | None = None

    def where(self, path: Sequence[str]) -> str:
        """Return the origin of the key at `path`, with its line if known."""
        line = _line_of(self.root, path)
        return self.origin if line is None else f"{self.origin}, line {line}"


def file_layers(path: str | os.PathLike[str]) -> list[Layer]:
    """Read a file and the files of its `_BASE_` chain, each once, and return them in the order of merging.

    A relative `_BASE_` starts at the folder of the file that names it. Several bases are merged in order. A file that
    is reached by several ways counts at the last one only: there it sets all its keys again.

    Raises:
        FileNotFoundError: a file of the chain is missing, or a folder.
        ValueError: a file cannot be read, is not YAML or builds Python objects; the chain is circular or too long.
    """
    layers: dict[Path, Layer] = {}
    _add_chain(Path(os.path.expanduser(path)), {}, layers)
    return list(reversed(layers.values()))


def _add_chain(path: Path, parents: dict[Path, str], layers: dict[Path, Layer]) -> None:
    """Add the layers of a file and of its bases, unless they are there, in the reversed order of merging.

    Args:
        parents: files by which this one was reached, with their real paths.
    """
    path = Path(os.path.normpath(path))
    if path in layers and path not in parents:
        return
    _check_file(path, [*parents, path])
    real = os.path.realpath(path)
    if real in parents.values():
        raise ValueError(f"{BASE_KEY} is circular: {_chain([*parents, path])}. Remove one of these links.")
    if len(layers) == _MOST_FILES:
        raise ValueError(
            f"{BASE_KEY} leads to over {_MOST_FILES} files: {_chain([*parents, path])}. Join some of them."
        )
    layers[path] = layer = text_layer(_read(path), str(path))
    for base in reversed(_bases(layer)):
        _add_chain(path.parent / os.path.expanduser(base), {**parents, path: real}, layers)


def _chain(paths: Sequence[Path]) -> str:
    """Return a chain of files in words, of a long one its ends."""
    names = [_name(path) for path in paths]
    if len(names) > 2 * _SHOWN:
        names[_SHOWN:-_SHOWN] = [f"({len(names) - 2 * _SHOWN} files)"]
    return " -> ".join(names)


def _name(path: Path) -> str:
    name = str(path)
    return short(name if name.isprintable() else repr(name), 300)


def _bases(layer: Layer) -> list[str]:
    """Remove `_BASE_` from the layer's values and return its file names."""
    bases = layer.values.pop(BASE_KEY, None) or []
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        where = layer.where([BASE_KEY])
        raise ValueError(f"{BASE_KEY} in {where} must be a file name or a list of them, got {short(bases)}.")
    return bases


def _check_file(path: Path, chain: Sequence[Path]) -> None:
    """Check that the last file of a chain is a regular one, without opening it: a pipe would wait for a writer."""
    name = f"Config file {_name(path)}"
    via = "" if len(chain) == 1 else f" (reached by {BASE_KEY}: {_chain(chain)})"
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{name} does not exist{via}.") from None
    except OSError as error:  # a loop of links, a name that is too long, a folder without permission
        raise ValueError(f"{name} cannot be read: {error.strerror}{via}.") from error
    except ValueError as error:  # a null character, or one that file names cannot hold
        raise ValueError(f"{name} is not a possible name of a file{via}.") from error
    if stat.S_ISDIR(mode):
        raise FileNotFoundError(f"{name} is a folder, not a config file{via}.")
    if not stat.S_ISREG(mode):
        raise ValueError(f"{name} is a pipe, a socket or a device, not a regular file{via}.")


def _read(path: Path) -> str:
    with open(path, "rb") as stream:
        data = stream.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"Config file {path} has more than {_MOST_BYTES:,} bytes, so it does not hold settings.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"Config file {path} is not UTF-8 text ({error}). Save it as UTF-8.") from error


def text_layer(text: str, origin: str) -> Layer:
    """Parse YAML text, a mapping or empty, into plain values; Python objects are never built.

    Raises:
        ValueError: not YAML, a tag that builds an object, or more than settings can be; with `origin` and the line.
    """
    if len(text) > _MOST_BYTES:
        raise ValueError(f"{origin}: {len(text):,} characters are no settings; those have at most {_MOST_BYTES:,}.")
    try:
        _check_size(text)
        loader = _LOADER(text)
        try:
            root = loader.get_single_node()
            # Before the values are built: that writes merge keys (<<) out in the nodes.
            _warn_of_repeats(root, origin)
            values = {} if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except _TooMuch as error:
        raise ValueError(f"{origin}{_mark(error)}: {error.problem}.") from error
    except (yaml.YAMLError, ValueError, AttributeError, LookupError, TypeError) as error:
        # PyYAML raises the others for a value that does not fit its tag, such as a date that does not exist.
        problem = _problem(error)
        if "tag" in problem:
            problem += ". Config files hold plain values; tags that build objects are never obeyed"
        raise ValueError(f"{origin}{_mark(error)}: not valid YAML: {short(problem, 300)}.") from error
    if not isinstance(values, dict):
        raise ValueError(
            f"{origin}: the top level must be 'SECTION:' and 'KEY: value' lines, got {type(values).__name__} "
            f"{short(values)!r}."
        )
    return Layer(origin, values, root)


class _TooMuch(yaml.MarkedYAMLError):
    """The text is YAML, and too much of it."""


def _check_size(text: str) -> None:
    """Check that YAML text is small when its aliases are written out, before anything is built from it.

    Raises:
        _TooMuch: too many values, too deep, a value that is too long, or one that contains itself.
        yaml.YAMLError: not YAML.
    """
    count = 0
    sizes: dict[str | None, int] = {}  # of finished anchors
    pending: list[tuple[str | None, int]] = []  # anchors of open collections, with the count where they began
    for event in yaml.parse(text, _LOADER):
        problem = ""
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in [anchor for anchor, _ in pending]:
                problem = f"*{short(event.anchor)} leads to a value that contains itself"
            count += sizes.get(event.anchor, 0)
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            sizes[event.anchor] = 1
            if len(event.value) > LONGEST:
                problem = f"a key or value of {len(event.value):,} characters; it can have at most {LONGEST:,}"
        elif isinstance(event, yaml.CollectionStartEvent):
            count += 1
            pending.append((event.anchor, count))
            if len(pending) > DEEPEST:
                problem = f"lists and sections nested more than {DEEPEST} deep"
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, start = pending.pop()
            sizes[anchor] = count - start + 1
        if count > _MOST_VALUES:
            problem = f"more than {_MOST_VALUES:,} keys and values, those of aliases written out"
        if problem:
            raise _TooMuch(problem=problem, problem_mark=event.start_mark)


def override_layer(overrides: Sequence[Any]) -> Layer:
    """Read a flat sequence KEY VALUE KEY VALUE ..., of shell words or Python values.

    Raises:
        ValueError: an odd number of items, KEY=VALUE, a key that is not text, `_BASE_`, a key inside another's value.
    """
    overrides = list(overrides)
    joined = [word for word in overrides[::2] if isinstance(word, str) and "=" in word]
    if joined:
        key, _, value = joined[0].partition("=")
        raise ValueError(
            f"Overrides come in pairs KEY VALUE, got {short(joined[0])!r}. Write: {short(key)} {short(value)}"
        )
    if len(overrides) % 2:
        words = " ".join(short(word) for word in overrides[:_MOST_FILES])
        raise ValueError(
            f"Overrides come in pairs KEY VALUE, got {len(overrides)} items: {short(words, 1000)}. Write a value with "
            "spaces in quotes."
        )
    layer = Layer(COMMAND_LINE, {})
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        if not isinstance(key, str):
            raise ValueError(f"Overrides come in pairs KEY VALUE, but the key {short(key)} is not text.")
        if key == BASE_KEY:
            raise ValueError(f"{BASE_KEY} works inside a config file only, not as an override.")
        if key.count(".") > DEEPEST:
            raise ValueError(f"Unknown config key {short(key)} in {COMMAND_LINE}.")
        _put(layer.values, key, _unquoted(value))
    return layer


def _unquoted(value: Any) -> Any:
    """Remove the quotes that a shell left around text: `"','"` is a comma."""
    if not isinstance(value, str) or value[:1] not in ("'", '"'):
        return value
    try:
        return literal(value)
    except ValueError:
        return value


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, leaf = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ValueError(
                f"Override {short(key)}: {section} already has the value {short(values)}, so it is not a section."
            )
    if isinstance(value, dict) and isinstance(values.get(leaf), dict):
        for name, item in value.items():
            _put(values[leaf], name, item)
    else:
        values[leaf] = value


def _mark(error: Exception) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return f", line {mark.line + 1}" if mark is not None else ""


def _problem(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem:
        return f"{error.problem} {error.context}" if error.context else error.problem
    if isinstance(error, (AttributeError, LookupError, TypeError)):
        return "a value does not fit its tag"
    if "digits" in str(error):  # Python's message speaks of a setting of Python
        return "a number of thousands of digits"
    return str(error).splitlines()[0]


def _line_of(root: yaml.Node | None, path: Sequence[str]) -> int | None:
    """Return the line, from 1, of the key at `path`; of a repeated key the last, which counts."""
    node, line = root, None
    for name in path:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = [(key, value) for key, value in pairs if key.value == name]
        if not found:
            return line
        line, node = found[-1][0].start_mark.line + 1, found[-1][1]
    return line


def _warn_of_repeats(root: yaml.Node | None, origin: str) -> None:
    """Warn of repeated keys: YAML silently keeps the last, so a repeated section loses its first part."""
    pending, done = [root], set()
    repeats: list[tuple[str, int, int]] = []
    while pending:
        node = pending.pop()
        if not isinstance(node, yaml.MappingNode) or id(node) in done:
            continue
        done.add(id(node))  # an alias may lead back to a node
        seen: dict[str, int] = {}
        for key, value in node.value:
            pending.append(value)
            if not isinstance(key, yaml.ScalarNode):
                continue  # the values cannot be built
            line = key.start_mark.line + 1
            if key.value in seen:
                repeats.append((key.value, seen[key.value], line))
            seen[key.value] = line
    for name, first, second in repeats[:_SHOWN]:
        logger.warning(
            "%s: %s is on line %d and again on line %d; only the second counts.", origin, short(name), first, second
        )
    if len(repeats) > _SHOWN:
        logger.warning("%s: %d more keys are repeated.", origin, len(repeats) - _SHOWN)
