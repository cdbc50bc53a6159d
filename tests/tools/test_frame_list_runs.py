"""Training and testing on Charades and Something-Something, as a user starts them."""

import json

import cv2
import numpy as np
import pytest
import yaml

CLASSES, LENGTH = 3, 16


def write_frames(root, name, shade):
    (root / name).mkdir(parents=True)
    for frame in range(LENGTH):
        gray = np.random.default_rng(frame).integers(0, 60, (40, 52, 3)) + 60 * shade
        cv2.imwrite(str(root / name / f"{name}-{frame + 1:06d}.jpg"), gray.astype(np.uint8))


def write_set(root):
    """Files of both sets over the same frames: the class is a shade of gray."""
    labels = {f"V{number}": number % CLASSES for number in range(10)}
    splits = {"train": ("train", list(labels)[:6]), "val": ("validation", list(labels)[6:])}
    for name, label in labels.items():
        write_frames(root / "frames", name, label)
    templates = {f"Showing something {label}": str(label) for label in range(CLASSES)}
    (root / "something-something-v2-labels.json").write_text(json.dumps(templates))
    for split, (official, names) in splits.items():
        entries = [{"id": name, "template": f"Showing [something] {labels[name]}"} for name in names]
        (root / f"something-something-v2-{official}.json").write_text(json.dumps(entries))
        lines = ["original_vido_id video_id frame_id path labels"]
        lines += [
            f'{name} 0 {frame} {name}/{name}-{frame + 1:06d}.jpg "{labels[name]}"'
            for name in names
            for frame in range(LENGTH)
        ]
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def train_and_test(tiny_settings, tmp_path, run_tool):
    """`train_and_test(dataset, SECTION=values)`: run an epoch and a test; return status, output and results."""
    root = write_set(tmp_path / "set")

    def start(dataset, **sections):
        for section, values in sections.items():
            tiny_settings[section].update(values)
        tiny_settings["TRAIN"]["DATASET"] = tiny_settings["TEST"]["DATASET"] = dataset
        tiny_settings["DATA"].update(PATH_TO_DATA_DIR=str(root), PATH_PREFIX=str(root / "frames"))
        tiny_settings["MODEL"]["NUM_CLASSES"] = CLASSES
        tiny_settings["SOLVER"]["MAX_EPOCH"] = 1
        (tmp_path / "cfg.yaml").write_text(yaml.safe_dump(tiny_settings))
        status, said = run_tool("run_net", "--cfg", tmp_path / "cfg.yaml")
        results = tmp_path / "out/test_results.json"
        return status, said, json.loads(results.read_text()) if results.is_file() else None

    return start


@pytest.mark.slow
def test_charades(train_and_test):
    model = {"LOSS_FUNC": "bce_logit", "HEAD_ACT": "sigmoid"}
    code, said, results = train_and_test(
        "charades", MODEL=model, DATA={"MULTI_LABEL": True, "ENSEMBLE_METHOD": "max"}, TRAIN={"BATCH_SIZE": 6}
    )
    assert code == 0, said
    assert results["videos"] == 4 and results["views"] == 2
    assert 0 < results["map"] <= 1
    assert "train: 6 videos, 1 temporal x 1 spatial views" in said
    assert "Ignored" not in said and "WARNING" not in said


@pytest.mark.slow
def test_something_something(train_and_test):
    code, said, results = train_and_test("ssv2", DATA={"RANDOM_FLIP": False}, TRAIN={"BATCH_SIZE": 6})
    assert code == 0, said
    assert results["videos"] == 4 and 0 <= results["top1_acc"] <= 100
    assert said.count("all temporal views of a video are the same frames") >= 1


def test_a_loss_for_one_label_stops_before_anything_is_read(train_and_test):
    code, said, results = train_and_test("charades", DATA={"MULTI_LABEL": True})
    assert code != 0 and results is None
    assert "MODEL.LOSS_FUNC is cross_entropy, but with DATA.MULTI_LABEL True" in said
    assert "Traceback" not in said
