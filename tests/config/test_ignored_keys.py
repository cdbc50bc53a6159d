"""Ignored keys are named in one warning, if they differ from their default."""

import logging
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from slowfast.config import get_cfg, load_config
from slowfast.config.ignored_keys import IGNORED_KEYS, UNBUILDABLE_VALUES
from slowfast.config.merge import leaf_keys
from slowfast.models import MODEL_REGISTRY

ROOT = Path(__file__).parents[2]


def warnings_of(caplog, overrides) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.INFO):
        load_config(None, overrides)
    return [record.getMessage() for record in caplog.records]


def test_one_warning_lists_all(caplog):
    overrides = [
        "DATA.TIME_DIFF_PROB",
        0.5,
        "CONTRASTIVE.KNN_ON",
        False,
        "DATA.CROP_SIZE",
        112,
    ]
    (message,) = warnings_of(caplog, [*overrides, "PREFETCH.NUM_LOADERS", 3, "SOLVER.BASE_LR", 0.2])
    for key in (
        "DATA.TIME_DIFF_PROB",
        "CONTRASTIVE.KNN_ON",
        "DATA.CROP_SIZE",
        "PREFETCH.NUM_LOADERS",
    ):
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


@pytest.mark.parametrize(
    ("key", "value"),
    [("BN.NORM_TYPE", "none"), ("MODEL.MODEL_NAME", "PTVX3D")],
)
def test_values_of_parts_not_built(caplog, key, value):
    (message,) = warnings_of(caplog, [key, value])
    assert key in message


def test_a_project_may_build_them(caplog, monkeypatch):
    monkeypatch.setattr(MODEL_REGISTRY, "_objects", dict(MODEL_REGISTRY._objects))
    MODEL_REGISTRY.register("PTVX3D")(lambda cfg: None)
    assert warnings_of(caplog, ["MODEL.MODEL_NAME", "PTVX3D"]) == []


def test_the_table_names_keys_that_exist():
    keys = list(leaf_keys(get_cfg()))
    assert [p for p in IGNORED_KEYS if not any(fnmatchcase(key, p) for key in keys)] == []
    assert [key for key in UNBUILDABLE_VALUES if key not in keys] == []


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
