"""Measure the accuracy of a trained model step by step, with its own memory, without memory, or with another video's.

    python demo/sweep_score.py --cfg FILE --output FILE.json [KEY VALUE ...]

tests the last checkpoint in OUTPUT_DIR on the test split.
"""

from collections import defaultdict

import torch
from sweep_jobs import write_measured

from pgt import StepPlan
from pgt.task import ensemble, step_scores
from slowfast.datasets.build import build_loader
from slowfast.engine.resume import load_test_weights
from slowfast.models import build_model
from slowfast.runtime.device import device_of
from slowfast.runtime.seed import seed_all


def draw_donors(labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw a permutation that assigns each video of a batch a video with another label.

    Args:
        labels: (B,).

    Raises:
        ValueError: more than half of the videos have the same label, so no such permutation exists.
    """
    count, largest = len(labels), int(labels.bincount().max())
    if count < 2 * largest:
        raise ValueError(f"{largest} of {count} videos have the same label; at most half may, for all to swap")
    # Sorted by label, a cyclic shift by at least the longest run of a label meets no equal label.
    shuffled = torch.randperm(count, generator=generator)
    order = shuffled[labels[shuffled].argsort(stable=True)]
    turn = int(torch.randint(largest, count - largest + 1, (), generator=generator))
    donors = torch.empty_like(order)
    donors[order] = order.roll(turn)
    return donors


@torch.no_grad()
def score_batch(model, inputs: list[torch.Tensor], labels: torch.Tensor, plan: StepPlan, donors: torch.Tensor) -> dict:
    """Count the correct answers in a batch by kind; `steps` has one count a step."""
    final = plan.steps - 1
    scores = step_scores(model, inputs, plan)
    answers = {"sum": ensemble(scores, "sum"), "max": ensemble(scores, "max"), "last": scores[-1]}
    answers["last_wiped"] = step_scores(model, inputs, plan, lambda s, memory: None if s == final else memory)[-1]

    def swap(step: int, memory: dict) -> dict:
        return {name: tensor[donors] for name, tensor in memory.items()} if step == final else memory

    answers["last_swapped"] = step_scores(model, inputs, plan, swap)[-1]
    hits = {name: int((score.argmax(dim=1) == labels).sum()) for name, score in answers.items()}
    hits["swapped_says_donor"] = int((answers["last_swapped"].argmax(dim=1) == labels[donors]).sum())
    hits["steps"] = (scores.argmax(dim=2) == labels).sum(dim=1).tolist()
    return hits


def score(cfg) -> dict:
    """Return the accuracies in percent on the test split; see `score_batch`.

    Raises:
        ValueError: the memories of a batch cannot be swapped.
    """
    seed_all(cfg.RNG_SEED)
    device = device_of(cfg)
    model = build_model(cfg)
    load_test_weights(model, cfg)
    model.to(device).eval()
    plan = StepPlan.from_config(cfg)
    generator = torch.Generator().manual_seed(cfg.RNG_SEED)
    hits, steps, videos = defaultdict(int), [0] * plan.steps, 0
    for batch in build_loader(cfg, "test"):
        donors = draw_donors(batch.labels, generator).to(device)
        batch = batch.to(device)
        found = score_batch(model, batch.inputs, batch.labels, plan, donors)
        steps = [a + b for a, b in zip(steps, found.pop("steps"), strict=True)]
        for name, count in found.items():
            hits[name] += count
        videos += batch.size
    percent = {name: 100 * count / videos for name, count in hits.items()}
    return {**percent, "steps": [100 * count / videos for count in steps]}


if __name__ == "__main__":
    write_measured(score, __doc__)
