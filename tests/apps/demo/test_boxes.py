"""The demo of models that score boxes: persons from a file or a detector, and ground truth beside them."""

import numpy as np
import pytest
import torch

import slowfast
from slowfast.apps.demo import boxes as demo_boxes
from slowfast.apps.demo import run
from slowfast.checkpoint.io import save_checkpoint
from slowfast.config import cfg_to_yaml, load_config
from slowfast.models import build_model

FRAMES, FPS = 40, 10
# The video begins at second 900. A box has two rows, and another a score under AVA.DETECTION_SCORE_THRESH 0.9.
PERSONS = """\
walk,901,0.10,0.20,0.50,0.70,1,0.95
walk,901,0.10,0.20,0.50,0.70,2,0.95
walk,901,0.60,0.20,0.90,0.70,1,0.85
walk,903,0.20,0.30,0.60,0.80,1,0.95
other,902,0.20,0.30,0.60,0.80,1,0.95
"""
TRUTH = """\
walk,902,0.30,0.30,0.70,0.80,1,0
walk,902,0.30,0.30,0.70,0.80,3,0
"""


@pytest.fixture
def people(tiny_model, run_tool, encode, pictures, decode_all, tmp_path, monkeypatch):
    """`people(KEY, VALUE, ...)`: run the demo; return status, output, the frames and, by their number, their marks."""
    files = {"persons.csv": PERSONS, "truth.csv": TRUTH}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    video, model, out = tmp_path / "walk.mp4", tmp_path / "model.pyth", tmp_path / "out.mp4"
    encode(video, pictures(FRAMES), rate=FPS)
    cfg = load_config(None, [
        *tiny_model, "DETECTION.ENABLE", True, "MODEL.HEAD_ACT", "sigmoid", "MODEL.LOSS_FUNC", "bce", "NUM_GPUS", 0,
        "RESNET.SPATIAL_STRIDES", [[1], [2], [1], [1]], "DATA.SAMPLING_RATE", 2, "TRAIN.DATASET", "ava",
        "TEST.DATASET", "ava",
    ])  # fmt: skip
    torch.manual_seed(0)
    weights = build_model(cfg).state_dict()
    weights["head.projection.weight"] = 0.3 * torch.randn_like(weights["head.projection.weight"])
    names = {0: "stand", 1: "sit", 2: "run"}
    save_checkpoint({"model_state": weights, "cfg": cfg_to_yaml(cfg), "class_names": names}, str(model))
    draw, drawn = run.drawn_frames, {}

    def record(clip, layers, slow):
        for number in range(clip.first + clip.num_shared, clip.first + len(clip.frames)):
            found = [layer(number) for layer in layers]
            if any(marks is not None for marks in found):
                drawn[number] = [mark for marks in found for mark in marks or []]
        return draw(clip, layers, slow)

    def call(*overrides):
        drawn.clear()
        monkeypatch.setattr(run, "drawn_frames", record)
        words = ("TEST.CHECKPOINT_FILE_PATH", model, "DEMO.INPUT_VIDEO", video, "DEMO.OUTPUT_FILE", out)
        status, output = run_tool(
            "demo_net", *words, "DEMO.UNCOMMON_CLASS_THRES", 0.0, "DEMO.COMMON_CLASS_THRES", 0.0, *overrides
        )
        return status, output, decode_all(out) if out.exists() else [], dict(drawn)

    return call


def test_persons_of_a_file_are_answered_about_around_their_seconds(people, tmp_path):
    persons = tmp_path / "persons.csv"
    status, output, frames, drawn = people("DEMO.PREDS_BOXES", persons, "DEMO.CLIP_VIS_SIZE", 2)
    assert status == 0, output
    assert len(frames) == FRAMES
    # Seconds 1 and 3 of the video are frames 10 and 30.
    assert sorted(drawn) == [8, 9, 10, 11, 12, 28, 29, 30, 31, 32]
    model = slowfast.load(tmp_path / "model.pyth", device="cpu")
    for answer in model.people(tmp_path / "walk.mp4", persons, top=9):
        (mark,) = drawn[round(answer.key_s * FPS)]
        (person,) = answer.persons
        np.testing.assert_array_equal(mark.box, person.box)
        assert mark.labels == [f"[{s:.2f}] {n}" for s, n in zip(person.scores, person.names, strict=True)]
        assert len(mark.labels) == 3 and not mark.is_truth
    # A box of lower score counts where the threshold lets it.
    drawn = people("DEMO.PREDS_BOXES", persons, "AVA.DETECTION_SCORE_THRESH", 0.8, "DEMO.SLOWMO", 2)[3]
    assert [len(drawn[number]) for number in (10, 30)] == [2, 1]


