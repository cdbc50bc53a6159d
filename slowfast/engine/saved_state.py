"""Checks of the training state in a checkpoint, which may come from another program or a newer version.

A damaged file does not come this far: its checksums do not fit. Without these checks odd values would be taken as they
are, and fail in the first optimizer step, or never.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from slowfast.utils.errors import short

_LARGEST = 2**53  # of counts
# Entries of a checkpoint, see `TrainState.capture`.
_ENTRIES = {
    *("ema_state", "model_state", "optimizer_state", "scaler_state", "epoch", "iteration", "step", "epoch_length"),
    *("layout", "data", "averages", "rng_state", "cfg", "preprocessing", "class_names", "best"),
}
_MOST_LISTED = 10


def check_saved(saved: Mapping[str, Any], source: str, layout: Mapping[str, Any], scaler: Mapping[str, Any]) -> None:
    """Check the entries of a checkpoint that `TrainState.restore_progress` uses, but weights and optimizer.

    Args:
        saved: content of the checkpoint.
        source: the file, for messages.
        layout: the layout of the resumed run, whose names and types the saved one must have.
        scaler: state of its GradScaler; {} if it is off.

    Raises:
        ValueError: an entry has another type or structure, or a value that is not possible.
    """
    with naming_source(source):
        check_epoch(saved)
        for name in ("iteration", "step"):
            _check_count(name, saved.get(name, 0))
        if saved.get("iteration"):
            _check_count("epoch_length", saved.get("epoch_length"), least=1)
            _check_averages(saved.get("averages"))
        if "layout" in saved:
            _check_same_kind("layout", saved["layout"], layout)
        if not isinstance(saved.get("data", {}), dict):
            raise ValueError(f"its data is {short(saved['data'])}")
        if not isinstance(saved.get("rng_state", []), list):
            raise ValueError(f"its rng_state is {short(saved['rng_state'])}, not a list with an entry of each process")
        if scaler and _is_given(saved.get("scaler_state")):
            _check_same_kind("scaler_state", saved["scaler_state"], scaler)
        if "ema_state" in saved:
            average = saved["ema_state"]
            if not isinstance(average, dict) or not {"model_state", "updates"} <= average.keys():
                raise ValueError(f"its ema_state is {short(average)}, not model_state and updates")
            _check_count("number of updates in ema_state", average["updates"])


def describe_unknown(saved: Mapping[str, Any], unknown_settings: Iterable[str]) -> str:
    """Describe entries and settings of a checkpoint that this version does not know; "" if there are none."""
    names = [*(short(name) for name in saved if name not in _ENTRIES), *map(short, unknown_settings)]
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return f"{', '.join(names[:_MOST_LISTED])}{more}"


def check_epoch(saved: Mapping[str, Any]) -> None:
    """Raise ValueError if the last completed epoch is no count, or -1 for none."""
    _check_count("epoch", saved.get("epoch", -1), least=-1)


@contextlib.contextmanager
def naming_source(source: str) -> Iterator[None]:
    """Turn errors about odd content of a checkpoint into a ValueError that names the file and says what to do."""
    try:
        yield
    except (ValueError, KeyError, TypeError, RuntimeError, AttributeError, IndexError, OverflowError) as error:
        cause = str(error) if type(error) is ValueError else f"{type(error).__name__}: {short(error)}"
        raise ValueError(
            f"training cannot go on from {source}: {cause}. It may be of a newer version or of another program. "
            f"To start another run from its weights: another OUTPUT_DIR, TRAIN.CHECKPOINT_FILE_PATH {source} and "
            "TRAIN.CHECKPOINT_EPOCH_RESET True"
        ) from error


def _is_given(state: Any) -> bool:
    return not (state is None or (isinstance(state, dict) and not state))


def _check_count(name: str, value: Any, least: int = 0) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _LARGEST:
        raise ValueError(f"its {name} is {short(value)}, and must be a whole number, at least {least}")


def _check_same_kind(name: str, found: Any, wanted: Mapping[str, Any]) -> None:
    """Check that a dict has the names of `wanted`, and finite numbers under them."""
    if not isinstance(found, dict) or found.keys() != wanted.keys():
        names = ", ".join(sorted(map(short, found.keys() ^ wanted.keys()))) if isinstance(found, dict) else ""
        raise ValueError(f"its {name} {f'does not agree about {names}' if names else f'is {short(found)}'}")
    for key, value in wanted.items():
        if isinstance(value, int):
            _check_count(f"{name} {key}", found[key], least=-_LARGEST if key == "seed" else 0)
        elif not _is_finite(found[key]):
            raise ValueError(f"its {name} {key} is {short(found[key])}, and must be a number")


def _check_averages(averages: Any) -> None:
    if not isinstance(averages, dict) or not isinstance(averages.get("sums"), dict):
        raise ValueError(f"its averages are {short(averages)}, not sums and samples")
    _check_count("number of samples", averages.get("samples"), least=1 if averages["sums"] else 0)
    for name, value in averages["sums"].items():
        if not isinstance(name, str) or not isinstance(value, (int, float)):
            raise ValueError(f"its averages have {short(value)} for {short(name)}")


def _is_finite(value: Any) -> bool:
    return (
        not isinstance(value, bool)
        and isinstance(value, (int, float))
        and abs(value) < 2**1000
        and math.isfinite(value)
    )
