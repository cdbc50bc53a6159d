"""Test a trained model on videos of several lengths: how often it is right about the two events, and about each.

    python demo/reach_score.py --cfg FILE --sets DIR [DIR ...] --output FILE.json [KEY VALUE ...]

tests the last checkpoint in OUTPUT_DIR on the test split of each set that `python -m slowfast.apps.synthetic --steps`
has made.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from pgt.task import ENSEMBLES
from slowfast.apps.synthetic.render import CLASSES
from slowfast.apps.synthetic.sweep import MANIFEST
from slowfast.config import activate_projects, load_config
from slowfast.datasets.build import build_loader
from slowfast.engine.resume import load_test_weights
from slowfast.engine.task import build_task
from slowfast.models import build_model
from slowfast.runtime.device import device_of
from slowfast.runtime.seed import seed_all
from slowfast.utils.files import atomic_write_local


def right_answers(scores: torch.Tensor, labels: torch.Tensor) -> dict[str, int]:
    """Count the answers that have both events right, the `first` one, and the `second` one.

    Args:
        scores: (B, classes).
        labels: (B,).
    """
    pairs = torch.tensor(CLASSES)
    right = pairs[scores.argmax(dim=1)] == pairs[labels]
    return {
        "both": int(right.all(dim=1).sum()),
        "first": int(right[:, 0].sum()),
        "second": int(right[:, 1].sum()),
    }


@torch.no_grad()
def score(model: nn.Module, cfg, device: torch.device) -> dict:
    """Return percentages on the test split.

    Returns:
        `last`, `sum` and `max`: accuracy by what joins the steps' scores. `first`, `second`: the share of the last
        step's answers with this event right. `videos`: their number.
    """
    task, videos, hits = build_task(cfg), 0, dict.fromkeys((*ENSEMBLES, "first", "second"), 0)
    for batch in build_loader(cfg, "test"):
        variants = task.predict(model, batch.to(device)).on_cpu().variants
        for method in ENSEMBLES:
            hits[method] += right_answers(variants[method], batch.labels)["both"]
        last = right_answers(variants["last"], batch.labels)
        hits["first"] += last["first"]
        hits["second"] += last["second"]
        videos += batch.size
    return {"videos": videos, **{name: round(100 * count / videos, 2) for name, count in hits.items()}}


def score_sets(cfg_file: str, overrides: Sequence[str], folders: Sequence[Path]) -> dict[str, dict]:
    """Return the percentages of each set by the name of its folder, see `score`."""
    cfg = load_config(cfg_file, overrides)
    activate_projects(cfg)
    seed_all(cfg.RNG_SEED)
    device = device_of(cfg)
    model = build_model(cfg)
    load_test_weights(model, cfg)
    model.to(device).eval()
    results = {}
    for folder in folders:
        made = json.loads((folder / MANIFEST).read_text())
        frames = made["step_len"] + (made["steps"] - 1) * (made["step_len"] - made["overlap"])
        length = ["PGT.STEPS", made["steps"], "DATA.NUM_FRAMES", frames, "DATA.PATH_TO_DATA_DIR", str(folder)]
        results[folder.name] = score(model, load_config(cfg_file, [*overrides, *length]), device)
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cfg", required=True)
    parser.add_argument("--sets", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings, after `--`")
    arguments = parser.parse_args(argv)
    results = score_sets(arguments.cfg, arguments.overrides, arguments.sets)
    atomic_write_local(arguments.output, json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
