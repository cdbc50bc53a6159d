"""Third-party projects, made here: a module and its distribution's entry point, unknown to the core."""

import importlib
import logging
import sys
from pathlib import Path

import pytest

from slowfast.config import (
    activate_projects,
    add_adapter,
    cfg_from_yaml,
    cfg_to_yaml,
    get_cfg,
    load_config,
    remove_adapter,
)
from slowfast.config.projects import import_core
from slowfast.models import build_model
from slowfast.utils.registry import REGISTRIES

ZEBRA = """
from fvcore.common.config import CfgNode

from slowfast.engine.task import TASK_REGISTRY, ClipTask
from slowfast.models import MODEL_REGISTRY

calls = []

class Zebra(ClipTask):
    pass

def build(cfg):
    pass

def setup(cfg):
    calls.append("setup")
    TASK_REGISTRY.register("zebra")(Zebra)
    MODEL_REGISTRY.register("ZebraNet")(build)
    cfg.ZEBRA = CfgNode({"STRIPES": 7, "COLORS": ["black", "white"], "INNER": {"GAIN": 1.0}})
    cfg.MODEL.SINGLE_PATHWAY_ARCH.append("zebranet")

def resolve(cfg):
    calls.append("resolve")
    cfg.TASK = "zebra"
    cfg.ZEBRA.INNER.GAIN *= 2 if cfg.ZEBRA.STRIPES > 7 else 1

def validate(cfg):
    calls.append("validate")
    if cfg.ZEBRA.STRIPES < 1:
        raise ValueError(f"ZEBRA.STRIPES is {cfg.ZEBRA.STRIPES}")
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Function: put a module on the path and, given a section, its distribution's entry point."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)
    import_core()  # all registries are there, whichever test comes first
    for registry in REGISTRIES.values():  # a module made anew may register its names anew
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))

    def install_project(name: str, source: str, section: str = "") -> None:
        site.mkdir(exist_ok=True)
        (site / f"{name}.py").write_text(source)
        if section:
            info = site / f"{name}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            (info / "entry_points.txt").write_text(f"[slowfast.projects]\n{section} = {name}\n")
        importlib.invalidate_caches()

    yield install_project
    for name in set(sys.modules) - before:
        if str(site) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def zebra(install):
    install("zebra_project", ZEBRA, section="ZEBRA")


@pytest.fixture
def write(tmp_path):
    def write_file(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return write_file


def test_section_in_a_file_brings_its_project(zebra, write):
    cfg = load_config(write("ZEBRA: {STRIPES: '8', COLORS: gray}\n"))
    assert (cfg.ZEBRA.STRIPES, cfg.ZEBRA.COLORS, cfg.ZEBRA.INNER.GAIN) == (8, ["gray"], 2.0)
    assert (cfg.TASK, cfg.PROJECTS, cfg.is_frozen()) == ("zebra", ["zebra_project"], True)
    assert sys.modules["zebra_project"].calls == ["setup", "resolve", "validate"]


def test_section_in_a_base_file_or_in_overrides(zebra, write, tmp_path):
    (tmp_path / "base.yaml").write_text("ZEBRA: {STRIPES: 9}\n")
    assert load_config(write("_BASE_: base.yaml\n")).ZEBRA.STRIPES == 9
    cfg = load_config(None, ["ZEBRA.STRIPES", "3", "MODEL.MODEL_NAME", "ZebraNet"])
    assert (cfg.ZEBRA.STRIPES, cfg.ZEBRA.COLORS, cfg.DATA.INPUT_CHANNEL_NUM) == (3, ["black", "white"], [3])


def test_nothing_is_imported_unasked(zebra, write):
    cfg = load_config(write("NUM_GPUS: 0\n"))
    assert "ZEBRA" not in cfg
    assert cfg.PROJECTS == []
    assert "zebra_project" not in sys.modules


@pytest.mark.parametrize("value", ["zebra_project", "[zebra_project]", ["zebra_project"], "['zebra_project']"])
def test_projects_names_a_module_without_entry_point(install, value):
    install("zebra_project", ZEBRA)
    cfg = load_config(None, ["PROJECTS", value])
    assert (cfg.PROJECTS, cfg.ZEBRA.STRIPES) == (["zebra_project"], 7)


def test_named_and_owned_is_set_up_once(zebra, write):
    load_config(write("PROJECTS: [zebra_project]\nZEBRA: {STRIPES: 8}\n"))
    assert sys.modules["zebra_project"].calls.count("setup") == 1


def test_many_loads_do_not_touch_each_other(zebra):
    assert [load_config(None, ["ZEBRA.STRIPES", n]).ZEBRA.STRIPES for n in (1, 2, 3)] == [1, 2, 3]
    assert "ZEBRA" not in load_config(None)
    assert "zebranet" not in load_config(None).MODEL.SINGLE_PATHWAY_ARCH


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ZEBRA: {STRIPS: 8}\n", r"ZEBRA\.STRIPS in .*line 1\. The nearest known key is ZEBRA\.STRIPES"),
        ("ZEBRA:\n  INNER: {GIAN: 8}\n", r"ZEBRA\.INNER\.GIAN in .*line 2\..*ZEBRA\.INNER\.GAIN"),
        ("ZEBAR: {STRIPES: 8}\n", r"ZEBAR.STRIPES in .*line 1: .*The nearest known section is ZEBRA\."),
        ("ZEBRA: {STRIPES: many}\n", r"ZEBRA\.STRIPES in .* is 'many' \(str\), but it must be a whole number"),
        ("ZEBRA: {STRIPES: 0}\n", r"ZEBRA\.STRIPES is 0"),
        ("ZEBRA: {STRIPES: 3}\nSOLVER: {MAX_EPOCH: 0}\n", r"SOLVER\.MAX_EPOCH is 0"),
    ],
)
def test_mistakes_in_a_project_section(zebra, write, text, message):
    with pytest.raises(ValueError, match=message):
        load_config(write(text))


def test_project_that_does_not_import(install, write):
    with pytest.raises(ValueError, match=r"'no_such_project' \(named by PROJECTS\).*pip install -e"):
        load_config(write("PROJECTS: [no_such_project]\n"))
    install("broken_project", "import no_such_dependency\n", section="BROKEN")
    with pytest.raises(ValueError, match=r"owner of the config section BROKEN.*No module named 'no_such_dep"):
        load_config(write("BROKEN: {A: 1}\n"))
    with pytest.raises(ValueError, match=r"'' .* not the full name of a module"):
        load_config(None, ["PROJECTS", [""]])


def test_module_that_is_no_project(install, write):
    install("plain_module", "X = 1\n")
    with pytest.raises(ValueError, match=r"'plain_module' .* no function setup"):
        load_config(write("PROJECTS: [plain_module]\n"))


BARE = """
from slowfast.models import MODEL_REGISTRY

