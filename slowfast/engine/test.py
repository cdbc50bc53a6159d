"""Testing: predict all views of every video, join them, measure and save."""

from __future__ import annotations

import json
import os
from typing import Any

import torch
from torch import nn

from slowfast.datasets.build import build_loader
from slowfast.engine.evaluate import run_evaluator
from slowfast.engine.model_setup import ModelSetup, setup_model
from slowfast.engine.optim_step import autocast_dtype
from slowfast.engine.preflight import describe_model, predictions_path
from slowfast.engine.resume import load_test_weights
from slowfast.engine.task import build_task
from slowfast.models import build_model
from slowfast.runtime.consistency import check_consistency, data_facts, launch_facts, weight_facts
from slowfast.runtime.device import device_of
from slowfast.runtime.distributed import barrier, is_main_process
from slowfast.runtime.loader_workers import shield_workers, worker_deaths_explained
from slowfast.runtime.logging import get_logger, log_json_stats
from slowfast.runtime.run_lock import alone_in_output_dir
from slowfast.runtime.seed import seed_all
from slowfast.utils.files import atomic_write

logger = get_logger(__name__)

RESULTS_NAME = "test_results.json"


@alone_in_output_dir
def test(cfg: Any) -> dict[str, Any]:
    """Measure the model of a config on the test split.

    The evaluator of the data set saves predictions to `OUTPUT_DIR/test_predictions.npz` (or to the file
    `TEST.SAVE_RESULTS_PATH` in that folder, .npz or .parquet). Boxes are also saved in AVA's format, as
    `detections.csv` and `groundtruth.csv`. Results are written to `OUTPUT_DIR/test_results.json`.

    With `TEST.NUM_TEMPORAL_CLIPS` the test runs once for each number N in it. Predictions are saved apart, as
    `test_predictions_N.npz`. The results are those of the last number, with `by_temporal_clips`: N -> its results.

    Returns:
        The evaluator's metrics, and `checkpoint` (the file, "" for random weights), `views`, `unreadable_files`,
        `videos` and, for boxes, `key_frames`. Metrics are `top1_acc`, `top1_err`, `macro_acc` and, with more than 5
        classes, `top5_acc` and `top5_err`, in percent; `map` (0 to 1) for several labels a video; `ava_map` (0 to 1)
        and `ava_classes` for boxes. Those of single steps are `step1/...`; those of other ways of joining steps
        `NAME/...`.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: there is no checkpoint, or it does not fit; a view is missing; another job runs in `OUTPUT_DIR`; or
            the processes differ in config, code, data or weights.
        OSError: results cannot be written, or a loader worker died.
        RuntimeError: too many files cannot be read.
    """
    check_consistency(lambda: launch_facts(cfg))
    predictions_path(cfg)
    device = device_of(cfg)
    seed_all(cfg.RNG_SEED)
    model = build_model(cfg)
    checkpoint = load_test_weights(model, cfg)
    if cfg.LOG_MODEL_INFO and is_main_process():
        logger.info("%s", describe_model(model, cfg))
    setup_model(model, device, ModelSetup.from_config(cfg), training=False)
    by_clips = {
        str(count): _test_views(_with_clips(cfg, count), model, checkpoint, device, f"_{count}")
        for count in cfg.TEST.NUM_TEMPORAL_CLIPS
    }
    if by_clips:
        results = {**list(by_clips.values())[-1], "by_temporal_clips": by_clips}
    else:
        results = _test_views(cfg, model, checkpoint, device)
    text = json.dumps(results, indent=2, sort_keys=True) + "\n"
    atomic_write(os.path.join(cfg.OUTPUT_DIR, RESULTS_NAME), text)
    barrier()
    return results


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
    with worker_deaths_explained():
        evaluator = run_evaluator(build_task(cfg), model, loader, cfg, device, autocast_dtype(cfg))
    about = {
        "checkpoint": checkpoint,
        **evaluator.counts(),
        "views": dataset.num_views,
        "unreadable_files": len(evaluator.skipped),
    }
    # Saved before metrics are computed: a failure there must not cost the pass.
    stem, ending = os.path.splitext(predictions_path(cfg))
    written = evaluator.save(f"{stem}{suffix}{ending}", cfg.OUTPUT_DIR, about)
    if written and is_main_process():
        logger.info("the predictions are in %s; tools/evaluate.py measures them again", written[0])
    results = {**evaluator.evaluate(), **about}
    log_json_stats({"_type": "test_final", **results})
    return results


# pytest would collect the function where a test imports it.
test.__test__ = False
