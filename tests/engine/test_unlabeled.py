"""Tests of videos without labels: predictions as with labels, and no metrics."""

import csv
import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from slowfast.config import load_config
from slowfast.datasets import build_dataset
from slowfast.engine.test import test as run_test
from slowfast.engine.train import train
from slowfast.evaluation.predictions import load

NAMES = ["dark", "bright"]


@pytest.fixture
def lists(tiny_data, tmp_path):
    """`lists(split, lines)`: write a list beside `classes.txt`; a line is changed from that of the tiny data set."""
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "classes.txt").write_text("\n".join(NAMES))
    for split in ("train", "val", "test"):
        (folder / f"{split}.csv").write_text((tiny_data / f"{split}.csv").read_text())

    def write(split, change):
        lines = (tiny_data / f"{split}.csv").read_text().splitlines()
        (folder / f"{split}.csv").write_text("".join(f"{change(n, line)}\n" for n, line in enumerate(lines)))

    write.folder = folder
    return write


def bare(number, line):
    return line.rpartition(" ")[0]


def test_predictions_are_those_of_a_labeled_list(tiny_cfg, lists, run_tool, caplog):
    """The paths have blanks, as the separator is one."""
    settings = ["TEST.ALLOW_RANDOM_WEIGHTS", True, "DATA.PATH_TO_DATA_DIR", str(lists.folder)]
    cfg = tiny_cfg(*settings, "TRAIN.ENABLE", False)
    labeled = run_test(cfg)
    expected = load(Path(cfg.OUTPUT_DIR) / "test_predictions.npz")
    lists("test", bare)
    for split in ("train", "val"):
        os.remove(lists.folder / f"{split}.csv")
    with caplog.at_level(logging.INFO):
        results = run_test(cfg)
    assert [message for message in caplog.messages if "has no labels: no metrics" in message]
    assert labeled.keys() - results.keys() == {"top1_acc", "top1_err", "macro_acc"}
    assert json.loads((Path(cfg.OUTPUT_DIR) / "test_results.json").read_text()) == results
    predictions = load(Path(cfg.OUTPUT_DIR) / "test_predictions.npz")
    assert predictions.videos == expected.videos and predictions.class_names == NAMES
    assert np.array_equal(predictions.scores, expected.scores) and predictions.labels.tolist() == [-1] * 4
    with open(Path(cfg.OUTPUT_DIR) / "test_predictions.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    best = predictions.scores.argmax(axis=1)
    found = [(row["video"], row["label"], row["correct"], row["top1"]) for row in rows]
    assert found == [(video, "", "", NAMES[number]) for video, number in zip(predictions.videos, best, strict=True)]
    status, output = run_tool("evaluate", Path(cfg.OUTPUT_DIR) / "test_predictions.npz")
    assert status == 2 and output.count("\n") == 1 and "the 4 videos have no labels" in output


def test_a_test_after_training(tiny_cfg, lists):
    cfg = tiny_cfg("SOLVER.MAX_EPOCH", 1, "DATA.PATH_TO_DATA_DIR", str(lists.folder))
    lists("test", bare)
    assert train(cfg)["top1_acc"] >= 0 and "top1_acc" not in run_test(cfg)


def test_boxes_without_annotations(tiny_model, encode, pictures, tmp_path):
    """AVA's detections are those of an annotated test, and the predictions can be read again."""
    encode(tmp_path / "walk.mp4", pictures(120), rate=15)
    (tmp_path / "boxes.csv").write_text("walk,0902,0.1,0.2,0.5,0.7,,0.95\nwalk,0903,0.6,0.25,0.95,0.8,,0.92\n")
    (tmp_path / "truth.csv").write_text("walk,0902,0.100,0.200,0.500,0.700,1,0\n")
    found = {}
    for truth in ("truth.csv", ""):
        out = tmp_path / f"out {truth}"
        cfg = load_config(None, [
            *tiny_model, "DETECTION.ENABLE", True, "MODEL.HEAD_ACT", "sigmoid", "MODEL.LOSS_FUNC", "bce",
            "RESNET.SPATIAL_STRIDES", [[1], [2], [1], [1]], "DATA.SAMPLING_RATE", 4, "DATA_LOADER.NUM_WORKERS", 0,
            "TRAIN.DATASET", "ava", "TEST.DATASET", "ava", "TEST.ALLOW_RANDOM_WEIGHTS", True, "TRAIN.ENABLE", False,
            "AVA.FRAME_LIST_DIR", "", "AVA.FRAME_DIR", str(tmp_path), "AVA.ANNOTATION_DIR", str(tmp_path),
            "AVA.TEST_PREDICT_BOX_LISTS", ["boxes.csv"], "AVA.LABEL_MAP_FILE", "", "AVA.EXCLUSION_FILE", "",
            "AVA.GROUNDTRUTH_FILE", truth, "AVA.KEY_SECONDS", [900, 910], "OUTPUT_DIR", str(out),
        ])  # fmt: skip
        results = run_test(cfg)
        assert ("ava_map" in results, (out / "groundtruth.csv").exists()) == (bool(truth),) * 2
        assert results["key_frames"] == 2
        found[truth] = (out / "detections.csv").read_text(), load(out / "test_predictions.npz").scores
    (rows, scores), (expected_rows, expected_scores) = found[""], found["truth.csv"]
    assert rows == expected_rows and np.array_equal(scores, expected_scores)


@pytest.mark.parametrize("split", ["train", "val"])
def test_other_lists_need_labels(tiny_cfg, lists, split):
    lists(split, bare)
    with pytest.raises(ValueError, match=rf"{split}\.csv, line 1: .*label"):
        train(tiny_cfg("DATA.PATH_TO_DATA_DIR", str(lists.folder)))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda number, line: bare(number, line) if number == 2 else line, 3),
        (lambda number, line: line if number == 2 else bare(number, line), 1),
        # Labels after another separator, or in words, are no paths.
        (lambda number, line: f"video{number}.mp4,{number % 2}", 1),
        (lambda number, line: f"video{number}.mp4 dark", 1),
    ],
    ids=["one lacks it", "one has it", "other separator", "words"],
)
def test_a_list_has_labels_in_every_line_or_in_none(tiny_cfg, lists, change, line):
    lists("test", change)
    with pytest.raises(ValueError, match=rf"test\.csv, line {line}: .*label"):
        build_dataset(tiny_cfg("DATA.PATH_TO_DATA_DIR", str(lists.folder)), "test")


def test_paths_that_are_not_there_are_told_as_such(tiny_cfg, lists, caplog):
    lists("test", lambda number, line: f"gone{number}.mp4")
    cfg = tiny_cfg("TEST.ALLOW_RANDOM_WEIGHTS", True, "DATA.PATH_TO_DATA_DIR", str(lists.folder))
    assert build_dataset(cfg, "test").classes_seen is None
    with pytest.raises(RuntimeError, match=r"gone\d\.mp4"):
        run_test(cfg)
