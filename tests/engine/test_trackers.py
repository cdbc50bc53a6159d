"""Trackers: what they get, in stand-ins with the signatures of the real packages; resumed, missing and failing ones."""

import importlib
import json
import os
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from slowfast.checkpoint.io import find_checkpoints
from slowfast.config import load_config
from slowfast.engine.test import test as run_test
from slowfast.engine.train import train

# What is called is written to CALLS. Parameters are those of wandb 0.31, mlflow 3.17 and trackio 0.43 that come first,
# or are used.
WANDB = """
CALLS = []

class Run:
    def __init__(self, id):
        self.id = id

    def define_metric(self, name, step_metric=None, step_sync=None, hidden=None, summary=None, overwrite=None):
        CALLS.append(("axis", name, step_metric))

    def log(self, data, step=None, commit=None):
        assert step is None
        CALLS.append(("log", dict(data)))

    def finish(self, exit_code=None):
        CALLS.append(("finish", self.id))

def init(entity=None, project=None, dir=None, id=None, name=None, notes=None, tags=None, config=None, *, resume=None):
    CALLS.append(("init", project, name, id, resume, dir, config["SOLVER.MAX_EPOCH"]))
    return Run(id or "made 1")
"""
MLFLOW = """
import types

CALLS = []

def set_experiment(experiment_name=None, experiment_id=None, trace_location=None):
    CALLS.append(("experiment", experiment_name))

def start_run(run_id=None, experiment_id=None, run_name=None, nested=False, *, log_system_metrics=None):
    CALLS.append(("init", run_id, run_name))
    return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_id or "made 2"))

def log_dict(dictionary, artifact_file, run_id=None):
    CALLS.append(("settings", dictionary["SOLVER.MAX_EPOCH"]))

def log_metrics(metrics, step=None, synchronous=None, run_id=None, timestamp=None):
    CALLS.append(("log", dict(metrics), step))

def end_run(status="FINISHED"):
    CALLS.append(("finish", status))
"""
TRACKIO = """
CALLS = []

class Run:
    def log(self, metrics, step=None):
        CALLS.append(("log", dict(metrics), step))

    def finish(self):
        CALLS.append(("finish",))

def init(project, name=None, group=None, space_id=None, server_url=None, *, config=None, resume="never"):
    CALLS.append(("init", project, name, resume, config["SOLVER.MAX_EPOCH"]))
    return Run()
"""
SOURCES = {"wandb": WANDB, "mlflow": MLFLOW, "trackio": TRACKIO}
ALL = ["TRACKER.NAMES", [*SOURCES], "SOLVER.MAX_EPOCH", 1]


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """`packages(**sources)`: install stand-ins, changed where a source is given; return name -> module."""

    def install(**sources):
        for name, source in {**SOURCES, **sources}.items():
            (tmp_path / "packages").mkdir(exist_ok=True)
            (tmp_path / "packages" / f"{name}.py").write_text(source)
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(str(tmp_path / "packages"))
        importlib.invalidate_caches()
        return {name: importlib.import_module(name) for name in SOURCES}

    yield install
    for name in SOURCES:
        sys.modules.pop(name, None)


def logged(module):
    return [call for call in module.CALLS if call[0] == "log"]


def test_all_get_what_the_log_gets(tiny_cfg, packages, stats_of):
    found = packages()
    cfg = tiny_cfg(*ALL, "TRAIN.EVAL_PERIOD", 1, "TRACKER.PROJECT", "own project")
    stats = stats_of(cfg)
    tags = {"train_iter": "Train", "train_epoch": "TrainEpoch", "val_epoch": "Val"}
    expected = [
        {f"{tags[entry['_type']]}/{name}": value for name, value in entry.items() if isinstance(value, float)}
        for entry in stats
    ]
    steps = [int((entry.get("iter") or entry["epoch"]).split("/")[0]) for entry in stats]
    assert steps == [1, 2, 3, 1, 1]
    for name in ("mlflow", "trackio"):
        calls = logged(found[name])
        assert [call[2] for call in calls] == steps
        assert [call[1] for call in calls] == [pytest.approx(values, rel=1e-4) for values in expected]
    axes = [{f"{next(iter(values)).split('/')[0]}/step": step} for values, step in zip(expected, steps, strict=True)]
    merged = [pytest.approx(values | axis, rel=1e-4) for values, axis in zip(expected, axes, strict=True)]
    assert [call[1] for call in logged(found["wandb"])] == merged
    tagged = [call[1:] for call in found["wandb"].CALLS if call[0] == "axis"]
    assert tagged == [(f"{tag}/*", f"{tag}/step") for tag in tags.values()]
    assert found["wandb"].CALLS[0] == ("init", "own project", "out", None, None, cfg.OUTPUT_DIR, 1)
    assert found["mlflow"].CALLS[:3] == [("experiment", "own project"), ("init", None, "out"), ("settings", 1)]
    assert found["trackio"].CALLS[0][:2] == ("init", "own project") and found["trackio"].CALLS[0][3:] == ("never", 1)
    assert [found[name].CALLS[-1][0] for name in SOURCES] == ["finish"] * 3


