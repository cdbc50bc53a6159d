"""Benchmark variants in turn, and a baseline of plain convolutions with the same weights and scores."""

import pytest
import torch
from torch import nn

from slowfast.apps.benchmark import compare as benchmark
from slowfast.apps.benchmark.compare import BASELINE, Variant, compare, make_variant
from slowfast.apps.benchmark.report import as_rows, format_steps
from slowfast.config import load_config
from slowfast.engine import trial
from slowfast.engine.trial import Trial
from slowfast.layers.conv import use_plain_convolutions
from slowfast.models import build_model


@pytest.fixture
def load(tiny_model):
    return lambda overrides: load_config(None, [*tiny_model, "TRAIN.BATCH_SIZE", 2, *overrides])


def test_turns_alternate(load, monkeypatch):
    calls = []
    monkeypatch.setattr(benchmark, "_SHORTEST_TURN", 0.0)
    monkeypatch.setattr(benchmark, "_work", lambda variant, training: lambda: calls.append(variant.name))
    results = compare([Variant(name, load(())) for name in ("a", "b")], True, 3)
    assert calls == ["a", "b"] * 5  # twice to warm up
    assert [(result["name"], len(result["seconds"])) for result in results] == [("a", 3), ("b", 3)]


def test_ratios_are_of_one_round():
    times = [
        {"name": BASELINE, "first": 1, "seconds": [1, 10, 2]},
        {"name": "fp32", "first": 1, "seconds": [0.5, 6, 1]},
    ]
    rows = as_rows(times, clips=4)
    assert rows[1]["of_baseline"] == {"median": 0.5, "min": 0.5, "max": 0.6}
    assert rows[1]["ms"] == {"median": 1000, "min": 500, "max": 6000}
    assert rows[0]["clips_per_second"] == 2


def test_memory_that_ran_out_is_a_dash():
    points = [
        {"steps": 1, "frames": 8, "peak_mib": {BASELINE: 10.0, "fp32": 5.0}},
        {"steps": 9, "frames": 64, "peak_mib": {BASELINE: None, "fp32": 6.0}},
    ]
    assert format_steps(points).splitlines()[-1].split() == ["9", "64", "-", "6", "(1.20)"]


@torch.no_grad()
def test_the_baseline_is_plain_and_scores_the_same(load):
    models = []
    for variant in (make_variant(load, "forward", BASELINE), make_variant(load, "forward", "fp32")):
        torch.manual_seed(0)
        models.append(build_model(variant.cfg).eval())
    use_plain_convolutions(models[0])
    convolutions = [module for module in models[0].modules() if isinstance(module, nn.Conv3d)]
    assert {type(module) for module in convolutions} == {nn.Conv3d} and len(convolutions) > 15
    assert models[0].state_dict().keys() == models[1].state_dict().keys()
    clip = [torch.randn(2, 3, 8, 32, 32)]
    torch.testing.assert_close(models[0](clip), models[1](clip))


def test_training_for_the_clock_keeps_the_weights(load, monkeypatch):
    built = []
    monkeypatch.setattr(trial, "build_model", lambda cfg: built.append(build_model(cfg)) or built[-1])
    train = Trial(make_variant(load, "train", "fp32").cfg, True)
    before = {name: p.detach().clone() for name, p in built[0].named_parameters()}
    statistics = built[0].state_dict()["s1.pathway0_stem.bn.running_mean"].clone()
    train()
    assert all(torch.equal(before[name], p) for name, p in built[0].named_parameters())
    assert not torch.equal(statistics, built[0].state_dict()["s1.pathway0_stem.bn.running_mean"])


def test_a_clip_has_no_steps(load):
    with pytest.raises(ValueError, match="reads a clip at once"):
        make_variant(load, "train_steps", "config", 3)
    with pytest.raises(ValueError, match="fp23 is not one of"):
        make_variant(load, "train", "bf16+fp23")
