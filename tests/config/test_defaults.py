"""Key tree: the published defaults, and the page of all keys."""

import json
import pickle
from pathlib import Path

import pytest

from slowfast.config import cfg_from_yaml, cfg_to_yaml, get_cfg, load_config
from slowfast.config.document import document
from slowfast.config.merge import leaf_keys

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests/fixtures/config"


def flat(tree: dict, prefix: str = "") -> dict:
    keys = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            keys.update(flat(value, f"{prefix}{name}."))
        else:
            keys[prefix + name] = value
    return keys


def test_defaults_are_the_published_ones():
    ours = flat(get_cfg())
    published = flat(json.loads((FIXTURES / "config_defaults.json").read_text()))
    assert published.pop("DATA.DECODING_BACKEND") == "torchvision"
    assert ours["DATA.DECODING_BACKEND"] == "pyav"
    assert {key: ours.get(key, "missing") for key in published} == published
    assert {key: type(ours[key]) for key in published} == {key: type(v) for key, v in published.items()}


def test_keys_of_the_other_published_code_exist_with_its_defaults():
    ours = flat(get_cfg())
    known = flat(json.loads((FIXTURES / "config_defaults.json").read_text()))
    other = flat(json.loads((FIXTURES / "pgt_defaults.json").read_text())["keys"])
    added = {key: v for key, v in other.items() if key not in known and not key.startswith("PGT.")}
    assert len(added) > 15
    assert {key: ours.get(key, "missing") for key in added} == added


def test_the_page_of_all_keys_is_current_and_explains_every_key():
    page = document(["pgt"])
    assert page == (ROOT / "docs/config.md").read_text(), "run: python -m slowfast.config.document docs/config.md pgt"
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert [row for row in rows if row.replace("*ignored*", "").strip(" |").endswith("|") or " |  |" in row] == []
    keys = load_config(None, ["PROJECTS", ["pgt"]])
    assert len(rows) == len(list(leaf_keys(keys)))


def test_a_fresh_tree_each_time():
    first = get_cfg()
    first.SOLVER.STEPS.append(1)
    first.MODEL.ARCH = "slow"
    assert get_cfg().SOLVER.STEPS == []
    assert get_cfg().MODEL.ARCH == "slowfast"


def test_loaded_config_is_frozen_and_travels():
    cfg = load_config(None, ["SOLVER.BASE_LR", "1e-4", "SOLVER.MAX_EPOCH", 7, "AUG.COLOR_JITTER", "None"])
    with pytest.raises(AttributeError, match="immutable"):
        cfg.SOLVER.BASE_LR = 1.0
    copy = pickle.loads(pickle.dumps(cfg))
    assert copy == cfg
    assert copy.is_frozen()
    again = cfg_from_yaml(cfg_to_yaml(cfg))
    assert again == cfg
    assert again.is_frozen()
    assert again.AUG.COLOR_JITTER is None
    assert again.CONTRASTIVE.DELTA_CLIPS_MAX == float("inf")
