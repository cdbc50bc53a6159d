"""Ignored keys are named in one warning, if they differ from their default."""

import logging
import re
from fnmatch import fnmatchcase
from pathlib import Path

from slowfast.config import get_cfg, load_config
from slowfast.config.ignored_keys import IGNORED_KEYS
from slowfast.config.merge import leaf_keys

ROOT = Path(__file__).parents[2]


def warnings_of(caplog, overrides) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.INFO):
        load_config(None, overrides)
    return [record.getMessage() for record in caplog.records]


def test_one_warning_lists_all(caplog):
    changed = {"CONTRASTIVE.LENGTH": 9, "DATA.CROP_SIZE": 112, "PREFETCH.NUM_LOADERS": 3}
    (message,) = warnings_of(caplog, [*(item for pair in changed.items() for item in pair), "SOLVER.BASE_LR", 0.2])
    for key in changed:
        assert key in message
    assert "BASE_LR" not in message
    assert "CONTRASTIVE.DIM" not in message


def test_silence_when_everything_works(caplog):
    assert warnings_of(caplog, []) == []
    assert (
        warnings_of(
            caplog, ["AUG.ENABLE", False, "SOLVER.BASE_LR", 0.2, "MODEL.MODEL_NAME", "ResNet", "MODEL.ARCH", "i3d"]
        )
        == []
    )
    assert warnings_of(caplog, ["BN.NORM_TYPE", "frozen_batchnorm"]) == []


def test_the_table_names_keys_that_exist():
    keys = list(leaf_keys(get_cfg()))
    assert [p for p in IGNORED_KEYS if not any(fnmatchcase(key, p) for key in keys)] == []


def test_every_key_is_read_somewhere_or_listed():
    """Search the code for every key: one that no line mentions has no effect, whatever its comment says."""
    files = [*(ROOT / "slowfast").rglob("*.py"), *(ROOT / "projects").rglob("*.py"), *(ROOT / "tools").glob("*.py")]
    # Of the config's own files, those that only declare or check keys do not use them.
    declaring = re.compile(r"slowfast/config/((defaults|rules)/\w+|ignored_keys|merge)\.py$|/tests/")
    code = "\n".join(p.read_text() for p in files if not declaring.search(p.as_posix()))
    words = set(re.findall(r"\w+", code))
    listed = [*IGNORED_KEYS, "MVIT.NORM", "RESNET.STEM_FUNC"]  # they have one value
    idle = [
        key
        for key in leaf_keys(get_cfg())
        if key.rpartition(".")[2] not in words and not any(fnmatchcase(key, pattern) for pattern in listed)
    ]
    assert idle == []


def test_the_warning_says_what_does_the_same(caplog):
    (message,) = warnings_of(caplog, ["DATA.DECODING_SHORT_SIZE", 320])
    assert "prepare_kinetics.py --resize" in message
