"""Int8 files: what is quantized, how near the scores stay, what of the data they are calibrated on."""

import json

import numpy as np
import pytest
import torch

from slowfast.apps.export.export import export
from slowfast.apps.export.quantize import calibration_feeds
from slowfast.apps.synthetic.sweep import SweepSpec, make_sweep
from slowfast.datasets.build import build_loader
from slowfast.engine.resume import load_run_config
from slowfast.engine.task import build_task
from slowfast.models import build_model

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
PGT, CLIP = "zoo://sweep_pgt_36x1", "zoo://sweep_slow_8x1"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Six videos to validate on."""
    folder = tmp_path_factory.mktemp("sweep")
    make_sweep(folder, SweepSpec(train=1, val=6, test=1))
    return folder


def config(zoo_name, videos, *overrides):
    """Return the settings of a checkpoint, for these videos."""
    places = ["DATA.PATH_TO_DATA_DIR", str(videos), "DATA_LOADER.NUM_WORKERS", 0, "TRAIN.BATCH_SIZE", 2]
    return load_run_config(None, ["TEST.CHECKPOINT_FILE_PATH", zoo_name, *places, *overrides])


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def weights_of(path):
    """Return the type and size of the weights of every convolution: (dtype, out, in / groups)."""
    graph = onnx.load(path).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {node.output[0]: node for node in graph.node}
    found = []
    for node in graph.node:
        if node.op_type == "Conv":
            maker = made_by.get(node.input[1])
            tensor = stored[maker.input[0] if maker else node.input[1]]
            found.append((onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type), *tensor.dims[:2]))
    return found


@pytest.mark.slow
def test_a_clip_model(videos, tmp_path):
    cfg = config(CLIP, videos)
    about = export(cfg, str(tmp_path), ["onnx"], int8_clips=6)
    (graph,) = about["graphs"]
    assert graph["files"] == ["model.onnx", "model.int8.onnx"]
    assert json.loads((tmp_path / "export.json").read_text()) == about
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export.json", "model.int8.onnx", "model.onnx"]
    kinds = weights_of(tmp_path / "model.int8.onnx")
    assert len(kinds) == len(weights_of(tmp_path / "model.onnx")) > 20
    for dtype, out, channels in kinds:
        assert dtype == (np.float32 if min(out, channels) < 16 else np.int8)
    clips = next(iter(build_loader(cfg, "test"))).inputs[0].contiguous().numpy()
    plain, int8 = (
        session(tmp_path / f"model.{end}").run(["scores"], {"clip": clips})[0] for end in ("onnx", "int8.onnx")
    )
    assert 0 < np.abs(plain - int8).mean() < 0.02  # of probabilities of 6 classes
    facts = [session(tmp_path / f"model.{end}").get_modelmeta().custom_metadata_map for end in ("onnx", "int8.onnx")]
    assert facts[0] == facts[1] != {}


@pytest.mark.slow
def test_a_model_in_steps(videos, tmp_path):
    about = export(config(PGT, videos), str(tmp_path), ["onnx"], batch=4, int8_clips=3)
    assert [graph["files"][1] for graph in about["graphs"]] == ["first_step.int8.onnx", "next_step.int8.onnx"]
    assert all(0 < graph["int8"]["difference"] < 0.1 for graph in about["graphs"])
    # The first step sees nothing yet: its scores are nearly equal.
    assert about["graphs"][1]["int8"]["same_class"] > 0.8


def test_the_clips_are_what_a_test_shows_the_model(videos):
    cfg = config(PGT, videos)
    task, model = build_task(cfg), build_model(cfg).eval()
    graphs = task.export_graphs(model, [torch.zeros(2, 3, 36, 32, 32)])
    first, later = calibration_feeds(cfg, model, graphs, clips=6)
    assert [len(first), len(later)] == [3, 12]  # three batches, in 5 steps each
    memory = None
    with torch.no_grad():
        for step, (clip,) in enumerate(task.plan.split(next(iter(build_loader(cfg, "val"))).inputs)):
            fed = later[step - 1] if step else first[0]
            given = {"clip": clip, **{f"memory.{name}": frames for name, frames in (memory or {}).items()}}
            assert set(fed) == set(given)
            for name, tensor in given.items():
                np.testing.assert_array_equal(fed[name], tensor)
            _, memory = model([clip], memory)


def test_what_cannot_be_is_said(videos, tmp_path):
    cfg = config(CLIP, videos)
    for formats, clips in ((["pt2"], 4), (["onnx"], 0)):
        with pytest.raises(ValueError, match="--int8 takes at least one clip and the format onnx"):
            export(cfg, str(tmp_path / "e"), formats, int8_clips=clips)
    model = build_model(cfg).eval()
    graphs = build_task(cfg).export_graphs(model, [torch.zeros(2, 3, 8, 32, 32)])
    with pytest.raises(ValueError, match="--int8 7 takes that many validation clips in batches of 2, and there are 6"):
        calibration_feeds(cfg, model, graphs, clips=7)
    whole = config(PGT, videos, "PGT.PG_EVAL", False)
    model = build_model(whole).eval()
    graphs = build_task(whole).export_graphs(model, [torch.zeros(2, 3, 36, 32, 32)])
    with pytest.raises(ValueError, match="needs PGT.PG_EVAL True"):
        calibration_feeds(whole, model, graphs, clips=4)