@MODEL_REGISTRY.register()
class BareNet:
    def __init__(self, cfg):
        pass
"""


@pytest.mark.parametrize("importing", ["", "import bare_net", "from bare_net import BareNet as Net"])
def test_a_module_that_registers_when_it_is_imported_needs_no_setup(install, importing):
    install("bare_net", BARE)
    install("bare_parts", importing)
    name = "bare_parts" if importing else "bare_net"
    for _ in range(2):
        cfg = load_config(None, ["PROJECTS", [name], "MODEL.MODEL_NAME", "BareNet"])
        assert cfg.PROJECTS == [name]
        activate_projects(cfg)


def test_two_owners_of_a_section(zebra, install):
    install("other_project", ZEBRA, section="ZEBRA")
    with pytest.raises(ValueError, match=r"Two installed projects own .*ZEBRA: \w+_project and \w+_project"):
        load_config(None, ["ZEBRA.STRIPES", 1])


def test_stored_text_brings_the_project_back(zebra):
    cfg = load_config(None, ["ZEBRA.STRIPES", 2])
    assert cfg_from_yaml(cfg_to_yaml(cfg)) == cfg


def test_activation_in_another_process(zebra):
    cfg = load_config(None, ["ZEBRA.STRIPES", 2])
    del sys.modules["zebra_project"]
    for key, name in (("TASK", "zebra"), ("MODEL.MODEL_NAME", "ZebraNet")):
        del REGISTRIES[key]._objects[name]
    activate_projects(cfg)
    assert sys.modules["zebra_project"].calls == ["setup"]
    assert cfg.ZEBRA.STRIPES == 2


def test_unbuilt_keys_of_the_core_are_listed_beside_a_project(zebra, caplog):
    with caplog.at_level(logging.WARNING):
        load_config(None, ["ZEBRA.STRIPES", 2, "MASK.ENABLE", True])
    assert "MASK.ENABLE" in caplog.text
    assert "ZEBRA" not in caplog.text


TOY = """
from fvcore.common.config import CfgNode

