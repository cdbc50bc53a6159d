"""Answer about a live source: files that grow line by line, and a view in the terminal."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

from tqdm import tqdm

from slowfast.apps.predict.drawn import check_drawing, drawn_video
from slowfast.apps.predict.events import Event, EventFinder
from slowfast.apps.predict.live_answers import LiveAnswers
from slowfast.apps.predict.predictor import Predictor
from slowfast.apps.predict.run import PredictOptions, event_facts, facts_of, keep_together
from slowfast.apps.predict.scorer import Answer
from slowfast.apps.predict.tables import COLUMNS, write_csv
from slowfast.runtime.logging import get_logger
from slowfast.utils.files import append_line
from slowfast.utils.text import one_line

logger = get_logger(__name__)

_BAR = 20  # characters of a score of 1
_NAME = 30  # characters of a class name, at most


def predict_live(predictor: Predictor, address: str, options: PredictOptions, stride: float = 0.0) -> dict[str, Any]:
    """Answer about a live source until it ends, or until Ctrl-C or SIGTERM.

    With a folder, answers and events are appended to `answers.jsonl` and `events.jsonl` as they come. Each line has the
    source and when it was opened, so a later start, or another source, goes on in the same files. The end writes
    `answers.csv` and `events.csv` of all lines. With `video` the frames, each with the last answer before it drawn in,
    are written to `drawn-TIME-PROCESS.mp4`, without sound. Without a folder, answers or events are printed. In a
    terminal a view of the last answer is shown.

    Args:
        options: their mode has to be "stream".
        stride: as of a session.

    Returns:
        `source`, `answers`, `video_seconds`, and of the source `received`, `dropped` and `losses`; `resets` of memory;
        with `video` the path `drawn`.

    Raises:
        VideoError: the source cannot be opened, or read any more; the files are whole.
        ValueError: options that do not fit a live source; or the folder holds answers made in another way.
        OSError: a file cannot be written.
    """
    given = {
        f"--mode {options.mode}": options.mode != "stream",
        "--shard, or torchrun": options.num_shards > 1,
        "--boxes": options.boxes,
    }
    if any(given.values()):
        raise ValueError(
            "a live source is answered as a stream, by one process, and without boxes; leave out "
            + " and ".join(name for name, there in given.items() if there)
        )
    if options.video:
        check_drawing()
    with (
        _stopped_by_sigterm(),
        predictor.live(address, options.top, options.fps, stride) as answers,
        contextlib.ExitStack() as files,
    ):
        if options.output:
            keep_together(predictor, options, mode="live", stride=stride)
        count, end_s = 0, 0.0
        report = _Report(answers, options, predictor.class_names)
        drawn = ""
        if options.video:
            began = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
            drawn = os.path.join(options.output, f"drawn-{began}-{os.getpid()}.mp4")
            video = files.enter_context(drawn_video(drawn, growing=True))
            answers.on_frame = lambda frame: video.add(frame.pixels, frame.stamp_s, report.last)
        with contextlib.closing(report), contextlib.suppress(KeyboardInterrupt):
            for answer in answers:
                report.add(answer)
                count, end_s = count + 1, answer.end_s
        source = answers.source
        return {
            "source": source.name,
            "answers": count,
            "video_seconds": round(end_s, 3),
            "received": source.received,
            "dropped": source.dropped,
            "losses": source.losses,
            "resets": answers.resets,
            **({"drawn": drawn} if drawn else {}),
        }


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM stop as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


class _Report:
    """Write, print and show the answers; `last` is the last one."""

    def __init__(self, answers: LiveAnswers, options: PredictOptions, class_names: Sequence[str]) -> None:
        self._answers, self._output = answers, options.output
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._about = {"video": answers.source.name, "started": started}
        self._finder = EventFinder(options.rule, class_names) if options.rule else None
        self.last: Answer | None = None
        self._view = _View(options.top) if sys.stdout.isatty() and sys.stderr.isatty() else None

    def add(self, answer: Answer) -> None:
        """Take in the next answer."""
        self.last = answer
        if self._output:
            lag_s = round(self._answers.lag_s, 3)
            self._append("answers", {**self._about, **facts_of(answer), "lag_s": lag_s})
        elif not self._finder and not self._view:
            print(f"{answer}, {self._answers.lag_s:.2f} s behind", flush=True)
        self._add_events(self._finder.push(answer) if self._finder else [])
        if self._view:
            self._view.show(answer, self._answers)

    def close(self) -> None:
        """End the events and the view, and write the tables."""
        self._add_events(self._finder.finish() if self._finder else [])
        if self._view:
            self._view.close()
        for kind in ("answers", "events") if self._output else ():
            if os.path.exists(self._path(kind)):
                write_csv(self._path(kind), (*COLUMNS[kind], "started"))

    def _add_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if self._output:
                self._append("events", {**self._about, **event_facts(event)})
            else:
                tqdm.write(str(event), file=sys.stdout)
                sys.stdout.flush()

    def _append(self, kind: str, line: dict[str, Any]) -> None:
        append_line(self._path(kind), json.dumps(line))

    def _path(self, kind: str) -> str:
        return os.path.join(self._output, f"{kind}.jsonl")


class _View:
    """Block of lines at the bottom of the terminal: the best classes with bars, and how the stream goes."""

    def __init__(self, classes: int) -> None:
        self._lines = [tqdm(bar_format="{desc}", position=place) for place in range(classes + 1)]

    def show(self, answer: Answer, answers: LiveAnswers) -> None:
        """Show an answer."""
        source = answers.source
        status = (
            f"{answer.start_s:.1f} to {answer.end_s:.1f} s, {answers.lag_s:.2f} s behind, {source.dropped} frames "
            f"dropped, {answers.speed:.1f} x real time"
        )
        texts = [status]
        for name, score in zip(answer.names, answer.scores, strict=True):
            bar = "#" * round(_BAR * min(max(float(score), 0.0), 1.0))
            texts.append(f"{one_line(name)[:_NAME]:{_NAME}} {score:6.3f} {bar}")
        columns = shutil.get_terminal_size().columns - 1
        for line, text in zip(self._lines, texts, strict=False):
            line.set_description_str(text[:columns])

    def close(self) -> None:
        """Leave the block as it is, above the next output."""
        for line in self._lines:
            line.close()
