"""Read Something-Something V2's annotations as published: JSON files of labels and of videos."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any

from slowfast.utils.line_errors import record

_BETWEEN = re.compile(r"[\s,]*")


@dataclass(frozen=True)
class LabeledVideo:
    """A video (its id is the name of its file or folder) and its class."""

    name: str
    label: int


def read_labels(path: str, num_classes: int) -> dict[str, int]:
    """Read the class of each template, `{"Putting something on a surface": "93", ...}`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file does not parse, or a class is not an integer from 0 to `num_classes` - 1.
    """
    templates = _read(path, dict, '{"template": "class", ...}')
    labels = {}
    for template, label in templates.items():
        digits = str(label)
        if isinstance(label, bool) or not (digits.isascii() and digits.isdigit()) or int(digits) >= num_classes:
            raise ValueError(
                f"{path}, {_line_with(path, json.dumps(template))}: {template!r} has class {label!r}, which is not a "
                f"whole number from 0 to {num_classes - 1} (MODEL.NUM_CLASSES)"
            )
        labels[template] = int(digits)
    return labels


def read_videos(path: str, labels: dict[str, int], errors: list[str] | None = None) -> list[LabeledVideo]:
    """Read the videos of `[{"id": "78687", "template": "Putting [something] on a surface", ...}, ...]`, in order.

    The class is that of the template without its brackets.

    Args:
        path: the file.
        labels: class of each template.
        errors: takes the messages about wrong entries, which are then skipped; None raises the first.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an entry is wrong, has an unknown template or comes twice (with file, line number and entry), the
            file does not parse, or it has no entry.
    """
    entries = _read(path, list, '[{"id": ..., "template": ...}, ...]')
    videos: dict[str, LabeledVideo] = {}
    lines: list[int] = []
    for number, entry in enumerate(entries):
        try:
            video = _video(entry, labels)
            if video.name in videos:
                raise ValueError(f"has id {video.name}, which an earlier entry has too")
            videos[video.name] = video
        except ValueError as error:
            lines = lines or _lines_of_entries(path)
            where = f"{path}, line {lines[number]}: {json.dumps(entry)}"
            record(ValueError(f"{where} {error}"), errors)
    if not videos:
        raise ValueError(f"{path} lists no video")
    return list(videos.values())


def _video(entry: Any, labels: dict[str, int]) -> LabeledVideo:
    if not isinstance(entry, dict):
        raise ValueError("is not an entry with id and template")
    name, template = entry.get("id"), entry.get("template")
    name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
    if not isinstance(name, str) or not name or "/" in name or "\0" in name:
        raise ValueError("has no id that names a video")
    if not isinstance(template, str):
        raise ValueError("has no template")
    plain = template.replace("[", "").replace("]", "")
    if plain not in labels:
        raise ValueError(f"has template {plain!r}, which is none of the {len(labels)} of the labels")
    return LabeledVideo(name, labels[plain])


def _read(path: str, kind: type, form: str) -> Any:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no annotation file {path}")
    text = _text(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for a number of thousands of digits
        line = getattr(error, "lineno", 1)
        shown = text.splitlines()[line - 1 : line] or [""]
        cause = getattr(error, "msg", error)
        raise ValueError(f"{path}, line {line}: {shown[0][:200]!r} does not parse: {cause}") from None
    if not isinstance(value, kind):
        raise ValueError(f"{path}, line 1: the file is not like {form}")
    return value


def _text(path: str) -> str:
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as stream:
        return stream.read()


def _line_with(path: str, text: str) -> str:
    head, found, _ = _text(path).partition(text)
    return f"line {head.count(chr(10)) + 1}" if found else "line 1"


def _lines_of_entries(path: str) -> list[int]:
    """Return the line number at which each entry of a list begins."""
    text = _text(path)
    decoder, lines = json.JSONDecoder(), []
    line, counted, position = 1, 0, _BETWEEN.match(text, text.index("[") + 1).end()
    while text[position] != "]":
        line, counted = line + text.count("\n", counted, position), position
        lines.append(line)
        _, position = decoder.raw_decode(text, position)
        position = _BETWEEN.match(text, position).end()
    return lines
