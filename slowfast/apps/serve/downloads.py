"""Answers of a stream as files: JSON, CSV, subtitles, and a video with the answers drawn in."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from slowfast.apps.predict import people_files
from slowfast.apps.predict.drawn import check_drawing, draw_frames
from slowfast.apps.predict.painter import Caption
from slowfast.apps.predict.run import subtitles
from slowfast.apps.predict.tables import COLUMNS, PEOPLE_COLUMNS, write_csv
from slowfast.apps.serve.decoder import DecodingLimits, decode
from slowfast.apps.serve.limits import RefusedError
from slowfast.apps.serve.sessions import Session
from slowfast.apps.serve.videos import VideoStore
from slowfast.utils.errors import short
from slowfast.utils.files import NoRoomError, no_room_explained

MEDIA_TYPES = {"json": "application/json", "csv": "text/csv", "vtt": "text/vtt", "mp4": "video/mp4"}


def write_answers(session: Session, kind: str, path: Path, store: VideoStore, limits: DecodingLimits) -> None:
    """Write the answers of a stream so far into a file.

    Args:
        session: the stream.
        kind: one of `MEDIA_TYPES`.
        path: of the file; it gets no part of it where this fails.
        store: of the videos, for one with the answers drawn in.
        limits: on decoding it.

    Raises:
        RefusedError: a camera's or source's stream has no video (404), nor has one that was removed; the video cannot
            be read or drawn into (400); no room (507).
    """
    writers: dict[str, Callable[[], None]] = {
        "json": lambda: _write_json(session, path),
        "csv": lambda: _write_csv(session, path),
        "vtt": lambda: _write_vtt(session, path),
        "mp4": lambda: _write_mp4(session, path, store, limits),
    }
    try:
        with no_room_explained(path):
            writers[kind]()
    except NoRoomError:
        path.unlink(missing_ok=True)
        raise RefusedError(507, "the server has no room for the file; try again later") from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _write_json(session: Session, path: Path) -> None:
    value = {"video": session.title, "model": session.model.name, "answers": list(session.answers)}
    path.write_text(json.dumps(value) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _lines(session: Session, path: Path) -> Iterator[str]:
    """Write the answers as JSON lines into a file beside `path`, and remove it."""
    lines = path.with_suffix(".jsonl")
    try:
        with open(lines, "w", encoding="utf-8") as stream:
            for answer in list(session.answers):
                stream.write(json.dumps({"video": session.title, **answer}) + "\n")
        yield os.fspath(lines)
    finally:
        lines.unlink(missing_ok=True)


def _write_csv(session: Session, path: Path) -> None:
    with _lines(session, path) as lines:
        write_csv(lines, (PEOPLE_COLUMNS if session.model.boxes else COLUMNS)["answers"])


def _write_vtt(session: Session, path: Path) -> None:
    if session.model.boxes:
        with _lines(session, path) as lines:
            cues = list(people_files.cues_of(lines))
    else:
        answers = list(session.answers)
        cues = [(a["start_s"], a["end_s"], f"{a['names'][0]} {a['scores'][0]:.2f}") for a in answers]
    path.write_text(subtitles(cues), encoding="utf-8")


def _write_mp4(session: Session, path: Path, store: VideoStore, limits: DecodingLimits) -> None:
    if not session.video:
        raise RefusedError(404, f"a stream of a {session.title} has no video to draw into; take another format")
    answers = list(session.answers)
    if session.model.boxes:
        captions = people_files.captions((answer["key_s"], answer["persons"]) for answer in answers)
    else:
        captions = (Caption(answer["start_s"], answer["names"], answer["scores"]) for answer in answers)
    try:
        check_drawing()
        rate = session.model.predictor.settings.target_fps
        with store.in_use(session.video) as video, decode(video.path, limits, fps=rate) as decoded:
            draw_frames(decoded, os.fspath(path), captions, decoded.facts.seconds)
    except ValueError as error:
        raise RefusedError(400, f"the video cannot be drawn: {short(error, 300)}") from None
