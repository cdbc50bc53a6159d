"""Label maps in the text format of protocol buffers (.pbtxt), as published with AVA."""

from __future__ import annotations

import os
import re

from slowfast.utils.errors import quote, short

# A field, the head of a block, its end, or a comment.
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<field>\w+)\s*:\s*(?P<value>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[^\s{}"'#,;]+)\s*[,;]?
        |(?P<block>\w+)\s*(?::\s*)?\{
        |(?P<end>\})\s*[,;]?
        |(?P<comment>\#[^\n]*)
    )""",
    re.VERBOSE,
)
_REST = re.compile(r"\s*\S")  # from a position on there is more than blanks
_ID_FIELDS, _NAME_FIELDS = ("id", "label_id"), ("name", "label_name")


def read_label_map(path: str) -> dict[int, str]:
    """Read class id -> name, in the order of the file.

    Blocks are `item { name: "..." id: 1 }` or `label { name: "..." label_id: 1 label_type: ... }`, with fields in any
    order; other fields are ignored. Ids start at 1 and may have gaps.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the text is not a label map, a block has no id or name, an id is below 1 or repeated, or there is
            no class; the message has file and line.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no label map {path}")
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as stream:
        text = stream.read()
    names: dict[int, str] = {}
    for block, start, end in _blocks(text, path):
        try:
            number, name = _class_of(block)
            if number in names:
                raise ValueError(f"id {number} comes twice ({quote(names[number])} and {quote(name)})")
        except ValueError as error:
            raise ValueError(f"{_place(path, text, start)}: {error} (block {quote(text[start:end].strip())})") from None
        names[number] = name
    if not names:
        raise ValueError(f'{path} names no class; it needs blocks like item {{ name: "stand" id: 1 }}')
    return names


def _blocks(text: str, path: str) -> list[tuple[dict[str, str], int, int]]:
    """Parse the fields of each block, with the positions of its start and end."""
    blocks, fields, start, at = [], None, 0, 0
    while _REST.match(text, at):
        token = _TOKEN.match(text, at)
        kind = token.lastgroup if token else None
        if kind in (None, "block" if fields is not None else "end") or (kind == "value" and fields is None):
            at = _REST.match(text, at).end() - 1
            raise ValueError(f"{_place(path, text, at)}: {quote(_line(text, at))} is no part of a label map")
        if kind == "block":
            fields, start = {}, token.start("block")
        elif kind == "value":
            fields[token["field"]] = token["value"]
        elif kind == "end":
            blocks.append((fields, start, token.end("end")))
            fields = None
        at = token.end()
    if fields is not None:
        raise ValueError(f"{_place(path, text, start)}: {quote(_line(text, start))} opens a block that does not end")
    return blocks


def _class_of(fields: dict[str, str]) -> tuple[int, str]:
    number = next((fields[key] for key in _ID_FIELDS if key in fields), None)
    name = next((fields[key] for key in _NAME_FIELDS if key in fields), None)
    if number is None or name is None:
        raise ValueError(f"a class needs an id ({' or '.join(_ID_FIELDS)}) and a name")
    if not number.isdecimal() or int(number) < 1:
        raise ValueError(f"id {short(number)} is not a whole number from 1")
    return int(number), re.sub(r"\\(.)", r"\1", name[1:-1]) if name[0] in "\"'" else name


def _place(path: str, text: str, at: int) -> str:
    return f"{path}, line {text.count(chr(10), 0, at) + 1}"


def _line(text: str, at: int) -> str:
    return text[:at].rpartition("\n")[2] + text[at:].partition("\n")[0]
