"""Train as a job of a SLURM cluster, which saves its state and is queued again when it is stopped, and then goes on.

python tools/submit.py --cfg FILE [--num_shards N] [--partition P --gpus G --cpus C --time MINUTES ...] [KEY VALUE ...]

One task a host runs tools/run_net.py with the same settings. Needs submitit: pip install -e '.[slurm]'.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

from slowfast.apps.slurm import TrainingJob
from slowfast.config import load_config

# What the cluster leaves between asking a job to stop and ending it, over what the training gets for it.
MARGIN_S = 30
TAIL_LINES = 15


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", required=True, type=Path, metavar="FILE", help="YAML file of settings")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the file's")
    parser.add_argument("--num_shards", type=int, default=1, metavar="N", help="hosts that train together")
    parser.add_argument(
        "--job_dir", type=Path, help="folder of the job, which is OUTPUT_DIR unless that is among KEY VALUE"
    )
    parser.add_argument(
        "--cluster", choices=("slurm", "local", "debug"), default="slurm", help="local: as a job of this machine"
    )
    parser.add_argument("--stop_seconds", type=int, default=90, help="what a training gets to save and end in")
    parser.add_argument("--max_timeouts", type=int, default=20, help="how often the time limit queues the job again")
    parser.add_argument("--port", type=int, help="where hosts meet, on the first (default: by the job's number)")
    asked = parser.add_argument_group("what is asked of the cluster, a host")
    asked.add_argument("--gpus", type=int, help="GPUs; also sets NUM_GPUS (default: NUM_GPUS)")
    asked.add_argument("--cpus", type=int, help="CPU cores")
    asked.add_argument("--mem", type=float, metavar="GB", help="memory")
    asked.add_argument("--time", type=int, default=1440, metavar="MINUTES", help="until it is queued again (a day)")
    for name in ("partition", "qos", "account", "constraint", "exclude", "comment"):
        asked.add_argument(f"--{name}", help="as sbatch has it")
    asked.add_argument(
        "--sbatch", action="append", default=[], metavar="KEY=VALUE", help="any other option of sbatch, without --"
    )
    return parser.parse_args()


def check(args: argparse.Namespace) -> int:
    """Reads the settings, so that mistakes are found before the job waits for its turn; the GPUs of a host.

    Raises:
        ValueError: settings with which a job cannot be run, or not be stopped and go on.
    """
    cfg = load_config(args.cfg, args.overrides)
    if not cfg.TRAIN.AUTO_RESUME:
        raise ValueError("TRAIN.AUTO_RESUME is False, so a job that is queued again would start anew; set it to True")
    if args.num_shards < 1:
        raise ValueError(f"--num_shards is {args.num_shards}; a job takes at least 1 host")
    if args.num_shards > 1 and args.cluster != "slurm":
        raise ValueError(f"--cluster {args.cluster} is this one host; --num_shards {args.num_shards} needs slurm")
    if args.cluster == "slurm" and shutil.which("srun") is None:
        raise ValueError(
            "no srun is found here, so this is no SLURM cluster; --cluster local runs the job on this machine"
        )
    if any("=" not in option for option in args.sbatch):
        raise ValueError(f"--sbatch takes KEY=VALUE, not {' '.join(args.sbatch)}")
    return cfg.NUM_GPUS if args.gpus is None else args.gpus


def training_command(args: argparse.Namespace, job_dir: Path, gpus: int) -> list[str]:
    """What each host runs; what the user set comes last and so wins."""
    tool = Path(__file__).resolve().with_name("run_net.py")
    settings = ["OUTPUT_DIR", str(job_dir), *args.overrides, "NUM_GPUS", str(gpus)]
    return [sys.executable, "-u", str(tool), "--cfg", str(args.cfg.resolve()), *settings]


def make_executor(submitit, args: argparse.Namespace, job_dir: Path, gpus: int):
    """Submitit's executor with all that is asked of the cluster."""
    limits = {f"{cluster}_max_num_timeout": args.max_timeouts for cluster in ("slurm", "local")}
    executor = submitit.AutoExecutor(job_dir / "submitit", cluster=args.cluster, **limits)
    options = dict(option.split("=", 1) for option in args.sbatch)
    executor.update_parameters(
        name=args.cfg.stem,
        nodes=args.num_shards,
        tasks_per_node=1,
        gpus_per_node=gpus or None,
        cpus_per_task=args.cpus,
        mem_gb=args.mem,
        timeout_min=args.time,
        stderr_to_stdout=True,
        slurm_signal_delay_s=args.stop_seconds + MARGIN_S,
        slurm_additional_parameters={"requeue": True, **options},
        **{f"slurm_{name}": getattr(args, name) for name in ("partition", "qos", "account", "constraint")},
        **{f"slurm_{name}": getattr(args, name) for name in ("exclude", "comment")},
    )
    return executor


def watch(job) -> int:
    """Waits for a job of this machine; 0 if it succeeded, else 1, with the end of its log."""
    try:
        job.wait()
    except RuntimeError as error:  # of the task, from the debug cluster, after its debugger
        print(f"error: {error}", file=sys.stderr)
        return 1
    if job.exception() is None:
        return 0
    log = Path(job.paths.stdout)
    # What follows is submitit's account of the same.
    words = log.read_text(errors="replace").partition("submitit ERROR")[0]
    print("\n".join(words.splitlines()[-TAIL_LINES:]), file=sys.stderr)
    print(f"error: job {job.job_id} failed; above is the end of {log}", file=sys.stderr)
    return 1


def main() -> int:
    args = parse_args()
    try:
        import submitit
    except ModuleNotFoundError:
        print("error: submitit is not installed; pip install -e '.[slurm]'", file=sys.stderr)
        return 2
    job_dir = args.job_dir or Path("runs/jobs", f"{args.cfg.stem}_{time.strftime('%Y%m%d_%H%M%S')}")
    job_dir = job_dir.resolve()
    try:
        gpus = check(args)
        command = training_command(args, job_dir, gpus)
        task = TrainingJob(command, str(Path.cwd()), args.num_shards, args.stop_seconds, args.port)
        job = make_executor(submitit, args, job_dir, gpus).submit(task)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"job {job.job_id}; its log is {job.paths.stdout}", flush=True)
    return 0 if args.cluster == "slurm" else watch(job)


if __name__ == "__main__":
    sys.exit(main())
