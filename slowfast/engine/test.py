"""Test and validation: predict all views of every video, join them, measure and save."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import simplejson
import torch
from torch import nn
from torch.utils.data import DataLoader

from slowfast.checkpoint.io import epochs_completed
from slowfast.datasets.base import ClipDataset
from slowfast.datasets.build import build_loader
from slowfast.datasets.step_batches import Steps, long_clip_steps, step_loader
from slowfast.engine.consistency import check_consistency, data_facts, launch_facts, weight_facts
from slowfast.engine.epoch_config import evaluation_parts
from slowfast.engine.fastest import settle
from slowfast.engine.hooks import Recorder, memory_stats
from slowfast.engine.loop import predict_batches, predict_steps
from slowfast.engine.model_setup import ModelSetup, setup_model
from slowfast.engine.optim_step import autocast_dtype
from slowfast.engine.pictures import draw_classes
from slowfast.engine.preflight import (
    RESULTS_NAME,
    VAL_RESULTS_NAME,
    describe_model,
    pickle_path,
    predictions_path,
    record_config,
)
from slowfast.engine.pyslowfast_rows import PassRows, log_test, name_as_published, validation
from slowfast.engine.resume import load_test_weights
from slowfast.engine.state import TrainState
from slowfast.engine.task import Task, build_task
from slowfast.engine.trackers import build_trackers, check_trackers
from slowfast.engine.validation_loss import ValidationLoss
from slowfast.evaluation.class_plots import ClassPlots
from slowfast.evaluation.evaluators import Evaluator
from slowfast.evaluation.finite import refusal
from slowfast.models import build_model
from slowfast.runtime.device import device_of
from slowfast.runtime.distributed import all_gather_object, any_process, atomic_write, barrier, is_main_process
from slowfast.runtime.loader_workers import shield_workers, worker_deaths_explained
from slowfast.runtime.logging import get_logger, log_json_stats
from slowfast.runtime.run_lock import beside_training, is_alone
from slowfast.runtime.seed import seed_all
from slowfast.utils.files import check_regular

logger = get_logger(__name__)


@beside_training
def test(cfg: Any) -> dict[str, Any]:
    """Measure the model of a config on the test split.

    The evaluator of the data set saves predictions to `OUTPUT_DIR/test_predictions.npz` (or to the file
    `TEST.SAVE_RESULTS_PATH` in that folder, .npz or .parquet), and beside it a .csv with the best classes of each video
    by name. `TEST.SAVE_RESULTS_PATH x.pkl` writes PySlowFast's file too. Boxes are also saved in AVA's format, as
    `detections.csv` and `groundtruth.csv`. Results are written to `OUTPUT_DIR/test_results.json`, all settings to
    `config.yaml`, and metrics to the trackers, as `Test/...`.

    With `TEST.NUM_TEMPORAL_CLIPS` the test runs once for each number N in it. Predictions are saved apart, as
    `test_predictions_N.npz`, and metrics are `TestN/...`. The results are those of the last number, with
    `by_temporal_clips`: N -> its results.

    Where no video of the list has a label, predictions are saved and nothing is measured. In the folder of a training
    that goes on, its newest checkpoint is tested, and `config.yaml` is left alone.

    Returns:
        The evaluator's metrics, and `checkpoint` (the file, "" for random weights), `views`, `unreadable_files`,
        `videos` and, for boxes, `key_frames` and `ava_evaluation` (`AVA.EVALUATION`). Metrics are `top1_acc`,
        `top1_err`, `macro_acc` and, with more than 5 classes, `top5_acc` and `top5_err`, in percent; `map` (0 to 1) for
        several labels a video; `ava_map` (0 to 1) and `ava_classes` for boxes. Those of single steps are `step1/...`;
        those of other ways of joining steps `NAME/...`.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: there is no checkpoint, or it does not fit; a view is missing; scores are NaN or infinite (the
            predictions are saved); another test runs in `OUTPUT_DIR`; or the processes differ in config, code, data
            or weights.
        OSError: results cannot be written, or a loader worker died.
        RuntimeError: too many files cannot be read.
    """
    check_consistency(lambda: launch_facts(cfg))
    if not build_task(cfg).evaluates:
        logger.warning("nothing is tested: TASK %s gives no class scores with these settings", cfg.TASK)
        return {}
    if is_main_process():
        check_trackers(cfg)
    predictions_path(cfg)  # a wrong name stops the run here
    device = device_of(cfg)
    seed_all(cfg.RNG_SEED)
    model = build_model(cfg)
    checkpoint = load_test_weights(model, cfg)
    if is_alone(cfg.OUTPUT_DIR):  # config.yaml stays that of a training that goes on
        record_config(cfg, log=not cfg.TRAIN.ENABLE)
    if cfg.LOG_MODEL_INFO and is_main_process():
        logger.info("%s", describe_model(model, cfg))
    cfg = settle(cfg, training=False)
    setup_model(model, device, ModelSetup.from_config(cfg), training=False)
    clips = cfg.TEST.NUM_TEMPORAL_CLIPS
    if clips and cfg.TEST.NUM_ENSEMBLE_VIEWS not in clips:
        logger.warning(
            "TEST.NUM_ENSEMBLE_VIEWS %d has no effect on this test, which runs once for each of "
            "TEST.NUM_TEMPORAL_CLIPS %s; set those to [] for one test of %d",
            *(cfg.TEST.NUM_ENSEMBLE_VIEWS, clips, cfg.TEST.NUM_ENSEMBLE_VIEWS),
        )
    by_clips = {
        str(count): _test_views(_with_clips(cfg, count), model, checkpoint, device, f"_{count}") for count in clips
    }
    if by_clips:
        results = {**list(by_clips.values())[-1], "by_temporal_clips": by_clips}
    else:
        results = _test_views(cfg, model, checkpoint, device)
    text = simplejson.dumps(results, indent=2, sort_keys=True, ignore_nan=True) + "\n"
    atomic_write(os.path.join(cfg.OUTPUT_DIR, RESULTS_NAME), text)
    if is_main_process():
        _track(cfg, {f"Test{count}": values for count, values in by_clips.items()} or {"Test": results})
    barrier()
    return results


def _track(cfg: Any, results: Mapping[str, dict[str, Any]]) -> None:
    """Give the metrics of a test, by their tags, to the trackers, at the number of epochs of its checkpoint."""
    for tracker in build_trackers(cfg, None):
        for tag, values in results.items():
            metrics = {name: value for name, value in values.items() if isinstance(value, float)}
            if metrics:
                tracker.record(tag, metrics, epochs_completed(values["checkpoint"]))
        tracker.close()


def _with_clips(cfg: Any, count: int) -> Any:
    """Return the config with another number of temporal views."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.NUM_ENSEMBLE_VIEWS = count
    cfg.freeze()
    return cfg


