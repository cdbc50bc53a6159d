"""Pictures of the confusion of classes: what each setting draws, decoded from the PNG."""

import json

import cv2
import numpy as np
import pytest

from slowfast.config import load_config
from slowfast.evaluation import class_plots
from slowfast.evaluation.class_plots import ClassPlots

pytest.importorskip("matplotlib")

NAMES = {0: "run", 1: "walk", 2: "sit/lie"}
# Of 4 videos of class 0, 1 is taken for class 1 and 1 for class 2; class 1 has none.
CONFUSION = np.array([[2, 1, 1], [0, 0, 0], [0, 0, 5]])
MATRIX, HISTOGRAM = ["TENSORBOARD.CONFUSION_MATRIX.ENABLE", True], ["TENSORBOARD.HISTOGRAM.ENABLE", True]


@pytest.fixture
def plots():
    """`plots(KEY, VALUE, ...)`: what the settings draw of three classes."""

    def make(*overrides, names=NAMES):
        return ClassPlots.from_config(
            load_config(None, ["MODEL.NUM_CLASSES", 3, "TENSORBOARD.ENABLE", True, *overrides]), names
        )

    return make


def decoded(png):
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


def test_nothing_unless_it_is_asked_for(plots):
    assert plots() is None
    assert plots(*MATRIX, *HISTOGRAM, "TENSORBOARD.ENABLE", False) is None


def test_matrices_of_all_of_a_subset_and_of_groups(plots, tmp_path, monkeypatch):
    (tmp_path / "subset.txt").write_text("sit/lie\nrun\n")
    (tmp_path / "groups.json").write_text(json.dumps({"moving": ["run", "walk"], "still": ["sit/lie"]}))
    found = plots(
        *MATRIX,
        *("TENSORBOARD.CONFUSION_MATRIX.FIGSIZE", [5.0, 4.0]),
        *("TENSORBOARD.CONFUSION_MATRIX.SUBSET_PATH", str(tmp_path / "subset.txt")),
        *("TENSORBOARD.CATEGORIES_PATH", str(tmp_path / "groups.json")),
    )
    shown, draw = [], ClassPlots._draw_matrix

    def record(self, confusion, classes, *title):
        shown.append(list(classes))
        return draw(self, confusion, classes, *title)

    monkeypatch.setattr(ClassPlots, "_draw_matrix", record)
    pictures = found.draw(CONFUSION)
    group = "Confusion Matrices Grouped by Parent Classes/"
    assert list(pictures) == ["Confusion Matrix", "Confusion Matrix Subset", f"{group}moving", f"{group}still"]
    assert shown == [[0, 1, 2], [2, 0], [0, 1], [2]]
    assert [decoded(png).shape for png in pictures.values()] == [(400, 500, 3)] * 4


def test_what_stands_in_the_matrix_and_the_histogram(plots, monkeypatch):
    """Texts of the figures, as matplotlib has them."""
    figures = []
    monkeypatch.setattr(class_plots, "_png", lambda figure: figures.append(figure) or b"")
    plots(*MATRIX, *HISTOGRAM, "TENSORBOARD.HISTOGRAM.TOPK", 2).draw(CONFUSION)
    matrix, run, walk, _ = (figure.axes[0] for figure in figures)
    shares = matrix.images[0].get_array().filled(np.nan)
    np.testing.assert_allclose(shares, [[50, 25, 25], [np.nan] * 3, [0, 0, 100]])
    assert [text.get_text() for text in matrix.texts] == ["50", "25", "25", "0", "0", "100"]
    assert (matrix.get_xlabel(), matrix.get_ylabel()) == ("predicted class", "label")
    assert [label.get_text() for label in matrix.get_xticklabels()] == list(NAMES.values())
    assert [label.get_text() for label in run.get_yticklabels()] == ["run", "walk"]
    assert [bar.get_width() for bar in run.patches] == [50, 25]
    assert [text.get_text() for text in run.texts] == ["2", "1"]
    assert [bar.get_width() for bar in walk.patches] == [0, 0]


def test_histograms_of_all_and_of_a_subset(plots, tmp_path):
    tag = "Top 10 predictions by classes/"
    pictures = plots(*HISTOGRAM, "TENSORBOARD.HISTOGRAM.FIGSIZE", [3.0, 2.0]).draw(CONFUSION)
    assert list(pictures) == [f"{tag}{name}" for name in NAMES.values()]
    assert decoded(pictures[f"{tag}run"]).shape == (200, 300, 3)
    (tmp_path / "subset.txt").write_text("walk\n")
    subset = plots(*HISTOGRAM, "TENSORBOARD.HISTOGRAM.SUBSET_PATH", str(tmp_path / "subset.txt")).draw(CONFUSION)
    assert list(subset) == [f"{tag}walk"]


def test_names_of_a_file_come_before_those_of_the_data_set(plots, tmp_path):
    (tmp_path / "names.json").write_text(json.dumps({"c": 2, "a": 0, "b": 1}))
    assert list(plots(*MATRIX, "TENSORBOARD.CLASS_NAMES_PATH", str(tmp_path / "names.json")).names) == ["a", "b", "c"]
    assert list(plots(*MATRIX, names=None).names) == ["0", "1", "2"]
    assert list(plots(*MATRIX, names={1: "one"}).names) == ["0", "one", "2"]


def test_400_classes(plots):
    """No name fits beside 400 rows, and the picture keeps its size."""
    confusion = np.random.default_rng(0).integers(0, 3, (400, 400))
    found = plots(*MATRIX, "MODEL.NUM_CLASSES", 400, names={n: f"class {n}" for n in range(400)})
    assert decoded(found.draw(confusion)["Confusion Matrix"]).shape == (800, 800, 3)


def test_mistakes(plots, tmp_path):
    def file(text, name="file.json"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    subset, names = "TENSORBOARD.CONFUSION_MATRIX.SUBSET_PATH", "TENSORBOARD.CLASS_NAMES_PATH"
    for told, *overrides in (
        ("fly", subset, file("run\nfly\n", "a.txt")),
        ("none of", subset, file("\n", "b.txt")),
        ("names 2 classes", names, file('{"run": 0, "walk": 1}', "c.json")),
        ("swim", "TENSORBOARD.CATEGORIES_PATH", file('{"water": ["swim"]}', "d.json")),
        ("group", "TENSORBOARD.CATEGORIES_PATH", file('{"water": "swim"}', "e.json")),
        ("FIGSIZE", "TENSORBOARD.CONFUSION_MATRIX.FIGSIZE", [8.0]),
        ("MULTI_LABEL", "DATA.MULTI_LABEL", True, "MODEL.LOSS_FUNC", "bce_logit", "MODEL.HEAD_ACT", "sigmoid"),
    ):
        with pytest.raises(ValueError, match=told):
            plots(*MATRIX, *overrides)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        plots(*MATRIX, subset, str(tmp_path / "nowhere.txt"))
    with pytest.raises(ValueError, match="TOPK"):
        plots(*HISTOGRAM, "TENSORBOARD.HISTOGRAM.TOPK", 0)
