"""Write the page of all keys: `python -m slowfast.config.document FILE [PROJECT ...]`.

Defaults come from the key tree, meanings from the comments above the keys in the source.
"""

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from fvcore.common.config import CfgNode

from slowfast.config.defaults import MODULES, get_cfg
from slowfast.config.ignored_keys import reason_without_effect
from slowfast.config.merge import leaf_keys

_INTRO = """\
# All configuration keys

Made from the key tree by `python -m slowfast.config.document docs/config.md{projects}`; do not edit it by hand.

A YAML file holds `SECTION:` blocks of `KEY: value` lines; on the command line a key is written `SECTION.KEY value`. A
value is read as the type of its default. A file may name others to start from with `_BASE_: FILE`. `~` is expanded in
paths.

Keys marked *ignored* keep published files loading and have no effect; a run warns if one is set. These are all:
"""


def document(projects: Sequence[str] = ()) -> str:
    """Return the page, in Markdown, of the core's keys and of those that projects (module names) add."""
    cfg, comments = get_cfg(), {}
    for module in MODULES:
        comments |= _core_comments(module)
    core = list(cfg)
    owners = {}
    for name in projects:
        project = import_module(name)
        project.setup(cfg)
        for section in [key for key in cfg if key not in core and key not in owners]:
            owners[section] = name
            comments |= _project_comments(project, section, cfg[section])
    reasons: dict[str, list[str]] = {}
    for key in leaf_keys(cfg):
        if reason := reason_without_effect(key):
            reasons.setdefault(reason, []).append(f"`{key}`")
    sections = [name for name, value in cfg.items() if isinstance(value, CfgNode)]
    lines = [_INTRO.format(projects="".join(f" {name}" for name in projects))]
    lines += [f"- {', '.join(keys)}: {reason}" for reason, keys in reasons.items()]
    lines += ["\nSections: " + ", ".join(f"[{name}](#{name.lower()})" for name in sections) + ".\n"]
    lines += _table("Top level", "", {key: cfg[key] for key in cfg if key not in sections}, comments)
    for name in sections:
        lines += _table(name, name, cfg[name], comments, owners.get(name, ""))
    return "\n".join(lines)


def _table(title: str, prefix: str, values: dict[str, Any], comments: dict[str, str], owner: str = "") -> list[str]:
    """Return the lines of a section, followed by those of the sections inside it."""
    about = comments.get(prefix, "")
    lines = [
        f"## {title}\n",
        *([f"Project `{owner}`.\n"] if owner else []),
        *([f"{_escaped(about)}\n"] if about else []),
    ]
    lines += ["| Key | Default | Meaning |", "|---|---|---|"]
    inner = []
    for name, value in values.items():
        key = f"{prefix}.{name}" if prefix else name
        if isinstance(value, CfgNode):
            inner += _table(key, key, value, comments)
            continue
        ignored = "*ignored* " if reason_without_effect(key) else ""
        lines.append(f"| `{name}` | {_code(value)} | {ignored}{_escaped(comments[key])} |")
    return [*lines, "", *inner]


def _code(value: Any) -> str:
    return "`" + ('""' if value == "" else repr(value)).replace("|", "\\|") + "`"


def _escaped(text: str) -> str:
    return re.sub(r"([|*<>])", r"\\\1", text)


def _core_comments(module: ModuleType) -> dict[str, str]:
    """Return the comments, by full key, of the sections assigned in a module of `slowfast.config.defaults`."""
    text = Path(module.__file__).read_text()
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            name = node.targets[0].id
            prefix = "" if name == "TOP" else name
            found |= {prefix: _comment_above(text, node.lineno)} | dict(_comments(text, node.value, prefix))
    return found


def _project_comments(project: ModuleType, section: str, values: CfgNode) -> dict[str, str]:
    """Return the comments, by full key, of the dict in a project's source that has the keys of `values`.

    Raises:
        ValueError: no dict in the source has these keys, each with a comment.
    """
    path = Path(project.__file__)
    for file in sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]:
        text = file.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Dict) and _names(node) == list(values):
                return dict(_comments(text, node, section))
    raise ValueError(f"the source of {project.__name__} has no dict with the keys of section {section}")


def _names(node: ast.Dict) -> list[Any]:
    return [key.value if isinstance(key, ast.Constant) else None for key in node.keys]


def _comments(text: str, node: ast.Dict, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield (full key, comment) of every key of a dict literal, including the sections inside it."""
    for key, value in zip(node.keys, node.values, strict=True):
        name = f"{prefix}.{key.value}" if prefix else key.value
        yield name, _comment_above(text, key.lineno)
        if isinstance(value, ast.Dict):
            yield from _comments(text, value, name)


def _comment_above(text: str, lineno: int) -> str:
    """Join the comment lines that end above line `lineno` (from 1)."""
    words: list[str] = []
    for line in reversed(text.splitlines()[: lineno - 1]):
        if not line.lstrip().startswith("#"):
            break
        words.insert(0, line.strip().removeprefix("#").strip())
    return " ".join(words)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(sys.argv[2:]))
