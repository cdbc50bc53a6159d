"""Answers about persons: those of a test on AVA for the same video and boxes, and persons that a detector finds."""

from __future__ import annotations

import csv
import json
import re
import shutil

import numpy as np
import pytest
import torch

import slowfast
from slowfast.apps.people.ava_boxes import write_person_boxes
from slowfast.checkpoint.io import save_checkpoint
from slowfast.config import cfg_to_yaml, load_config
from slowfast.datasets.video import open as decode
from slowfast.engine.test import test as run_test
from slowfast.evaluation import evaluate_ava_files
from slowfast.models import build_model

# Video seconds 900 to 907. A box has two rows, nobody is there in second 906, and a box has too low a score in 904.
PREDICTED = """\
walk,0901,0.10,0.20,0.50,0.70,,0.95
walk,0901,0.10,0.20,0.50,0.70,-1,0.95
walk,0902,0.12,0.20,0.52,0.70,,0.99
walk,0902,0.60,0.25,0.95,0.80,,0.92
walk,0903,0.14,0.20,0.54,0.70,,0.97
walk,0903,0.60,0.25,0.95,0.80,,0.91
walk,0904,0.30,0.30,0.60,0.60,,0.5
walk,0905,0.62,0.25,0.97,0.80,,0.93
walk,0907,0.18,0.20,0.58,0.70,,0.95
other,0902,0.10,0.20,0.50,0.70,,0.95
"""
TRUTH = """\
walk,0901,0.100,0.200,0.500,0.700,1,0
walk,0902,0.120,0.200,0.520,0.700,1,0
walk,0902,0.120,0.200,0.520,0.700,3,0
walk,0902,0.600,0.250,0.950,0.800,2,1
"""
LABEL_MAP = 'item { name: "stand" id: 1 }\nitem { name: "sit" id: 2 }\nitem { name: "run" id: 5 }\n'
STEPS = [
    "PROJECTS", ["pgt"], "PGT.ENABLE", True, "PGT.STEPS", 3, "PGT.PG_EVAL", True, "PGT.CACHE", "max",
    "DATA.NUM_FRAMES", 22, "TRAIN.BATCH_SIZE", 2, "PGT.ENSEMBLE_METHOD", "max",
]  # fmt: skip
ALL_STEPS = [*STEPS, "PGT.ALL_STEP_TEST", True]
MODELS = {
    "clip": [],
    "steps": STEPS,
    "all_steps_max": [*ALL_STEPS, "DATA.ENSEMBLE_METHOD", "max"],
    "all_steps_mean": ALL_STEPS,
    "truth": ["AVA.TEST_ON_GROUND_TRUTH", True, "AVA.TEST_FORCE_FLIP", True],
}


@pytest.fixture
def trained(tiny_model, encode, pictures, tmp_path):
    """`trained(*settings)`: a config whose test reads `walk.mp4`, and a checkpoint of its model with random weights."""
    encode(tmp_path / "walk.mp4", pictures(120), rate=15)
    files = {"predicted.csv": PREDICTED, "truth.csv": TRUTH, "map.pbtxt": LABEL_MAP}
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    def build(*settings):
        cfg = load_config(None, [
            *tiny_model, "DETECTION.ENABLE", True, "MODEL.HEAD_ACT", "sigmoid", "MODEL.LOSS_FUNC", "bce",
            "RESNET.SPATIAL_STRIDES", [[1], [2], [1], [1]], "DATA.SAMPLING_RATE", 4, "DATA_LOADER.NUM_WORKERS", 0,
            "TRAIN.DATASET", "ava", "TEST.DATASET", "ava", "TEST.BATCH_SIZE", 3, "AVA.FRAME_LIST_DIR", "",
            "AVA.FRAME_DIR", str(tmp_path), "AVA.ANNOTATION_DIR", str(tmp_path),
            "AVA.TEST_PREDICT_BOX_LISTS", ["predicted.csv"], "AVA.LABEL_MAP_FILE", "map.pbtxt",
            "AVA.EXCLUSION_FILE", "", "AVA.GROUNDTRUTH_FILE", "truth.csv", "AVA.KEY_SECONDS", [900, 910],
            "OUTPUT_DIR", str(tmp_path / "out"), "TEST.CHECKPOINT_FILE_PATH", str(tmp_path / "model.pyth"), *settings,
        ])  # fmt: skip
        torch.manual_seed(0)
        weights = build_model(cfg).state_dict()
        # So that scores differ between boxes and classes.
        weights["head.projection.weight"] = 0.3 * torch.randn_like(weights["head.projection.weight"])
        names = {0: "stand", 1: "sit", 4: "run"}
        save_checkpoint(
            {"model_state": weights, "cfg": cfg_to_yaml(cfg), "class_names": names}, str(tmp_path / "model.pyth")
        )
        return cfg, str(tmp_path / "model.pyth"), str(tmp_path / "walk.mp4")

    return build


