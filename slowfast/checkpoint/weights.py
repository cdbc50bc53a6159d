"""Load weights into a model: match keys and shapes, transform weights of another form, report every key."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from slowfast.models.tokens import adapt_positions, inflate_positions
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import short

logger = get_logger(__name__)

# Buffers that a file may lack or have in excess: of batch norms a counter, which changes no output here, and the
# statistics of splits of a batch, which start at those of the whole batch; and the bank of training videos' features.
_OPTIONAL = ("num_batches_tracked", "split_mean", "split_var", "knn_mem.memory", "knn_mem.labels")
# Last linear layer of every model, whose rows are classes; `fc` is that of RegNet.
_CLASSIFIERS = ("head.projection.", "fc.")
# Types that the weights of a model can be copied from.
_NUMBERS = re.compile(r"torch\.(bool|u?int(8|16|32|64)|bfloat16|float(16|32|64)|float8_\w+)")
# Views may repeat the content of their storages this many times, and 1 MiB in any case.
_MOST_REPEATED, _SMALL = 16, 2**20
_MOST_LISTED = 1000  # keys of a kind that a report lists


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """Result of loading for each key; `missing` and `mismatched` ones keep the model's initialization."""

    matched: list[str]
    missing: list[str]  # in the model only
    unexpected: list[str]  # in the checkpoint only
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]  # key -> shapes (checkpoint, model)
    transformed: dict[str, str] = dataclasses.field(default_factory=dict)  # matched key -> transformation

    @property
    def is_exact(self) -> bool:
        """True if all weights of the model and of the checkpoint matched."""
        return not (self.missing or self.unexpected or self.mismatched)

    def class_count_advice(self) -> str:
        """Return the setting that fits a checkpoint of another class count; "" if more than the classifier differs."""
        if self.missing or self.unexpected or not self.mismatched:
            return ""
        if not all(_is_class_count(key, *shapes) for key, shapes in self.mismatched.items()):
            return ""
        ((given, *_), (own, *_)), *_ = self.mismatched.values()
        return f"its classifier has {given} classes, and MODEL.NUM_CLASSES is {own}; set MODEL.NUM_CLASSES {given}"

    def describe(self) -> str:
        """Return lines that name each key that did not match or was transformed."""
        lines = [f"{len(self.matched)} keys matched"]
        for what in dict.fromkeys(self.transformed.values()):
            keys = [key for key, done in self.transformed.items() if done == what]
            lines.append(f"{len(keys)} of them transformed, {what}: {', '.join(keys)}")
        lines += [f"missing in the checkpoint: {key}" for key in self.missing]
        lines += [f"not in the model: {short(key, 300)}" for key in self.unexpected[:_MOST_LISTED]]
        if len(self.unexpected) > _MOST_LISTED:
            lines.append(f"not in the model: {len(self.unexpected) - _MOST_LISTED} more")
        lines += [f"other shape: {key}, checkpoint {short(a)}, model {b}" for key, (a, b) in self.mismatched.items()]
        return "\n  ".join(lines)


def plain_weights(weights: Any, source: str) -> dict[str, torch.Tensor]:
    """Return weights of a file as tensors on the CPU without gradient or attributes, which share its memory.

    Raises:
        ValueError: they are no dict of names and tensors, or one is sparse, quantized, complex, without data (meta) or
            of another type that a model has no use for, or they are far larger than what the file holds.
    """
    if not is_weights(weights):
        raise ValueError(f"the weights in {source} are no names with tensors")
    for name, value in weights.items():
        found = (
            f"a {type(value).__name__}"
            if type(value) not in (torch.Tensor, nn.Parameter)
            else "nested"
            if value.is_nested
            else f"{value.layout}, {value.device}, {value.dtype}"
        )
        if not (found.startswith("torch.strided, cpu, ") and _NUMBERS.fullmatch(str(value.dtype))):
            raise ValueError(
                f"{source}: the weight {short(name)} is {found.removeprefix('torch.strided, ')}; weights are dense "
                "tensors of real numbers with their data"
            )
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in weights.values()}
    held, shown = sum(storages.values()), sum(value.nbytes for value in weights.values())
    if shown > max(_MOST_REPEATED * held, _SMALL):
        raise ValueError(f"{source}: its weights have {shown} bytes, made of {held} bytes again and again")
    return {name: torch.Tensor.detach(value) for name, value in weights.items()}


def is_weights(item: Any) -> bool:
    """Return True for a dict of names and tensors."""
    return isinstance(item, dict) and all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in item.items()
    )


