"""The demo on files: what each key of the section changes in the video that is written."""

import json
import threading
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from slowfast.apps.demo import clips, run
from slowfast.apps.predict.predictor import Predictor
from slowfast.checkpoint.io import find_checkpoints
from slowfast.datasets.video.reader import VideoError
from slowfast.engine.resume import load_checkpoint_config
from slowfast.engine.train import train

FRAMES, LENGTH = 20, 8  # of the video, and of a clip: 4 frames, every second


def text_frames(frames):
    """Numbers of the frames with text at the upper left, which is darker than the rest."""
    return [number for number, frame in enumerate(frames) if frame[5:20, 5:60].mean() < frame[60:].mean() - 20]


def test_every_frame_is_written_and_answers_are_drawn_around_the_middle_of_each_clip(demo):
    frames, marks = demo("DEMO.CLIP_VIS_SIZE", 1, "DEMO.UNCOMMON_CLASS_THRES", 0.0)
    assert len(frames) == FRAMES and frames[0].shape == (96, 128, 3)
    # Clips are 0 to 7, 8 to 15, and the rest, 16 to 19.
    assert text_frames(frames) == [3, 4, 5, 11, 12, 13, 17, 18, 19]
    assert len(marks) == 9
    # Frames without text keep their pixels, up to the codec.
    means = [frame[60:].mean() for frame in frames]
    np.testing.assert_allclose(means, np.linspace(120, 235, FRAMES).astype(int), atol=3)
    assert text_frames(demo()[0]) == list(range(FRAMES))  # the default is 10 on each side


def test_answers_are_those_of_the_model(demo, checkpoint, tiny_cfg, video, decode_all):
    _, marks = demo("DEMO.CLIP_VIS_SIZE", 0, "DEMO.UNCOMMON_CLASS_THRES", 0.0)
    predictor = run.demo_predictor(tiny_cfg("TEST.CHECKPOINT_FILE_PATH", str(checkpoint)))
    shown = np.array(decode_all(video))
    for each, first in zip(marks, (0, 8, 16), strict=True):
        (answer,) = predictor.clips(shown[first : first + LENGTH], top=2)
        expected = [f"[{score:.2f}] {name}" for score, name in zip(answer.scores, answer.names, strict=True)]
        assert each[0].labels == expected and set(answer.names) == {"dark", "bright"}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (["DEMO.VIS_MODE", "top-k"], 1),
        (["DEMO.VIS_MODE", "top-k", "TENSORBOARD.MODEL_VIS.TOPK_PREDS", 2], 2),
        (["DEMO.UNCOMMON_CLASS_THRES", 0.99], 0),
        (["DEMO.UNCOMMON_CLASS_THRES", 0.99, "DEMO.COMMON_CLASS_NAMES", "['bright']"], {"bright"}),
        (["DEMO.UNCOMMON_CLASS_THRES", 0.99, "DEMO.COMMON_CLASS_NAMES", "[]"], {"dark", "bright"}),
    ],
)
def test_which_classes_are_shown(demo, settings, names):
    _, marks = demo("DEMO.COMMON_CLASS_THRES", 0.0, *settings)
    for (mark,) in marks:
        if isinstance(names, int):
            assert len(mark.labels) == names
        else:
            assert {label.split("] ")[1] for label in mark.labels} == names


def test_names_come_from_a_file(demo, tmp_path, run_tool, tiny_file, video):
    path = tmp_path / "names.json"
    path.write_text(json.dumps({'"night"': 0, "day": 1}))
    _, marks = demo("DEMO.LABEL_FILE_PATH", path, "DEMO.UNCOMMON_CLASS_THRES", 0.0)
    assert {label.split("] ")[1] for label in marks[0][0].labels} == {"night", "day"}
    path.write_text(json.dumps({"day": 5}))
    words = ("DEMO.LABEL_FILE_PATH", path, "DEMO.INPUT_VIDEO", video, "DEMO.OUTPUT_FILE", tmp_path / "no.mp4")
    status, output = run_tool("demo_net", "--cfg", tiny_file, *words)
    assert status == 2 and "class 5" in output.splitlines()[-1] and "NUM_CLASSES 2" in output
    assert not (tmp_path / "no.mp4").exists()