@pytest.mark.parametrize("kind", MODELS)
def test_answers_are_those_of_a_test_on_ava(trained, tmp_path, kind):
    cfg, path, video = trained(*MODELS[kind])
    run_test(cfg)
    expected = {}
    with open(tmp_path / "out" / "detections.csv", newline="") as stream:
        for name, second, *box, class_id, score in csv.reader(stream):
            key = (float(second) - 900, tuple(map(float, box)))
            expected.setdefault(key, {})[int(class_id)] = float(score)
            assert name == "walk"
    model = slowfast.load(path, device="cpu")
    answers = list(model.people(video, str(tmp_path / ("truth.csv" if kind == "truth" else "predicted.csv")), top=9))
    assert [answer.key_s for answer in answers] == ([1, 2] if kind == "truth" else [1, 2, 3, 5, 7])
    found = {
        (answer.key_s, tuple(person.box.tolist())): {number + 1: person.all_scores[number] for number in (0, 1, 4)}
        for answer in answers
        for person in answer.persons
    }
    assert found.keys() == expected.keys()
    for key, scores in expected.items():
        assert found[key] == pytest.approx(scores, abs=1e-6)
    assert len({round(score, 4) for scores in expected.values() for score in scores.values()}) > 6


def test_an_answer_names_persons_moments_and_classes_with_a_name(trained, tmp_path):
    _, path, video = trained()
    answers = list(slowfast.load(path, device="cpu").people(video, tmp_path / "predicted.csv", top=2))
    # 8 frames, every 4th, around the key frame: 16 before it and 16 from it on, at 30 frames a second.
    assert [(a.start_s, a.end_s) for a in answers[:2]] == [(14 / 30, 43 / 30), (44 / 30, 73 / 30)]
    assert [[p.identity for p in a.persons] for a in answers] == [[1], [1, 2], [1, 2], [2], [1]]
    assert [[p.box_score for p in a.persons] for a in answers[:2]] == [[0.95], [0.99, 0.92]]
    for person in answers[1].persons:
        named = person.all_scores[[0, 1, 4]]
        order = np.argsort(-named)[:2]
        assert person.names == [["stand", "sit", "run"][number] for number in order]
        assert person.scores.tolist() == named[order].tolist()
        assert person.names[0] in str(answers[1])


def test_a_label_map_names_the_classes_by_their_ids(trained, tmp_path):
    _, path, _ = trained()
    (tmp_path / "other.pbtxt").write_text('item { name: "lie" id: 2 }\nitem { name: "run" id: 5 }\n')
    model = slowfast.load(path, device="cpu", classes=tmp_path / "other.pbtxt")
    assert (model.class_names, model.scored) == (["0", "lie", "2", "3", "run"], [1, 4])
    (tmp_path / "other.pbtxt").write_text('item { name: "lie" id: 6 }\n')
    with pytest.raises(ValueError, match="model has 5 classes"):
        slowfast.load(path, device="cpu", classes=tmp_path / "other.pbtxt")