def compare_weights(model: nn.Module, weights: dict[str, torch.Tensor]) -> LoadReport:
    """Compare the keys and shapes of `weights` with those of the model, without loading."""
    own = {key: value for key, value in model.state_dict().items() if not key.endswith(_OPTIONAL)}
    given = {key: value for key, value in weights.items() if not key.endswith(_OPTIONAL)}
    shared = [key for key in own if key in given]
    wrong = {k: (tuple(given[k].shape), tuple(own[k].shape)) for k in shared if given[k].shape != own[k].shape}
    return LoadReport(
        matched=[key for key in shared if key not in wrong],
        missing=[key for key in own if key not in given],
        unexpected=[key for key in given if key not in own],
        mismatched=wrong,
    )


def load_weights(
    model: nn.Module,
    weights: dict[str, torch.Tensor],
    source: str,
    drop_mismatch: bool = False,
    allow_missing: bool = False,
    clear_patterns: Sequence[str] = (),
    *,
    drop_classifier: bool = False,
    inflate: bool = False,
    strict: bool = False,
) -> LoadReport:
    """Copy a checkpoint's weights into `model`, and log the report.

    Args:
        weights: state-dict key -> tensor, as in `model_state`.
        source: the file, for messages.
        drop_mismatch: missing weights, and those of another shape, keep the model's initialization.
        allow_missing: missing weights keep the model's initialization.
        clear_patterns: substrings to remove from the checkpoint's keys.
        drop_classifier: a classifier of another number of classes keeps the model's initialization.
        inflate: repeat kernels of an image model over time.
        strict: require that all keys match.

    Raises:
        ValueError: shapes differ or keys are missing where that is not allowed, or no key matches; the model is
            unchanged.
    """
    weights, transformed = fit_weights(model, rename_keys(weights, clear_patterns), inflate)
    report = dataclasses.replace(compare_weights(model, weights), transformed=transformed)
    if not report.matched:
        raise ValueError(f"{source}: no key fits the model\n  {report.describe()}")
    if strict and not report.is_exact:
        raise ValueError(f"CHECKPOINT_STRICT is True, and {source} differs from the model\n  {report.describe()}")
    if not drop_mismatch:
        _check_shapes(report, source, drop_classifier, training=allow_missing)
    if report.missing and not (drop_mismatch or allow_missing):
        raise ValueError(f"{source} does not hold all weights of the model\n  {report.describe()}")
    own = model.state_dict()
    kept = {key: weights[key] for key in report.matched}
    _say_dtypes(kept, own, source)
    model.load_state_dict(kept | _optional(weights, own), strict=False)
    level = logger.info if report.is_exact else logger.warning
    fresh = len(report.missing) + len(report.mismatched)
    note = f"\n  {fresh} keys, missing or of another shape, keep the model's initialization" if fresh else ""
    level("weights of %s: %s%s", source, report.describe(), note)
    return report


