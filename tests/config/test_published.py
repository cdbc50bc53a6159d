"""Published YAML files, word for word: each loads, or is refused for the reason on record."""

import json
from pathlib import Path

import pytest

from slowfast.config import cfg_from_yaml, cfg_to_yaml, load_config

FIXTURES = Path(__file__).parents[1] / "fixtures/published_settings"
PUBLISHED = {name: json.loads((FIXTURES / f"{name}.json").read_text()) for name in ("slowfast", "pgt")}
REFUSED = {"AVA/SLOWFAST_PROG_36x8_R101_K600.yaml": r"BASE_ in .*_BASE_"}
# Their DATA.NUM_FRAMES is 304, which the published code does not read: it counts 64 + 4 * 63 frames.
COUNTED_FRAMES = {
    "Charades/SLOWFAST_PROG_76x8_R50_K400.yaml": 316,
    "Charades/SLOWFAST_PROG_76x8_R101_K400.yaml": 316,
    "Charades/SLOWFAST_PROG_76x8_R101_K600.yaml": 316,
}


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner in PUBLISHED for name in PUBLISHED[owner]])
def test_published_file(published_files, repo, owner, name):
    path = published_files / owner / name
    if owner == "pgt" and name in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name]):
            load_config(path)
        return
    cfg = load_config(path)
    if name in COUNTED_FRAMES:  # ours says what is run, and runs the same
        ours = load_config(repo / "projects/pgt/configs" / name)
        assert (cfg.DATA, cfg.PGT, cfg.SLOWFAST, cfg.TEST) == (ours.DATA, ours.PGT, ours.SLOWFAST, ours.TEST)
    for section, values in PUBLISHED[owner][name].items():
        numbers = {key: v for key, v in values.items() if type(v) in (int, float)} if type(values) is dict else {}
        if "NUM_FRAMES" in numbers:
            numbers["NUM_FRAMES"] = COUNTED_FRAMES.get(name, numbers["NUM_FRAMES"])
        read = {key: cfg[section][key] for key in numbers}
        assert {key: v[0] if isinstance(v, list) else v for key, v in read.items()} == numbers
    assert cfg_from_yaml(cfg_to_yaml(cfg)) == cfg
