"""Logging, and statistics as JSON.

Each object of statistics is logged as a line for people and as a line `json_stats: {...}` for programs, both to
standard output and `OUTPUT_DIR/stdout.log`; a terminal shows the first alone. The objects, one a line, also go to
`OUTPUT_DIR/json_stats.jsonl`. With what PySlowFast's scripts read besides, they go to `OUTPUT_DIR/json_stats.log`.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Mapping
from typing import Any

import simplejson
from tqdm import tqdm

from slowfast.runtime.distributed import is_main_process
from slowfast.runtime.stats_line import stats_line
from slowfast.utils.files import append_line, check_regular
from slowfast.utils.text import printable

_JSON = "json_stats: %s"
_FORMAT = "[%(asctime)s][%(levelname)s] %(name)s: %(message)s"
_stats_path: str | None = None
_scripts_path: str | None = None  # of PySlowFast's file of statistics
_handlers: list[logging.Handler] = []  # those of `setup_logging`


class _Formatter(logging.Formatter):
    """Formatter of records that cannot act on a terminal, nor pass for several records.

    Lines after the first are indented, so a line that begins with "[" begins a record, whatever a file's name holds.
    """

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record)).replace("\n", "\n  ")


class _ConsoleHandler(logging.Handler):
    """Handler that writes to the current sys.stdout without breaking progress bars; to a terminal no JSON."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if record.msg == _JSON and sys.stdout.isatty():
                return
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()
        except Exception:
            self.handleError(record)


class _FileHandler(logging.Handler):
    """Handler that appends to a file of this program, line by line; the first failure is told, and the run goes on."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path, self._told = path, False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            append_line(self._path, self.format(record))
        except OSError as error:
            if not self._told:
                print(f"warning: log lines are missing in {self._path} ({error.strerror})", file=sys.stderr)
            self._told = True
        except Exception:
            self.handleError(record)


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module; set the log level of its package to INFO."""
    logging.getLogger(name.split(".")[0]).setLevel(logging.INFO)
    return logging.getLogger(name)


def close_logging() -> None:
    """Remove the destinations of `setup_logging`."""
    global _stats_path, _scripts_path
    while _handlers:
        handler = _handlers.pop()
        logging.getLogger().removeHandler(handler)
        handler.close()
    _stats_path = _scripts_path = None
    logging.captureWarnings(False)


def setup_logging(output_dir: str | None = None) -> None:
    """Send log records to standard output and, given a folder, to `stdout.log` in it.

    Ranks other than 0 log warnings only, to standard output. A second call replaces the destinations.

    Raises:
        OSError: the folder cannot be created or written, or what has the name of a log file is no regular file.
    """
    global _stats_path, _scripts_path
    close_logging()
    handlers: list[logging.Handler] = [_ConsoleHandler()]
    if output_dir and is_main_process():
        os.makedirs(output_dir, exist_ok=True)
        names = ("stdout.log", "json_stats.jsonl", "json_stats.log")
        log, _stats_path, _scripts_path = (os.path.join(output_dir, name) for name in names)
        for path in (log, _stats_path, _scripts_path):
            check_regular(path)
        handlers.append(_FileHandler(log))
    for handler in handlers:
        _handlers.append(handler)
        handler.setLevel(logging.INFO if is_main_process() else logging.WARNING)
        handler.setFormatter(_Formatter(_FORMAT, datefmt="%m/%d %H:%M:%S"))
        logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)


def log_json_stats(stats: Mapping[str, Any], for_scripts: Mapping[str, Any] | None = None) -> None:
    """Log an object of statistics. In JSON floats are rounded to six digits; NaN and infinity become null.

    Args:
        stats: the object; {} for one that is for PySlowFast's scripts alone.
        for_scripts: what those read besides or otherwise, in the log and `json_stats.log`; None writes no such file.
    """
    if not is_main_process():
        return
    logger, whole = get_logger(__name__), _json({**stats, **(for_scripts or {})})
    if stats:
        logger.info("%s", stats_line(stats))
    logger.info(_JSON, whole)
    if _stats_path is not None and stats:
        append_line(_stats_path, _json(stats))
    if _scripts_path is not None and for_scripts is not None:
        append_line(_scripts_path, _JSON % whole)


def _json(stats: Mapping[str, Any]) -> str:
    return simplejson.dumps({key: _rounded(value) for key, value in stats.items()}, sort_keys=True)


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