def white_part(frame):
    """Find the white columns as one person."""
    columns = np.flatnonzero(frame[..., 1].mean(0) > 128)
    boxes = [[columns[0], 8, columns[-1] + 1, frame.shape[0] + 9]] if len(columns) else np.zeros((0, 4))
    return np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.75, np.float32)


def test_a_detector_is_asked_every_second_and_follows_persons_in_between(trained, encode, tmp_path):
    """A walker crosses his own width in 0.8 s, too far from second to second, and is away from 2.2 to 3.2 s."""
    _, path, _ = trained()
    white = np.zeros((40, 36, 96, 3), np.uint8)
    for number in [*range(22), *range(32, 40)]:
        white[number, :, 2 * number : 2 * number + 16] = 255
    video = str(encode(tmp_path / "white.mp4", white, options={"crf": "1"}, rate=10))
    model = slowfast.load(path, device="cpu")
    answers = list(model.people(video, white_part))
    assert [answer.key_s for answer in answers] == [0, 1, 2, 3]
    assert [[p.identity for p in a.persons] for a in answers] == [[1], [1], [1], []]
    boxes = np.array([person.box for answer in answers for person in answer.persons])
    expected = [[left / 96, 8 / 36, (left + 16) / 96, 1] for left in (0, 20, 40)]
    np.testing.assert_allclose(boxes, expected, atol=1.5 / 96)
    assert "nobody" in str(answers[3])
    # The frames as an array, and moments twice as often, give the same answers where they agree.
    with decode.open(video) as reader:
        frames = reader.frames(range(reader.num_frames))
    often = list(model.people(frames, white_part, every=0.5, fps=10))
    assert [a.key_s for a in often] == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    np.testing.assert_allclose(often[2].persons[0].all_scores, answers[1].persons[0].all_scores, atol=1e-6)
    assert [[p.identity for p in a.persons] for a in often] == [[1]] * 5 + [[], [], [1]]


def test_steps_see_the_boxes_of_their_own_seconds(trained, tmp_path):
    """A file of a detector's boxes at every second gives the answers of the detector itself."""
    _, path, video = trained(*ALL_STEPS)

    def wandering(frame):
        left = float(frame[..., 1].mean() % 10)
        return np.array([[left, 8.0, left + 20, 30]], np.float32), np.array([0.95], np.float32)

    write_person_boxes(str(tmp_path / "boxes.csv"), [video], wandering, first_second=900)
    model = slowfast.load(path, device="cpu")
    for one, other in zip(model.people(video, wandering), model.people(video, tmp_path / "boxes.csv"), strict=True):
        assert one.key_s == other.key_s
        np.testing.assert_allclose(one.persons[0].all_scores, other.persons[0].all_scores, atol=1e-5)


