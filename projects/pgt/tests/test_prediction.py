"""The shipped models, called: a stream of a video equals the model stepped by hand, alone, interleaved and exported."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch

import slowfast
from slowfast.apps.export.export import export
from slowfast.datasets.video import open as decode
from slowfast.engine.resume import load_checkpoint_config

PGT = "zoo://sweep_pgt_36x1"


@pytest.fixture(scope="module")
def predictor():
    return slowfast.load(PGT, device="cpu")


@pytest.fixture(scope="module")
def videos(sweep_data):
    """Frames (36, 32, 32, 3) of some videos, by path."""
    frames = {}
    for path in sorted((sweep_data / "videos").rglob("*.mp4"))[:3]:
        with decode.open(str(path)) as reader:
            frames[str(path)] = reader.frames(range(reader.num_frames))
    return frames


@torch.no_grad()
def stepped(predictor, frames):
    """Scores of the published steps, 8 frames and then 7 new ones each, over a video that needs no resizing."""
    clip = ((torch.as_tensor(frames).permute(3, 0, 1, 2)[None].float() / 255) - 0.45) / 0.225
    scores, memory = [], None
    for first, last in [(0, 8), *((start, start + 7) for start in range(8, len(frames), 7))]:
        step, memory = predictor.model([clip[:, :, first:last]], memory)
        scores.append(step[0].numpy())
    return scores


def test_the_shipped_models_know_the_names_of_their_classes(predictor, sweep_data):
    names = (sweep_data / "classes.txt").read_text().splitlines()
    assert predictor.class_names == slowfast.load("zoo://sweep_slow_8x1").class_names == names


def test_a_stream_is_the_model_step_by_step(predictor, videos):
    for path, frames in videos.items():
        streamed = list(predictor.stream(path))
        for answer, scores in zip(streamed, stepped(predictor, frames), strict=True):
            # Colors are computed in another order of operations than here.
            np.testing.assert_allclose(answer.all_scores, scores, rtol=1e-4, atol=1e-6)
        assert [(a.start_s, a.end_s) for a in streamed] == [(0, 2), (2, 3.75), (3.75, 5.5), (5.5, 7.25), (7.25, 9)]
        # The answer for the whole video is the mean over its steps.
        whole = predictor(path)
        np.testing.assert_allclose(whole.all_scores, np.mean([a.all_scores for a in streamed], axis=0), atol=1e-6)
        assert whole.all_scores.sum() == pytest.approx(1, abs=1e-5)
        assert (whole.start_s, whole.end_s) == (0, 9)


def test_a_stream_goes_on_beyond_the_length_of_training(predictor, videos):
    long = np.concatenate([*videos.values()] * 2)  # 216 frames
    streamed = list(predictor.stream(long[:211]))
    assert len(streamed) == 1 + (211 - 8) / 7
    for answer, scores in zip(streamed, stepped(predictor, long[:211]), strict=True):
        np.testing.assert_allclose(answer.all_scores, scores, rtol=1e-4, atol=1e-6)
    assert streamed[-1].end_s == 211 / 4


def test_interleaved_streams_do_not_meet(predictor, videos):
    alone = [[answer.all_scores for answer in predictor.stream(path)] for path in videos]
    together = zip(*(predictor.stream(path) for path in videos), strict=True)
    for number, answers in enumerate(together):
        for video, answer in enumerate(answers):
            np.testing.assert_array_equal(answer.all_scores, alone[video][number])


@pytest.mark.slow
def test_the_example_for_onnx_gives_the_same_answers(predictor, videos, repo, tmp_path):
    export(load_checkpoint_config(PGT, ["TEST.CHECKPOINT_FILE_PATH", PGT]), str(tmp_path / "exported"), ["onnx"])
    path = next(iter(videos))
    wanted = list(predictor.stream(path, top=6))
    program = [sys.executable, repo / "examples/onnx/answers.py", tmp_path / "exported", path, "6"]
    lines = subprocess.run(program, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == len(wanted)
    for line, answer in zip(lines, wanted, strict=True):
        start, end, best = re.match(r"([0-9.]+) to ([0-9.]+) s: ([^,]+) [0-9.]+,", line).groups()
        assert (float(start), float(end)) == (answer.start_s, answer.end_s)
        assert best == answer.names[0]
        found = [float(score) for score in re.findall(r" ([0-9.]+)(?:,|$)", line)]
        np.testing.assert_allclose(found, answer.scores, atol=1e-2)