def test_a_resumed_run_goes_on_in_the_same_and_a_new_one_does_not(tiny_cfg, packages):
    found = packages()
    cfg = tiny_cfg(*ALL, "TRACKER.RUN_NAME", "some name")
    train(cfg)
    kept = json.loads((Path(cfg.OUTPUT_DIR) / "tracker_runs.json").read_text())
    assert kept == {"wandb": "made 1", "mlflow": "made 2", "trackio": found["trackio"].CALLS[0][2]}
    assert kept["trackio"].startswith("some name-")
    begun = {name: len(module.CALLS) for name, module in found.items()}
    train(tiny_cfg(*ALL, "SOLVER.MAX_EPOCH", 2))
    again = {name: module.CALLS[begun[name] :] for name, module in found.items()}
    assert again["wandb"][0][3:5] == ("made 1", "allow") and again["mlflow"][1] == ("init", "made 2", None)
    assert again["trackio"][0][2:4] == (kept["trackio"], "allow")
    assert [call[2] for call in again["mlflow"] if call[0] == "log"][:4] == [4, 5, 6, 2]
    for file in find_checkpoints(cfg.OUTPUT_DIR):
        os.remove(file.path)
    begun = len(found["mlflow"].CALLS)
    train(cfg)
    assert found["mlflow"].CALLS[begun + 1] == ("init", None, "some name")


def test_a_test_goes_on_in_the_runs_of_its_training(tiny_cfg, packages):
    found = packages()
    cfg = tiny_cfg(*ALL, "TENSORBOARD.ENABLE", True)
    train(cfg)
    kept = json.loads((Path(cfg.OUTPUT_DIR) / "tracker_runs.json").read_text())
    begun = {name: len(module.CALLS) for name, module in found.items()}
    results = run_test(cfg)
    metrics = {f"Test/{name}": results[name] for name in ("top1_acc", "top1_err", "macro_acc")}
    calls = {name: module.CALLS[begun[name] :] for name, module in found.items()}
    assert [call[1:] for call in calls["mlflow"] if call[0] == "log"] == [(metrics, 1)]  # after one epoch
    assert [call[1:] for call in calls["trackio"] if call[0] == "log"] == [(metrics, 1)]
    assert [call[1] for call in calls["wandb"] if call[0] == "log"] == [metrics | {"Test/step": 1}]
    assert [call[-1] for call in calls["wandb"] if call[0] == "finish"] == [kept["wandb"]]
    assert json.loads((Path(cfg.OUTPUT_DIR) / "tracker_runs.json").read_text()) == kept
    board = EventAccumulator(str(Path(cfg.OUTPUT_DIR) / "runs-kinetics")).Reload()
    assert [event.step for event in board.Scalars("Test/top1_acc")] == [1]
    assert [event.step for event in board.Scalars("Train/loss")] == [1, 2, 3]  # none is purged


def test_each_number_of_clips_has_its_own_results(tiny_cfg, packages):
    found = packages()
    run_test(tiny_cfg(*ALL, "TEST.NUM_TEMPORAL_CLIPS", [1, 2], "TEST.ALLOW_RANDOM_WEIGHTS", True))
    assert {name.split("/")[0] for call in logged(found["mlflow"]) for name in call[1]} == {"Test1", "Test2"}
    assert [call[2] for call in logged(found["mlflow"])] == [0, 0]


def failing(work, successes, error):
    """Return `work`, raising the error after so many calls."""
    calls = []

    def call(*args, **kwargs):
        calls.append(0)
        if len(calls) > successes:
            raise error
        return work(*args, **kwargs)

    return call


@pytest.mark.parametrize(
    ("name", "owner", "method", "successes"),
    [("wandb", "", "init", 0), ("mlflow", "", "log_metrics", 2), ("trackio", "Run", "finish", 0)],
)
def test_one_that_fails_ends_no_training(tiny_cfg, packages, caplog, name, owner, method, successes):
    found = packages()
    at = getattr(found[name], owner) if owner else found[name]
    setattr(at, method, failing(getattr(at, method), successes, ConnectionError("no network\nat all")))
    cfg = tiny_cfg(*ALL)
    train(cfg)
    told = [record.getMessage() for record in caplog.records if record.name.endswith("trackers")]
    assert told == [f"the rest of this run is not in {name} (ConnectionError: no network)"]
    assert find_checkpoints(cfg.OUTPUT_DIR)
    assert {other: len(logged(module)) for other, module in found.items()} == {
        **dict.fromkeys(SOURCES, 5), **({} if name == "trackio" else {name: successes})
    }  # fmt: skip
    assert all(module.CALLS[-1][0] == "finish" for other, module in found.items() if other != name)


def test_a_file_of_runs_that_is_none(tiny_cfg, packages):
    found = packages()
    cfg = tiny_cfg(*ALL)
    train(cfg)
    for epochs, content in ((2, "[1]"), (3, '{"wandb": 3}')):
        (Path(cfg.OUTPUT_DIR) / "tracker_runs.json").write_text(content)
        begun = len(found["wandb"].CALLS)
        train(tiny_cfg(*ALL, "SOLVER.MAX_EPOCH", epochs))
        assert found["wandb"].CALLS[begun][3] is None


def test_a_package_that_is_missing(tiny_cfg, tmp_path, monkeypatch):
    """A folder of that name, such as that of wandb's own files, is no package."""
    (tmp_path / "here" / "wandb").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "here"))
    cfg = tiny_cfg("TRACKER.NAMES", ["wandb"])
    with pytest.raises(ValueError, match=r"TRACKER\.NAMES has 'wandb', which is not installed: pip install wandb"):
        train(cfg)
    assert find_checkpoints(cfg.OUTPUT_DIR) == []


def test_a_name_that_is_unknown():
    with pytest.raises(ValueError, match=r"TRACKER\.NAMES is .*wandb"):
        load_config(None, ["TRACKER.NAMES", ["wandbb"]])
