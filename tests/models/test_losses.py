"""Losses by name, against sums written out."""

import pytest
import torch

from slowfast.config import load_config
from slowfast.models.losses import build_loss


@pytest.fixture
def loss():
    """Function: the loss of that name."""
    return lambda name: build_loss(load_config(None, ["MODEL.LOSS_FUNC", name]))


def test_values(loss):
    scores = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -2.0]])
    shares = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.2, 0.8]])
    log_p = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
    torch.testing.assert_close(loss("soft_cross_entropy")(scores, shares), -(shares * log_p.log()).sum() / 2)
    torch.testing.assert_close(
        loss("cross_entropy")(scores, torch.tensor([1, 0])), -(log_p[0, 1] * log_p[1, 0]).log() / 2
    )
    marks = torch.tensor([[1, 0, 1], [0, 0, 1]])
    p = 1 / (1 + (-scores).exp())
    expected = -torch.where(marks == 1, p, 1 - p).log().mean()
    torch.testing.assert_close(loss("bce_logit")(scores, marks), expected)
    torch.testing.assert_close(loss("bce")(p, marks), expected)


@pytest.mark.parametrize("name", ["bce", "bce_logit", "soft_cross_entropy"])
def test_one_class_number_a_video_is_refused(loss, name):
    """With as many samples as classes the shapes would broadcast to a number without meaning."""
    with pytest.raises(ValueError, match=r"\(3, 3\).*gives \(3,\).*cross_entropy"):
        loss(name)(torch.rand(3, 3), torch.tensor([0, 1, 2]))


def test_unknown_name(loss):
    with pytest.raises(ValueError, match="LOSS_FUNC is 'bce_logits'.*nearest is .?bce_logit"):
        loss("bce_logits")
