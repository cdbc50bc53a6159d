"""Registries: names, facts, and that names in a configuration are checked when it is loaded."""

import pytest

from slowfast.config import load_config, num_pathways
from slowfast.models import MODEL_REGISTRY
from slowfast.utils.registry import REGISTRIES, Registry


@pytest.fixture
def registry():
    yield Registry("SOME.KEY", "OTHER.KEY", facts={"size": 1}, default="small")
    del REGISTRIES["SOME.KEY"], REGISTRIES["OTHER.KEY"]


@pytest.fixture
def stranger(monkeypatch):
    """Register a project's one-pathway model, with nothing said but its name."""
    monkeypatch.setattr(MODEL_REGISTRY, "_objects", dict(MODEL_REGISTRY._objects))
    MODEL_REGISTRY.register("StrangerNet")(lambda cfg: None)
    return ["MODEL.MODEL_NAME", "StrangerNet"]


def test_objects_and_facts(registry):
    small, large = object(), object()
    registry.register("small")(small)
    registry.register("large", size=9)(large)
    assert registry.get("large") is large and registry.get("") is small
    assert (registry.fact("small", "size"), registry.fact("large", "size")) == (1, 9)
    assert list(registry) == ["small", "large"] and "large" in registry
    registry.register("large", size=9)(large)  # a project's setup runs once for every config
    with pytest.raises(ValueError, match="twice"):
        registry.register("large")(small)
    with pytest.raises(ValueError, match="OTHER.KEY is 'larg'.*large, small.*nearest is large"):
        registry.get("larg", "OTHER.KEY")
    with pytest.raises(ValueError, match="color"):
        registry.register("third", color="red")


def test_several_names_in_one_value():
    registry = Registry(several=True)
    assert registry.names("") == [] and registry.names("one+two") == ["one", "two"]
    with pytest.raises(ValueError, match="no '\\+'"):
        registry.register("one+two")
    registry.register("one")(object())
    with pytest.raises(ValueError, match="'two'"):
        registry.check("one+two")


def test_case_counts_only_where_it_is_said():
    registry = Registry(ignore_case=True)
    with pytest.raises(ValueError, match="lower case"):
        registry.register("Kinetics")
    registry.register("kinetics")(object)
    assert registry.get("KINETICS") is object


@pytest.mark.parametrize(
    ("key", "value", "near"),
    [
        ("TRAIN.DATASET", "kinetic", "kinetics"),
        ("TEST.DATASET", "charade", "charades"),
        ("TASK", "clips", "clip"),
        ("MODEL.MODEL_NAME", "Resnet", "ResNet"),
        ("MODEL.ADAPTER", "nothing", ""),
        ("MODEL.LOSS_FUNC", "cross_entrop", "cross_entropy"),
        ("DATA.DECODING_BACKEND", "pyaw", "pyav"),
    ],
)
def test_names_are_checked_at_load(key, value, near):
    with pytest.raises(ValueError, match=f"{key} is '{value}'.*{near}"):
        load_config(None, [key, value])


def test_names_of_data_sets_in_any_case():
    assert load_config(None, ["TRAIN.DATASET", "Kinetics", "TEST.DATASET", "SSv2"]).TEST.DATASET == "SSv2"


def test_a_model_says_how_many_pathways_it_takes(stranger):
    cfg = load_config(None, stranger)  # MODEL.ARCH slowfast, which this model does not read
    assert num_pathways(cfg) == 1 and cfg.DATA.INPUT_CHANNEL_NUM == [3]
    with pytest.raises(ValueError, match=r"INPUT_CHANNEL_NUM is \[3, 3\].*StrangerNet takes 1 pathway"):
        load_config(None, [*stranger, "DATA.INPUT_CHANNEL_NUM", [3, 3]])


def test_arch_is_for_resnets():
    assert load_config(None, ["MODEL.MODEL_NAME", "X3D", "RESNET.TRANS_FUNC", "x3d_transform"]).MODEL.ARCH == "slowfast"
    with pytest.raises(ValueError, match="MODEL.ARCH slow .*SlowFast.*set MODEL_NAME ResNet"):
        load_config(None, ["MODEL.ARCH", "slow"])


def test_aliases_stand_for_a_name():
    registry = Registry(aliases={"old_*": "new"})
    registry.register("new")(object)
    assert registry.get("old_one") is object
    with pytest.raises(ValueError, match=r"'older'; it can be new, old_\*\. The nearest is old_\*"):
        registry.check("older")
