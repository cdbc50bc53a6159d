"""The loss of a validation, from class scores."""

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from slowfast.checkpoint.io import find_checkpoints, load_checkpoint
from slowfast.datasets.build import build_loader
from slowfast.datasets.loading.batch import Batch
from slowfast.engine import validation_loss
from slowfast.engine.train import train
from slowfast.engine.validation_loss import ValidationLoss
from slowfast.evaluation.prediction import Prediction
from slowfast.models import build_model

LOGITS = torch.tensor([[3.0, -1.0, 0.5], [-2.0, 4.0, 1.0], [0.0, 0.25, -7.0], [1.0, 1.0, 1.0]])
LABELS = torch.tensor([0, 2, 1, 1])
SEVERAL = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])


def fill(mean, scores, labels, summed=1):
    """Give the clips in two batches of other sizes."""
    for part in (slice(0, 3), slice(3, 4)):
        video = torch.arange(4)[part]
        mean.add(Batch([], labels[part], video, torch.zeros_like(video)), Prediction(scores[part], summed=summed))
    return mean.read()


@pytest.mark.parametrize(
    ("name", "activation", "labels", "reference"),
    [
        ("cross_entropy", "softmax", LABELS, lambda: nn.functional.cross_entropy(LOGITS, LABELS)),
        ("soft_cross_entropy", "softmax", LABELS, lambda: nn.functional.cross_entropy(LOGITS, LABELS)),
        ("cross_entropy", "none", LABELS, lambda: nn.functional.cross_entropy(LOGITS, LABELS)),
        ("bce_logit", "sigmoid", SEVERAL, lambda: nn.functional.binary_cross_entropy_with_logits(LOGITS, SEVERAL)),
    ],
)
def test_it_is_that_of_the_logits(tiny_cfg, name, activation, labels, reference):
    act = {"softmax": lambda x: x.softmax(dim=1), "sigmoid": torch.sigmoid, "none": lambda x: x}[activation]
    cfg = tiny_cfg("MODEL.LOSS_FUNC", name, "MODEL.HEAD_ACT", activation)
    for summed in (1, 4):  # as of four steps with the same scores
        mean = ValidationLoss.from_config(cfg)
        assert fill(mean, act(LOGITS) * summed, labels, summed) == pytest.approx(reference().item(), rel=1e-5)


def test_probabilities_of_0_and_1_have_a_finite_loss():
    scores = torch.tensor([[1.0, 0.0, 0.0]]).expand(4, 3)
    for loss, activation, labels in (
        (nn.CrossEntropyLoss(), "softmax", LABELS),
        (nn.BCEWithLogitsLoss(), "sigmoid", SEVERAL),
    ):
        assert 1 < fill(ValidationLoss(loss, activation), scores, labels) < 100


def test_scores_that_the_activation_does_not_give_have_no_loss():
    assert fill(ValidationLoss(nn.CrossEntropyLoss(), "softmax"), LOGITS, LABELS) is None


def test_it_does_not_depend_on_the_processes_that_share_the_clips(monkeypatch):
    whole = ValidationLoss(nn.CrossEntropyLoss(), "none")
    expected = fill(whole, LOGITS, LABELS)
    parts = [[whole._values[i] for i in order] for order in ([3, 0], [2], [1])]
    monkeypatch.setattr(validation_loss, "all_gather_object", lambda values: parts)
    assert whole.read() == expected


def test_a_run_tells_it(tiny_cfg):
    """It is that of the last checkpoint's logits on the middle clip of each video."""
    cfg = tiny_cfg("SOLVER.MAX_EPOCH", 1, "TENSORBOARD.ENABLE", True)
    metrics = train(cfg)
    model = build_model(cfg)
    model.load_state_dict(load_checkpoint(find_checkpoints(cfg.OUTPUT_DIR)[-1].path)["model_state"])
    model.eval().head.act = nn.Identity()
    (batch,) = build_loader(cfg, "val")
    with torch.no_grad():
        expected = nn.functional.cross_entropy(model(batch.inputs), batch.labels).item()
    assert metrics["loss"] == pytest.approx(expected, rel=1e-4)
    results = json.loads((Path(cfg.OUTPUT_DIR) / "val_results.json").read_text())
    assert results == {"epoch": 1, **metrics} and "top1_acc" in results
    (events,) = (Path(cfg.OUTPUT_DIR) / "runs-kinetics").glob("events*")
    written = EventAccumulator(str(events))
    written.Reload()
    (scalar,) = written.Scalars("Val/loss")
    assert (scalar.step, scalar.value) == (1, pytest.approx(expected, rel=1e-4))
