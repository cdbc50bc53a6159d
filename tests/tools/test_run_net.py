"""Command line of training and testing: runs, exit status and messages."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slowfast.checkpoint.io import find_checkpoints
from slowfast.engine.arguments import parse_arguments
from slowfast.engine.command import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def command(tiny_file, capsys):
    """`command(*arguments)`: call the command line in this process; return its exit status and standard error."""

    def call(*arguments):
        status = main(parse_arguments(["--cfg", str(tiny_file), *map(str, arguments)]))
        return status, capsys.readouterr().err

    return call


@pytest.mark.parametrize("name", ["run_net", "train_net", "test_net", "demo_net", "visualization"])
@pytest.mark.parametrize(("option", "status"), [("--help", 0), ("--no_such_option", 2)])
def test_help_does_not_wait_for_pytorch(name, option, status):
    command = [sys.executable, "-X", "importtime", ROOT / "tools" / f"{name}.py", option]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert done.returncode == status
    assert "slowfast.engine.arguments" in imported and "torch" not in imported


def test_train_and_test(command, tiny_cfg):
    status, _ = command("SOLVER.MAX_EPOCH", 1)
    out = Path(tiny_cfg().OUTPUT_DIR)
    assert status == 0
    assert len(find_checkpoints(str(out))) == 1
    assert json.loads((out / "test_results.json").read_text())["videos"] == 4


def test_either_part_alone(command, tiny_cfg):
    out = Path(tiny_cfg().OUTPUT_DIR)
    assert command("SOLVER.MAX_EPOCH", 1, "--num_procs", 1, "TEST.ENABLE", False)[0] == 0
    assert find_checkpoints(str(out)) and not (out / "test_results.json").exists()


def test_random_weights_are_not_tested_unless_asked_for(command, tiny_cfg):
    results = Path(tiny_cfg().OUTPUT_DIR) / "test_results.json"
    status, stderr = command("TRAIN.ENABLE", False)
    assert status == 2 and len(stderr.splitlines()) == 1 and "TEST.ALLOW_RANDOM_WEIGHTS True" in stderr
    assert not results.exists()
    assert command("TRAIN.ENABLE", False, "TEST.ALLOW_RANDOM_WEIGHTS", True)[0] == 0 and results.exists()


def test_a_run_that_would_do_nothing_is_refused(command):
    status, stderr = command("--opts", "TRAIN.ENABLE", "False", "TEST.ENABLE", "False")
    assert status == 2 and "TRAIN.ENABLE, TEST.ENABLE and DEMO.ENABLE" in stderr


def test_scores_that_are_no_numbers_are_not_measured(command, tiny_cfg, one_overflows):
    status, stderr = command("TRAIN.ENABLE", False, *one_overflows)
    assert status == 2 and len(stderr.splitlines()) == 1
    assert "1 of 4 videos" in stderr and "test 1.mp4" in stderr
    assert not (Path(tiny_cfg().OUTPUT_DIR) / "test_results.json").exists()


@pytest.mark.slow
def test_scores_that_are_no_numbers_in_one_of_two_processes(tool, finish, tiny_file, tiny_cfg, one_overflows):
    command = ("test_net", "--cfg", tiny_file, "TRAIN.ENABLE", False, *one_overflows)
    status, output = finish(tool(*command, "--num_procs", 2))
    message = output.split("error: ")[-1]
    assert status == 2 and "1 of 4 videos" in message and "test 1.mp4" in message and "Traceback" not in output
    assert not (Path(tiny_cfg().OUTPUT_DIR) / "test_results.json").exists()


@pytest.fixture
def files(tiny_file, tmp_path):
    """Two files with folders of their own; the second is of another learning rate."""
    made = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.yaml"
        rate = 0.01 if name == "one" else 0.02
        path.write_text(f"_BASE_: {tiny_file}\nOUTPUT_DIR: {tmp_path / name}\nSOLVER: {{BASE_LR: {rate}}}\n")
        made.append(str(path))
    return made


def test_several_files_run_one_after_the_other(files, tmp_path, capsys):
    overrides = ["SOLVER.MAX_EPOCH", "1", "TEST.ENABLE", "False"]
    assert main(parse_arguments(["--cfg", *files, *overrides])) == 0, capsys.readouterr().err
    for name, rate in (("one", 0.01), ("two", 0.02)):
        lines = (tmp_path / name / "json_stats.jsonl").read_text().splitlines()
        rates = [json.loads(line)["lr"] for line in lines if "lr" in json.loads(line)]
        assert len(find_checkpoints(str(tmp_path / name))) == 1 and max(rates) <= rate and rates
        assert "run 2 of 2" not in (tmp_path / name / "stdout.log").read_text() or name == "one"


def test_files_with_one_output_dir_get_a_folder_each(files, tmp_path, capsys):
    overrides = ["SOLVER.MAX_EPOCH", "1", "TEST.ENABLE", "False", "OUTPUT_DIR", str(tmp_path / "same")]
    assert main(parse_arguments(["--cfg", *files, *overrides])) == 0, capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "same").iterdir()) == sorted(Path(file).stem for file in files)


def test_files_are_checked_before_the_first_runs(files, tmp_path, capsys):
    other = tmp_path / "other" / Path(files[0]).name
    other.parent.mkdir()
    other.write_text(Path(files[0]).read_text())
    assert main(parse_arguments(["--cfg", files[0], str(other), "OUTPUT_DIR", str(tmp_path / "same")])) == 2
    message = capsys.readouterr().err
    assert files[0] in message and str(other) in message and not (tmp_path / "same").exists()
    assert main(parse_arguments(["--cfg", files[0], str(tmp_path / "gone.yaml")])) == 2
    assert "gone.yaml" in capsys.readouterr().err and not (tmp_path / "one").exists()


def test_a_failing_run_stops_those_after_it(files, tmp_path, capsys):
    Path(files[0]).write_text(Path(files[0]).read_text() + "DATA: {PATH_TO_DATA_DIR: /nowhere/at/all}\n")
    assert main(parse_arguments(["--cfg", *files])) == 2
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["TRAIN.BATCHSIZE", 8], ["TRAIN.BATCHSIZE", "TRAIN.BATCH_SIZE"]),
        (["DATA.PATH_TO_DATA_DIR", "/nowhere/at/all"], ["train.csv", "/nowhere/at/all"]),
        (["TRAIN.CHECKPOINT_FILE_PATH", "/nowhere/weights.pyth"], ["/nowhere/weights.pyth"]),
        (["MODEL.NUM_CLASSES", 1], ["train.csv"]),
        (["TRAIN.BATCH_SIZE", 100], ["12 training videos", "TRAIN.BATCH_SIZE"]),
        (["SOLVER.BASE_LR", 1e30, "SOLVER.MAX_EPOCH", 20], ["iteration", "lr"]),
    ],
)
def test_mistakes_are_one_clear_message(command, arguments, words):
    status, stderr = command(*arguments)
    assert status == 2
    last = stderr.strip().split("error: ")[-1]
    assert "error: " in stderr and "Traceback" not in stderr
    for word in words:
        assert word in last


def test_mistakes_in_the_test_list_come_before_training(command, tiny_data, tiny_cfg, tmp_path):
    for split in ("train", "val"):
        (tmp_path / f"{split}.csv").write_text((tiny_data / f"{split}.csv").read_text())
    status, stderr = command("DATA.PATH_TO_DATA_DIR", tmp_path)
    assert status == 2
    assert "test.csv" in stderr and not find_checkpoints(tiny_cfg().OUTPUT_DIR)


def test_a_run_of_another_model_is_not_continued(command, tiny_cfg):
    assert command("SOLVER.MAX_EPOCH", 1, "--num_procs", 1, "TEST.ENABLE", False)[0] == 0
    status, stderr = command("MODEL.NUM_CLASSES", 3, "TRAIN.CHECKPOINT_DROP_MISMATCH", True)
    assert status == 2
    for words in ("another folder", "head.projection.bias, checkpoint (2,), model (3,)"):
        assert words in stderr


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_of_loader_workers_are_as_short_as_others(command, tmp_path, workers):
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.csv").write_text("".join(f"{tmp_path}/gone{n}.mp4 0\n" for n in range(8)))
    status, stderr = command("DATA.PATH_TO_DATA_DIR", tmp_path, "DATA_LOADER.NUM_WORKERS", workers)
    assert status == 2
    assert stderr.startswith("error: 11 training videos") and "Traceback" not in stderr


def test_debug_shows_the_traceback(command):
    with pytest.raises(FileNotFoundError):
        command("--debug", "DATA.PATH_TO_DATA_DIR", "/nowhere/at/all")


def test_unreadable_videos_end_the_run_with_the_list(command, tiny_data, tmp_path):
    for split in ("train", "val", "test"):
        rows = (tiny_data / f"{split}.csv").read_text()
        (tmp_path / f"{split}.csv").write_text(rows + str(tmp_path / "gone.mp4") + " 0\n")
    status, stderr = command("DATA.PATH_TO_DATA_DIR", tmp_path, "TRAIN.BATCH_SIZE", 13)
    assert status == 2
    assert "gone.mp4" in stderr.split("error: ")[-1] and "Traceback" not in stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="this host has a GPU")
def test_no_gpu_says_what_to_set(command):
    status, stderr = command("NUM_GPUS", 1)
    assert status == 2
    assert "set NUM_GPUS 0" in stderr


@pytest.mark.slow
def test_test_net_as_a_process(tool, finish, tiny_file, tiny_cfg):
    switches = ["TRAIN.ENABLE", True, "TEST.ENABLE", False, "TEST.ALLOW_RANDOM_WEIGHTS", True]
    status, output = finish(tool("test_net", "--cfg", tiny_file, *switches))
    out = Path(tiny_cfg().OUTPUT_DIR)
    assert status == 0, output
    assert (out / "test_results.json").exists() and not find_checkpoints(str(out))
