"""Evidence as files and pictures: the command line on a video, where the heat lies, Grad-CAM of clips, mistakes."""

import base64
import csv
import json

import av
import cv2
import numpy as np
import pytest
import torch

import slowfast
from slowfast.apps.synthetic import render
from slowfast.apps.synthetic.files import encode_video
from slowfast.apps.visualize.evidence import EvidenceSettings, evidence
from slowfast.apps.visualize.evidence_files import as_dict, with_heat
from slowfast.apps.visualize.gradcam import grad_cam

pytest.importorskip("matplotlib")
PGT, CLIP = "zoo://sweep_pgt_36x1", "zoo://sweep_slow_8x1"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A sweep video as a file, its frames before encoding, and its events."""
    frames, events = render.render_video(5, "test", 1, 32)
    path = tmp_path_factory.mktemp("video") / "sweep.mp4"
    encode_video(path, frames)
    return path, frames, events


@pytest.fixture(scope="module")
def found(video):
    return evidence(slowfast.load(PGT, device="cpu"), video[1], settings=EvidenceSettings(points=8))


def test_the_files_of_a_video(run_tool, video, tmp_path):
    out = tmp_path / "out"
    command = ("visualize", "--memory", "--checkpoint", PGT, "--source", video[0], "--output", out, "--device", "cpu")
    status, output = run_tool(*command, "--points", 4)
    assert status == 0, output
    about = json.loads((out / "evidence.json").read_text())
    assert (about["class"], about["step"], about["left_out"]) == ("right-down", 4, 0)
    assert (about["checkpoint"], about["video"]) == (PGT, str(video[0]))
    assert sum(frame["value"] for frame in about["frames"]) == pytest.approx(1)
    assert sum(step["value"] for step in about["steps"]) == pytest.approx(1)
    assert json.loads(output.splitlines()[-1])["steps"] == [round(step["value"], 4) for step in about["steps"]]
    with open(out / "evidence.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["value"]) for row in rows] == [frame["value"] for frame in about["frames"]]
    for number, step in enumerate(about["steps"]):
        mine = [float(row["value"]) for row in rows if int(row["step"]) == number]
        assert sum(mine) == pytest.approx(step["value"], abs=1e-6)
    assert cv2.imread(str(out / "evidence.png")).shape[1] > 1500
    with av.open(str(out / "evidence.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
        assert float(container.duration / av.time_base) == pytest.approx(9, abs=0.05)
    assert times == pytest.approx([number / 4 for number in range(36)], abs=1e-3)


def test_the_heat_is_on_the_discs(found, video):
    _, frames, events = video
    y, x = np.mgrid[:32, :32]
    inside = 0.0
    for event in events:
        for number, center in zip(event.frames, event.centers, strict=True):
            disc = np.hypot(x - center[0], y - center[1]) <= event.radius + 2
            inside += found.maps[number][disc].sum()
    assert inside > 0.8  # of all heat; a disc with this border is 12 % of a frame
    pictures = with_heat(found)
    assert pictures.shape == (36, 256, 256, 3)
    number = int(np.argmax([frame.value for frame in found.frames]))
    hottest = np.unravel_index(found.maps[number].argmax(), (32, 32))
    pixel = pictures[number][8 * hottest[0] + 4, 8 * hottest[1] + 4].astype(int)
    assert pixel[0] > pixel[2] + 40  # yellow; without heat a pixel is gray
    cold = int(np.argmin([frame.value for frame in found.frames]))
    assert np.ptp(pictures[cold].astype(int), axis=-1).max() <= 1


def test_pictures_for_a_page(found):
    frames = as_dict(found, pictures=True)["frames"]
    head, _, data = frames[10]["map"].partition(",")
    assert head == "data:image/png;base64"
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded[..., ::-1], with_heat(found)[10])
    assert json.loads(json.dumps(as_dict(found)))["operators"][0]["steps"] == found.operators[0].steps


def test_grad_cam_of_a_clip(run_tool, video, tmp_path):
    path, frames, _ = video
    predictor = slowfast.load(CLIP, device="cpu")
    seen = evidence(predictor, frames, "left-right", step=1, settings=EvidenceSettings("grad-cam", layers=["s4"]))
    clip = ((torch.as_tensor(frames[8:16]).permute(3, 0, 1, 2)[None].float() / 255) - 0.45) / 0.225
    ((wanted,), _) = grad_cam(predictor.model, [clip], ["s4"], torch.tensor([render.CLASS_NAMES.index("left-right")]))
    shares = (wanted.sum(dim=(2, 3)) / wanted.sum())[0].numpy()
    np.testing.assert_allclose([frame.value for frame in seen.frames], shares, rtol=1e-3, atol=1e-5)
    status, output = run_tool("visualize", "--checkpoint", CLIP, "--source", path, "--output", tmp_path, "--step", 0)
    assert status == 0, output
    assert json.loads((tmp_path / "evidence.json").read_text())["method"] == "grad-cam"


@pytest.mark.parametrize(
    "options, words",
    [
        (["--checkpoint", PGT], "--memory"),
        (["--checkpoint", PGT, "--memory", "--layer", "s5"], "--layer is for Grad-CAM"),
        (["--checkpoint", CLIP, "--wipe", 2], "add --memory"),
        (["--checkpoint", CLIP, "--layer", "s9"], "s9"),
        (["--checkpoint", PGT, "--memory", "--class", "up"], "no class 'up'"),
        (["--checkpoint", PGT, "--memory", "--step", 7], "5 steps"),
    ],
)
def test_mistakes_end_with_status_2(run_tool, video, tmp_path, options, words):
    status, output = run_tool("visualize", "--source", video[0], "--output", tmp_path / "out", *options)
    assert status == 2
    assert words in output
    assert not (tmp_path / "out").exists()


def test_a_folder_of_videos_is_not_one(run_tool, video, tmp_path):
    encode_video(tmp_path / "a.mp4", video[1])
    encode_video(tmp_path / "b.mp4", video[1])
    command = ("visualize", "--memory", "--checkpoint", PGT, "--source", tmp_path, "--output", tmp_path / "out")
    status, output = run_tool(*command)
    assert (status, "2 videos" in output) == (2, True)
