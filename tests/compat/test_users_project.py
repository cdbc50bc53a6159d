"""A project written for PySlowFast runs as it is: its own loops, model and data set, and its reader of logs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from slowfast.apps.migrate.scan import scan

PROJECT = Path(__file__).parent / "users_project"


@pytest.fixture
def project(tmp_path):
    """A copy of the project, with 12 videos of 3 classes to train on, and 4 and 5 others: each class has its gray."""
    root = shutil.copytree(PROJECT, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__"))
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4), ("test", 5)):
        lines = []
        for number in range(count):
            frames = generator.integers(0, 60, (12, 24, 32, 3)) + 90 * (number % 3)
            np.save(tmp_path / f"{split}{number}.npy", frames.astype(np.uint8))
            lines.append(f"{tmp_path}/{split}{number}.npy {number % 3}\n")
        (tmp_path / f"{split}.csv").write_text("".join(lines))
    return root


@pytest.fixture
def run(project, tmp_path, repo):
    """Function: run a script of the project; returns what it wrote."""

    def start(script, *words):
        env = {"PYTHONPATH": f"{repo}:{project}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(project / "tools" / script), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=project, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return start


def test_it_trains_resumes_tests_and_reads_its_log(run, project, tmp_path):
    out = tmp_path / "out"
    command = ["run_net.py", "--cfg", "configs/MYNET.yaml", "--opts", "DATA.PATH_TO_DATA_DIR", tmp_path]
    command += ["OUTPUT_DIR", out]
    first = run(*command, "SOLVER.MAX_EPOCH", 2)
    told = re.findall(r"(\S+): FutureWarning: (\S+) is PySlowFast's name; here it is (\S+)", first)
    places, names, heres = zip(*told, strict=True)
    assert len(names) == len(set(names)) >= 30 and all(str(project) in place for place in places)
    assert dict(zip(names, heres, strict=True))["slowfast.models.optimizer.set_lr"] == "slowfast.engine.optim.set_lr"
    again = run(*command)  # MAX_EPOCH 4 of its file
    assert "Start epoch: 3" in again
    weights = torch.load(out / "checkpoints/checkpoint_epoch_00004.pyth", weights_only=False)["model_state"]
    assert set(weights) >= {"conv.weight", "bn.running_mean", "projection.bias"}
    evaluations, error, accuracy = run("read_log.py", out / "stdout.log").split()
    assert (evaluations, float(error), accuracy) == ("2", 0.0, "100.00")


def test_all_that_it_uses_works(project):
    found = scan(project)
    assert [finding for finding in found if finding.verdict == "missing"] == []
    verdicts = {finding.name: finding.verdict for finding in found}
    assert verdicts["slowfast.utils.parser.load_config"] == verdicts["slowfast.utils.meters.TestMeter"] == "mapped"
    assert verdicts["MyNet"] == verdicts["Mydata"] == verdicts["MYNET.yaml"] == verdicts["test_final"] == "same"


def test_its_settings_run_with_our_programs_too(project, run_tool, tmp_path, repo):
    """With its module in PROJECTS: the same file, and no script of its own."""
    file = project / "MYNET.yaml"
    settings = yaml.safe_load((project / "configs/MYNET.yaml").read_text()) | {"PROJECTS": ["mycode"]}
    file.write_text(yaml.safe_dump(settings))
    words = ["DATA.PATH_TO_DATA_DIR", tmp_path, "OUTPUT_DIR", tmp_path / "ours"]
    status, output = run_tool("run_net", "--cfg", file, *words)
    assert status == 0, output
    assert "100.00" in output


LARGER = {
    "train.py": """
import slowfast.utils.multiprocessing as mpu
import slowfast.visualization.tensorboard_vis as tb
from slowfast.datasets.mixup import MixUp
from slowfast.models.losses import get_loss_func, SoftTargetCrossEntropy
from slowfast.utils import misc
from slowfast.utils.meters import AVAMeter, TrainMeter
from slowfast.utils.multigrid import MultigridSchedule

misc.plot_input(None)
misc.frozen_bn_stats(None)
""",
    "slowfast/models/mine.py": """
from .build import MODEL_REGISTRY
from slowfast.models.build import MODEL_REGISTRY
from slowfast.models.video_model_builder import SlowFast

@MODEL_REGISTRY.register()
class Mine(SlowFast):
    pass
""",
    "slowfast/config/custom_config.py": """
from fvcore.common.config import CfgNode

def add_custom_config(_C):
    _C.MINE = CfgNode()
""",
    "configs/mine.yaml": "MINE:\n  WIDTH: 3\nMODEL:\n  MODEL_NAME: Mine\nTRAIN:\n  DATASET: kinetics\n",
    "models.py": "import slowfast.config.custom_config\nfrom slowfast.models import mine\n",
}


def test_what_a_larger_one_has_to_change(tmp_path, run_tool):
    for name, text in LARGER.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    status, output = run_tool("migrate", tmp_path)
    assert status == 1
    found = {finding.name: finding for finding in scan(tmp_path)}
    missing = {name: finding.here for name, finding in found.items() if finding.verdict == "missing"}
    assert set(missing) == {
        "slowfast.utils.multiprocessing", "slowfast.visualization.tensorboard_vis", "slowfast.datasets.mixup.MixUp",
        "slowfast.utils.meters.AVAMeter", "slowfast.utils.multigrid.MultigridSchedule",
        "slowfast.utils.misc.plot_input",
        "slowfast.models.video_model_builder.SlowFast", "slowfast.config.custom_config", "slowfast.models.mine",
        "MINE.WIDTH", "slowfast",
    }  # fmt: skip
    assert found["slowfast"].places == ("slowfast/config/custom_config.py",)
    assert "setup(cfg)" in missing["slowfast.config.custom_config"]
    assert "BoxEvaluator" in missing["slowfast.utils.meters.AVAMeter"]
    assert found["slowfast.utils.misc.plot_input"].places == ("train.py:10",)
    mapped = {name for name, finding in found.items() if finding.verdict == "mapped"}
    assert mapped == {"slowfast.models.losses.get_loss_func", "slowfast.utils.meters.TrainMeter",
                      "slowfast.utils.misc.frozen_bn_stats"}  # fmt: skip
    assert {"Mine", "slowfast.models.losses.SoftTargetCrossEntropy"} <= set(found)
    for line in ("missing: to be changed (11)", "mapped: works, under another name here (3)"):
        assert line in output
