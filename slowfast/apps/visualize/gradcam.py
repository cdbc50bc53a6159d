"""Grad-CAM of video models: where in a clip, and when, a class score has its evidence.

Shapes: clips are (B, C, T, H, W), one per pathway; maps are (B, T, H, W).
Source: "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization" (arXiv 1610.02391), sec. 3.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slowfast.layers.attention import as_map
from slowfast.models.base import VideoModel
from slowfast.models.heads import Classifier
from slowfast.utils.errors import nearest_keys


def grad_cam(
    model: VideoModel,
    inputs: Sequence[Tensor],
    layers: Sequence[str],
    classes: Tensor | None = None,
    call: Callable[[list[Tensor]], Tensor] | None = None,
    per_frame: bool = False,
) -> tuple[list[Tensor], Tensor]:
    """Compute Grad-CAM of a class for each pathway of a model in eval mode.

    The gradient is that of the class score before the head's activation (the logit), averaged over positions. The model
    is left as it was: no hook stays, and no gradient of a parameter is touched.

    Args:
        model: its layers are named as in its state dict.
        inputs: clips (B, C, T, H, W), one per pathway.
        layers: name of a layer for each pathway, with "." or "/" between the parts; one name serves all pathways. A
            layer returns a map (B, C, t, h, w), tokens (B, P + t*h*w, C) or (B, t, h*w, C), or a list by pathway.
        classes: class numbers (B,), or weights (B, classes) of a sum of scores; None for the best class. For a model
            that scores N boxes, N takes the place of B.
        call: function of the clips that calls the model and returns its scores; None for `model(inputs)`. It serves
            models that take boxes or a memory.
        per_frame: average the gradient over the places of each frame, as PySlowFast does; False averages over all
            places of all frames, as the paper does over all places.

    Returns:
        The maps (B, T, H, W) of each pathway, at least 0 and of the size of its clip; and the scores of the model.

    Raises:
        ValueError: the model is in train mode, has no such layer, or a layer gives no map of a clip.
    """
    if model.training:
        raise ValueError("Grad-CAM takes a model in eval mode: call model.eval() first")
    if len(layers) not in (1, len(inputs)):
        raise ValueError(
            f"Grad-CAM takes one layer for each of the {len(inputs)} pathways, got {len(layers)}: {list(layers)}"
        )
    names = [name.replace("/", ".") for name in layers]
    names *= len(inputs) // len(names)
    clips = [clip.detach().clone().requires_grad_() for clip in inputs]
    with torch.inference_mode(False), torch.enable_grad(), _outputs_of(model, names) as (outputs, logits):
        scores = (call or model)(clips)
        picked = [_output(outputs, name, pathway) for pathway, name in enumerate(names)]
        target = _class_scores(_mean_logits(logits, scores), scores, classes)
        gradients = torch.autograd.grad(target.sum(), picked, allow_unused=True)
    maps = []
    for name, clip, activation, gradient in zip(names, clips, picked, gradients, strict=True):
        if gradient is None:
            raise ValueError(f"the class score does not depend on layer {name!r}; choose a layer before the head")
        activation, gradient = (_as_maps(model, name, x.detach(), gradient, clip) for x in (activation, gradient))
        weights = gradient.mean(dim=(3, 4) if per_frame else (2, 3, 4), keepdim=True)
        found = F.relu((weights * activation).sum(dim=1, keepdim=True)).float()
        size = tuple(clip.shape[2:])
        maps.append(F.interpolate(found, size=size, mode="trilinear", align_corners=False)[:, 0])
    return maps, scores.detach()


def normalized(maps: Tensor) -> Tensor:
    """Scale the map (T, H, W) of each sample (B, T, H, W) to 0..1; a map without contrast becomes 0."""
    low, high = maps.amin(dim=(1, 2, 3), keepdim=True), maps.amax(dim=(1, 2, 3), keepdim=True)
    return (maps - low) / (high - low).clamp(min=torch.finfo(maps.dtype).tiny)


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """Return a layer by its name, with "." or "/" between the parts.

    Raises:
        ValueError: there is none; with the nearest names.
    """
    wanted = name.replace("/", ".")
    known = {path for path, _ in model.named_modules() if path}
    if wanted not in known:
        near = ", ".join(nearest_keys(wanted, known, 3))
        raise ValueError(f"{type(model).__name__} has no layer {name!r}; the nearest names are {near}")
    return model.get_submodule(wanted)


@contextlib.contextmanager
def _outputs_of(model: nn.Module, names: Sequence[str]) -> Iterator[tuple[dict[str, list[Any]], list[Tensor]]]:
    """Yield the outputs of each call of the named layers, and the logits of each call of a head's activation.

    Both fill while the model is called inside.
    """
    outputs: dict[str, list[Any]] = {name: [] for name in names}
    logits: list[Tensor] = []

    def keep(name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            outputs[name].append(output)
            # The model goes on with a copy: what it changes in place stays out of what is kept.
            return output.clone() if isinstance(output, Tensor) else type(output)(x.clone() for x in output)

        return hook

    activations = [module.act for module in model.modules() if isinstance(module, Classifier)]
    with contextlib.ExitStack() as stack:
        for name in outputs:
            stack.callback(find_layer(model, name).register_forward_hook(keep(name)).remove)
        for module in activations:
            hook = module.register_forward_hook(lambda module, args, output: logits.append(args[0]))
            stack.callback(hook.remove)
        yield outputs, logits


def _output(outputs: dict[str, list[Any]], name: str, pathway: int) -> Tensor:
    """Return the output of a layer for a pathway.

    Raises:
        ValueError: the layer was not called once.
    """
    if len(outputs[name]) != 1:
        raise ValueError(f"layer {name!r} was called {len(outputs[name])} times, and Grad-CAM takes one call")
    (output,) = outputs[name]
    return output if isinstance(output, Tensor) else output[pathway]


def _mean_logits(logits: list[Tensor], scores: Tensor) -> Tensor:
    """Return the logits, averaged over the positions of the head; the scores of a model without such a head."""
    if len(logits) != 1 or logits[0].shape[-1] != scores.shape[-1]:
        return scores
    return logits[0].flatten(1, -2).mean(dim=1) if logits[0].dim() > 2 else logits[0]


def _class_scores(logits: Tensor, scores: Tensor, classes: Tensor | None) -> Tensor:
    """Return the value (B,) whose gradient is taken.

    Raises:
        ValueError: `classes` do not fit.
    """
    if classes is None:
        classes = scores.detach().argmax(dim=-1)
    classes = classes.to(logits.device)
    if classes.dim() == 2 and classes.shape == logits.shape:
        return (logits * classes).sum(dim=-1)
    if classes.shape != logits.shape[:1]:
        raise ValueError(
            f"classes of shape {tuple(classes.shape)} do not fit scores {tuple(logits.shape)}: one class number, or "
            "one weight a class, is needed for each row"
        )
    if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < logits.shape[1]:
        raise ValueError(f"classes are {classes.tolist()}, and the model has {logits.shape[1]}, counted from 0")
    return logits.gather(1, classes.long()[:, None])[:, 0]


def _as_maps(model: VideoModel, name: str, values: Tensor, gradient: Tensor, clip: Tensor) -> Tensor:
    """Return the output of a layer, or its gradient, as (B, C, t, h, w); tokens lose their prefix.

    Raises:
        ValueError: it is no map of the clip, or its gradient lies in the prefix alone.
    """
    fits = len(values) == len(clip)
    # The channels of some layers are last; their sizes then exceed those of the clip.
    if fits and values.dim() == 5 and all(n <= most for n, most in zip(values.shape[2:], clip.shape[2:], strict=True)):
        return values
    if not fits or values.dim() not in (3, 4):
        raise ValueError(
            f"layer {name!r} returns {tuple(values.shape)}, which is no map (B, C, T, H, W) and no tokens (B, T*H*W, "
            f"C) of {len(clip)} clip(s); choose another layer"
        )
    if values.dim() == 4:
        values, gradient = values.flatten(1, 2), gradient.flatten(1, 2)
    sizes, most = model.token_grids(tuple(clip.shape[2:]))
    fitting = {(thw, n) for thw in sizes for n in {0, most} if math.prod(thw) + n == values.shape[1]}
    if len(fitting) != 1:
        raise ValueError(
            f"layer {name!r} returns {values.shape[1]} tokens, and the grids of a clip {tuple(clip.shape[2:])} are "
            f"{sizes}, with or without {most} token(s) in front; choose another layer"
        )
    ((thw, prefix),) = fitting
    if prefix and not gradient[:, prefix:].any() and gradient[:, :prefix].any():
        raise ValueError(
            f"after layer {name!r} the model reads its class token alone, so that no other token has a gradient; "
            "choose an earlier layer, such as norm1 of the last block"
        )
    return as_map(values[:, prefix:], thw)