def test_clips_may_share_frames_or_be_left_out(demo):
    frames, marks = demo("DEMO.BUFFER_SIZE", 4, "DEMO.CLIP_VIS_SIZE", 0)
    # Clips begin at 0, 4, 8 and 12, whose middle frames are 4, 8, 12 and 16; no frame is written twice.
    assert (len(frames), len(marks)) == (FRAMES, 4)
    frames, marks = demo("DEMO.NUM_CLIPS_SKIP", 1, "DEMO.CLIP_VIS_SIZE", 0, clean=True)
    # Of the clips of 8, 8 and 4 frames the second is left out.
    assert (len(frames), len(marks)) == (12, 2)
    np.testing.assert_allclose(frames[8].mean(), np.linspace(120, 235, FRAMES)[16], atol=3)


def test_slow_motion_repeats_what_is_drawn(demo):
    frames, _ = demo("DEMO.CLIP_VIS_SIZE", 1, "DEMO.SLOWMO", 3, "DEMO.UNCOMMON_CLASS_THRES", 0.0)
    assert len(frames) == FRAMES + 2 * 9
    assert text_frames(frames)[:10] == [3, 4, 5, 6, 7, 8, 9, 10, 11, 17]


@pytest.mark.parametrize(
    ("width", "height", "shape"), [(64, 40, (40, 64)), (64, 0, (48, 64)), (0, 192, (192, 256)), (50, 0, (38, 50))]
)
def test_frames_are_scaled_when_they_are_read(demo, width, height, shape):
    frames, _ = demo("DEMO.DISPLAY_WIDTH", width, "DEMO.DISPLAY_HEIGHT", height)
    assert {frame.shape for frame in frames} == {(*shape, 3)}


def test_the_rate_of_the_output(demo, tmp_path):
    for settings, fps in (([], 10), (["DEMO.OUTPUT_FPS", 25], 25)):
        demo(*settings)
        with av.open(str(tmp_path / "out.mp4")) as made:
            stream = made.streams.video[0]
            assert stream.average_rate == fps
            assert float(stream.duration * stream.time_base) == pytest.approx(FRAMES / fps, abs=1e-3)


