"""The third-party project in examples/: trained, tested, extracted, exported and streamed without touching the core."""

import json
import shutil

import numpy as np
import pytest
import torch

from pgt import StepPlan
from slowfast.config import load_config
from slowfast.engine.resume import load_test_weights
from slowfast.models import build_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(repo, tmp_path_factory):
    """Copy the project's folder out of the repository."""
    return shutil.copytree(repo / "examples/third_party", tmp_path_factory.mktemp("elsewhere") / "third_party")


@pytest.fixture(scope="module")
def data(tiny_data, tmp_path_factory):
    """Folder with the lists of the project's data set."""
    folder = tmp_path_factory.mktemp("brightness")
    for split in ("train", "val", "test"):
        shutil.copy(tiny_data / f"{split}.csv", folder / f"bright_{split}.txt")
    return folder


@pytest.fixture
def run_project(tool, finish, project, data):
    """`run_project(name, cfg, *arguments)`: run `tools/NAME.py --cfg CFG ARGUMENTS` on the data to a good end."""

    def start(name, cfg, *arguments):
        status, output = finish(tool(name, "--cfg", project / cfg, "DATA.PATH_TO_DATA_DIR", data, *arguments))
        assert status == 0, output

    return start


@pytest.mark.parametrize("cfg", ["brightness.yaml", "brightness_pgt.yaml"])
def test_train_test_extract_export(run_project, tmp_path, cfg):
    out = tmp_path / "out"
    run_project("run_net", cfg, "OUTPUT_DIR", out)
    results = json.loads((out / "test_results.json").read_text())
    assert results["top1_acc"] == 100.0  # dark and bright are far apart
    assert results["balanced_acc"] == 1.0
    assert json.loads((out / "val_results.json").read_text())["balanced_acc"] == 1.0

    checkpoint = out / "checkpoints" / "checkpoint_epoch_00004.pyth"
    run_project("extract_features", cfg, "--checkpoint", checkpoint, "--output", tmp_path / "features")
    files = sorted((tmp_path / "features").glob("**/*.npz"))
    assert len(files) == 4
    assert np.load(files[0])["features"].shape[-1] == 16  # TinyNet's channels

    run_project("export", cfg, "--checkpoint", checkpoint, "--output", tmp_path / "export", "--format", "onnx")
    graphs = {graph["name"] for graph in json.loads((tmp_path / "export/export.json").read_text())["graphs"]}
    assert graphs == ({"first_step", "next_step"} if "pgt" in cfg else {"model"})


def test_stream_with_the_projects_memory(run_project, project, data, tmp_path):
    out = tmp_path / "out"
    run_project("train_net", "brightness_pgt.yaml", "OUTPUT_DIR", out, "SOLVER.MAX_EPOCH", 1)
    cfg = load_config(project / "brightness_pgt.yaml", ["OUTPUT_DIR", out, "DATA.PATH_TO_DATA_DIR", data])
    model = build_model(cfg)
    load_test_weights(model, cfg)
    model.eval()
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in model.state_dict().values())

    video = torch.rand(1, 3, 3 * cfg.DATA.NUM_FRAMES + 1, 32, 32)
    plan = StepPlan.from_config(cfg).covering(video.shape[2])
    memory, sizes, scores = None, [], []
    with torch.no_grad():
        for step in plan.split([video]):
            step_scores, memory = model(step, memory)
            scores.append(step_scores)
            sizes.append({name: tuple(frames.shape) for name, frames in memory.items()})
    assert len(scores) > 5  # a video longer than the clips of training
    assert len({str(size) for size in sizes}) == 1  # the memory does not grow
    # The rule keeps the first frames for good: all steps but the first read the same memory of the video's beginning.
    first = video[:, :, :1]
    stem = model.stem(first).relu()
    torch.testing.assert_close(memory["body"], stem)