def test_the_command_writes_persons_events_subtitles_and_detections(trained, tmp_path, run_tool):
    pytest.importorskip("matplotlib")
    cfg, path, video = trained()
    run_test(cfg)
    out = tmp_path / "answers"
    command = ("predict", "--checkpoint", path, "--source", video, "--device", "cpu", "--output", out, "--top", 2)
    boxes = ("--boxes", tmp_path / "predicted.csv", "--events", "--on", 1e-6, "--off", 1e-6, "--video")
    status, output = run_tool(*command, *boxes)
    assert status == 0, output
    answers = list(slowfast.load(path, device="cpu").people(video, tmp_path / "predicted.csv", top=2))
    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert [line["key_s"] for line in lines] == [1, 2, 3, 5, 7]
    rows = list(csv.DictReader((out / "answers.csv").read_text().splitlines()))
    for line, answer in zip(lines, answers, strict=True):
        for written, person in zip(line["persons"], answer.persons, strict=True):
            assert (written["person"], written["names"]) == (person.identity, person.names)
            assert written["box"] == pytest.approx(person.box.tolist(), abs=1e-6)
            assert written["scores"] == pytest.approx(person.scores.tolist())
            own = [r for r in rows if float(r["key_s"]) == answer.key_s and int(r["person"]) == person.identity]
            assert [(r["rank"], r["name"]) for r in own] == [("1", person.names[0]), ("2", person.names[1])]
            assert [float(own[0][edge]) for edge in ("x1", "y1", "x2", "y2")] == written["box"]
    # Every score begins an event. Person 1 is not there at 5 s, person 2 at 1 and 7 s.
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    spans = {(e["person"], e["start_s"], e["end_s"]) for e in events}
    starts = {answer.key_s: (round(answer.start_s, 6), round(answer.end_s, 6)) for answer in answers}
    assert spans == {
        (1, starts[1][0], starts[3][1]), (2, starts[2][0], starts[5][1]), (1, starts[7][0], starts[7][1]),
    }  # fmt: skip
    assert {e["name"] for e in events} == {"stand", "sit", "run"}
    # The detections are those of the test, and so is their mAP.
    truth = tmp_path / "out" / "groundtruth.csv"
    found, wanted = (evaluate_ava_files(truth, folder / "detections.csv") for folder in (out, tmp_path / "out"))
    assert found["mAP@0.5"] == pytest.approx(wanted["mAP@0.5"], abs=1e-9)
    assert found["AP"] == pytest.approx(wanted["AP"], nan_ok=True)
    (copy,) = out.rglob("*.mp4")
    with decode.open(video) as one, decode.open(str(copy)) as other:
        assert one.num_frames == other.num_frames
    assert len(list((out / "videos").rglob("*.png"))) == 1
    # Without events the subtitles show each person from half a second before a moment on.
    shutil.rmtree(out)
    assert run_tool(*command, *boxes[:2])[0] == 0
    (vtt,) = (out / "videos").rglob("*.vtt")
    blocks = vtt.read_text().split("\n\n")
    assert [block.splitlines()[0] for block in blocks[1:3]] == [
        "00:00:00.500 --> 00:00:01.500", "00:00:01.500 --> 00:00:02.500",
    ]  # fmt: skip
    best = [person.names[0] for person in answers[1].persons]
    assert re.fullmatch(rf"1: {best[0]} [0-9.]+; 2: {best[1]} [0-9.]+", blocks[2].splitlines()[1])
    # Other boxes, no boxes, and another mode.
    status, output = run_tool(*command, "--boxes", tmp_path / "truth.csv")
    assert (status, "another boxes" in output) == (2, True)
    status, output = run_tool(*command)
    assert (status, "--boxes" in output) == (2, True)
    assert run_tool(*command, *boxes[:2], "--mode", "clips")[0] == 2
    status, output = run_tool(*command, "--every", 2)
    assert (status, "name them with --boxes" in output) == (2, True)


def test_mistakes(trained, tmp_path):
    _, path, video = trained()
    model = slowfast.load(path, device="cpu")
    streams = (lambda video: list(model.stream(video)), lambda _: model.session(30), lambda _: model.pool(2))
    for call in (model, model.clips, *streams):
        with pytest.raises(ValueError, match=r"people\(video, boxes\)"):
            call(video)
    boxes = tmp_path / "boxes.csv"
    for text, message in [
        ("run,0901,0.1,0.2,0.5,0.7,,0.95\n", "no box of a video walk.*'run'"),
        ("walk,0001,0.1,0.2,0.5,0.7,,0.95\n", "second 1, but the video shows seconds 900 to 907.*AVA.FIRST_SECOND"),
        ("walk,0901,0.1,0.2,0.5,0.7,,1.95\n", "line 1.*1.95"),
    ]:
        boxes.write_text(text)
        with pytest.raises(ValueError, match=message):
            list(model.people(video, boxes))
    for boxes, options, message in [
        ("boxes.txt", {}, "'boxes.txt'"),
        (tmp_path / "predicted.csv", {"every": 1}, "every 1 seconds is for detectors"),
        (white_part, {"every": -1}, "every -1 seconds"),
        (white_part, {"least_score": 2}, "0 to 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.people(video, boxes, **options)
    with pytest.raises(FileNotFoundError):
        model.people(video, "nowhere.csv")
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("walk,0901\n")
    assert list(model.people(video, boxes)) == []
