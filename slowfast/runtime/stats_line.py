"""Statistics as a line for people: `epoch 3/20, iter 40/120: loss 1.234, top1_err 64.8 %, lr 0.01, 0.52 s/iter ...`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What a line is about, by `_type`; other types are named as they are.
_TITLES = {"train_iter": "", "train_epoch": "trained", "val_epoch": "validation", "test_final": "test"}
# What is told in another form than `name value`, in this order, after all the rest.
_FORMS = {
    "lr": "lr {:.4g}",
    "dt": "{:.3g} s/iter",
    "dt_data": "{:.3g} s of it for data",
    "epoch_seconds": "{:.1f} s",
    "eta": "eta {}",
    "gpu_mem_gib": "gpu_mem {:.2f} GiB",
    "ram_gib": "ram {:.2f} GiB",
    "key_frames": "{} key frames",
    "videos": "{} videos",
    "images": "{} images",
    "views": "{} views",
    "unreadable_files": "{} unreadable files",
    "replaced_samples": "{} replaced samples",
}
# In the title, or the difference of two others.
_LEFT_OUT = {"_type", "epoch", "iter", "dt_net"}
# Counts of which 0 is no news.
_IF_ANY = {"unreadable_files", "replaced_samples"}
_PERCENT = ("_acc", "_err")


def stats_line(stats: Mapping[str, Any]) -> str:
    """Return an object of statistics as one line, metrics first.

    Metrics of single steps and other ensembles (`step1/top1_acc`), and errors beside accuracies, are left to the JSON.
    """
    kind = str(stats.get("_type", ""))
    place = [f"{name} {stats[name]}" for name in ("epoch", "iter") if name in stats]
    title = ", ".join(filter(None, [*place, _TITLES.get(kind, kind)]))
    named = [name for name in stats if name not in _FORMS and name not in _LEFT_OUT and "/" not in name]
    parts = [f"{name} {_value(name, stats[name])}" for name in named if not _is_told(name, stats)]
    others = [name for name in _FORMS if name in stats and (stats[name] or name not in _IF_ANY)]
    parts += [_FORMS[name].format(stats[name]) for name in others]
    return f"{title}: {', '.join(parts)}" if title else ", ".join(parts)


def _is_told(name: str, stats: Mapping[str, Any]) -> bool:
    """Return True for an error, in percent, whose accuracy is there."""
    return name.endswith("_err") and f"{name.removesuffix('_err')}_acc" in stats


def _value(name: str, value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1f} %" if name.endswith(_PERCENT) else f"{value:.4g}"
