"""Integrated gradients through the memory of a model that reads in steps.

The score F of a class at a step is a function of the frames of this step and, through the carried memory, of those of
the steps before. Integrated gradients ("Axiomatic Attribution for Deep Networks", arXiv 1703.01365) share out what F
gains over a video without events, the mean frame as a still. With frames x(a) = mean + a (x - mean), the attribution of
a pixel is (x - mean) * integral over a from 0 to 1 of dF/dx, and all attributions add up to F(1) - F(0). The
gradient at a = 1 alone is faster, and does not add up.

The gradient passes through the memory in full. It goes back step by step, each of which is computed again, so that the
graph of one step alone is in memory.

The memory that a step hands on is all that later steps know of the frames before. What a part m of it carries there is
its conductance ("How Important Is a Neuron?", arXiv 1805.12233): the integral of dF/dm dm/da over a. Those of all parts
add up to the attributions of all frames before.

Shapes: a window is a list with one clip (1, C, T, H, W) for each pathway. B is a number of points of the path.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

_MOST_NUMBERS = 4_000_000  # of a window's clips that are computed at once

Step = Callable[[list[Tensor], Any], tuple[Tensor, Any]]
"""(clips, memory) -> scores (B, classes) and the memory after them, with gradients."""


@dataclass
class Attributions:
    """Attributions of a target.

    Attributes:
        pixels: for each window and pathway, (T, H, W), summed over channels.
        conductance: for each window but the last, in order, part of the memory after it -> its conductance.
        change: of the target, from the mean frame to the video.
    """

    pixels: list[list[Tensor]]
    conductance: list[dict[str, float]]
    change: float = 0.0


@dataclass
class StepPath:
    """Windows of a video, one after the other, and the path from their mean frame to them.

    Args:
        call: function that computes a window.
        windows: the windows.
        memory: in front of the first window; it is the same along the path.
        resets: places of windows that have no memory.
    """

    call: Step
    windows: Sequence[list[Tensor]]
    memory: Any = None
    resets: Collection[int] = ()

    def __post_init__(self) -> None:
        self._mean = torch.cat([inputs[-1] for inputs in self.windows], dim=2).mean(dim=2, keepdim=True)

    @torch.no_grad()
    def scores(self) -> Tensor:
        """Return the scores (classes,) of the last window, on the CPU."""
        return self._forward(torch.ones(1))[0][0].cpu()

    def attribute(self, target: Callable[[Tensor], Tensor], points: int = 0) -> Attributions:
        """Compute the attributions of the pixels, and the conductance of the memory between the windows.

        Args:
            target: scores (B, classes) of the last window -> (B,).
            points: of the integral, the middles of as many intervals; 0 for the gradient at the video alone.
        """
        count = points or 1
        edges = torch.linspace(0, 1, count + 1)
        middles = (edges[1:] + edges[:-1]) / 2 if points else edges[1:]
        largest = max(x.numel() for inputs in self.windows for x in inputs)
        at_once = max(1, min(count, _MOST_NUMBERS // largest))
        zeros = [[torch.zeros(x.shape[2:], dtype=x.dtype) for x in inputs] for inputs in self.windows]
        found = Attributions(zeros, [{} for _ in self.windows[1:]])
        for first in range(0, count, at_once):
            part = middles[first : first + at_once]
            self._add_points(found, target, part, edges[first : first + len(part) + 1], len(part) / count)
        with torch.no_grad():
            still, whole = target(self._forward(torch.tensor([0.0, 1.0]))[0]).tolist()
        found.change = whole - still
        return found

    def _add_points(
        self, found: Attributions, target: Callable[[Tensor], Tensor], points: Tensor, edges: Tensor, weight: float
    ) -> None:
        """Add the part of some points of the integral, of a weight; `edges` are the ends of their intervals."""
        with torch.no_grad():
            _, befores = self._forward(points)
            _, at_edges = self._forward(edges)
        gradients: list[Tensor | None] = [None]
        for number in reversed(range(len(self.windows))):
            inputs = [x.requires_grad_() for x in self._between(number, points)]
            before = _map(lambda x: x.detach().requires_grad_(), befores[number])
            with torch.enable_grad():
                scores, after = self.call(inputs, before)
                is_last = number == len(self.windows) - 1
                outputs = [target(scores).sum()] if is_last else [x for _, x in _parts(after)]
            parts = _parts(before) if number else []
            pairs = [pair for pair in zip(outputs, gradients, strict=True) if pair[0].requires_grad]
            if not pairs:
                return  # a rule of memory that stops the gradient
            got = torch.autograd.grad(
                [output for output, _ in pairs],
                [*inputs, *(x for _, x in parts)],
                [gradient for _, gradient in pairs],
                allow_unused=True,
                materialize_grads=True,
            )
            for place, x in enumerate(self.windows[number]):
                moved = (got[place].mean(dim=0) * (x - self._mean)[0]).sum(dim=0)
                found.pixels[number][place] += weight * moved.cpu()
            if not parts:
                return  # no memory, so that nothing passes from the windows before
            gradients = list(got[len(inputs) :])
            for (name, _), gradient, (_, path) in zip(parts, gradients, _parts(at_edges[number]), strict=True):
                found.conductance[number - 1][name] = found.conductance[number - 1].get(name, 0.0) + float(
                    (gradient.double() * path.double().diff(dim=0)).sum()
                )

    def _forward(self, points: Tensor) -> tuple[Tensor, list[Any]]:
        """Return the scores (B, classes) of the last window at B points, and the memory before each window."""
        memory = _map(lambda x: x.repeat_interleave(len(points), dim=0), self.memory)
        befores = []
        for number in range(len(self.windows)):
            memory = None if number in self.resets else memory
            befores.append(memory)
            scores, memory = self.call(self._between(number, points), memory)
        return scores, befores

    def _between(self, number: int, points: Tensor) -> list[Tensor]:
        """Return a window at B points between the mean frame and itself, (B, C, T, H, W) per pathway."""
        share = points.to(self._mean.device).view(-1, 1, 1, 1, 1)
        return [self._mean + share * (x - self._mean) for x in self.windows[number]]


def _map(function: Callable[[Tensor], Tensor], memory: Any) -> Any:
    """Apply a function to the tensors of numbers in a memory."""
    return pytree.tree_map(lambda x: function(x) if _has_gradient(x) else x, memory)


def _parts(memory: Any) -> list[tuple[str, Tensor]]:
    """Return the tensors of numbers in a memory, with their names: the keys and places that lead to them."""
    leaves, _ = pytree.tree_flatten_with_path(memory)
    named = [(".".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path), x) for path, x in leaves]
    return [(name, x) for name, x in named if _has_gradient(x)]


def _has_gradient(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()
