"""Testing: all views of every video, joined, measured and written down."""

from __future__ import annotations

import json
import os
from typing import Any

from slowfast.datasets.build import build_loader
from slowfast.engine.evaluate import gather_scores
from slowfast.engine.model_setup import ModelSetup, setup_model
from slowfast.engine.optim_step import autocast_dtype
from slowfast.engine.preflight import describe_model, predictions_path
from slowfast.engine.resume import load_test_weights
from slowfast.engine.task import build_task
from slowfast.evaluation.ava_files import write_detections, write_groundtruth
from slowfast.evaluation.predictions import BoxPredictions
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
DETECTIONS_NAME, GROUNDTRUTH_NAME = "detections.csv", "groundtruth.csv"


@alone_in_output_dir
def test(cfg: Any) -> dict[str, Any]:
    """Measure the model of a config on the test split.

    All class scores go to `OUTPUT_DIR/test_predictions.npz` (or `TEST.SAVE_RESULTS_PATH`, in that folder; .npz or
    .parquet) before anything is computed from them, those of boxes that count also to `detections.csv` and
    `groundtruth.csv`, in AVA's format; the result goes to `OUTPUT_DIR/test_results.json`.

    Returns:
        `top1_acc`, `top5_acc`, `top1_err`, `top5_err`, `macro_acc` in percent, or `map` in 0..1, or for boxes
        `ava_map` in 0..1; where a clip is read in steps the same of single steps as `step1/...`, and of other ways to
        join them by their names; `checkpoint` (the file, "" for random weights), `videos`, `views`,
        `unreadable_files`.

    Raises:
        FileNotFoundError, ValueError: no such checkpoint, one that does not fit, or a view that never came; another
            job works in `OUTPUT_DIR`; or the processes of this one were not started alike.
        OSError: results cannot be written, or a loader's worker process died.
        RuntimeError: too many files cannot be read.
    """
    check_consistency(lambda: launch_facts(cfg))
    path = predictions_path(cfg)
    device = device_of(cfg)
    seed_all(cfg.RNG_SEED)
    model = build_model(cfg)
    checkpoint = load_test_weights(model, cfg)
    if cfg.LOG_MODEL_INFO and is_main_process():
        logger.info("%s", describe_model(model, cfg))
    setup_model(model, device, ModelSetup.from_config(cfg), training=False)
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
        gathered = gather_scores(build_task(cfg), model, loader, cfg, device, autocast_dtype(cfg))
    about = {
        "checkpoint": checkpoint,
        "videos": gathered.num_counted,
        "views": dataset.num_views,
        "unreadable_files": gathered.num_skipped,
    }
    predictions = gathered.predictions(about)
    # Kept before anything is computed from it: the pass is what took the time.
    predictions.save(path)
    if isinstance(predictions, BoxPredictions):
        detections = predictions.counted(predictions.detections())
        write_detections(os.path.join(cfg.OUTPUT_DIR, DETECTIONS_NAME), detections)
        groundtruth = predictions.counted(predictions.groundtruth)
        write_groundtruth(os.path.join(cfg.OUTPUT_DIR, GROUNDTRUTH_NAME), groundtruth)
    if is_main_process():
        logger.info("the predictions are in %s; tools/evaluate.py measures them again", path)
    results = {**predictions.metrics(), **about}
    log_json_stats({"_type": "test_final", **results})
    text = json.dumps(results, indent=2, sort_keys=True) + "\n"
    atomic_write(os.path.join(cfg.OUTPUT_DIR, RESULTS_NAME), text)
    barrier()
    return results


# The name is the engine's; collecting it would run it as a test where it is imported.
test.__test__ = False
