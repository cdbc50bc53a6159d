"""Jobs through submitit's local executor, with real processes; and what a SLURM cluster would be asked."""

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
import submitit
import torch

from slowfast.apps.slurm import TrainingJob
from slowfast.checkpoint.io import find_checkpoints, load_checkpoint
from slowfast.engine.train import train

pytestmark = pytest.mark.processes

SETTINGS = ["SOLVER.MAX_EPOCH", 6, "TRAIN.BATCH_SIZE", 2, "TRAIN.CHECKPOINT_PERIOD", 6, "TRAIN.EVAL_PERIOD", 6]
SETTINGS = [*SETTINGS, "TEST.ENABLE", False, "DATA_LOADER.NUM_WORKERS", 1]


def descendants(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children] + [pid for child in children for pid in descendants(child)]


def final_weights(folder):
    return load_checkpoint(find_checkpoints(str(folder))[-1].path)["model_state"]


@pytest.mark.slow
def test_preempted_job_is_queued_again_and_ends_with_the_same_weights(tool, tiny_cfg, tiny_file, tmp_path, wait_for):
    job_dir = tmp_path / "a job"
    options = ["--cluster", "local", "--job_dir", job_dir, "--cfg", tiny_file]
    process = tool("submit", *options, *SETTINGS)
    job, log = re.match(r"job (\d+); its log is (.*)", process.stdout.readline()).groups()
    wait_for(lambda: Path(log).exists() and "train_iter" in Path(log).read_text())
    # As a cluster does: to each process of the job, the loader's workers included.
    for pid in descendants(job):
        os.kill(pid, signal.SIGUSR2)
    rest, _ = process.communicate(timeout=120)
    text = Path(log).read_text()
    assert process.returncode == 0, text[-3000:] + rest
    saved = re.search(r"stopped on request; the same command continues from .*(checkpoint_\S+\.pyth)", text)[1]
    assert "iteration" in saved and f"{saved}: epoch" in text.partition("Requeued job")[2]

    cfg = tiny_cfg(*SETTINGS, "OUTPUT_DIR", str(tmp_path / "uninterrupted"))
    train(cfg)
    expected, weights = final_weights(cfg.OUTPUT_DIR), final_weights(job_dir)
    assert expected.keys() == weights.keys()
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


@pytest.mark.slow
def test_failed_job_says_why(run_tool, tiny_file, tmp_path):
    options = ["--cluster", "local", "--job_dir", tmp_path / "job", "--cfg", tiny_file]
    status, output = run_tool("submit", *options, "DATA.PATH_TO_DATA_DIR", tmp_path / "nowhere")
    assert status == 1
    *_, cause, last = output.splitlines()
    assert re.search(r"^error: .*nowhere", cause)
    assert last.startswith("error: job ") and last.endswith("_log.out")


@pytest.fixture
def as_task(monkeypatch):
    """`as_task(rank)`: be that task of a job, as submitit's local executor says it."""

    def be(rank):
        for name, value in {"EXECUTOR": "local", "LOCAL_JOB_ID": "1", "LOCAL_GLOBALID": str(rank)}.items():
            monkeypatch.setenv(f"SUBMITIT_{name}", value)

    return be


def test_training_stopped_by_the_cluster_itself(as_task):
    """Let the first task wait for the order to queue the job again; the others leave that to it."""
    as_task(1)
    TrainingJob(["sh", "-c", "kill -TERM $$"], ".", stop_seconds=60)()
    as_task(0)
    started = time.monotonic()
    with pytest.raises(RuntimeError, match="neither ended nor queued again"):
        TrainingJob(["sh", "-c", "exit 143"], ".", stop_seconds=0.5)()
    assert time.monotonic() - started > 1
    with pytest.raises(RuntimeError, match="status 2"):
        TrainingJob(["sh", "-c", "exit 2"], ".", stop_seconds=60)()


def test_training_that_does_not_stop_is_killed(as_task, tmp_path):
    as_task(0)
    script = f"trap '' TERM; echo $$ > {tmp_path}/pid; exec sleep 60"
    job = TrainingJob(["sh", "-c", script], str(tmp_path), stop_seconds=1)
    queued = []

    def requeue(*_):
        queued.append(job.checkpoint())
        raise SystemExit

    former = signal.signal(signal.SIGALRM, requeue)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(SystemExit):
            job()
    finally:
        signal.signal(signal.SIGALRM, former)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert queued[0].function == TrainingJob(job.command, job.folder, stop_seconds=1)