def _test_views(cfg: Any, model: nn.Module, checkpoint: str, device: torch.device, suffix: str = "") -> dict[str, Any]:
    """Predict all views, save the predictions and return the results, see `test`.

    Args:
        suffix: of the name of the predictions' file, before its ending.
    """
    loader = build_loader(cfg, "test")
    shield_workers(loader)
    dataset = loader.dataset
    check_consistency(lambda: {**data_facts("test", dataset), **weight_facts(model)})
    logger.info(
        "testing %d %s, %d view(s) each, class scores joined by %s",
        dataset.num_videos,
        dataset.info.unit,
        dataset.num_views,
        cfg.DATA.ENSEMBLE_METHOD,
    )
    ClassPlots.from_config(cfg, dataset.info.class_names)  # a wrong file of classes stops the run here
    task = build_task(cfg)
    steps = long_clip_steps(task, dataset)
    rows = PassRows(cfg, len(loader), device)
    with worker_deaths_explained():
        evaluator, broken = _run_evaluator(task, model, loader, cfg, device, autocast_dtype(cfg), rows, steps=steps)
    about = {
        "checkpoint": checkpoint,
        **evaluator.counts(),
        **evaluator.protocol(),
        "views": dataset.num_views,
        "unreadable_files": len(evaluator.skipped),
    }
    # Saved before metrics are computed: a failure there must not cost the pass.
    stem, ending = os.path.splitext(predictions_path(cfg))
    written = evaluator.save(f"{stem}{suffix}{ending}", cfg.OUTPUT_DIR, about)
    name_as_published(cfg, written)
    if pickle_path(cfg) and not evaluator.save_pickle(pickle_path(cfg)):
        logger.warning("%s is not written: it is for scores of whole videos", pickle_path(cfg))
    labeled = evaluator.labeled
    if written and is_main_process():
        after = (
            "tools/evaluate.py measures them again" if labeled else f"{dataset.info.source} has no labels: no metrics"
        )
        logger.info("the predictions are in %s; %s", written[0], after)
    _check_predictions(dataset, broken)
    results = {**(evaluator.evaluate() if labeled else {}), **about}
    if labeled:
        draw_classes(cfg, dataset, evaluator, "test", None, epochs_completed(checkpoint))
    log_json_stats({"_type": "test_final", **results})
    if labeled:
        log_test(cfg, results)
    return results


# pytest would collect the function where a test imports it.
test.__test__ = False