def test_a_folder_of_images_has_the_rate_of_the_settings(demo, pictures, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number, picture in enumerate(pictures(9)):
        cv2.imwrite(str(folder / f"{number:03d}.png"), picture[..., ::-1])
    for settings, fps in (([], 30), (["DEMO.FPS", 5], 5)):
        frames, _ = demo("DEMO.INPUT_VIDEO", folder, *settings, clean=True)
        np.testing.assert_allclose(np.array(frames, int), pictures(9), atol=60)
        assert np.abs(np.array(frames, int) - pictures(9)).mean() < 6
        with av.open(str(tmp_path / "out.mp4")) as made:
            assert made.streams.video[0].average_rate == fps


def test_a_source_with_swapped_channels(demo, encode, checkpoint, tiny_cfg, tmp_path, decode_all):
    red = np.zeros((8, 96, 128, 3), np.uint8)
    red[..., 0] = 200
    path = encode(tmp_path / "red.mp4", red)
    means = ["DATA.MEAN", "[0.4, 0.45, 0.5]", "DATA.STD", "[0.2, 0.225, 0.25]"]
    predictor = run.demo_predictor(tiny_cfg("TEST.CHECKPOINT_FILE_PATH", str(checkpoint), *means))
    shown, labels = np.array(decode_all(path)), {}
    for order, seen in (("BGR", shown), ("RGB", shown[..., ::-1])):
        settings = ("DEMO.INPUT_VIDEO", path, "DEMO.INPUT_FORMAT", order, "DEMO.UNCOMMON_CLASS_THRES", 0.0)
        frames, marks = demo(*settings, *means, clean=True)
        (answer,) = predictor.clips(seen, top=2)
        labels[order] = marks[0][0].labels
        assert labels[order] == [f"[{s:.2f}] {name}" for s, name in zip(answer.scores, answer.names, strict=True)]
        assert np.array(frames).mean(axis=(0, 1, 2)).argmax() == 0  # shown as it is
    assert labels["BGR"] != labels["RGB"]


@pytest.mark.parametrize("threads", [1, 3])
def test_as_many_threads_draw_as_asked(demo, monkeypatch, threads):
    together, seen, draw = threading.Barrier(threads), set(), run.drawn_frames

    def wait(*arguments):
        seen.add(threading.get_ident())
        together.wait(60)  # passes when so many threads draw at once
        return draw(*arguments)

    monkeypatch.setattr(run, "drawn_frames", wait)
    frames, _ = demo("DEMO.NUM_VIS_INSTANCES", threads)
    assert (len(frames), len(seen)) == (FRAMES, threads)


def test_reading_in_a_thread_changes_nothing(demo, monkeypatch):
    plain, _ = demo()
    readers, cut = set(), clips.cut_clips

    def note(*arguments):
        readers.add(threading.current_thread() is threading.main_thread())
        yield from cut(*arguments)

    monkeypatch.setattr(clips, "cut_clips", note)
    threaded, _ = demo("DEMO.THREAD_ENABLE", True)
    assert readers == {False}
    np.testing.assert_array_equal(threaded, plain)
    newest, _ = demo("DEMO.THREAD_ENABLE", True, "DEMO.NUM_CLIPS_SKIP", -1)
    assert 0 < len(newest) <= FRAMES


def test_run_net_runs_it_after_a_test(run_tool, tiny_file, checkpoint, video, tmp_path, decode_all):
    out = tmp_path / "shown" / "out.mkv"
    words = ("TEST.CHECKPOINT_FILE_PATH", checkpoint, "DEMO.INPUT_VIDEO", video, "DEMO.OUTPUT_FILE", out)
    command = ("run_net", "--cfg", tiny_file, "TRAIN.ENABLE", False, "LOG_MODEL_INFO", False, *words)
    assert run_tool(*command, "DEMO.ENABLE", True)[0] == 0
    assert len(decode_all(out)) == FRAMES and (tmp_path / "out" / "test_results.json").exists()


def test_a_checkpoint_with_its_settings_needs_no_other_file(run_tool, tiny_cfg, video, tmp_path, decode_all):
    # A file that the training named is not written: the checkpoint may be a stranger's.
    cfg = tiny_cfg("SOLVER.MAX_EPOCH", 1, "DEMO.OUTPUT_FILE", str(tmp_path / "stored.mp4"))
    train(cfg)
    path, out = find_checkpoints(cfg.OUTPUT_DIR)[-1].path, tmp_path / "out.mp4"
    words = ("DEMO.INPUT_VIDEO", video, "DEMO.OUTPUT_FILE", out)
    assert run_tool("demo_net", "TEST.CHECKPOINT_FILE_PATH", path, *words)[0] == 0
    assert len(decode_all(out)) == FRAMES
    assert load_checkpoint_config(path).DEMO.OUTPUT_FILE == "" and not (tmp_path / "stored.mp4").exists()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["DEMO.INPUT_VIDEO", "none.mp4"], "none.mp4: no such file"),
        (["DEMO.OUTPUT_FILE", "out.txt"], ".mp4 .m4v .mov .mkv .avi"),
        (["DEMO.BUFFER_SIZE", 5], "at most 4"),
        (["DEMO.NUM_CLIPS_SKIP", -1], "DEMO.THREAD_ENABLE True"),
        (["DEMO.OUTPUT_FPS", 0], "DEMO.OUTPUT_FPS"),
        (["DEMO.VIS_MODE", "topk"], "top-k"),
        (["DEMO.VIS_MODE", "top-k", "TENSORBOARD.MODEL_VIS.TOPK_PREDS", 0], "at least 1"),
        (["DEMO.UNCOMMON_CLASS_THRES", 2.0], "0 to 1"),
        (["DEMO.LABEL_FILE_PATH", "none.json"], "none.json"),
        (["TEST.CHECKPOINT_FILE_PATH", ""], "TEST.CHECKPOINT_FILE_PATH"),
    ],
)
def test_mistakes_are_one_line(run_tool, tiny_file, checkpoint, video, tmp_path, settings, reason):
    words = ("DEMO.INPUT_VIDEO", video, "DEMO.OUTPUT_FILE", tmp_path / "out.mp4")
    words = (*words, "TEST.CHECKPOINT_FILE_PATH", checkpoint, *settings)
    status, output = run_tool("demo_net", "--cfg", tiny_file, *words)
    assert status == 2 and reason in output.splitlines()[-1] and "Traceback" not in output
    assert not (tmp_path / "out.mp4").exists()


