"""Check before training or testing that every rank has the same config, code, PyTorch, data and initial weights."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slowfast.config.merge import get_key, leaf_keys
from slowfast.runtime.distributed import all_gather_object, get_local_world_size, get_world_size

# Settings that may differ between hosts: host numbers, paths, and loader workers. The data read from the paths has to
# agree, and is compared itself.
HOST_SETTINGS = {
    "SHARD_ID",
    "OUTPUT_DIR",
    "LOGS.DIR",
    "DATA.PATH_TO_DATA_DIR",
    "DATA.PATH_TO_PRELOAD_IMDB",
    "DATA.IN22k_VAL_IN1K",
    "DATA.PATH_PREFIX",
    "DATA_LOADER.NUM_WORKERS",
    "DATA_LOADER.PREFETCH_FACTOR",
    "TRAIN.CHECKPOINT_FILE_PATH",
    "TEST.CHECKPOINT_FILE_PATH",
}
_SHOWN = 12


def check_consistency(collect: Callable[[], Mapping[str, Any]]) -> None:
    """Compare facts with those of all other ranks, which call this too.

    Ranks exchange a digest, and the facts themselves only where digests differ. A single process collects nothing.

    Args:
        collect: returns facts, name -> plain value.

    Raises:
        ValueError: on every rank; the message names what differs, and the value of each rank.
    """
    if get_world_size() == 1:
        return
    texts = {name: str(value) for name, value in collect().items()}
    if len(set(all_gather_object(_digest(json.dumps(texts, sort_keys=True).encode())))) == 1:
        return
    every_rank = all_gather_object(texts)
    names = dict.fromkeys(name for facts_of_rank in every_rank for name in facts_of_rank)
    values = {name: [facts_of_rank.get(name, "absent") for facts_of_rank in every_rank] for name in names}
    lines = [f"  {name}: {_by_rank(found)}" for name, found in values.items() if len(set(found)) > 1]
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"  ... and {len(lines) - _SHOWN} more"]
    raise ValueError(
        "the ranks of this job differ; start every host with the same config, code and data\n" + "\n".join(lines)
    )


def launch_facts(cfg: Any) -> dict[str, Any]:
    """Collect what has to agree before anything is built: settings, code, PyTorch version, numbers of processes."""
    settings = {key: get_key(cfg, key) for key in leaf_keys(cfg) if key not in HOST_SETTINGS}
    return {
        **settings,
        "processes": get_world_size(),
        "processes on the host": get_local_world_size(),
        "torch": torch.__version__,
        **code_facts(["slowfast", *cfg.PROJECTS]),
    }


def code_facts(modules: Iterable[str]) -> dict[str, str]:
    """Collect digests of the Python files of packages or modules, by path relative to the package's parent folder."""
    found = {}
    for module in modules:
        file = import_module(module).__file__
        if file is None:
            continue  # a folder without __init__.py
        path = Path(file)
        files = path.parent.rglob("*.py") if path.name == "__init__.py" else [path]
        base = path.parent.parent if path.name == "__init__.py" else path.parent
        found |= {f"code of {name.relative_to(base)}": _digest(name.read_bytes()) for name in sorted(files)}
    return found


def data_facts(split: str, dataset: Any) -> dict[str, Any]:
    """Collect what has to agree about a split: its length, and its files and labels in order.

    The folder above all files may differ between hosts.
    """
    facts = {f"{split} samples": len(dataset)}
    if len(dataset.names):
        whole = [os.path.abspath(name) for name in dataset.names]
        top = os.path.commonpath([os.path.dirname(name) for name in whole])
        names = [name[len(top) :].lstrip(os.sep) for name in whole]
        labels = [_plain(label) for label in dataset.labels]
        listed = json.dumps([names, labels])
        facts[f"{split} list of files and labels"] = _digest(listed.encode())
    return facts


def weight_facts(model: nn.Module) -> dict[str, str]:
    """Collect a digest of all weights and buffers."""
    digest = hashlib.sha1(usedforsecurity=False)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).cpu().numpy().data)
    return {"weights to start from": digest.hexdigest()[:12]}


def _plain(label: Any) -> Any:
    # Formatting a tensor takes milliseconds, and there are thousands.
    return label.tolist() if isinstance(label, torch.Tensor) else str(label)


def _by_rank(values: Sequence[str]) -> str:
    """Format values by rank: `rank 0: A; ranks 1, 2: B`."""
    ranks: dict[str, list[str]] = {}
    for rank, value in enumerate(values):
        ranks.setdefault(value, []).append(str(rank))
    return "; ".join(f"rank{'s' if len(who) > 1 else ''} {', '.join(who)}: {value}" for value, who in ranks.items())


def _digest(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()[:12]