def evaluate(
    state: TrainState,
    loader: DataLoader,
    recorder: Recorder,
    should_stop: Callable[[], bool],
    keep: Callable[[dict[str, float]], None] = lambda metrics: None,
) -> dict[str, float]:
    """Measure the model on the validation split, log the metrics as `val_epoch` and write `val_results.json`.

    Metrics of single steps and other ensembles ("step1/...", "max/...") are left to a test. `loss` is one of the
    metrics, see `ValidationLoss`, unless the evaluator has one of that name.

    Args:
        should_stop: True ends the pass early.
        keep: called with the metrics before `val_results.json` says that the evaluation is done: a run that is
            interrupted in between evaluates again.

    Returns:
        The metrics; empty if `should_stop` returned True.

    Raises:
        RuntimeError: too many files cannot be read.
        ValueError: no clip could be read, or scores are NaN or infinite.
    """
    started = time.perf_counter()
    dtype = state.optim_step.autocast_dtype
    task, model = evaluation_parts(state)
    loss = ValidationLoss.from_config(state.run_cfg)
    epoch = f"{state.epoch}/{state.max_epoch}"
    rows = PassRows(state.cfg, len(loader), state.device, epoch)
    steps = long_clip_steps(task, loader.dataset)
    evaluator, broken = _run_evaluator(
        task, model, loader, state.cfg, state.device, dtype, rows, should_stop, loss, steps
    )
    if any_process(should_stop(), state.device):
        return {}
    _check_predictions(loader.dataset, broken)
    metrics = {name: value for name, value in evaluator.evaluate().items() if "/" not in name}
    mean_loss = None if loss is None else loss.read()
    if mean_loss is not None:
        metrics = {"loss": mean_loss, **metrics}
    stats = {
        "_type": "val_epoch",
        "epoch": epoch,
        "epoch_seconds": time.perf_counter() - started,
        **evaluator.counts(),
        **evaluator.protocol(),
        "unreadable_files": len(evaluator.skipped),
        **memory_stats(state.device),
        **metrics,
    }
    added = validation(state.cfg, stats, recorder.least_errors, rows.seconds, state.device)
    recorder.record(stats, "Val", state.epoch, added)
    draw_classes(state.run_cfg, loader.dataset, evaluator, "val", recorder.boards, state.epoch)
    keep(metrics)
    results = {"epoch": state.epoch, **metrics, **evaluator.protocol()}
    text = simplejson.dumps(results, indent=2, sort_keys=True, ignore_nan=True) + "\n"
    atomic_write(os.path.join(state.cfg.OUTPUT_DIR, VAL_RESULTS_NAME), text)
    return metrics


def _run_evaluator(
    task: Task,
    model: nn.Module,
    loader: DataLoader,
    cfg: Any,
    device: torch.device,
    dtype: torch.dtype | None,
    rows: PassRows,
    should_stop: Callable[[], bool] = lambda: False,
    loss: ValidationLoss | None = None,
    steps: Steps | None = None,
) -> tuple[Evaluator, set[int]]:
    """Predict all batches of `loader`.

    Args:
        dtype: of autocast; None for full precision.
        rows: takes in every batch, for the log.
        should_stop: asked after each batch; True ends the pass early.
        loss: takes in every batch.
        steps: in which clips are read; None reads each clip at once.

    Returns:
        The data set's evaluator, and the videos (or key frames) with scores that are NaN or infinite; both gathered
        over the processes.

    Raises:
        RuntimeError: more files cannot be read than `DATA.MAX_UNREADABLE_FRACTION` allows.
    """
    dataset = loader.dataset
    evaluator, files = dataset.make_evaluator(cfg), dataset.unreadable
    broken: set[int] = set()
    if steps is None:
        predictions = predict_batches(task, model, loader, cfg, device, dtype)
    else:
        predictions = predict_steps(task, model, step_loader(loader, steps), cfg, device, dtype)
    for batch, prediction in predictions:
        for sample in batch.missing:
            evaluator.skip(sample.video)
        files.update_from(batch.unreadable)
        files.check()
        if prediction is not None:
            broken |= prediction.broken(batch.video)
            if loss is not None:
                loss.add(batch, prediction)
            evaluator.process(batch, prediction)
        rows.add(batch, prediction)
        if should_stop():
            break
    for files_of_rank, broken_of_rank in all_gather_object((dict(files), broken)):
        files.update_from(files_of_rank.items())
        broken |= broken_of_rank
    evaluator.gather()
    files.check()
    return evaluator, broken


def _check_predictions(dataset: ClipDataset, broken: set[int]) -> None:
    """Raise ValueError if scores are NaN or infinite, whatever the data set's evaluator would make of them."""
    if broken:
        names = (dataset.names[number] for number in sorted(broken))
        raise refusal(len(broken), dataset.num_videos, dataset.info.unit, names)


def last_evaluation(output_dir: str) -> int:
    """Return the number of epochs before the run's last validation, 0 without one; every process calls it."""
    found = 0
    if is_main_process():
        path = os.path.join(output_dir, VAL_RESULTS_NAME)
        try:
            check_regular(path)  # opening a named pipe would wait for ever
            with open(path, encoding="utf-8") as stream:
                found = int(json.load(stream)["epoch"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            found = 0  # no file, or one of another program
    return all_gather_object(found)[0]