from slowfast.config import add_adapter, set_task
from slowfast.models import MODEL_ADAPTERS

def setup(cfg):
    cfg.{NAME} = CfgNode({{"ENABLE": True, "TASK": ""}})
    MODEL_ADAPTERS.register("{name}")(adapt)

def adapt(model, cfg):
    model.adapted = [*getattr(model, "adapted", []), "{name}"]
    return model

def resolve(cfg):
    cfg.SOLVER.BASE_LR = {rate}
    if cfg.{NAME}.ENABLE:
        add_adapter(cfg, "{name}")
    if cfg.{NAME}.TASK:
        set_task(cfg, cfg.{NAME}.TASK, "{NAME}.TASK")
"""


@pytest.fixture
def toys(install):
    """Two projects whose order counts: both adapt the model, and set the learning rate."""
    install("toy_a", TOY.format(name="a", NAME="TOY_A", rate="cfg.SOLVER.BASE_LR * 2"))
    install("toy_b", TOY.format(name="b", NAME="TOY_B", rate="cfg.SOLVER.BASE_LR + 1"))


def test_projects_keep_their_order_and_all_adapt_the_model(toys, tiny_cfg):
    for names, adapted, rate in ((["toy_a", "toy_b"], ["a", "b"], 3.0), (["toy_b", "toy_a"], ["b", "a"], 4.0)):
        cfg = tiny_cfg("PROJECTS", names, "SOLVER.BASE_LR", 1.0)
        assert (cfg.PROJECTS, cfg.MODEL.ADAPTER, cfg.SOLVER.BASE_LR) == (names, "+".join(adapted), rate)
        assert build_model(cfg).adapted == adapted
    assert tiny_cfg("PROJECTS", ["toy_a", "toy_b"], "TOY_A.ENABLE", False).MODEL.ADAPTER == "b"
    with pytest.raises(ValueError, match="MODEL.ADAPTER is 'c'"):
        tiny_cfg("PROJECTS", ["toy_a"], "MODEL.ADAPTER", "c")


def test_stored_settings_bring_their_projects_in_order(toys, tiny_cfg):
    cfg = tiny_cfg("PROJECTS", ["toy_b", "toy_a"])
    for permitted in (["toy_a", "toy_b"], ["toy_b", "toy_a"]):
        again = cfg_from_yaml(cfg_to_yaml(cfg), overrides=["PROJECTS", permitted], foreign=True)
        assert (again.PROJECTS, again.MODEL.ADAPTER) == (["toy_b", "toy_a"], "b+a")
    with pytest.raises(ValueError, match="toy_b"):
        cfg_from_yaml(cfg_to_yaml(cfg), overrides=["PROJECTS", ["toy_a"]], foreign=True)


def test_a_run_has_one_task(toys):
    settings = ["PROJECTS", ["toy_a", "toy_b"], "TOY_A.TASK", "clip"]
    assert load_config(None, settings).TASK == "clip"
    with pytest.raises(ValueError, match="TASK is 'clip', but TOY_B.TASK sets it to 'other'"):
        load_config(None, [*settings, "TOY_B.TASK", "other"])


def test_an_adapter_is_taken_out_by_its_name():
    cfg = get_cfg()
    for name in ("a", "b", "a"):
        add_adapter(cfg, name)
    assert cfg.MODEL.ADAPTER == "a+b"
    remove_adapter(cfg, "a")
    assert cfg.MODEL.ADAPTER == "b"
