"""The command line: a run that was killed, mistakes, several processes."""

import json
import signal

import numpy as np
import pytest

from slowfast.apps.features.extract import FeatureOptions, extract
from slowfast.models.base import VideoModel
from slowfast.models.resnet import ResNet

RANDOM = ("TEST.ALLOW_RANDOM_WEIGHTS", True)


def files(folder):
    """Return the feature files by the names of their videos."""
    return {path.name: path.read_bytes() for path in folder.rglob("*.mp4.npz")}


@pytest.mark.slow
def test_a_killed_run_goes_on_and_leaves_the_same_files(
    tool, tiny_cfg, tiny_file, tiny_data, tmp_path, finish, wait_for
):
    listed = tmp_path / "list.csv"
    listed.write_text("".join(f"{tiny_data}/train {n}.mp4 {n % 2}\n" for n in range(12)))
    # One clip at a time, of many, so that there is time to kill it in the midst of a video.
    settings = (*RANDOM, "TEST.BATCH_SIZE", 1, "TEST.NUM_ENSEMBLE_VIEWS", 20, "TEST.NUM_SPATIAL_CROPS", 1)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = ("extract_features", "--cfg", tiny_file, "--csv", listed, "--clips", 20, "--output", killed)
    process = tool(*command, *settings[:4])
    wait_for(lambda: len(files(killed)) >= 2 or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL
    before = files(killed)
    assert 2 <= len(before) < 12
    status, output = finish(tool(*command, *settings[:4]))
    assert status == 0, output
    summary = json.loads(output.splitlines()[-1])
    assert summary == {"videos": 12, "written": 12 - len(before), "already_there": len(before), "unreadable": {}}
    extract(tiny_cfg(*settings), FeatureOptions(str(whole), tile=False, csv=str(listed)))
    after = files(killed)
    assert before.items() <= after.items()
    assert after == files(whole)
    with np.load(next(killed.rglob("train 0.mp4.npz"))) as arrays:
        assert arrays["features"].shape == (20, 128)


@pytest.mark.slow
def test_processes_share_the_videos(tool, tiny_file, tmp_path, finish):
    two = tmp_path / "two"
    status, output = finish(
        tool("extract_features", "--cfg", tiny_file, "--output", two, "--num_procs", 2, "--one-file", *RANDOM)
    )
    assert status == 0, output
    assert len(files(two)) == 4
    with np.load(two / "features.npz") as arrays:
        assert len(arrays["path"]) == 4


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["--clips", "some"], "--clips is 'some'"),
        (["--csv", "/nowhere/list.csv"], "/nowhere/list.csv"),
        (["DATA.PATH_TO_DATA_DIR", "/nowhere"], "give --csv FILE or --videos FILE ..., or set DATA.PATH_TO_DATA_DIR"),
        (["--checkpoint", "/nowhere/weights.pyth"], "/nowhere/weights.pyth"),
        (["--crops", "4"], "NUM_SPATIAL_CROPS"),
    ],
)
def test_mistakes_are_one_clear_message(run_tool, tiny_file, tmp_path, arguments, fact):
    status, output = run_tool("extract_features", "--cfg", tiny_file, "--output", tmp_path / "f", *arguments)
    assert status == 2
    assert fact in output.split("error: ")[-1]


def test_a_file_that_is_listed_with_two_labels_is_said(run_tool, tiny_file, tiny_data, tmp_path):
    listed, out = tmp_path / "list.csv", tmp_path / "f"
    (tmp_path / "link").symlink_to(tiny_data)
    listed.write_text(f"{tiny_data}/test 0.mp4 4\n\n{tiny_data}/test 1.mp4 1\n{tmp_path}/link/test 0.mp4 5\n")
    status, output = run_tool("extract_features", "--cfg", tiny_file, "--csv", listed, "--output", out, *RANDOM)
    assert status == 0, output
    assert f"label 4 ({listed}, line 1), and label 5 ({listed}, line 4)" in output
    labels = {path.name: int(np.load(path)["label"]) for path in out.rglob("*.npz")}
    assert labels == {"test 0.mp4.npz": 5, "test 1.mp4.npz": 1}


@pytest.mark.parametrize("text", ["", "[]", "[" * 10_000, '{"settings": 3}'])
def test_a_folder_with_another_description_is_left_alone(run_tool, tiny_file, tmp_path, text):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "features.json").write_text(text)
    status, output = run_tool("extract_features", "--cfg", tiny_file, "--output", tmp_path / "f", *RANDOM)
    assert status == 2 and "name another folder" in output and "Traceback" not in output
    assert (tmp_path / "f" / "features.json").read_text() == text


def test_features_that_are_no_numbers_have_no_file(run_tool, tiny_file, tmp_path, one_overflows):
    out = tmp_path / "f"
    status, output = run_tool("extract_features", "--cfg", tiny_file, "--output", out, "--one-file", *one_overflows)
    message = output.split("error: ")[-1]
    assert status == 2 and "1 of 4 videos" in message and "test 1.mp4" in message
    assert sorted(files(out)) == ["test 0.mp4.npz", "test 2.mp4.npz", "train 0.mp4.npz"]
    result = json.loads((out / "features.json").read_text())["result"]
    assert result["written"] == 3 and [path[-10:] for path in result["not_finite"]] == ["test 1.mp4"]
    with np.load(out / "features.npz") as arrays:
        assert len(arrays["path"]) == 3 and np.isfinite(arrays["features"]).all()


def test_a_model_without_features_is_one_clear_message(run_tool, tiny_file, tmp_path, monkeypatch):
    """Register a model that defines `forward` alone."""
    monkeypatch.setattr(ResNet, "forward_features", VideoModel.forward_features)
    status, output = run_tool("extract_features", "--cfg", tiny_file, "--output", tmp_path / "f", *RANDOM)
    assert status == 2
    message = output.split("error: ")[-1]
    assert "ResNet has no forward_features" in message and len(message.splitlines()) == 1
