"""What models over tokens share: head, positions, surface. Shapes: tokens are (B, U + T*H*W, C), U of no position."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from slowfast.models.heads import Classifier, build_activation
from slowfast.models.positions import fit_table

layer_norm = partial(nn.LayerNorm, eps=1e-6)


class TokenHead(Classifier):
    """One linear map of a clip's P vectors: the mean over them of logits in train mode, of activated scores in eval.

    Args:
        dim: channels.
        num_classes: outputs.
        dropout: rate in front of the map.
        activation: "softmax", "sigmoid" or "none" (`MODEL.HEAD_ACT`).
        init_std: of the normal distribution that the map starts from.

    Raises:
        ValueError: unknown activation.
    """

    init_weight = staticmethod(nn.init.trunc_normal_)

    def __init__(
        self, dim: int, num_classes: int, dropout: float = 0.0, activation: str = "softmax", init_std: float = 0.02
    ):
        super().__init__()
        self.num_features, self.init_std = dim, init_std
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(dim, num_classes)
        self.act = build_activation(activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores (B, num_classes) of vectors (B, P, dim)."""
        scores = self.projection(self.dropout(x))
        return (scores if self.training else self.act(scores)).mean(dim=1)


class TokenModel(nn.Module):
    """A network over the tokens of a clip, with `head` and tables of positions.

    Attributes:
        undecayed: last parts of the names of parameters without weight decay.
    """

    undecayed: tuple[str, ...] = ()

    @property
    def num_features(self) -> int:
        """Channels in front of the classifier."""
        return self.head.num_features

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a fresh classifier with `num_classes` outputs in place of the old one."""
        self.head.reset_classifier(num_classes)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that are never decayed."""
        return {name for name, _ in self.named_parameters() if name.rpartition(".")[2] in self.undecayed}

    def fit_positions(self, table: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """The positions (1, T, H, W, C) of a clip with `size` of them, from a table made for clips of another size."""
        return fit_table(table, size)

    def own_parameters(self) -> nn.Module:
        """The parameters that belong to no layer: class token and positions."""
        return nn.ParameterList(self.parameters(recurse=False))


def check_clip(inputs: list[torch.Tensor]) -> torch.Tensor:
    """The one clip of a list of inputs.

    Raises:
        ValueError: another number of them.
    """
    if len(inputs) != 1:
        raise ValueError(f"the model has 1 pathway but got a list of {len(inputs)} input(s)")
    return inputs[0]
