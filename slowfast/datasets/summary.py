"""A data set in one line, for the log of a run."""

from __future__ import annotations

from typing import Any

import torch


def describe(dataset: Any, num_classes: int | None = None) -> str:
    """What a data set holds, from what it has read anyway: videos, views, classes, key frames and boxes.

    Args:
        dataset: any that has a length; of `num_videos`, `view_plan`, `labels`, or, with boxes, `key_frames`,
            `box_counts` and `num_labels`, whatever it has is told.
        num_classes: of the model, if known.
    """
    parts = [f"{len(dataset)} samples"]
    videos, views = getattr(dataset, "num_videos", None), getattr(dataset, "view_plan", "")
    if getattr(dataset, "has_boxes", False):
        names = {name for name, _ in dataset.key_frames}
        parts = [f"{len(dataset.key_frames)} key frames of {len(names)} videos", f"{sum(dataset.box_counts)} boxes"]
        if hasattr(dataset, "num_labels"):
            parts[-1] += f" with {dataset.num_labels} labels"
    elif videos is not None:
        parts = [f"{videos} videos", *([views] if views else [])]
    seen = classes_seen(dataset)
    if seen is not None:
        parts.append(f"{len(seen)} classes occur" + (f" of {num_classes}" if num_classes else ""))
    return ", ".join(parts)


def classes_seen(dataset: Any) -> set[int] | None:
    """The classes among a data set's labels, from 0; None where it does not tell them."""
    told = getattr(dataset, "classes_seen", None)
    if told is not None:
        return told
    labels = getattr(dataset, "labels", None)
    if labels is None or len(labels) == 0:
        return None
    if isinstance(labels, torch.Tensor) and labels.dim() == 2:
        return set(labels.any(dim=0).nonzero().flatten().tolist())
    if isinstance(labels[0], torch.Tensor):
        return set(torch.stack(list(labels)).any(dim=0).nonzero().flatten().tolist())
    return {int(label) for label in labels}
