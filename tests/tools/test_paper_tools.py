"""`tools/paper_table.py` and `tools/reproduce.py`, as a user calls them."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slowfast.apps.paper.cost import Cost, Throughput
from slowfast.apps.paper.plan import Request, make_plan
from slowfast.apps.paper.progress import is_done, missing, run_steps
from slowfast.apps.paper.rows import read_paper
from slowfast.apps.synthetic.formats import SetSpec, make_set
from slowfast.config import load_config
from slowfast.models import build_model

ROOT = Path(__file__).parents[2]
PAPER = read_paper(ROOT)
# The row's other settings on 16 videos.
TINY = ["--row", "sweep_pgt_36x1", "--set", "sweep_tiny", "SOLVER.MAX_EPOCH", "3", "TRAIN.CHECKPOINT_PERIOD", "1"]


def test_rows_are_listed_and_shown(run_tool, tmp_path):
    status, listed = run_tool("reproduce", "--list", "CHARADES")
    assert status == 0 and "charades_slowfast_prog_76x8_r50_k400 " in listed and "43.8" in listed
    assert "kinetics_slow_prog" not in listed
    status, shown = run_tool("paper_table", "show", "--table", "clip models", "--format", "csv")
    assert status == 0 and [line.split(",")[6] for line in shown.splitlines() if "top-1" in line] == [
        *("74.0", "75.8", "77.2")
    ]
    (tmp_path / "empty").mkdir()
    status, shown = run_tool("paper_table", "show", tmp_path / "empty")
    assert status == 0 and "no row" in shown


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--row", "sweep_pgt", "--data", "."], "similar names: sweep_pgt_36x1"),
        (["--row", "sweep_pgt_36x1", "--data", ".", "--set", "swept"], "no data set 'swept'"),
        (["--row", "sweep_pgt_36x1", "--data", ".", "OUTPUT_DIR", "x"], "--output"),
        (["--row", "sweep_pgt_36x1", "--data", ".", "SOLVER.MAX_EPOCHS", "1"], "SOLVER.MAX_EPOCH"),
        (["--row", "sweep_pgt_36x1"], "--data DIR"),
    ],
)
def test_mistakes_are_one_line(arguments, message, run_tool):
    status, output = run_tool("reproduce", *arguments)
    assert status == 2 and message in output.splitlines()[-1]


def test_what_is_missing_is_named_before_anything_runs(run_tool, tmp_path):
    status, output = run_tool(
        *("reproduce", "--row", "charades_slow_prog_76x8_r50_k400", "--data", tmp_path, "--output", tmp_path / "out")
    )
    assert status == 2 and not (tmp_path / "out").exists()
    (line,) = [line for line in output.splitlines() if line.startswith("error")]
    for name in ("Charades_v1_train.csv", "Charades_v1 (the folder of the videos", "models/k400/SLOW_8x8_R50.pkl"):
        assert name in line
    assert "http" not in line


def test_a_dry_run_prints_commands_that_programs_take(run_tool, tmp_path):
    options = ["--data", tmp_path, "--output", tmp_path / "out", "--seeds", 1, 0, "--tflops", 1, "--dry-run"]
    status, output = run_tool("reproduce", *TINY[:4], *options)
    assert status == 0 and list(tmp_path.iterdir()) == []
    commands = [shlex.split(line)[1:] for line in output.splitlines() if line.startswith("python ")]
    assert [command[0].rpartition("/")[2] for command in commands] == [
        *("-m", "check_data.py", "train_net.py", "test_net.py", "train_net.py", "test_net.py")
    ]
    for command in commands[1:]:
        own = command[command.index("DATA.PATH_TO_DATA_DIR") :]
        assert load_config(command[command.index("--cfg") + 1], own).DATA.PATH_TO_DATA_DIR == str(tmp_path)


def test_hours_follow_from_the_count():
    cfg = load_config(PAPER.rows["sweep_pgt_36x1"].config)
    cost = Cost.of(cfg, {"train": 1000, "val": 100, "test": 10})
    forward = 2 * cost.train_gflops * 1e9
    # 5 epochs of 3 passes, one validation in the 5 (TRAIN.EVAL_PERIOD), one view of each test video at the same size
    assert cost.flop == pytest.approx(forward * (3 * 1000 * 5 + 100 + 10))
    assert cost.hours(Throughput.of(cfg, "", tflops=2.0)) == pytest.approx(cost.flop / 2e12 / 3600)
    weights = sum(parameter.numel() for parameter in build_model(cfg).parameters())
    assert cost.checkpoint_gib == pytest.approx(4 * 3 * weights / 2**30)  # adamw keeps two averages
    with pytest.raises(ValueError, match="A100"):
        Throughput.of(cfg, "A1")


SMALL = ["NUM_GPUS", "0", "TRAIN.CHECKPOINT_FILE_PATH", ""]


@pytest.mark.parametrize(
    "form, row", [("kinetics", "kinetics_slow_prog_36x8_r50"), ("charades", "charades_slow_prog_76x8_r50_k400"),
                  ("ava", "ava_slow_prog_36x8_r50_k400")]
)  # fmt: skip
def test_data_in_published_form_are_prepared_and_pass_the_check(form, row, run_tool, tmp_path):
    counts = {"kinetics": (3, 2, 2), "charades": (4, 2), "ava": (2, 2)}[form]
    make_set(tmp_path, SetSpec(form, *counts))
    if form != "ava":  # its movies are frames already
        for path in (*tmp_path.glob("*.csv"), tmp_path / "Charades_v1_rgb"):
            if not path.name.startswith("Charades_v1_t"):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    # The synthetic sets have other lengths and classes than the published ones.
    request = Request(row, str(tmp_path), str(tmp_path / "out"), (0,), SMALL, allowed="frame-count,box-outside")
    plan = make_plan(PAPER, request, ROOT)
    assert missing(plan, request.data) == []
    for step in plan.steps[:2]:
        if not is_done(step):
            tool = Path(step.command[0]).stem
            status, output = run_tool(tool, *step.command[1:], "--workers", 0)
            assert status == 0, output
            assert all(map(os.path.exists, step.makes))
    assert is_done(plan.steps[0]) and not is_done(plan.steps[1])


def test_a_row_of_another_test_takes_the_weights_of_its_base(tmp_path):
    row = "kinetics_slow_prog_36x8_r50_ensemble_max"
    plan = make_plan(PAPER, Request(row, str(tmp_path), "out", (3,)), ROOT)
    train, test = plan.steps[-2:]
    base = make_plan(PAPER, Request(PAPER.rows[row].base, str(tmp_path), "out", (3,)), ROOT)
    assert train == base.steps[-2]
    weights = test.command[test.command.index("TEST.CHECKPOINT_FILE_PATH") + 1]
    assert weights == f"out/{PAPER.rows[row].base}/seed_3/checkpoints/checkpoint_epoch_00098.pyth"


@pytest.mark.slow
def test_a_killed_run_is_continued_and_nothing_is_done_twice(run_tool, tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    command = [*TINY, "--data", data, "--output", out]
    checkpoints = out / "sweep_pgt_36x1/seed_0/checkpoints"
    process = subprocess.Popen(
        [sys.executable, ROOT / "tools/reproduce.py", *command],
        start_new_session=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 400
    while not list(checkpoints.glob("*.pyth")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and list(checkpoints.glob("*.pyth"))
    record = out / "sweep_pgt_36x1/reproduce.json"
    assert list(json.loads(record.read_text())) == ["check"]
    made = (data / "sweep.json").stat().st_mtime_ns

    status, output = run_tool("reproduce", *command)
    assert status == 0, output
    assert "check: done before" in output and "| sweep_pgt_36x1 | sweep (demo) |" in output
    assert (data / "sweep.json").stat().st_mtime_ns == made
    stats = map(json.loads, (checkpoints.parent / "json_stats.jsonl").read_text().splitlines())
    epochs = [entry["epoch"] for entry in stats if entry["_type"] == "train_epoch"]
    assert epochs[0] == "1/3" and epochs[-1] == "3/3" and epochs.count("1/3") == 1

    before = record.stat().st_mtime_ns
    status, again = run_tool("reproduce", *command)
    assert status == 0 and again.count("done before") == 4 and record.stat().st_mtime_ns == before
    status, refused = run_tool("reproduce", *command, "SOLVER.BASE_LR", "0.1")
    assert status == 2 and "another --output" in refused


def test_a_step_that_fails_ends_the_run_and_is_not_recorded(tmp_path, capfd):
    plan = make_plan(PAPER, Request("sweep_pgt_36x1", str(tmp_path / "none"), str(tmp_path / "out")), ROOT)
    assert run_steps(plan.steps[1:]) == 1  # the check, without data
    assert "check ended with status 1" in capfd.readouterr().out
    assert not (tmp_path / "out/sweep_pgt_36x1/reproduce.json").exists()
