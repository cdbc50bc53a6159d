"""The command of training and testing: load the configs, run them, and turn errors into an exit status."""

from __future__ import annotations

import argparse
import dataclasses
import faulthandler
import functools
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slowfast.checkpoint.io import find_checkpoints
from slowfast.config import activate_projects
from slowfast.datasets.loading.unreadable import UnreadableError
from slowfast.datasets.video.reader import VideoError
from slowfast.engine.model_setup import CompileError
from slowfast.engine.resume import load_run_config
from slowfast.engine.task import task_class
from slowfast.engine.test import test
from slowfast.engine.train import train
from slowfast.runtime.distributed import is_main_process
from slowfast.runtime.elastic import LostContactError, ProcessFailedError, RunStopped
from slowfast.runtime.launch import launch
from slowfast.runtime.logging import get_logger, setup_logging
from slowfast.runtime.run_lock import alone_in_output_dir, beside_training, run_lock
from slowfast.runtime.signals import TrainingInterrupted
from slowfast.utils.errors import print_error

logger = get_logger(__name__)

_FAILURE = 1
_USER_ERROR = 2


@dataclasses.dataclass(frozen=True)
class App:
    """Name what follows training and test.

    Attributes:
        run: function of the config that runs it, in one process.
        check: function of the config that raises what is wrong with the settings of the app, before a training and a
            test; None for none.
    """

    run: Callable[[Any], object]
    check: Callable[[Any], object] | None = None


def _run(cfg: Any, visualize: App | None, demo: App | None) -> None:
    """Train, test, visualize and run the demo in this process, as the config says."""
    activate_projects(cfg)
    if cfg.TRAIN.ENABLE:
        _train_and_test(cfg)
    elif cfg.TEST.ENABLE:
        _test(cfg)
    if visualize is not None and _visualizes(cfg):
        _visualize(cfg, visualize)
    if demo is not None and cfg.DEMO.ENABLE and is_main_process():
        demo.run(cfg)


@alone_in_output_dir
def _train_and_test(cfg: Any) -> None:
    setup_logging(cfg.OUTPUT_DIR)
    train(cfg)
    if cfg.TEST.ENABLE:
        test(cfg)


@beside_training
def _test(cfg: Any) -> None:
    setup_logging(cfg.OUTPUT_DIR)
    test(cfg)


def _visualizes(cfg: Any) -> bool:
    """Return True if the config asks for pictures of a model, or of saved predictions."""
    board = cfg.TENSORBOARD
    wanted = board.MODEL_VIS.ENABLE or board.WRONG_PRED_VIS.ENABLE or board.PREDICTIONS_PATH
    return board.ENABLE and bool(wanted)


def _visualize(cfg: Any, visualize: App) -> None:
    with run_lock(cfg.OUTPUT_DIR):
        setup_logging(cfg.OUTPUT_DIR)
        if is_main_process():
            visualize.run(cfg)


def main(
    arguments: argparse.Namespace,
    extra: Sequence[Any] = (),
    demo: App | None = None,
    visualize: App | None = None,
) -> int:
    """Load the config, run it, and turn errors into a message and an exit status.

    Args:
        arguments: of `slowfast.engine.arguments.parse_arguments`.
        extra: overrides merged after the user's.
        demo: runs the demo; None leaves `DEMO.ENABLE` without effect.
        visualize: draws what TENSORBOARD asks for; None leaves its `MODEL_VIS`, `WRONG_PRED_VIS` and `PREDICTIONS_PATH`
            without effect.

    Returns:
        0; 2 for a user's mistake, explained in the last line; 1 if a process failed otherwise; 143 after a SIGTERM and
        130 after Ctrl-C, with the training state saved.
    """
    cfg = None
    _show_stack_on_request()
    try:
        setup_logging()
        overrides = [*(arguments.opts or []), *arguments.overrides, *_host_overrides(arguments), *extra]
        configs = [load_run_config(file, overrides) for file in arguments.cfg or [None]]
        _check_configs(configs, demo, visualize)
        if len(configs) > 1:
            _set_own_folders(configs, arguments.cfg)
        for cfg in configs:
            _check_apps(cfg, demo, visualize)
        for number, cfg in enumerate(configs):
            if len(configs) > 1:
                logger.info("run %d of %d: %s", number + 1, len(configs), arguments.cfg[number])
            if not cfg.TRAIN.ENABLE and not cfg.TEST.ENABLE:
                _use_one_process(cfg)
            launch(
                functools.partial(_run, visualize=visualize, demo=demo), cfg, arguments.num_procs, arguments.init_method
            )
    except TrainingInterrupted as stop:
        logger.info("%s", stop)
        return 128 + stop.signum
    except KeyboardInterrupt:
        if is_main_process():
            print(f"\nstopped; {_describe_resume(cfg)}", file=sys.stderr)
        return 128 + signal.SIGINT
    except RunStopped as stop:
        logger.info("%s; %s", stop, _describe_resume(cfg))
        return 128 + stop.signum
    except (ProcessFailedError, LostContactError, CompileError) as error:
        if arguments.debug:
            raise
        print_error(error)
        return _USER_ERROR if isinstance(error, ProcessFailedError) and error.exitcode == _USER_ERROR else _FAILURE
    except (ValueError, OSError, FloatingPointError, UnreadableError, VideoError) as error:
        if arguments.debug:
            raise
        print_error(_without_traceback(error), "(--debug shows the traceback)")
        return _USER_ERROR
    return 0


