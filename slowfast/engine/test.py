"""Testing: all views of every video, joined, measured and written down."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from slowfast.datasets.build import build_loader
from slowfast.engine.agreement import check_agreement, data_facts, launch_facts, weight_facts
from slowfast.engine.evaluate import gather_scores
from slowfast.engine.parallel import Preparation, prepare_model
from slowfast.engine.preflight import describe_model
from slowfast.engine.run_lock import alone_in_output_dir
from slowfast.engine.startup import load_test_weights
from slowfast.engine.task import build_task
from slowfast.engine.update import autocast_dtype
from slowfast.engine.workers import shield_workers, worker_deaths_explained
from slowfast.evaluation.classification import classification_metrics
from slowfast.models import build_model
from slowfast.utils.device import device_of
from slowfast.utils.distributed import barrier, is_main_process
from slowfast.utils.env import seed_all
from slowfast.utils.files import write_whole
from slowfast.utils.logging import get_logger, log_json_stats

logger = get_logger(__name__)

RESULTS_NAME = "test_results.json"


@alone_in_output_dir
def test(cfg: Any) -> dict[str, Any]:
    """Measure the model of a config on the test split.

    Class scores go to `TEST.SAVE_RESULTS_PATH` (npz: scores, labels, paths) if set, before anything is computed from
    them; the result to `OUTPUT_DIR/test_results.json`.

    Returns:
        `top1_acc`, `top5_acc`, `top1_err`, `top5_err` in percent, or `map` in 0..1; `checkpoint` (the file, "" for
        random weights), `videos`, `views`, `unreadable_files`.

    Raises:
        FileNotFoundError, ValueError: no such checkpoint, one that does not fit, or a view that never came; another
            job works in `OUTPUT_DIR`; or the processes of this one were not started alike.
        OSError: results cannot be written, or a loader's worker process died.
        RuntimeError: too many files cannot be read.
    """
    check_agreement(lambda: launch_facts(cfg))
    device = device_of(cfg)
    seed_all(cfg.RNG_SEED)
    model = build_model(cfg)
    checkpoint = load_test_weights(model, cfg)
    if cfg.LOG_MODEL_INFO and is_main_process():
        logger.info("%s", describe_model(model, cfg))
    prepare_model(model, device, Preparation.from_config(cfg), training=False)
    loader = build_loader(cfg, "test")
    shield_workers(loader)
    dataset = loader.dataset
    check_agreement(lambda: {**data_facts("test", dataset), **weight_facts(model)})
    logger.info(
        "testing %d videos, %d view(s) each, class scores joined by %s",
        dataset.num_videos,
        dataset.num_views,
        cfg.DATA.ENSEMBLE_METHOD,
    )
    with worker_deaths_explained():
        ensemble = gather_scores(build_task(cfg), model, loader, cfg, device, autocast_dtype(cfg))
    scores, labels, videos = ensemble.result()
    if cfg.TEST.SAVE_RESULTS_PATH:
        path = os.path.join(cfg.OUTPUT_DIR, cfg.TEST.SAVE_RESULTS_PATH)
        paths = np.array([dataset.paths[video] for video in videos])
        write_whole(path, lambda stream: np.savez(stream, scores=scores.numpy(), labels=labels.numpy(), paths=paths))
    results = {
        **classification_metrics(scores, labels),
        "checkpoint": checkpoint,
        "videos": len(videos),
        "views": dataset.num_views,
        "unreadable_files": len(ensemble.skipped),
    }
    log_json_stats({"_type": "test_final", **results})
    text = json.dumps(results, indent=2, sort_keys=True) + "\n"
    write_whole(os.path.join(cfg.OUTPUT_DIR, RESULTS_NAME), lambda stream: stream.write(text.encode()))
    barrier()
    return results


# The name is the engine's; collecting it would run it as a test where it is imported.
test.__test__ = False
