"""Where boxes come from: detectron2, of which a stand-in is used here, and kinds of files."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from slowfast.apps.people.sources import BoxFile, box_source
from slowfast.config import load_config
from slowfast.datasets.video.open import open as decode


class Instances:
    """Boxes, classes and scores, as detectron2 has them."""

    def __init__(self, boxes, classes, scores):
        self.pred_boxes, self.pred_classes, self.scores = SimpleNamespace(tensor=boxes), classes, scores

    def to(self, device):
        return self

    def __getitem__(self, chosen):
        return Instances(self.pred_boxes.tensor[chosen], self.pred_classes[chosen], self.scores[chosen])


@pytest.fixture
def detectron2(monkeypatch):
    """Install modules that take what the detector passes; returns what came: `cfg` and `frames`."""
    seen = SimpleNamespace(frames=[])

    class Cfg(SimpleNamespace):
        def merge_from_file(self, path):
            self.file = path

    def get_cfg():
        head = SimpleNamespace(SCORE_THRESH_TEST=0.0)
        seen.cfg = Cfg(MODEL=SimpleNamespace(ROI_HEADS=head, RETINANET=SimpleNamespace(), WEIGHTS="", DEVICE=""))
        return seen.cfg

    def predictor(cfg):
        def predict(frame):
            seen.frames.append(frame)
            boxes = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8], [0, 0, 9, 9]])
            return {"instances": Instances(boxes, torch.tensor([0, 17, 0]), torch.tensor([0.9, 0.8, 0.95]))}

        if "missing" in cfg.MODEL.WEIGHTS:
            raise AssertionError("Checkpoint missing.pkl not found!")
        return predict

    contents = {
        "detectron2": {},
        "detectron2.config": {"get_cfg": get_cfg},
        "detectron2.engine": {"DefaultPredictor": predictor},
        "detectron2.model_zoo": {"get_config_file": lambda name: f"zoo of configs/{name}"},
    }
    for name, content in contents.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["detectron2"].model_zoo = sys.modules["detectron2.model_zoo"]
    return seen


def test_detectron2_is_built_of_the_published_keys_and_gives_persons(detectron2):
    settings = ["DEMO.DETECTRON2_CFG", "a/b.yaml", "DEMO.DETECTRON2_WEIGHTS", "w.pkl", "DEMO.DETECTRON2_THRESH", 0.6]
    source = box_source("detectron2", load_config(None, ["NUM_GPUS", 0, *settings]))
    assert source.facts == {"boxes": "detectron2", "least_score": 0.6, "every": 1.0}
    assert detectron2.cfg.file == "zoo of configs/a/b.yaml"
    assert (detectron2.cfg.MODEL.WEIGHTS, detectron2.cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST) == ("w.pkl", 0.6)
    older = (
        "DEMO.DETECTRON2_OBJECT_DETECTION_MODEL_CFG",
        "c/d.yaml",
        "DEMO.DETECTRON2_OBJECT_DETECTION_MODEL_WEIGHTS",
        "o.pkl",
    )
    box_source("detectron2", load_config(None, ["NUM_GPUS", 0, *older]))
    assert (detectron2.cfg.file, detectron2.cfg.MODEL.WEIGHTS) == ("zoo of configs/c/d.yaml", "o.pkl")
    frame = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    boxes, scores = source.detector(frame)
    assert boxes.tolist() == [[1, 2, 3, 4], [0, 0, 9, 9]]
    assert scores.tolist() == pytest.approx([0.9, 0.95])
    assert detectron2.frames[0].tolist() == frame[:, :, ::-1].tolist()  # BGR
    with pytest.raises(ValueError, match=r"missing.pkl \(DEMO.DETECTRON2_WEIGHTS\)"):
        box_source("detectron2", load_config(None, ["NUM_GPUS", 0, "DEMO.DETECTRON2_WEIGHTS", "missing.pkl"]))


def test_detectron2_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "detectron2", None)
    with pytest.raises(ValueError, match="INSTALL.md.*zoo://person_nanodet"):
        box_source("detectron2", load_config(None, ["NUM_GPUS", 0]))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("v,0902,0.1,0.2,0.5,0.9,3,1\nv,0902,0.1,0.2,0.5,0.8,2,0\n", 2),  # persons 1 and 0
        ("v,0902,0.1,0.2,0.5,0.9,3\n", 1),  # annotated, without a person
        ("v,0902,0.1,0.2,0.5,0.9,3,1\nv,0902,0.1,0.2,0.5,0.8,2,0.3\n", 1),
        ("v,0902,0.1,0.2,0.5,0.9,,1\nv,0902,0.1,0.2,0.5,0.8,-1,0\n", 1),  # scores 1 and 0
    ],
)
def test_annotations_and_detections_are_told_apart(tmp_path, encode, pictures, text, kept):
    (tmp_path / "boxes.csv").write_text(text)
    source = BoxFile(str(tmp_path / "boxes.csv"), 5, 0.5, 902)
    video = encode(tmp_path / "v.mp4", pictures(4))
    persons = source.persons("v", lambda: decode(str(video)))
    assert persons.moments == [0]
    assert len(persons.at(0)) == kept
    assert persons.at(1) == []
