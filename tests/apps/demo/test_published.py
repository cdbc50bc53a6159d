"""The published files of the demo load, and hold the published model."""

import pytest

from slowfast.config import load_config
from slowfast.config.merge import get_key, leaf_keys


@pytest.mark.parametrize(
    ("file", "model"),
    [
        ("Kinetics/SLOWFAST_8x8_R50.yaml", "Kinetics/c2/SLOWFAST_8x8_R50.yaml"),
        ("AVA/SLOWFAST_32x2_R101_50_50.yaml", "AVA/c2/SLOWFAST_32x2_R101_50_50.yaml"),
    ],
)
def test_a_published_file(repo, file, model, caplog):
    cfg = load_config(str(repo / "demo" / file))
    assert caplog.text == ""  # no key is ignored
    assert (cfg.TRAIN.ENABLE, cfg.TEST.ENABLE, cfg.DEMO.ENABLE, cfg.DEMO.WEBCAM, cfg.NUM_GPUS) == (
        *(False, False, True, 0, 1),
    )
    plain = load_config(str(repo / "configs" / model))
    changed = {key for key in leaf_keys(cfg) if get_key(cfg, key) != get_key(plain, key)}
    others = {"TEST.ENABLE", "TRAIN.CHECKPOINT_FILE_PATH", "NUM_GPUS"}
    assert {key for key in changed if not key.startswith("DEMO.")} <= others
