"""Testing a checkpoint with the config stored in it: the command line without --cfg."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from slowfast.checkpoint import load_checkpoint, write_tensor_file
from slowfast.checkpoint.io import save_checkpoint
from slowfast.config import cfg_to_yaml
from slowfast.engine.arguments import parse_arguments
from slowfast.engine.command import main
from slowfast.engine.resume import load_checkpoint_config
from slowfast.models import build_model


@pytest.fixture
def given(tiny_cfg, tmp_path):
    """`given(change, text, **settings)`: save a checkpoint of the tiny config with a changed text; return its path."""

    def save(change=lambda values: None, text=None, **settings):
        cfg = tiny_cfg(*[item for key, value in settings.items() for item in (key.replace("__", "."), value)])
        values = yaml.safe_load(cfg_to_yaml(cfg))
        change(values)
        path = str(tmp_path / "given.pyth")
        state = {"model_state": build_model(cfg).state_dict(), "epoch": 2}
        save_checkpoint(state | {"cfg": yaml.safe_dump(values) if text is None else text}, path)
        return path

    return save


def test_testing_without_a_file_of_settings(given, tmp_path, capsys):
    path = given(MODEL__NUM_CLASSES=3)
    out = tmp_path / "elsewhere"
    arguments = ["TRAIN.ENABLE", "False", "TEST.CHECKPOINT_FILE_PATH", path, "OUTPUT_DIR", str(out)]
    assert main(parse_arguments([*arguments, "TEST.NUM_ENSEMBLE_VIEWS", "1"])) == 0, capsys.readouterr().err
    results = json.loads((out / "test_results.json").read_text())
    assert (results["views"], results["videos"], results["checkpoint"]) == (1, 4, path)
    assert not (tmp_path / "out").exists()


def test_what_belongs_to_the_training_is_left_behind(given):
    def as_trained(values):
        values |= {"NUM_GPUS": 8, "NUM_SHARDS": 4, "SHARD_ID": 2, "OUTPUT_DIR": "/somewhere/else"}

    cfg = load_checkpoint_config(given(as_trained), ["TEST.NUM_ENSEMBLE_VIEWS", 3])
    assert (cfg.NUM_SHARDS, cfg.SHARD_ID, cfg.OUTPUT_DIR) == (1, 0, ".")
    assert (cfg.TRAIN.ENABLE, cfg.TEST.ENABLE, cfg.TEST.NUM_ENSEMBLE_VIEWS) == (False, True, 3)
    assert cfg.NUM_GPUS == min(8, torch.cuda.device_count())


def test_a_checkpoint_has_no_code_run_and_no_file_written_where_it_likes(given, tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef setup(cfg): pass\n")
    monkeypatch.syspath_prepend(tmp_path)

    def asks(values):
        values["PROJECTS"] = ["stranger"]
        values["TEST"]["SAVE_RESULTS_PATH"] = str(tmp_path / "over.npz")

    path = given(asks)
    with pytest.raises(ValueError, match="stranger.*installed"):
        load_checkpoint_config(path)
    assert not (tmp_path / "ran").exists()
    cfg = load_checkpoint_config(path, ["PROJECTS", ["stranger"]])
    assert (tmp_path / "ran").exists() and cfg.TEST.SAVE_RESULTS_PATH == ""


def test_settings_of_other_code(given, caplog):
    """Check that unknown keys are left out with a warning; an unknown section may define the model, and is refused."""

    def more(values):
        values["TEST"]["NEW_KEY"] = 1
        values["MODEL"]["OTHER"] = {"A": 1}

    assert load_checkpoint_config(given(more)).MODEL.NUM_CLASSES == 2
    assert "TEST.NEW_KEY" in caplog.text and "MODEL.OTHER" in caplog.text
    with pytest.raises(ValueError, match="no section STRANGE"):
        load_checkpoint_config(given(lambda values: values.update(STRANGE={"ENABLE": True})))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no config.*--cfg FILE, where.*zoo.py pack .*--cfg FILE"),
        ("TRAIN: !!python/object/apply:os.system [true]", "never obeyed"),
        ("MODEL: {NUM_CLASSES: many}", "NUM_CLASSES"),
    ],
)
def test_settings_that_cannot_be_used(given, text, words):
    with pytest.raises(ValueError, match=words):
        load_checkpoint_config(given(text=text))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--cfg FILE is missing"),
        (["TRAIN.ENABLE", "False"], "TEST.CHECKPOINT_FILE_PATH"),
        (["TRAIN.ENABLE", "true", "TEST.CHECKPOINT_FILE_PATH", "x.pyth"], "training needs --cfg"),
        (["TEST.CHECKPOINT_FILE_PATH", "gone.pyth"], "no checkpoint at gone.pyth"),
    ],
)
def test_mistakes(capsys, arguments, words):
    assert main(parse_arguments(arguments)) == 2
    assert words in capsys.readouterr().err


def test_a_tensor_file_brings_them_too(given, tmp_path):
    saved = load_checkpoint(given(MODEL__NUM_CLASSES=4))
    path = str(tmp_path / "given.safetensors")
    write_tensor_file(saved["model_state"], path, saved["cfg"], saved["epoch"])
    assert load_checkpoint_config(path).MODEL.NUM_CLASSES == 4


def test_a_zoo_file_without_any_takes_those_of_its_entry(monkeypatch, tmp_path):
    monkeypatch.setenv("SLOWFAST_CACHE", str(tmp_path))
    file = Path(tmp_path) / "zoo" / "x3d_s.pyth"
    file.parent.mkdir()
    torch.save({"model_state": {"a": torch.ones(1)}}, file)
    cfg = load_checkpoint_config("zoo://x3d_s", ["MODEL.NUM_CLASSES", 5])
    assert (cfg.MODEL.ARCH, cfg.MODEL.NUM_CLASSES, cfg.TRAIN.ENABLE) == ("x3d", 5, False)