def test_ground_truth_is_drawn_too(people, tmp_path):
    files = ("DEMO.PREDS_BOXES", tmp_path / "persons.csv", "DEMO.GT_BOXES", tmp_path / "truth.csv")
    _, _, frames, drawn = people(*files, "DEMO.CLIP_VIS_SIZE", 2, "DEMO.SLOWMO", 3)
    assert sorted(drawn) == [*range(8, 13), *range(18, 23), *range(28, 33)]
    assert len(frames) == FRAMES + 2 * len(drawn)
    (mark,) = drawn[20]
    assert mark.is_truth and mark.labels == ["stand", "run"] and mark.box.tolist() == [0.3, 0.3, 0.7, 0.8]
    # Where both are near, both are drawn.
    drawn = people(*files, "DEMO.CLIP_VIS_SIZE", 5)[3]
    assert [mark.is_truth for mark in drawn[15]] == [False, True]


def test_the_second_at_which_the_video_starts(people, tmp_path):
    files = ("DEMO.PREDS_BOXES", tmp_path / "persons.csv", "DEMO.CLIP_VIS_SIZE", 0)
    status, output, _, drawn = people(*files, "DEMO.STARTING_SECOND", 901)
    assert status == 0 and sorted(drawn) == [0, 20]
    status, output, _, drawn = people(*files, "DEMO.STARTING_SECOND", 902)
    assert status == 0 and sorted(drawn) == [10] and "1 of 2 seconds" in output
    status, output, *_ = people(*files, "DEMO.STARTING_SECOND", 0)
    assert status == 2 and "DEMO.STARTING_SECOND" in output.splitlines()[-1] and "901 to 903" in output


class Detector:
    """Stands in for detectron2's: finds one person wherever a frame is bright enough, at a fixed place."""

    made = []

    def __init__(self, *arguments):
        self.seen = []
        Detector.made.append((arguments, self.seen))

    @staticmethod
    def from_config(cfg, least_score, device):
        return Detector(cfg.DEMO.DETECTRON2_CFG, least_score, device)

    def __call__(self, frame):
        self.seen.append(frame)
        boxes = np.array([[6.4, 9.6, 32.0, 33.6]], np.float32)
        return (boxes, np.array([0.95], np.float32)) if len(self.seen) != 2 else (boxes[:0], np.zeros(0, np.float32))


def test_persons_whom_a_detector_finds_in_the_middle_of_each_clip(people, tmp_path, monkeypatch, decode_all):
    monkeypatch.setattr(demo_boxes, "Detectron2Detector", Detector)
    monkeypatch.setattr(Detector, "made", [])
    status, output, frames, drawn = people("DEMO.DETECTRON2_THRESH", 0.4, "DEMO.CLIP_VIS_SIZE", 1)
    assert status == 0, output
    ((arguments, seen),) = Detector.made
    assert arguments == ("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml", 0.4, "cpu")
    # Clips of 8 frames, every second: 0 to 15, 16 to 31 (nobody there), and the rest.
    shown = decode_all(tmp_path / "walk.mp4")
    for frame, key in zip(seen, (8, 24, 36), strict=True):
        np.testing.assert_array_equal(frame, shown[key])
    assert len(frames) == FRAMES and sorted(drawn) == [7, 8, 9, 23, 24, 25, 35, 36, 37]
    assert [len(drawn[number]) for number in (8, 24, 36)] == [1, 0, 1]
    np.testing.assert_allclose(drawn[8][0].box, [0.1, 0.2, 0.5, 0.7], atol=1e-6)
    # The same scores as with the box from a file; frames come at 30 a second, as far as the model knows.
    (tmp_path / "same.csv").write_text("array,0.266667,0.1,0.2,0.5,0.7,,0.95\n")
    model = slowfast.load(tmp_path / "model.pyth", device="cpu", overrides=["AVA.FIRST_SECOND", 0])
    (answer,) = model.people(np.array(shown[:16]), tmp_path / "same.csv", top=9, fps=30)
    expected = [f"[{s:.2f}] {n}" for s, n in zip(answer.persons[0].scores, answer.persons[0].names, strict=True)]
    assert drawn[8][0].labels == expected


def test_mistakes_are_one_line(people, tmp_path):
    for settings, reason in (
        ([], "detectron2"),
        (["DEMO.PREDS_BOXES", tmp_path / "none.csv"], "none.csv"),
        (["DEMO.PREDS_BOXES", tmp_path / "truth.csv"], "truth.csv"),
        (["DEMO.PREDS_BOXES", tmp_path / "persons.csv", "AVA.DETECTION_SCORE_THRESH", 0.99], "0.99"),
    ):
        status, output, *_ = people(*settings)
        assert status == 2 and reason in output.splitlines()[-1] and "Traceback" not in output


def test_a_model_of_clips_takes_no_persons(demo, run_tool, tiny_file, checkpoint, video, tmp_path):
    (tmp_path / "persons.csv").write_text(PERSONS)
    words = ("TEST.CHECKPOINT_FILE_PATH", checkpoint, "DEMO.INPUT_VIDEO", video, "DEMO.OUTPUT_FILE", tmp_path / "o.mp4")
    status, output = run_tool("demo_net", "--cfg", tiny_file, *words, "DEMO.PREDS_BOXES", tmp_path / "persons.csv")
    assert status == 2 and "DETECTION.ENABLE" in output.splitlines()[-1]
