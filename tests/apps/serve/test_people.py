"""A model of boxes behind the page: the persons that a detector finds, and what they do."""

import numpy as np
import pytest
import torch

from slowfast.apps.predict.predictor import load
from slowfast.apps.serve.models import ServedModel
from slowfast.checkpoint.io import save_checkpoint
from slowfast.config import cfg_to_yaml, load_config
from slowfast.models import build_model


def two_persons(frame):
    """Boxes in pixels, and scores, of a detector that finds the same two persons in every frame."""
    height, width = frame.shape[:2]
    boxes = np.array([[0.1, 0.2, 0.5, 0.7], [0.6, 0.25, 0.95, 0.8]]) * [width, height, width, height]
    return boxes, np.array([0.9, 0.8])


@pytest.fixture
def ava_model(tiny_model, tmp_path):
    """A model of boxes with random weights."""
    cfg = load_config(None, [
        *tiny_model, "DETECTION.ENABLE", True, "MODEL.HEAD_ACT", "sigmoid", "MODEL.LOSS_FUNC", "bce",
        "RESNET.SPATIAL_STRIDES", [[1], [2], [1], [1]], "DATA.SAMPLING_RATE", 4, "DATA_LOADER.NUM_WORKERS", 0,
        "TRAIN.DATASET", "ava", "TEST.DATASET", "ava",
    ])  # fmt: skip
    torch.manual_seed(0)
    weights = build_model(cfg).state_dict()
    weights["head.projection.weight"] = 0.3 * torch.randn_like(weights["head.projection.weight"])
    names = {0: "stand", 1: "sit", 4: "run"}
    path = str(tmp_path / "ava.pyth")
    save_checkpoint({"model_state": weights, "cfg": cfg_to_yaml(cfg), "class_names": names}, path)
    return load(path, "cpu")


def test_persons_are_answered_about(ava_model, encode, pictures, start, tmp_path):
    path = tmp_path / "walk.mp4"
    encode(path, pictures(60), rate=15)
    with pytest.raises(ValueError, match="--boxes"):
        ServedModel("ava", "ava", ava_model)
    viewer = start([ServedModel("ava", "ava", ava_model, two_persons)])
    client = viewer.http
    (model,) = client.get("/api/info").json()["models"]
    assert (model["boxes"], model["memory"], model["step_seconds"]) == (True, False, 1)
    messages = viewer.watch(model="ava", video=viewer.upload(path))
    truth = list(ava_model.people(str(path), two_persons))
    found = messages[1:-1]
    assert len(found) == len(truth) > 2
    for answer, wanted in zip(found, truth, strict=True):
        assert answer["start_s"] <= wanted.key_s < answer["end_s"]
        np.testing.assert_allclose(answer["all"], wanted.all_scores, atol=1e-5)
        assert [box["id"] for box in answer["boxes"]] == [person.identity for person in wanted.persons]
        for box, person in zip(answer["boxes"], wanted.persons, strict=True):
            np.testing.assert_allclose(box["box"], person.box, atol=1e-6)
            assert [one["name"] for one in box["names"]] == person.names
    address = f"/api/sessions/{messages[0]['session']}/answers"
    assert len(client.get(f"{address}.json").json()["answers"]) == len(truth)
    rows = client.get(f"{address}.csv").text.splitlines()
    assert len(rows) == 1 + sum(len(person.names) for answer in truth for person in answer.persons)
    assert "1: " in client.get(f"{address}.vtt").text
    assert client.get(f"{address}.mp4").content[4:8] == b"ftyp"
    assert viewer.watch(model="ava", camera=True)[0]["type"] == "error"
