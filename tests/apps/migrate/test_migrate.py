"""A project that was written for PySlowFast: what it uses, what that is here, and what has to be changed."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from slowfast.apps.migrate.scan import scan

CODE = """
import slowfast.utils.checkpoint as cu
import slowfast.utils.misc
from slowfast.config.defaults import get_cfg, assert_and_infer_cfg
from slowfast.datasets import loader
from slowfast.datasets.decoder import decode
from slowfast.models.build import MODEL_REGISTRY, build_modell
from slowfast.models.mynet import Part
from slowfast.utils.meters import AVAMeter
from slowfast.visualization.utils import process_cv2_inputs
import numpy as np

raise SystemExit("this file must not be run")

@MODEL_REGISTRY.register()
class UsersNet:
    def __init__(self, cfg):
        cu.load_checkpoint(cfg.X, self)
        cu.no_such_thing()
        slowfast.utils.misc.launch_job(cfg, "", None)
        loader.construct_loader(cfg, "train")
        self.log = "runs/json_stats.log"
"""


@pytest.fixture
def project(tmp_path):
    """A folder with a script, settings, a copy of PySlowFast with a file of its own, and things to pass over."""
    root = tmp_path / "project"
    (root / "slowfast/models").mkdir(parents=True)
    (root / "slowfast/models/mynet.py").write_text("class Part: pass\n")
    (root / "train.py").write_text(CODE)
    (root / "old.py").write_text("print 'Python 2'\n")
    (root / "own.yaml").write_text("MODEL:\n  MODEL_NAME: UsersNet\nTRAIN:\n  DATASET: kinetics\n")
    (root / "good.yaml").write_text("TRAIN:\n  BATCH_SIZE: 8\nPREFETCH:\n  NUM_LOADERS: 3\n")
    (root / "bad.yaml").write_text("SOLVER:\n  BASE_LRR: 0.1\n")
    (root / "wrong.yaml").write_text("MODEL:\n  ARCH: nothing\n")
    (root / "list.yaml").write_text("names: [a, b]\n")
    (root / "env").mkdir()
    (root / "env/pyvenv.cfg").write_text("")
    (root / "env/more.py").write_text("import slowfast.utils.meters\n")
    return root


def by_name(findings):
    return {finding.name: finding for finding in findings}


def test_what_a_project_uses(project):
    found = by_name(scan(project))
    mapped = {name: finding.here for name, finding in found.items() if finding.verdict == "mapped"}
    assert mapped == {
        "slowfast.utils.checkpoint.load_checkpoint": "slowfast.checkpoint.load_weights",
        "slowfast.utils.misc.launch_job": "slowfast.runtime.launch.launch",
        "slowfast.config.defaults.assert_and_infer_cfg": "slowfast.config.load_config",
        "slowfast.datasets.loader.construct_loader": "slowfast.datasets.build_loader",
    }
    same = {name for name, finding in found.items() if finding.verdict == "same"}
    assert same == {
        "slowfast.config.defaults.get_cfg", "slowfast.models.build.MODEL_REGISTRY", "UsersNet", "json_stats.log",
        "good.yaml", "PREFETCH.NUM_LOADERS",
    }  # fmt: skip
    missing = {name: finding.here for name, finding in found.items() if finding.verdict == "missing"}
    assert "the nearest is build_model" in missing["slowfast.models.build.build_modell"]
    assert "slowfast.datasets.video" in missing["slowfast.datasets.decoder.decode"]
    assert "move it beside your scripts" in missing["slowfast.models.mynet"]
    assert "the nearest is SOLVER.BASE_LR." in missing["SOLVER.BASE_LRR"]
    assert "MODEL.ARCH" in missing["wrong.yaml"] and "MODEL.MODEL_NAME UsersNet" in missing["own.yaml"]
    assert set(missing) >= {
        "slowfast.utils.checkpoint.no_such_thing", "slowfast.utils.meters.AVAMeter", "old.py",
        "slowfast.visualization.utils.process_cv2_inputs",
    }  # fmt: skip
    line = CODE.splitlines().index("        cu.no_such_thing()") + 1
    assert found["slowfast.utils.checkpoint.no_such_thing"].places == (f"train.py:{line}",)


def test_the_published_settings_are_files_that_load(project, repo):
    shutil.copytree(repo / "configs/Kinetics/c2", project / "configs")
    found = by_name(scan(project / "configs"))
    assert len(found) >= 5 and {finding.verdict for finding in found.values()} == {"same"}


def test_the_tool(project, repo, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("migrate", repo / "tools/migrate.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.main([str(project), "--json", str(tmp_path / "found.json")]) == 1
    text = capsys.readouterr().out
    assert text.index("missing: to be changed") < text.index("mapped: works") < text.index("same: works")
    assert "slowfast.utils.meters.AVAMeter -> slowfast.evaluation.evaluators.BoxEvaluator" in text
    listed = json.loads(Path(tmp_path / "found.json").read_text())
    assert {"kind", "name", "verdict", "here", "places"} == set(listed[0])
    for name in ("train.py", "old.py", "bad.yaml", "wrong.yaml", "own.yaml"):
        (project / name).unlink()
    assert tool.main([str(project)]) == 0
    assert tool.main([str(project / "nowhere")]) == 2
    assert "is no folder" in capsys.readouterr().err