# An exception that was raised keeps its frames alive, so each test makes its own.
@pytest.mark.parametrize(("error", "status"), [((KeyboardInterrupt,), 0), ((VideoError, "a.mp4", "it breaks off"), 2)])
def test_a_stop_or_a_fault_keeps_what_there_is(
    run_tool, tiny_file, checkpoint, video, tmp_path, decode_all, monkeypatch, error, status
):
    (kind, *about), plain, out = error, Predictor.clips, tmp_path / "out.mp4"
    monkeypatch.setattr(Predictor, "clips", lambda *words, **more: plain(*words, **more) if next(turns) else fail())

    def fail():
        raise kind(*about)

    words = ("DEMO.INPUT_VIDEO", video, "DEMO.OUTPUT_FILE", out, "TEST.CHECKPOINT_FILE_PATH", checkpoint)
    for before, (expected, frames) in enumerate([(130 if status == 0 else 2, 0), (status, 8), (status, 16)]):
        turns = iter([True] * before + [False])
        result, output = run_tool("demo_net", "--cfg", tiny_file, *words)
        assert (result, out.exists()) == (expected, frames > 0), output
        assert frames == 0 or len(decode_all(out)) == frames


class Camera:
    """Stands in for a live source: three clips of frames, without a rate."""

    opened = []

    def __init__(self, name, limits):
        self.name, self.fps = name, None
        Camera.opened.append(name)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        Camera.opened.append("closed")

    def __iter__(self):
        frame = np.full((96, 128, 3), 200, np.uint8)
        return (SimpleNamespace(pixels=frame) for _ in range(3 * LENGTH))


def test_a_camera_comes_before_a_file(demo, monkeypatch, tmp_path):
    monkeypatch.setattr(clips, "LiveSource", Camera)
    Camera.opened.clear()
    for settings, name in (
        (["DEMO.WEBCAM", 2], "/dev/video2"),
        (["DEMO.INPUT_VIDEO", "", "DEMO.DATA_SOURCE", 3], "/dev/video3"),
    ):
        frames, _ = demo(*settings, "DEMO.FPS", 12)
        assert len(frames) == 3 * LENGTH and Camera.opened[-2:] == [name, "closed"]
        with av.open(str(tmp_path / "out.mp4")) as made:
            assert made.streams.video[0].average_rate == 12


def test_a_camera_that_is_not_there_is_one_line(run_tool, tiny_file, checkpoint, tmp_path):
    words = ("TEST.CHECKPOINT_FILE_PATH", checkpoint, "DEMO.OUTPUT_FILE", tmp_path / "out.mp4")
    status, output = run_tool("demo_net", "--cfg", tiny_file, *words, "DEMO.WEBCAM", 97)
    assert status == 2 and "/dev/video97" in output.splitlines()[-1] and "DEMO.INPUT_VIDEO" in output.splitlines()[-1]
    status, output = run_tool("demo_net", "--cfg", tiny_file, *words, "DEMO.DATA_SOURCE", -1)
    assert status == 2 and "DEMO.INPUT_VIDEO is empty" in output.splitlines()[-1]
