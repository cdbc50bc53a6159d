"""A tiny model with random weights, a video, and the demo run on it."""

import numpy as np
import pytest
import torch

from slowfast.apps.demo import run
from slowfast.checkpoint.io import save_checkpoint
from slowfast.models import build_model

FRAMES, HEIGHT, WIDTH, FPS = 20, 96, 128, 10


@pytest.fixture
def video(encode, tmp_path):
    """20 frames of 96 x 128 pixels at 10 a second, each lighter than the one before; a clip of the model has 8."""
    shades = np.linspace(120, 235, FRAMES)[:, None, None, None]
    frames = np.broadcast_to(shades, (FRAMES, HEIGHT, WIDTH, 3)).astype(np.uint8)
    return encode(tmp_path / "video.mp4", frames, rate=FPS)


@pytest.fixture
def checkpoint(tiny_cfg, tmp_path):
    """Random weights of the tiny model, whose file names its classes."""
    torch.manual_seed(0)
    path = tmp_path / "model.pyth"
    weights = build_model(tiny_cfg()).state_dict()
    save_checkpoint({"model_state": weights, "class_names": {0: "dark", 1: "bright"}}, str(path))
    return path


@pytest.fixture
def demo(run_tool, tiny_file, checkpoint, video, tmp_path, decode_all, monkeypatch):
    """`demo(KEY, VALUE, ...)`: run the tool; return the frames it wrote, and the marks that it drew, frame by frame."""

    def call(*overrides, clean=False):
        drawn, out = [], tmp_path / "out.mp4"
        draw = run.draw_marks

        def record(frame, marks):
            drawn.append(marks)
            return frame if clean else draw(frame, marks)

        monkeypatch.setattr(run, "draw_marks", record)
        words = ("DEMO.INPUT_VIDEO", video, "DEMO.OUTPUT_FILE", out, "TEST.CHECKPOINT_FILE_PATH", checkpoint)
        status, output = run_tool("demo_net", "--cfg", tiny_file, *words, *overrides)
        monkeypatch.setattr(run, "draw_marks", draw)
        assert status == 0, output
        return decode_all(out), drawn

    return call