def _check_configs(configs: Sequence[Any], demo: App | None, visualize: App | None) -> None:
    """Check that every run of a command does something.

    Raises:
        ValueError: a run does nothing.
    """
    for cfg in configs:
        works = cfg.TRAIN.ENABLE or cfg.TEST.ENABLE or (visualize is not None and _visualizes(cfg))
        if not works and not (demo is not None and cfg.DEMO.ENABLE):
            pictures = (
                ", or of TENSORBOARD ENABLE with MODEL_VIS.ENABLE, WRONG_PRED_VIS.ENABLE or PREDICTIONS_PATH"
                if visualize is not None
                else ""
            )
            raise ValueError(
                "TRAIN.ENABLE, TEST.ENABLE and DEMO.ENABLE are all False, so there is nothing to do. Set one of them "
                f"to True{pictures}"
            )


def _check_apps(cfg: Any, demo: App | None, visualize: App | None) -> None:
    """Check the settings of the apps that follow a training or a test, which may take days; alone, they check them.

    Raises:
        FileNotFoundError, ValueError: as the checks of the apps.
    """
    if cfg.TRAIN.ENABLE or cfg.TEST.ENABLE:
        for app, wanted in ((visualize, _visualizes(cfg)), (demo, cfg.DEMO.ENABLE)):
            if app is not None and app.check is not None and wanted:
                app.check(cfg)


def _use_one_process(cfg: Any) -> None:
    """Change the config of a demo or of pictures alone, in place: they have one process."""
    cfg.defrost()
    cfg.NUM_GPUS, cfg.NUM_SHARDS = min(cfg.NUM_GPUS, 1), 1
    cfg.freeze()


def _set_own_folders(configs: Sequence[Any], files: Sequence[str]) -> None:
    """Give each run that shares its OUTPUT_DIR a folder in it, named after its file, in place.

    In one folder a run would resume from the checkpoints of another.

    Raises:
        ValueError: two runs still have the same folder.
    """
    folders = [os.path.realpath(cfg.OUTPUT_DIR) for cfg in configs]
    for cfg, file, folder in zip(configs, files, folders, strict=True):
        if folders.count(folder) > 1:
            cfg.defrost()
            cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, Path(file).stem)
            cfg.freeze()
            logger.info("OUTPUT_DIR of %s: %s", file, cfg.OUTPUT_DIR)
    own = [os.path.realpath(cfg.OUTPUT_DIR) for cfg in configs]
    if len(set(own)) < len(own):
        shared = max(own, key=own.count)
        first, second, *_ = (file for file, folder in zip(files, own, strict=True) if folder == shared)
        raise ValueError(f"--cfg {first} and {second} have the OUTPUT_DIR {shared}; set another in each")


def _describe_resume(cfg: Any) -> str:
    """Say what the same command would do after a stop."""
    files = find_checkpoints(cfg.OUTPUT_DIR, task_class(cfg).pretrains) if cfg is not None else []
    return f"the same command continues from {files[-1].path}" if files else "there is no checkpoint yet"


def _host_overrides(arguments: argparse.Namespace) -> list[Any]:
    """Return the overrides for `--num_shards` and `--shard_id`."""
    given = {"NUM_SHARDS": arguments.num_shards, "SHARD_ID": arguments.shard_id}
    return [item for key, value in given.items() if value is not None for item in (key, value)]


def _show_stack_on_request() -> None:
    """Dump the stacks of all threads to standard error on SIGUSR1, for debugging a process that hangs."""
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, file=sys.__stderr__)


def _without_traceback(error: Exception) -> Exception | str:
    """Return the error, or its message without the traceback that DataLoader adds to errors of workers."""
    text = str(error)
    if not text.startswith("Caught "):
        return error
    return re.split(rf"^(?:\w+\.)*{type(error).__name__}: ", text, flags=re.MULTILINE)[-1].strip()
