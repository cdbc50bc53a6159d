"""A trained model that is called: as a test scores it, over clips, over arrays, with names from its checkpoint."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch

import slowfast
from slowfast.apps.export.export import export
from slowfast.apps.predict.predictor import load
from slowfast.apps.predict.run import PredictOptions, predict_videos
from slowfast.checkpoint.io import find_checkpoints, load_checkpoint, save_checkpoint
from slowfast.datasets.video import open as decode
from slowfast.datasets.video.reader import VideoError
from slowfast.engine.test import test as run_test
from slowfast.engine.train import train
from slowfast.evaluation.predictions import load as load_predictions


@pytest.fixture
def named_data(tiny_data):
    """`tiny_data` with the names of its classes."""
    path = tiny_data / "classes.txt"
    path.write_text("dark\nbright\n")
    yield tiny_data
    path.unlink()


@pytest.fixture
def trained(named_data, tiny_cfg):
    """Config of a finished training, and its last checkpoint."""
    cfg = tiny_cfg("SOLVER.MAX_EPOCH", 1)
    train(cfg)
    return cfg, find_checkpoints(cfg.OUTPUT_DIR)[-1].path


def test_answers_are_those_of_a_test(trained, named_data):
    cfg, path = trained
    run_test(cfg)
    tested = load_predictions(f"{cfg.OUTPUT_DIR}/test_predictions.npz")
    predictor = slowfast.load(path, device="cpu")
    assert tested.class_names == predictor.class_names == ["dark", "bright"]
    for name, scores in zip(tested.videos, tested.scores, strict=True):
        answer = predictor(name)
        # The test sums its views.
        np.testing.assert_allclose(answer.all_scores * cfg.TEST.NUM_ENSEMBLE_VIEWS, scores, rtol=1e-5)
        assert answer.names[0] == ["dark", "bright"][scores.argmax()]
        assert answer.scores.tolist() == sorted(answer.all_scores.tolist(), reverse=True)
        assert (answer.start_s, answer.end_s) == (0, pytest.approx(16 / 30))
        assert answer.names[0] in str(answer)


def test_clips_cover_the_video_and_a_stream_of_a_clip_model_is_the_same(trained, named_data):
    _, path = trained
    predictor = load(path)
    video = str(named_data / "test 0.mp4")
    clips = predictor.clips(video, top=1)
    # A clip of 4 frames, every second, spans 8 of the 16 frames.
    assert [(clip.start_s, clip.end_s) for clip in clips] == [
        (0, pytest.approx(8 / 30)),
        (pytest.approx(8 / 30), pytest.approx(16 / 30)),
    ]
    assert all(len(clip.names) == len(clip.scores) == 1 for clip in clips)
    for clip, streamed in zip(clips, predictor.stream(video), strict=True):
        np.testing.assert_array_equal(clip.all_scores, streamed.all_scores)


def test_the_example_for_onnx_gives_the_same_answers(trained, named_data, tmp_path, repo, tiny_cfg):
    """Its frames are resized and cropped: 48 x 64 pixels to 36 x 48, of which 32 x 32."""
    _, path = trained
    about = export(tiny_cfg("TEST.CHECKPOINT_FILE_PATH", path), str(tmp_path / "exported"), ["onnx"])
    predictor = load(path)
    assert (about["preprocessing"], about["class_names"]) == (predictor.settings.facts(), ["dark", "bright"])
    (file,) = (tmp_path / "exported").glob("*.onnx")
    held = onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map
    assert {name: json.loads(held[name]) for name in ("preprocessing", "class_names")}.items() <= about.items()

    program = repo / "examples/onnx/answers.py"
    assert not re.search(r"import .*(slowfast|torch)", program.read_text())
    video = str(named_data / "test 1.mp4")
    lines = subprocess.run(
        [sys.executable, program, tmp_path / "exported", video], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for line, answer in zip(lines, predictor.clips(video), strict=True):
        assert line.startswith(f"{answer.start_s:.2f} to {answer.end_s:.2f} s: {answer.names[0]} ")
        found = [float(score) for score in re.findall(r" ([0-9.]+)(?:,|$)", line)]
        np.testing.assert_allclose(found, answer.scores, atol=1e-2)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_arrays_are_videos(trained, named_data, kind):
    _, path = trained
    predictor = load(path)
    video = str(named_data / "test 1.mp4")
    with decode.open(video) as reader:
        frames = reader.frames(range(reader.num_frames))
    np.testing.assert_array_equal(predictor(kind(frames), fps=30).all_scores, predictor(video).all_scores)
    # Half the rate: the same frames last twice as long.
    assert predictor(kind(frames), fps=15).end_s == pytest.approx(32 / 30)
    with pytest.raises(ValueError, match="uint8"):
        predictor(kind(frames.astype(np.float32)))
    with pytest.raises(ValueError, match=r"\(frames, height, width, 3\)"):
        predictor(kind(frames[0]))
    with pytest.raises(ValueError, match="-1"):
        predictor(kind(frames), fps=-1)


def test_a_checkpoint_tells_names_and_preprocessing(trained):
    _, path = trained
    saved = load_checkpoint(path)
    assert saved["class_names"] == {0: "dark", 1: "bright"}
    facts = saved["preprocessing"]
    assert json.loads(json.dumps(facts)) == facts == load(path).settings.facts()
    assert facts == {
        "frames": 4,
        "sampling_rate": 2,
        "target_fps": 30,
        "short_side": 36,
        "crop": 32,
        "channel_order": "RGB",
        "mean": [0.45, 0.45, 0.45],
        "std": [0.225, 0.225, 0.225],
        "alpha": 0,
    }


def test_names_can_be_given_and_must_fit(trained, tmp_path, named_data):
    _, path = trained
    video = str(named_data / "test 0.mp4")
    assert set(load(path, classes=["a", "b"])(video).names) == {"a", "b"}
    names = tmp_path / "names.json"
    names.write_text('["c", "d"]')
    assert set(load(path, classes=names)(video).names) == {"c", "d"}
    for wrong in (["a"], ["a", "b", "c"]):
        with pytest.raises(ValueError, match=rf"{len(wrong)} class names .* 2 classes"):
            load(path, classes=wrong)


def test_a_checkpoint_without_names_numbers_its_classes(trained, named_data, tmp_path):
    _, path = trained
    saved = load_checkpoint(path)
    older = str(tmp_path / "older.pyth")
    save_checkpoint({key: saved[key] for key in ("model_state", "cfg", "epoch")}, older)
    assert load(older).class_names == ["0", "1"]
    bare = str(tmp_path / "bare.pyth")
    save_checkpoint({"model_state": saved["model_state"]}, bare)
    with pytest.raises(ValueError, match="no config"):
        load(bare)


def test_precision_and_device(trained, named_data):
    _, path = trained
    video = str(named_data / "test 0.mp4")
    full = load(path, dtype=torch.float32)(video).all_scores
    half = load(path, dtype="bf16")(video).all_scores
    np.testing.assert_allclose(half, full, atol=0.02)
    assert (half != full).any()
    with pytest.raises(ValueError, match="dtype is 'int8'"):
        load(path, dtype="int8")
    with pytest.raises(ValueError, match="this host has"):
        load(path, device="cuda:99")


def test_unreadable_videos_and_boxes(trained, tmp_path):
    _, path = trained
    predictor = load(path)
    wrong = tmp_path / "no.mp4"
    wrong.write_text("no video")
    for ask in (predictor, predictor.clips, lambda video: list(predictor.stream(video))):
        with pytest.raises(VideoError, match="no.mp4"):
            ask(wrong)
    with pytest.raises(ValueError, match="whole clips"):
        predictor.people(wrong, "boxes.csv")


@pytest.mark.parametrize("fps", [0, -25, math.inf])
def test_a_rate_that_is_impossible(trained, fps):
    predictor, frames = load(trained[1]), np.zeros((30, 36, 48, 3), np.uint8)
    calls = [lambda: PredictOptions("", fps=fps)]
    if fps < 1:
        calls += [lambda: predictor(frames, fps=fps), lambda: predictor.pool(1).open(fps)]
    for call in calls:
        with pytest.raises(ValueError, match=f"{fps} frames a second.* impossible"):
            call()


def test_names_of_another_number_of_classes_are_left(tiny_data, tiny_cfg, caplog):
    path = tiny_data / "classes.txt"
    path.write_text("only one\n")
    try:
        cfg = tiny_cfg("SOLVER.MAX_EPOCH", 1)
        with caplog.at_level("WARNING"):
            train(cfg)
    finally:
        path.unlink()
    assert "names 1 classes" in caplog.text
    assert load(find_checkpoints(cfg.OUTPUT_DIR)[-1].path).class_names == ["0", "1"]


def test_scores_that_are_no_numbers_are_no_answer(trained, named_data):
    predictor, video = load(trained[1]), str(named_data / "test 0.mp4")
    predictor.model.head.projection.bias[0] = torch.nan
    for answer in (predictor, predictor.clips, lambda path: list(predictor.stream(path))):
        with pytest.raises(ValueError, match=r"1 of 1 clips are NaN or infinite"):
            answer(video)


def test_a_full_disk_is_told_with_the_answers_that_do_not_fit(trained, tmp_path, encode, pictures, told_of_limit):
    video = encode(tmp_path / "long.mp4", pictures(800, 48, 64))
    predictor, out = slowfast.load(trained[1], device="cpu"), tmp_path / "out"
    options = PredictOptions(str(out), pictures=False)
    predict_videos(predictor, [str(video)], options)
    (answers,) = out.glob("videos/**/*.jsonl")
    room = answers.stat().st_size - 1
    assert max(path.stat().st_size for path in (out / "predict.json", answers.with_suffix(".vtt"))) < room
    answers.unlink()
    told = told_of_limit(room, lambda: predict_videos(predictor, [str(video)], options))
    assert re.search(rf"File too large; [\d,]+ bytes are free: '{re.escape(str(answers))}'", told), told
    assert not answers.exists()
