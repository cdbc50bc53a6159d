"""Exported files compute what the model does, in other programs; nothing half done replaces a file."""

import json
import re
import sys

import numpy as np
import pytest
import torch

from slowfast.apps.export import export as engine_export
from slowfast.apps.export.export import compare, example_inputs, export, outputs_of, trace
from slowfast.config import load_config
from slowfast.engine.task import Task
from slowfast.models import MODEL_REGISTRY

onnxruntime = pytest.importorskip("onnxruntime")
NONLOCAL = [
    "MODEL.ARCH", "i3d", "NONLOCAL.LOCATION", [[[]], [[0]], [[0]], [[]]], "NONLOCAL.GROUP", [[1], [1], [2], [1]],
    "NONLOCAL.POOL", [[[1, 2, 2]]] * 4, "NONLOCAL.INSTANTIATION", "softmax",
]  # fmt: skip
CASES = {
    **{name: (name, []) for name in MODEL_REGISTRY if not MODEL_REGISTRY.fact(name, "task")},
    "I3D non-local": ("ResNet", NONLOCAL),
}
CASES["C2D"] = ("ResNet", ["MODEL.ARCH", "c2d"])


@pytest.fixture
def filled(saved_weights, tiny_models, shallow):
    """`filled(name, *more) -> (cfg, model)`: save filled weights of a model that gives logits, RegNet probabilities."""

    def save(name, *more):
        both = [[pathways * 2 for pathways in shallow[1]]] if name == "SlowFast" else [shallow[1]]
        settings = [*tiny_models[name], shallow[0], *both, "MODEL.HEAD_ACT", "none"]
        return saved_weights(lambda *overrides: load_config(None, [*settings, *overrides]), *more)

    return save


@torch.no_grad()
def check_files(folder, model, cfg, batch):
    """Scores of the files of a clip model for another batch, against the model's."""
    generator = torch.Generator().manual_seed(7)
    inputs = [torch.randn(x.shape, generator=generator) for x in example_inputs(cfg, batch)]
    expected = model(inputs)
    assert expected.std() > (0.005 if cfg.MODEL.MODEL_NAME == "RegNet" else 0.05)
    names = ["slow", "fast"] if len(inputs) == 2 else ["clip"]
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(["scores"], {name: clip.numpy() for name, clip in zip(names, inputs, strict=True)})[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    program = torch.export.load(str(folder / "model.pt2")).module()
    torch.testing.assert_close(program(inputs), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_family(filled, tmp_path, case):
    name, more = CASES[case]
    cfg, model = filled(name, *more)
    about = export(cfg, str(tmp_path / "e"), ["onnx", "pt2"])
    assert about["graphs"][0]["outputs"] == [{"name": "scores", "shape": ["batch", 5]}]
    check_files(tmp_path / "e", model, cfg, batch=3)
    check_files(tmp_path / "e", model, cfg, batch=1)
    assert sorted(p.name for p in (tmp_path / "e").iterdir()) == ["export.json", "model.onnx", "model.pt2"]


@pytest.mark.slow
def test_a_fixed_batch_and_what_is_told_of_it(filled, tmp_path):
    cfg, model = filled("X3D")
    about = export(cfg, str(tmp_path / "e"), ["onnx", "pt2"], batch=4, opset=20)
    assert json.loads((tmp_path / "e/export.json").read_text()) == about
    (graph,) = about["graphs"]
    assert graph["inputs"] == [{"name": "clip", "shape": [4, 3, 8, 32, 32]}]
    assert graph["files"] == ["model.onnx", "model.pt2"]
    assert max(graph["difference"].values()) < 1e-4
    assert about["checkpoint"] == cfg.TEST.CHECKPOINT_FILE_PATH
    assert "X3D" in about["config"]
    session = onnxruntime.InferenceSession(str(tmp_path / "e/model.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [4, 3, 8, 32, 32]
    check_files(tmp_path / "e", model, cfg, batch=4)


def test_a_file_that_computes_something_else_is_refused(filled, tmp_path, monkeypatch):
    cfg, _ = filled("X3D")
    (tmp_path / "e").mkdir()
    (tmp_path / "e/model.pt2").write_text("what was there")
    monkeypatch.setattr(engine_export, "_run_pt2", lambda path, graph: [torch.zeros(3, 5)])
    with pytest.raises(ValueError, match="scores of the file differs by 1.0e"):
        export(cfg, str(tmp_path / "e"), ["pt2"])
    assert [path.read_text() for path in (tmp_path / "e").iterdir()] == ["what was there"]


def test_what_depends_on_the_batch_is_exported_for_one_batch(one_block_model):
    class Particular(torch.nn.Module):
        def forward(self, inputs):
            return inputs[0].mean(dim=(2, 3, 4)).reshape(2, 3)

    graph = Task.export_graphs(None, None, [torch.randn(2, 3, 4, 8, 8)])[0]
    program, any_number = trace(Particular(), graph, any_batch=True)
    assert not any_number
    assert compare(outputs_of(Particular(), graph), graph, [program.module()(*graph.args)]) == 0
    for value in (torch.nan, torch.inf):
        outputs = [torch.full_like(output, value) for output in outputs_of(Particular(), graph)]
        with pytest.raises(ValueError, match="gives NaN or infinity"):
            compare(outputs, graph, outputs)
    program, any_number = trace(one_block_model().eval(), graph, any_batch=True)
    assert any_number

    class Curious(torch.nn.Module):
        def forward(self, inputs):
            return inputs[0].sum().item() > 0 and inputs[0] or -inputs[0]

    with pytest.raises(ValueError, match="Curious cannot be exported"):
        trace(Curious(), graph, any_batch=True)


def test_what_cannot_be_is_said(filled, tmp_path, monkeypatch):
    boxes, _ = filled("X3D", "DETECTION.ENABLE", True, "MODEL.HEAD_ACT", "sigmoid", "MODEL.LOSS_FUNC", "bce")
    with pytest.raises(ValueError, match="DETECTION.ENABLE"):
        export(boxes, str(tmp_path / "e"), ["pt2"])
    cfg, _ = filled("X3D")
    with pytest.raises(ValueError, match="must be onnx or pt2"):
        export(cfg, str(tmp_path / "e"), ["torchscript"])
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match="pip install onnxscript"):
        export(cfg, str(tmp_path / "e"), ["onnx"])
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("name", ["pt2", "onnx"])
def test_a_full_disk_is_told_and_leaves_the_former_files(filled, tmp_path, told_of_limit, name):
    cfg, _ = filled("ResNet")
    folder = tmp_path / "e"
    folder.mkdir()
    (folder / f"model.{name}").write_text("former")
    told = told_of_limit(20_000, lambda: export(cfg, str(folder), [name]))
    assert re.search(rf"File too large;.* [\d,]+ bytes are free: '{folder}", told), told
    assert [path.name for path in folder.iterdir()] == [f"model.{name}"]
    assert (folder / f"model.{name}").read_text() == "former"
