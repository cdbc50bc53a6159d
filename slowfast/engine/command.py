"""The command line: `--cfg FILE [KEY VALUE ...]`, one clear line for a user's mistake."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any

from slowfast.config import activate_projects, load_config
from slowfast.datasets.unreadable import UnreadableError
from slowfast.engine.interrupt import TrainingInterrupted
from slowfast.engine.preflight import check_output_dir
from slowfast.engine.test import test
from slowfast.engine.train import train
from slowfast.utils.launch import launch
from slowfast.utils.logging import get_logger, setup_logging

logger = get_logger(__name__)

USER_ERROR = 2
# What shells report for a process that a SIGTERM ended.
INTERRUPTED = 128 + signal.SIGTERM


def run(cfg: Any) -> None:
    """Train and test as `TRAIN.ENABLE` and `TEST.ENABLE` say, in this process."""
    check_output_dir(cfg.OUTPUT_DIR)
    setup_logging(cfg.OUTPUT_DIR)
    activate_projects(cfg)
    if cfg.TRAIN.ENABLE:
        train(cfg)
    if cfg.TEST.ENABLE:
        test(cfg)


def main(argv: Sequence[str] | None = None, extra: Sequence[Any] = (), description: str = "") -> int:
    """Load the config, run it, and turn what goes wrong into a message and an exit status.

    Args:
        argv: the command line without the program's name; None for this process's own.
        extra: overrides that come after the user's.
        description: for `--help`.

    Returns:
        0; 2 after a mistake that the last line explains; 143 after a SIGTERM, with the state saved.
    """
    arguments = parse_arguments(argv, description)
    try:
        setup_logging()
        cfg = load_config(arguments.cfg, [*(arguments.opts or []), *arguments.overrides, *extra])
        launch(run, cfg, arguments.num_procs)
    except TrainingInterrupted as stop:
        logger.info("%s", stop)
        return INTERRUPTED
    except (ValueError, OSError, FloatingPointError, UnreadableError) as error:
        if arguments.debug:
            raise
        print(f"error: {own_words(error)} (--debug shows where)", file=sys.stderr)
        return USER_ERROR
    return 0


def own_words(error: Exception) -> str:
    """The message of an error; one that comes from a loader's worker is wrapped in that process's traceback."""
    text = str(error)
    if not text.startswith("Caught "):
        return text
    return re.split(rf"^(?:\w+\.)*{type(error).__name__}: ", text, flags=re.MULTILINE)[-1].strip()


def parse_arguments(argv: Sequence[str] | None, description: str) -> argparse.Namespace:
    """The command line as a namespace of `cfg`, `overrides`, `opts`, `num_procs`, `debug`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--cfg", "--cfg_file", required=True, metavar="FILE", help="YAML file of settings")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the file's")
    parser.add_argument("--opts", nargs="+", metavar="KEY VALUE", help="the same, as older command lines write it")
    parser.add_argument(
        "--num_procs", type=int, help="with NUM_GPUS 0: this many CPU processes that share each batch (for tests)"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    return parser.parse_args(argv)
