"""The command lines that prepare and check data: statuses, reports, and what is left when they are stopped."""

import json
import os
import shutil
import signal

import pytest

from slowfast.datasets.video import open as decode


@pytest.mark.slow
def test_a_check_passes_or_fails_and_reports(run_tool, tiny_file, tiny_data, tmp_path):
    report = tmp_path / "reports" / "report.json"
    command = ("check_data", "--cfg", tiny_file, "--report", report, "--workers", 2)
    status, output = run_tool(*command)
    assert status == 0, output
    assert output.splitlines()[-1] == "passed"
    assert json.loads(report.read_text())["splits"]["train"]["videos"] == 12
    assert len((tmp_path / "out" / "check_data.jsonl").read_text().splitlines()) == 20
    for split in ("train", "val", "test"):
        shutil.copy(tiny_data / f"{split}.csv", tmp_path)
    with open(tmp_path / "val.csv", "a") as stream:
        stream.write("none.mp4 1\nno label\n")
    settings = ("DATA.PATH_TO_DATA_DIR", tmp_path, "--splits", "val")
    status, output = run_tool(*command, *settings)
    assert status == 1, output
    assert "line 6: 'no label'" in output
    assert "none.mp4: no such file" in output
    assert {finding["kind"] for finding in json.loads(report.read_text())["findings"]} == {"wrong-line", "unreadable"}
    assert run_tool(*command, *settings, "--allow", "wrong-line,unreadable")[0] == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--splits", "train,all"), "all: not among train, val, test"),
        (("TRAIN.ENABLE", "False", "TEST.ENABLE", "False"), "no split is read"),
        (("DATA.NUM_FRAME", "3"), "NUM_FRAMES"),
        (("--workers", "-1"), "--workers -1"),
    ],
)
def test_mistakes_are_told_from_failures(arguments, message, run_tool, tiny_file):
    status, output = run_tool("check_data", "--cfg", tiny_file, *arguments)
    assert status == 2, output
    assert message in output


@pytest.fixture
def many_videos(tmp_path, tiny_data):
    """Write a folder of 40 videos."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(40):
        shutil.copy(tiny_data / f"train {number % 12}.mp4", folder / f"{number}.mp4")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_resizing_that_was_stopped_goes_on(stop, tool, many_videos, tmp_path, finish, wait_for):
    copies = tmp_path / "copies"
    command = ("prepare_kinetics", "--videos", many_videos, "--resize", 32, "--resized", copies, "--workers", 2)

    def done():
        return {path.name: path.stat().st_mtime_ns for path in copies.glob("*.mp4")}

    def noted():
        manifest = copies / "resized.jsonl"
        lines = manifest.read_text().splitlines(keepends=True) if manifest.exists() else []
        return {os.path.basename(json.loads(line)[0]) for line in lines if line.endswith("\n")}

    process = tool(*command)
    wait_for(lambda: len(noted()) >= 3 or process.poll() is not None)
    process.send_signal(stop)
    status, output = finish(process)
    assert status == (130 if stop == signal.SIGINT else -stop), output
    if stop == signal.SIGINT:
        assert "the same command continues" in output
    before, kept = done(), noted()
    assert 3 <= len(kept) <= len(before)
    assert len(kept) < 40
    status, output = finish(tool(*command))
    assert status == 0, output
    assert f"40 of 40 videos are in {copies}" in output
    after = done()
    assert len(after) == 40
    # A copy that a process wrote as its parent was stopped is not noted, and is made again.
    assert all(before[name] == after[name] for name in kept)
    assert not list(copies.glob("*.tmp"))
    for path in copies.glob("*.mp4"):
        with decode.open(str(path)) as video:
            assert video.num_frames == 16


@pytest.mark.slow
def test_frames_are_prepared_and_faults_give_a_status(run_tool, tmp_path, many_videos):
    command = ("prepare_frames", "--format", "ssv2", "--videos", many_videos, "--output", tmp_path / "frames")
    status, output = run_tool(*command, "--lists", tmp_path / "lists", "--fps", 30, "--workers", 2)
    assert status == 0, output
    assert "40 videos have 640 images" in output
    assert len((tmp_path / "lists" / "frames.csv").read_text().splitlines()) == 641
    (tmp_path / "train.json").write_text('[{"id": "1"}, {"id": "none"}]')
    listed = ("--annotations", tmp_path / "train.json", "--lists", tmp_path / "lists", "--workers", 0)
    status, output = run_tool(*command, *listed, "--fps", 30)
    assert status == 1, output
    assert "none: it is not in" in output
    status, output = run_tool(*command, *listed, "--quality", 0)
    assert status == 2
    assert "quality is 0" in output


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "nothing to do"),
        (("--annotations", "train.csv"), "--output is missing"),
        (("--resize", 256), "--resized is missing"),
        (("--resize", 255, "--resized", "copies"), "short side of 255"),
        (("--annotations", "none.csv", "--output", "out"), "no annotation file none.csv"),
    ],
)
def test_mistakes_in_preparing_kinetics(arguments, message, run_tool, many_videos):
    status, output = run_tool("prepare_kinetics", "--videos", many_videos, *arguments)
    assert status == 2, output
    assert message in output


@pytest.fixture
def class_folders(tmp_path, tiny_data):
    """Write a folder of three classes with four tiny videos each, all of which differ."""
    root = tmp_path / "own videos"
    paths = sorted(tiny_data.glob("train *.mp4"))
    for number, path in enumerate(paths):
        folder = root / f"class {number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"{chr(ord('a') + number // 3)}.mp4")
    return root


@pytest.mark.slow
def test_a_folder_of_classes_trains_as_written(run_tool, class_folders, tmp_path):
    status, output = run_tool("prepare_folder", class_folders, "--workers", 0)
    assert status == 0, output
    lists = tmp_path / "own videos_lists"
    small = ("SOLVER.MAX_EPOCH", 1, "SOLVER.WARMUP_EPOCHS", 0.0, "X3D.DEPTH_FACTOR", 0.3, "X3D.WIDTH_FACTOR", 1.0,
             "NUM_GPUS", 0, "DATA_LOADER.NUM_WORKERS", 0)  # fmt: skip
    for name in ("clip", "pgt"):
        assert f"--cfg {lists / name}.yaml" in output
        status, log = run_tool("run_net", "--cfg", lists / f"{name}.yaml", *small)
        assert status == 0, log
        results = json.loads((lists / name / "test_results.json").read_text())
        assert (results["videos"], results["unreadable_files"]) == (3, 0)
    status, output = run_tool("prepare_folder", class_folders, "--workers", 0)
    assert status == 2
    assert "--overwrite" in output