FAKE = """#!{python}
import os, pathlib, sys
pathlib.Path({out!r}, os.path.basename(sys.argv[0])).write_text(open(sys.argv[1]).read())
print("Submitted batch job 42")
"""


def test_what_is_asked_of_slurm(run_tool, tiny_file, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    for name in ("sbatch", "srun"):
        path = tmp_path / "bin" / name
        path.write_text(FAKE.format(python=sys.executable, out=str(tmp_path)))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    options = "--num_shards 2 --gpus 4 --cpus 16 --mem 100 --time 30 --partition video --qos high --stop_seconds 60"
    others = ["--sbatch", "exclusive=user", "--account", "me", "--constraint", "a100", "--job_dir", tmp_path / "job"]
    _, output = run_tool("submit", "--cfg", tiny_file, *options.split(), *others, "SOLVER.MAX_EPOCH", 7)
    assert output == f"job 42; its log is {tmp_path / 'job/submitit/42_0_log.out'}\n"
    flags = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", (tmp_path / "sbatch").read_text(), re.MULTILINE))
    expected = {"nodes": "2", "ntasks-per-node": "1", "gpus-per-node": "4", "cpus-per-task": "16", "mem": "100GB"}
    expected |= {"time": "30", "partition": "video", "qos": "high", "account": "me", "constraint": "a100"}
    expected |= {"requeue": "", "signal": "USR2@90", "exclusive": "user", "job-name": "tiny"}
    assert {key: flags.get(key) for key in expected} == expected
    task = submitit.core.utils.DelayedSubmission.load(tmp_path / "job/submitit/42_submitted.pkl").function
    tail = ["SOLVER.MAX_EPOCH", "7", "NUM_GPUS", "4"]
    assert task.command[-8:] == ["--cfg", str(tiny_file), "OUTPUT_DIR", str(tmp_path / "job"), *tail]
    assert (task.folder, task.num_shards, task.stop_seconds) == (os.getcwd(), 2, 60)


def test_hosts_of_a_slurm_job_meet_on_the_first(monkeypatch):
    job = {
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_NODELIST": "gpu[07-08,11]",
        "SLURM_NODEID": "2",
        "SUBMITIT_EXECUTOR": "slurm",
    }
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    arguments = TrainingJob(["train"], ".", num_shards=3).host_arguments(submitit.JobEnvironment())
    assert arguments[:5] == ["--num_shards", "3", "--shard_id", "2", "--init_method"]
    host, port = re.fullmatch(r"tcp://(\w+):(\d+)", arguments[5]).groups()
    assert host == "gpu07" and 20000 <= int(port) < 30000
    monkeypatch.setenv("SLURM_NODEID", "0")
    again = TrainingJob(["train"], ".", num_shards=3).host_arguments(submitit.JobEnvironment())
    assert again[5] == arguments[5] and again[3] == "0"
    named = TrainingJob(["train"], ".", num_shards=3, port=1234).host_arguments(submitit.JobEnvironment())
    assert named[5] == "tcp://gpu07:1234"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["TRAIN.AUTO_RESUME", "False"], "TRAIN.AUTO_RESUME is False"),
        (["--num_shards", "2"], "--num_shards 2 needs slurm"),
        (["--sbatch", "exclusive"], "KEY=VALUE"),
        (["SOLVER.MAX_EPOCHS", "3"], "MAX_EPOCH"),
        (["--cluster", "slurm"], "no srun"),
    ],
)
def test_mistakes_are_named_before_anything_is_queued(options, message, run_tool, tiny_file, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    command = ["--cfg", tiny_file, "--cluster", "local", "--job_dir", tmp_path / "job", *options]
    status, output = run_tool("submit", *command)
    assert status == 2
    assert message in output
    assert not (tmp_path / "job").exists()


def test_submitit_missing_is_named(run_tool, tiny_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    status, output = run_tool("submit", "--cfg", tiny_file)
    assert status == 2
    assert "pip install -e '.[slurm]'" in output
