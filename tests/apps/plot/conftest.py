"""Small results of runs, as files, and sizes of what is drawn."""

import json

import numpy as np
import pytest

from slowfast.evaluation.ava import BoxRows
from slowfast.evaluation.predictions import BoxPredictions, ClassificationPredictions


@pytest.fixture(autouse=True)
def _matplotlib():
    pytest.importorskip("matplotlib")


@pytest.fixture
def run_folder(tmp_path):
    """`run_folder(name, losses, results, frames)`: the folder of a run of three epochs with these results."""

    def make(name, losses=(3.0, 2.0, 1.0), results=(), frames=None):
        folder = tmp_path / name
        folder.mkdir()
        lines = []
        for epoch, loss in enumerate(losses, start=1):
            for i in (1, 2):
                iteration = {
                    "_type": "train_iter",
                    "epoch": f"{epoch}/3",
                    "iter": f"{i}/2",
                    "loss": loss + i,
                    "lr": 0.1,
                }
                lines.append(iteration)
            lines.append({"_type": "train_epoch", "epoch": f"{epoch}/3", "loss": loss, "lr": 0.1, "ram_gib": None})
            lines.append({"_type": "val_epoch", "epoch": f"{epoch}/3", "top1_acc": 10.0 * epoch, "videos": 7})
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "json_stats.jsonl").write_text(text)
        (folder / "test_results.json").write_text(json.dumps(dict(results)))
        if frames:
            (folder / "config.yaml").write_text(f"DATA:\n  NUM_FRAMES: {frames}\n")
        return str(folder)

    return make


@pytest.fixture(scope="session")
def predictions():
    """`predictions(classes, videos, steps, several)`: scores of videos, with names of classes as of data sets."""

    def make(classes=5, videos=60, steps=4, several=False, seed=0):
        rng = np.random.default_rng(seed)
        labels = np.arange(videos) % classes
        read = rng.random((videos, steps, classes)).astype(np.float32)
        read[np.arange(videos), :, labels] += 0.4
        if several:
            labels = (rng.random((videos, classes)) < 0.2).astype(np.float32)
        names = [f"throwing the {number} $x^2$ ball with friends" for number in range(classes)]
        files = [f"{number}.mp4" for number in range(videos)]
        scores = read.sum(axis=1)
        return ClassificationPredictions(scores, labels, files, read, {"max": read.max(axis=1)}, class_names=names)

    return make


@pytest.fixture
def boxes():
    """Predictions of two boxes and classes: class 1 is ranked right, class 2 has one wrong box before the right one."""
    truth = BoxRows([("v", 902)], [0, 0], [[0, 0, 0.5, 1], [0.5, 0, 1, 1]], [1, 2])
    scores = np.array([[0.9, 0.7], [0.2, 0.6]])
    return BoxPredictions([("v", 902)], [0, 0], truth.boxes.copy(), scores, [1, 2], truth, class_names=["stand", "sit"])


@pytest.fixture(scope="session")
def text_boxes():
    """`text_boxes(figure)`: (text, size in points, box in pixels) of all that is written when it is drawn."""

    def measure(figure):
        from matplotlib.axes import Axes
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.text import Text

        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        hidden = {label for axes in figure.findobj(Axes) for label in _outside(axes)}
        found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
        return [
            (text.get_text(), text.get_fontsize(), text.get_window_extent(canvas.get_renderer()))
            for text in found
            if text not in hidden
        ]

    return measure


def _outside(axes):
    """Return the tick labels of an axes that are not drawn: beyond its limits, or turned off."""
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        low, high = sorted(limits)
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            there = low - 1e-9 <= tick.get_loc() <= high + 1e-9
            for label, on in ((tick.label1, tick.label1.get_visible()), (tick.label2, tick.label2.get_visible())):
                if not (there and on):
                    yield label
