"""Pictures of classes during training and test: in TensorBoard's files, and as PNG."""

from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from slowfast.engine.pictures import PictureWriter, encode_png
from slowfast.engine.test import test as run_test
from slowfast.engine.train import train

pytest.importorskip("matplotlib")

PICTURES = [
    "TENSORBOARD.ENABLE",
    True,
    "TENSORBOARD.CONFUSION_MATRIX.ENABLE",
    True,
    "TENSORBOARD.HISTOGRAM.ENABLE",
    True,
]
TAGS = ["Confusion Matrix", "Top 10 predictions by classes/0", "Top 10 predictions by classes/1"]


def images_of(folder):
    """Return tag -> [(step, bytes)] of all event files."""
    found = {}
    for events in sorted(Path(folder).glob("events*")):
        read = EventAccumulator(str(events), size_guidance={"images": 0})
        read.Reload()
        for tag in read.Tags()["images"]:
            found.setdefault(tag, []).extend((image.step, image.encoded_image_string) for image in read.Images(tag))
    return found


def test_after_each_validation_and_the_test(tiny_cfg):
    cfg = tiny_cfg(*PICTURES, "TRAIN.EVAL_PERIOD", 1, "TENSORBOARD.LOG_DIR", "board")
    train(cfg)
    out = Path(cfg.OUTPUT_DIR)
    found = images_of(out / "board")
    assert list(found) == TAGS
    assert [step for step, _ in found[TAGS[0]]] == [1, 2]
    # The file is that of the last validation.
    assert (out / "visualization" / "val" / "confusion_matrix.png").read_bytes() == found[TAGS[0]][-1][1]
    assert (out / "visualization" / "val" / "top_10_predictions_by_classes" / "1.png").exists()
    run_test(cfg)
    again = images_of(out / "board")
    assert [step for step, _ in again[TAGS[0]]] == [1, 2, 2]
    assert (out / "visualization" / "test" / "confusion_matrix.png").read_bytes() == again[TAGS[0]][-1][1]


def test_a_wrong_file_of_classes_stops_before_the_first_batch(tiny_cfg, tmp_path):
    settings = [*PICTURES, "TENSORBOARD.HISTOGRAM.SUBSET_PATH", str(tmp_path / "nowhere.txt")]
    cfg = tiny_cfg(*settings)
    with pytest.raises(FileNotFoundError):
        train(cfg)
    assert not (Path(cfg.OUTPUT_DIR) / "checkpoints").exists()
    with pytest.raises(FileNotFoundError):
        run_test(tiny_cfg(*settings, "TEST.ALLOW_RANDOM_WEIGHTS", True))
    assert not (Path(cfg.OUTPUT_DIR) / "test_predictions.npz").exists()


def test_files_of_tags(tmp_path):
    """Tags that differ in signs alone have files of their own, inside the folder whatever they hold."""
    writer = PictureWriter(str(tmp_path), "part", [])
    png = encode_png(np.zeros((2, 3, 3), np.uint8))
    for tag in ("a/b c", "a/b:c", "../../up", "x" * 300):
        writer.write(tag, png)
    root = tmp_path / "visualization" / "part"
    assert writer.paths[:2] == [str(root / "a" / "b_c.png"), str(root / "a" / "b_c_2.png")]
    assert all(Path(path).resolve().is_relative_to(root) and Path(path).read_bytes() == png for path in writer.paths)
