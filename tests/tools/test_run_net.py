"""The command line: what runs, what it says of mistakes."""

import json
from pathlib import Path

import pytest
import torch

from slowfast.checkpoint.io import find_checkpoints
from slowfast.engine.command import main


@pytest.fixture
def command(tiny_file, capsys):
    """A function: run the command line in this process; gives exit status and standard error."""

    def run(*arguments):
        status = main(["--cfg", str(tiny_file), *map(str, arguments)])
        return status, capsys.readouterr().err

    return run


def test_train_and_test(command, tiny_cfg):
    status, _ = command("SOLVER.MAX_EPOCH", 1)
    out = Path(tiny_cfg().OUTPUT_DIR)
    assert status == 0
    assert len(find_checkpoints(str(out))) == 1
    assert json.loads((out / "test_results.json").read_text())["videos"] == 4


def test_either_part_alone(command, tiny_cfg):
    out = Path(tiny_cfg().OUTPUT_DIR)
    assert command("--opts", "TRAIN.ENABLE", "False", "TEST.ENABLE", "False")[0] == 0
    assert not find_checkpoints(str(out)) and not (out / "test_results.json").exists()
    assert command("SOLVER.MAX_EPOCH", 1, "--num_procs", 1, "TEST.ENABLE", False)[0] == 0
    assert find_checkpoints(str(out)) and not (out / "test_results.json").exists()


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
def test_test_net_as_a_process(tool, tiny_file, tiny_cfg):
    run = tool("test_net", "--cfg", tiny_file, "TRAIN.ENABLE", True, "TEST.ENABLE", False)
    output = run.communicate(timeout=120)[0]
    out = Path(tiny_cfg().OUTPUT_DIR)
    assert run.returncode == 0, output
    assert (out / "test_results.json").exists() and not find_checkpoints(str(out))