def _optional(weights: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the optional buffers among `weights` that the model with the state dict `own` has in the same shape.

    A bank that is empty there takes any number of rows.
    """
    return {
        key: value
        for key, value in weights.items()
        if key.endswith(_OPTIONAL)
        and key in own
        and (value.shape == own[key].shape or (not len(own[key]) and value.shape[1:] == own[key].shape[1:]))
    }


def _say_dtypes(given: dict[str, torch.Tensor], own: dict[str, torch.Tensor], source: str) -> None:
    """Warn of weights that become another dtype, that of the model."""
    pairs = Counter((given[key].dtype, own[key].dtype) for key in given if given[key].dtype != own[key].dtype)
    for (before, now), count in pairs.items():
        logger.warning("%s: %d weights are converted from %s to %s, the model's dtype", source, count, before, now)


def _is_class_count(key: str, given: tuple[int, ...], own: tuple[int, ...]) -> bool:
    """Return True if two shapes of a weight differ in the number of classes alone."""
    return key.startswith(_CLASSIFIERS) and given[1:] == own[1:]


def _check_shapes(report: LoadReport, source: str, drop_classifier: bool, training: bool) -> None:
    """Raise ValueError, with the setting that helps, if shapes differ in more than the classes that may."""
    bad = {
        key: shapes
        for key, shapes in report.mismatched.items()
        if not (drop_classifier and _is_class_count(key, *shapes))
    }
    if not bad:
        return
    advice = report.class_count_advice()
    if advice:
        fresh = ", or TRAIN.CHECKPOINT_EPOCH_RESET True to train a new classifier" if training else ""
        raise ValueError(f"{source} does not fit the model: {advice}{fresh}")
    inflatable = any(is_inflatable(given, own) for given, own in bad.values())
    hint = "; TRAIN.CHECKPOINT_INFLATE True repeats the kernels of an image model over time" if inflatable else ""
    raise ValueError(
        f"{source} holds weights of other shapes; set CHECKPOINT_DROP_MISMATCH True (in TRAIN or TEST) to keep "
        f"the model's initialization for them{hint}\n  {report.describe()}"
    )


def replace_weights(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Copy all of `weights` into `model`; only buffers of another kind of batch norm may differ.

    Raises:
        ValueError: a key is missing, unexpected or of another shape.
    """
    report = compare_weights(model, weights)
    if not report.is_exact:
        raise ValueError(f"weights do not fit the model\n  {report.describe()}")
    own, kept = model.state_dict(), {key: weights[key] for key in report.matched}
    _say_dtypes(kept, own, "averaged weights (EMA)")
    model.load_state_dict(kept | _optional(weights, own), strict=False)


def rename_keys(weights: dict[str, torch.Tensor], clear_patterns: Sequence[str] = ()) -> dict[str, torch.Tensor]:
    """Remove the prefix of a parallel wrapper, and each of `clear_patterns`, from all keys.

    Raises:
        ValueError: two keys become equal.
    """
    if weights and all(key.startswith("module.") for key in weights):
        weights = {key.removeprefix("module."): value for key, value in weights.items()}
    renamed: dict[str, torch.Tensor] = {}
    for key, value in weights.items():
        name = key
        for pattern in clear_patterns:
            name = name.replace(pattern, "")
        if name in renamed:
            raise ValueError(f"TRAIN.CHECKPOINT_CLEAR_NAME_PATTERN gives two keys the name {name!r}")
        renamed[name] = value
    return renamed


# PySlowFast's sub-batch norm holds two norms: one of the whole batch, and one of its splits.
_WHOLE = re.compile(r"\.bn\.(running_mean|running_var|num_batches_tracked|weight|bias)$")
_PARTS = re.compile(r"\.split_bn\.\w+$")


def fit_weights(
    model: nn.Module, weights: dict[str, torch.Tensor], inflate: bool = False
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Transform weights to the form that `model` needs; those without a rule are kept.

    - Dimensions of size 1 at the end are added or removed (a linear layer saved as a 1x1x1 convolution, or back).
    - Sub-batch norms, saved as two norms, become one.
    - With `inflate`, kernels without time, or of one frame, are repeated over the T frames of the model's kernel and
      divided by T. A video of equal frames then gives the result of the image ("Quo Vadis, Action Recognition?",
      section 2.4).
      Position embeddings of images become those of clips, the same at all times.
    - Position embeddings for clips of another size are interpolated (`slowfast.models.tokens`).

    Returns:
        The weights, and the transformation of each changed key.
    """
    own = model.state_dict()
    weights, transformed = _plain_norms(weights, own)
    if inflate:
        flat, weights = weights, inflate_positions(weights, model)
        moved = [key for key, value in weights.items() if value is not flat.get(key)]
        transformed |= dict.fromkeys(moved, "positions of an image at all times")
    for key, value in weights.items():
        wanted = own[key].shape if key in own else value.shape
        if value.shape == wanted:
            continue
        if _without_ones(value.shape) == _without_ones(wanted):
            weights[key], transformed[key] = value.reshape(wanted), "dimensions of size 1 added or removed"
        elif inflate and is_inflatable(value.shape, wanted):
            flat = value if value.dim() == 5 else value.unsqueeze(2)
            weights[key] = flat.expand(wanted) / wanted[2]
            transformed[key] = f"repeated over {wanted[2]} frames, divided by {wanted[2]}"
    placed = adapt_positions(weights, model)
    interpolated = [key for key, value in placed.items() if value is not weights[key]]
    return placed, transformed | dict.fromkeys(interpolated, "positions interpolated")


def is_inflatable(given: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Return True if a kernel (O, I, H, W) or (O, I, 1, H, W) repeated over time has the shape (O, I, T, H, W)."""
    flat = (*given[:2], *given[3:]) if len(given) == 5 and given[2] == 1 else tuple(given)
    return len(wanted) == 5 and flat == (*wanted[:2], *wanted[3:])


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without the dimensions of size 1 at its end."""
    kept = list(shape)
    while kept and kept[-1] == 1:
        kept.pop()
    return tuple(kept)


def _plain_norms(
    weights: dict[str, torch.Tensor], own: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return a copy with plain names for nested norms, and the renamed keys."""
    if not any(_PARTS.search(key) for key in weights):
        return dict(weights), {}
    plain, renamed = {}, {}
    for key, value in weights.items():
        name = _WHOLE.sub(r".\1", key) if key not in own else key
        if _PARTS.search(key):
            continue
        plain[name] = value
        if name != key:
            renamed[name] = "taken from a sub-batch norm"
    return plain, renamed
