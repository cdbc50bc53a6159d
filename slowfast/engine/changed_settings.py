"""The settings in a checkpoint, compared with those of the run that resumes it.

The rule: the resumed run's settings apply, and each one that differs from the checkpoint's is logged with both values.
A change that the checkpoint's optimizer cannot follow is refused. Only settings without influence on training change
unsaid.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from slowfast.config.ignored_keys import reason_without_effect
from slowfast.config.merge import get_key, leaf_keys
from slowfast.config.sources import text_layer
from slowfast.utils.errors import short

# Patterns of the settings that change neither weights nor optimizer, statistics or random numbers of a resumed run:
# places, logging, tests, how data is loaded, initial weights.
_INDIFFERENT = (
    *(
        "OUTPUT_DIR",
        "LOG_PERIOD",
        "LOG_MODEL_INFO",
        "LOG_STYLE",
        "LOGS.*",
        "TENSORBOARD.*",
        "TRACKER.*",
        "TEST.*",
        "DEMO.*",
    ),
    *("SHARD_ID", "DIST.*", "DATA_LOADER.*", "DATA.CACHE_VIDEOS", "DATA.INDEX_CACHE", "DATA.MAX_UNREADABLE_FRACTION"),
    # What is read there is compared itself.
    *("DATA.PATH_TO_DATA_DIR", "DATA.PATH_TO_PRELOAD_IMDB", "DATA.PATH_PREFIX", "DATA.IN22k_VAL_IN1K"),
    *("TRAIN.ENABLE", "TRAIN.AUTO_RESUME", "TRAIN.TRANSFER_WEIGHT", "TRAIN.FULL_TIME_EVAL"),
    *("TRAIN.CHECKPOINT_[!P]*", "MODEL.FC_INIT_STD", "RESNET.ZERO_INIT_*"),
)
# Settings that decide which parameters are trained: the optimizer has state for those alone.
_TRAINED = ("MODEL.FREEZE_STAGES", "MODEL.DETACH_FINAL_FC")
_LONGEST_SHOWN = 60


def saved_settings(saved: dict[str, Any]) -> dict[str, Any]:
    """Return the settings in a checkpoint by full key ("TRAIN.DATASET"); {} if it holds none that can be read."""
    text = saved.get("cfg")
    try:
        sections = [("", text_layer(text if isinstance(text, str) else "", "the checkpoint's cfg").values)]
    except ValueError:
        return {}
    found: dict[str, Any] = {}
    for prefix, values in sections:
        for name, value in values.items():
            if isinstance(value, dict):
                sections.append((f"{prefix}{name}.", value))
            else:
                found[f"{prefix}{name}"] = value
    return found


def is_indifferent(key: str) -> bool:
    """Return True for a setting that changes nothing about the training of a resumed run."""
    return bool(reason_without_effect(key)) or any(fnmatchcase(key, pattern) for pattern in _INDIFFERENT)


def describe_changes(before: dict[str, Any], cfg: Any) -> str:
    """Describe the settings that apply from now on in place of a checkpoint's; "" if none differs.

    Args:
        before: settings of the checkpoint, see `saved_settings`; a key that it lacks counts as unchanged.
        cfg: settings of the resumed run.
    """
    changed = [key for key in leaf_keys(cfg) if before.get(key, get_key(cfg, key)) != get_key(cfg, key)]
    told = [
        f"{key} {short(get_key(cfg, key), _LONGEST_SHOWN)} (was {short(before[key], _LONGEST_SHOWN)})"
        for key in changed
        if not is_indifferent(key)
    ]
    return f"these apply from now on: {', '.join(told)}" if told else ""


def check_optimizer_goes_on(before: dict[str, Any], cfg: Any) -> None:
    """Check that the optimizer of `cfg` can go on from that of a checkpoint with the settings `before`.

    PyTorch loads the state of any other optimizer, but then fails in the first step (sgd and adam). From adam to adamw
    the state fits. mt_adamw is adamw, with the same state.

    Raises:
        ValueError: it cannot: another optimizer, or other trained parameters.
    """
    key = "SOLVER.OPTIMIZING_METHOD"
    now = get_key(cfg, key)
    former, later = str(before.get(key, now)).removeprefix("mt_"), now.removeprefix("mt_")
    if former != later and (former, later) != ("adam", "adamw"):
        raise ValueError(f"{key} is {now}, and was {before[key]}")
    for key in _TRAINED:
        now = get_key(cfg, key)
        if before.get(key, now) != now:
            raise ValueError(f"{key} is {short(now, _LONGEST_SHOWN)}, and was {short(before[key], _LONGEST_SHOWN)}")
