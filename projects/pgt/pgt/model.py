"""Progressive model: a clip model called step by step, with its memory as an argument and a result."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from pgt.memory import START, Carry, Memory
from pgt.operators.layers import last_window
from slowfast.models.base import VideoModel
from slowfast.models.heads import apply_head


class ProgressiveModel(VideoModel):
    """Clip model with Markov operators: `model(step_inputs, memory, boxes) -> (scores, memory)`.

    Nothing is remembered outside of a call. Videos can be interleaved, a batch can be of any size, and a memory can be
    saved, moved, selected, joined and reset by sample (`pgt.memory`).

    Both models share one set of submodules, parameters and buffers, so the names in the state dict are those of the
    clip model. `pgt.conversion.convert` builds one.

    Args:
        clip_model: model whose layers are converted.
        operators: names of its operators with memory.

    Attributes:
        full_gradient: keep the memory in the autograd graph.
        carries_memory: hand memory on; otherwise every step starts without.
        step_len: frames of the first step, per pathway.
    """

    clip_model: VideoModel
    full_gradient: bool = False
    carries_memory: bool = True
    step_len: tuple[int, ...] = ()

    def __init__(self, clip_model: VideoModel, operators: Iterable[str]):
        super().__init__()
        # Not as a submodule, which would put its name in front of all others and break checkpoints of clip models. So
        # both models hold the same dicts of modules, parameters and buffers: what replaces a layer of one, moves it or
        # converts its dtype does so for both.
        self.__dict__["clip_model"] = clip_model
        for shared in ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set"):
            self.__dict__[shared] = clip_model.__dict__[shared]
        self.operators = frozenset(operators)
        self.num_pathways, self.in_channels = clip_model.num_pathways, clip_model.in_channels
        self.takes_boxes = clip_model.takes_boxes
        self.training = clip_model.training

    @property
    def num_features(self) -> int:
        """Number of channels in front of the classifier, as of the clip model."""
        return self.clip_model.num_features

    def train(self, mode: bool = True) -> ProgressiveModel:
        """Set the mode of both models."""
        self.clip_model.train(mode)
        self.training = mode
        return self

    def _save_to_state_dict(self, *args: Any) -> None:
        self.clip_model._save_to_state_dict(*args)

    def _load_from_state_dict(self, *args: Any) -> None:
        self.clip_model._load_from_state_dict(*args)

    def forward(
        self,
        step_inputs: list[torch.Tensor],
        memory: Memory | None = None,
        boxes: torch.Tensor | None = None,
        full_gradient: bool | None = None,
    ) -> tuple[torch.Tensor, Memory]:
        """Compute one step.

        Args:
            step_inputs: the step's new frames, (B, 3, T, H, W) per pathway.
            memory: result of the step before; None for the first step of a video.
            boxes: for a model that scores boxes, (N, 5) as the clip model takes them; each step may have another N.
            full_gradient: keep the new memory in the autograd graph; None for the model's setting.

        Returns:
            Scores (B, classes), or (N, classes) of boxes, and the memory for the next step, operator name -> (B, C, O,
            H, W); {} with memory off.

        Raises:
            ValueError: the memory is of another model, batch or size; or what the clip model raises.
            RuntimeError: a layer with memory was not called, or its memory was lost in a graph break.
        """
        self.check_memory(memory)
        full_gradient = self.full_gradient if full_gradient is None else full_gradient
        carry = self._carry(memory, full_gradient)
        with carry.active():
            scores = self.clip_model(*([step_inputs] if boxes is None else [step_inputs, boxes]))
        missed = sorted(self.operators - carry.ran)
        if missed:
            raise RuntimeError(
                f"the step has not run the operators {', '.join(missed[:5])}, so their memory would be lost. A forward "
                "has to call every layer in every step, and under MODEL.COMPILE it must compile without graph breaks"
            )
        return scores, carry.new

    def _carry(self, memory: Memory | None, full_gradient: bool, writes: bool = True) -> Carry:
        """Return the carry of a step; one that neither reads nor writes where no memory is handed on."""
        return Carry(memory if self.carries_memory else None, full_gradient, writes and self.carries_memory)

    def check_memory(self, memory: Memory | None) -> None:
        """Raise ValueError unless the memory has an entry for each operator, or none."""
        known = (memory or {}).keys() - {START}
        if known and known != self.operators:
            wrong = sorted(known ^ self.operators)
            raise ValueError(
                f"the memory has {len(known)} entries, the model {len(self.operators)} operators with memory; they "
                f"differ in {', '.join(wrong[:5])}{' ...' if len(wrong) > 5 else ''}: it is of another model"
            )

    def step_features(
        self, step_inputs: list[torch.Tensor], memory: Memory | None = None
    ) -> tuple[list[torch.Tensor], Memory]:
        """Compute one step without the head.

        Args:
            step_inputs: as of a call.
            memory: result of this method for the step before; None for the first step of a video.

        Returns:
            Features (B, C, T', H', W') per pathway, and the memory for the next step, without the head's.

        Raises:
            ValueError: the memory is of another model, batch or size; or what the clip model raises.
        """
        unknown = (memory or {}).keys() - self.operators - {START}
        if unknown:
            raise ValueError(f"the memory of {min(unknown)} is of another model")
        self.check_inputs(step_inputs)
        carry = self._carry(memory, self.full_gradient)
        with carry.active():
            features = self.clip_model.forward_features(step_inputs)
        return features, carry.new

    def whole_clip(self, inputs: list[torch.Tensor], boxes: torch.Tensor | None = None) -> torch.Tensor:
        """Return the scores of one ordinary forward over all frames, without memory.

        Scores are (B, classes); the head scores PGT.TPOOL_SIZE positions. With boxes they are (N, classes), and the
        boxes see `last_window`.

        Raises:
            ValueError: boxes for a model that scores clips, or the reverse.
        """
        if boxes is None:
            return self.clip_model(inputs)
        features = last_window(self.forward_features(inputs), inputs, self.step_len)
        return apply_head(self.clip_model.head, features, boxes)

    def forward_features(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the features of a whole clip, without memory, as of the clip model."""
        return self.clip_model.forward_features(inputs)

    def check_inputs(self, inputs: list[torch.Tensor]) -> None:
        """Check the clips as the clip model does."""
        self.clip_model.check_inputs(inputs)

    def depth_groups(self) -> list[list[nn.Module]]:
        """Return the layers by depth, as of the clip model."""
        return self.clip_model.depth_groups()

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters without weight decay, as of the clip model."""
        return self.clip_model.no_weight_decay()

    def position_grids(self) -> dict[str, tuple[tuple[int, int, int], int]]:
        """Return the sizes of the position embeddings, as of the clip model."""
        return self.clip_model.position_grids()

    def token_grids(self, size: tuple[int, int, int]) -> tuple[list[tuple[int, int, int]], int]:
        """Return the grids of the tokens of a step's clip, as of the clip model."""
        return self.clip_model.token_grids(size)

    def pathways(self) -> list[list[nn.Module]]:
        """Return the modules of each pathway, as of the clip model."""
        return self.clip_model.pathways()

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier by a new one with `num_classes` outputs."""
        self.clip_model.reset_classifier(num_classes)

    def extra_repr(self) -> str:
        """Return the class of the clip model."""
        return f"{type(self.clip_model).__name__}, {len(self.operators)} operators with memory"
