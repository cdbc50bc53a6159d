"""Pictures of weights and activations: `TENSORBOARD.MODEL_VIS.LAYER_LIST`."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slowfast.apps.visualize.gradcam import find_layer
from slowfast.utils.errors import nearest_keys, require_matplotlib

_COLORMAP = "viridis"
# Pictures are scaled up by a whole factor while they are smaller, and arrays of more squares are cut off.
_SMALLEST, _MOST_SQUARES = 512, 1024


@dataclasses.dataclass(frozen=True)
class LayerChoice:
    """A layer, and which part of its arrays is drawn.

    Attributes:
        name: of the layer, as it was written.
        index: for each dimension the positions, as numpy's indexing by lists takes them; () for the whole array.
    """

    name: str
    index: tuple[list[int], ...] = ()

    @classmethod
    def parse(cls, text: str) -> LayerChoice:
        """Parse "NAME" or "NAME 1,2;0,3": of an array a, a[[1, 2], [0, 3]].

        Raises:
            ValueError: the text is neither.
        """
        name, *rest = text.split()
        try:
            index = tuple([int(number) for number in part.split(",")] for part in "".join(rest).split(";") if rest)
        except ValueError:
            raise ValueError(
                f"TENSORBOARD.MODEL_VIS.LAYER_LIST has {text!r}, which is neither NAME nor NAME 1,2;0,3"
            ) from None
        return cls(name, index)

    @property
    def title(self) -> str:
        """Name and positions, in one text."""
        parts = ";".join(",".join(map(str, part)) for part in self.index)
        return f"{self.name} {parts}".strip()

    def part_of(self, array: Tensor) -> Tensor:
        """Return the part that is drawn.

        Raises:
            ValueError: the array has no such part.
        """
        try:
            return array[self.index] if self.index else array
        except IndexError as error:
            raise ValueError(
                f"TENSORBOARD.MODEL_VIS.LAYER_LIST has {self.title!r}, and the array is {tuple(array.shape)}: {error}"
            ) from None


def layer_weight(model: nn.Module, name: str) -> Tensor | None:
    """Return the `weight` of a layer; None for a layer without one.

    Raises:
        ValueError: there is no such layer.
    """
    return dict(find_layer(model, name).named_parameters(recurse=False)).get("weight")


@contextlib.contextmanager
def recorded_activations(model: nn.Module, choices: Sequence[LayerChoice]) -> Iterator[dict[str, list[Tensor]]]:
    """Yield the outputs of the chosen layers, in order of their calls; they fill while the model is called inside.

    A layer that returns several tensors has an entry for each, as "NAME, pathway 1".
    """
    outputs: dict[str, list[Tensor]] = {}

    def keep(choice: LayerChoice) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            parts = [output] if isinstance(output, Tensor) else list(output)
            for number, part in enumerate(parts, start=1):
                title = choice.title if len(parts) == 1 else f"{choice.title}, pathway {number}"
                outputs.setdefault(title, []).append(part.detach().float().cpu().clone())

        return hook

    with contextlib.ExitStack() as stack:
        for choice in choices:
            stack.callback(find_layer(model, choice.name).register_forward_hook(keep(choice)).remove)
        yield outputs


def array_picture(array: Tensor, colors: bool) -> np.ndarray:
    """Draw an array as a picture (H, W, 3) uint8: squares of its last two dimensions side by side.

    One of one dimension is wrapped into rows. Values are scaled to the array's own least and greatest one.

    Args:
        array: of any shape.
        colors: draw by a color map, from dark blue to yellow; False draws gray.
    """
    array = array.detach().float().cpu()
    if array.dim() < 2:
        array = array.reshape(-1)
        side = math.ceil(math.sqrt(max(array.numel(), 1)))
        array = F.pad(array, (0, -array.numel() % side), value=torch.nan).reshape(-1, side)
    squares = array.reshape(-1, *array.shape[-2:])[:_MOST_SQUARES]
    grid = _side_by_side(squares)
    values = grid.numpy()
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 1.0)
    levels = np.where(finite, (values - low) / max(high - low, 1e-12), 0.0)
    picture = color_map(_COLORMAP)(levels) if colors else np.repeat(levels[..., None], 3, axis=-1)
    picture = np.rint(255 * picture).astype(np.uint8)
    picture[~finite] = 255  # gaps
    factor = max(1, _SMALLEST // max(picture.shape[:2]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def _side_by_side(squares: Tensor) -> Tensor:
    """Join (N, H, W) to rows of squares of about the same total height and width, with gaps of NaN."""
    count, height, width = squares.shape
    if count == 1:
        return squares[0]
    columns = min(count, math.ceil(math.sqrt(count * (height + 1) / (width + 1))))
    rows = math.ceil(count / columns)
    grid = torch.full((rows * (height + 1) - 1, columns * (width + 1) - 1), torch.nan)
    for number, square in enumerate(squares):
        top, left = number // columns * (height + 1), number % columns * (width + 1)
        grid[top : top + height, left : left + width] = square
    return grid


def color_map(name: str) -> Callable[[Any], np.ndarray]:
    """Return a function of levels 0..1 to RGB (..., 3), 0..1, by a map of matplotlib.

    Raises:
        ValueError: there is no such map, or matplotlib is missing.
    """
    found = _map(name)
    return lambda levels: np.asarray(found(levels))[..., :3]


def class_colors(name: str, count: int) -> Callable[[int], np.ndarray]:
    """Return a function of a class number to RGB, 0..1: a map of few colors in turn, another in `count` even parts.

    Raises:
        ValueError: as `color_map`.
    """
    found = _map(name)
    few = found.N < 256  # such as Pastel2
    return lambda number: np.asarray(found(number % found.N if few else number / max(count - 1, 1)))[:3]


def _map(name: str) -> Any:
    maps = require_matplotlib().colormaps
    if name not in maps:
        near = ", ".join(nearest_keys(name, maps, 3))
        raise ValueError(f"there is no color map {name!r} in matplotlib; the nearest are {near}")
    return maps[name]
