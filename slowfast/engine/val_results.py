"""`OUTPUT_DIR/val_results.json`: the metrics of a run's last evaluation, and the epochs it came after."""

from __future__ import annotations

import json
import os

from slowfast.utils.distributed import all_gather_object, is_main_process
from slowfast.utils.files import write_whole

NAME = "val_results.json"


def write_val_results(output_dir: str, epoch: int, metrics: dict[str, float]) -> None:
    """Keep the metrics measured after `epoch` epochs; the main process writes."""
    text = json.dumps({"epoch": epoch, **metrics}, indent=2, sort_keys=True) + "\n"
    write_whole(os.path.join(output_dir, NAME), lambda stream: stream.write(text.encode()))


def last_evaluation(output_dir: str) -> int:
    """After how many epochs the last evaluation was made, 0 for none; all processes ask, the main one looks."""
    found = 0
    if is_main_process():
        try:
            with open(os.path.join(output_dir, NAME), encoding="utf-8") as stream:
                found = int(json.load(stream)["epoch"])
        except (OSError, ValueError, KeyError, TypeError):
            found = 0  # none yet, or not ours
    return all_gather_object(found)[0]
