"""Check that every command and every piece of Python in the documents is one that these programs take.

A block of `bash` or `python` that cannot be checked has a comment `<!-- not run: REASON -->` above it.
"""

import argparse
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from slowfast.apps.synthetic.sweep import SweepSpec, make_sweep
from slowfast.config import load_config

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    path
    for pattern in (
        "*.md",
        "docs/*.md",
        "docs/tutorials/*.md",
        "projects/*/*.md",
        "projects/*/*/zoo/*.md",
        "examples/*/*.md",
    )
    for path in sorted(ROOT.glob(pattern))
]
# Programs of the system in front of which nothing can be checked here; `make` is checked by its targets.
OTHERS = {"source", "pip", "python3", "export", "make", "tensorboard"}
TUTORIALS = ROOT / "docs/tutorials"


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    """Code blocks of a language, without those that are marked as not run."""
    fence = re.compile(r"^(<!-- not run: \S.*-->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [code for mark, kind, code in fence.findall(path.read_text()) if kind == language and not mark]


def commands(code: str) -> list[list[str]]:
    """Words of each command in a block of `bash`."""
    lines = [[]]
    code = re.sub(r"(^| )#.*", "", code.replace("\\\n", " "), flags=re.MULTILINE)
    lexer = shlex.shlex(code, posix=True, punctuation_chars=";&|\n")
    lexer.commenters, lexer.whitespace, lexer.whitespace_split = "", " \t", True
    for word in lexer:
        if set(word) <= set(";&|\n"):
            lines.append([])
        else:
            lines[-1].append(word)
    return [words for words in lines if words]


class Parsed(BaseException):
    """Ends a program as soon as its arguments are parsed."""


@pytest.fixture
def parse(monkeypatch):
    """Return a function that gives a program's command line to its own parser, and returns what that made of it."""

    def ends(method):
        def parse_then_end(self, *args, **kwargs):
            raise Parsed(method(self, *args, **kwargs))

        return parse_then_end

    for name in ("parse_args", "parse_intermixed_args"):
        monkeypatch.setattr(argparse.ArgumentParser, name, ends(getattr(argparse.ArgumentParser, name)))
    monkeypatch.syspath_prepend(str(ROOT / "demo"))
    monkeypatch.syspath_prepend(str(ROOT))

    def parse(words):
        if words[0] == "-m":
            module = f"{words[1]}.__main__"
            words = words[1:]
        else:
            module = words[0].removesuffix(".py").replace("/", ".")
        main = importlib.import_module(module).main
        try:
            main(words[1:])
        except Parsed as parsed:
            return parsed.args[0]
        raise AssertionError("the program did not parse its arguments")

    return parse


def check_settings(arguments: argparse.Namespace) -> None:
    """Load the YAML file that a command names, with its settings, unless these have placeholders or own projects."""
    file, overrides = getattr(arguments, "cfg", None), list(getattr(arguments, "overrides", None) or [])
    for name in file if isinstance(file, list) else [file]:
        if name and (ROOT / name).is_file() and not {"...", "KEY", "PROJECTS"} & set(overrides):
            load_config(str(ROOT / name), overrides)


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_commands_are_ones_that_the_programs_take(document, parse, capsys):
    wrong = []
    for code in blocks(document, "bash"):
        for words in commands(code):
            words = words[next(n for n, word in enumerate(words) if "=" not in word) :]  # after NAME=VALUE
            if words[0] in OTHERS or words[:2] == ["python", "-c"]:
                continue
            try:
                assert words[0] == "python"
                if words[1] != "examples/onnx/answers.py":  # without a parser; tests/test_examples.py runs it
                    check_settings(parse(words[1:]))
            except (SystemExit, Exception) as error:
                wrong.append((" ".join(words), repr(error), capsys.readouterr().err[-150:]))
    assert wrong == [], "\n".join(map(str, wrong))


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_python_can_be_read(document):
    for code in blocks(document, "python"):
        assert compile(code, named(document), "exec")


def run_python(code: str, folder: Path) -> list[str]:
    """Run a program in a folder that sees the repository's settings; return its lines."""
    for name in ("configs", "projects"):
        (folder / name).symlink_to(ROOT / name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def outputs(path: Path) -> list[str]:
    """Lines of the blocks without a language, which show what the reader will see."""
    return [line for code in blocks(path, "") for line in code.splitlines()]


def test_the_tutorial_on_streaming_shows_what_its_python_prints(tmp_path):
    page = TUTORIALS / "streaming.md"
    make_sweep(tmp_path / "data/first", SweepSpec(train=6, val=6, test=6))
    printed = run_python("\n".join(blocks(page, "python")), tmp_path)
    shown = outputs(page)
    assert len(printed) == 5 + 1 + 3 + 3 * 5
    scores = re.compile(r"[01]\.\d+(?=,|$)")  # the last digit may be another on another machine
    assert {scores.sub("", line) for line in shown} <= {scores.sub("", line) for line in [*printed, "..."]}
    assert printed[2:5] == printed[6:9]  # continued elsewhere, as if not interrupted


def test_the_rule_of_the_tutorial_on_memory_can_be_used(tmp_path):
    page = TUTORIALS / "memory_rule.md"
    rule, use = blocks(page, "python")
    (tmp_path / "memory_of_all.py").write_text(rule)
    assert run_python(use, tmp_path) == blocks(page, "")[0].splitlines()
