"""Measure the accuracy of a trained clip model on the last clip of each test video, the last of its views.

    python demo/long_video_last.py --cfg FILE --output FILE.json [KEY VALUE ...]

tests the last checkpoint in OUTPUT_DIR.
"""

import torch
from sweep_jobs import write_measured

from slowfast.datasets import build_dataset, collate
from slowfast.engine.resume import load_test_weights
from slowfast.engine.task import build_task
from slowfast.models import build_model
from slowfast.runtime.device import device_of


@torch.no_grad()
def score(cfg) -> dict[str, list[int]]:
    """Return `right`: for each video of the test split 1 if its last clip is classified right, else 0."""
    device, task, dataset = device_of(cfg), build_task(cfg), build_dataset(cfg, "test")
    model = build_model(cfg)
    load_test_weights(model, cfg)
    model.to(device).eval()
    views = dataset.num_views
    last, right = range(views - 1, len(dataset), views), []
    for first in range(0, len(last), cfg.TEST.BATCH_SIZE):
        batch = collate([dataset[index] for index in last[first : first + cfg.TEST.BATCH_SIZE]])
        scores = task.predict(model, batch.to(device)).on_cpu().scores
        right += (scores.argmax(dim=1) == batch.labels).int().tolist()
    return {"right": right}


if __name__ == "__main__":
    write_measured(score, __doc__)
