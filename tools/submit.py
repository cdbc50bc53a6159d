"""Train as a job of a SLURM cluster. A job that is stopped saves its state, is queued again, and resumes.

python tools/submit.py --cfg FILE [--num_shards N] [--partition P --gpus G --cpus C --time MINUTES ...] [KEY VALUE ...]

One task a host runs tools/run_net.py with the same settings. Needs submitit: pip install -e '.[slurm]'.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from slowfast.apps.slurm import JobOptions, submit, wait_for
from slowfast.utils.errors import print_error
from slowfast.utils.text import printable

TOOL = Path(__file__).resolve().with_name("run_net.py")
SLURM_OPTIONS = ("partition", "qos", "account", "constraint", "exclude", "comment")


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", required=True, type=Path, metavar="FILE", help="YAML file")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the file's")
    parser.add_argument("--num_shards", type=int, default=1, metavar="N", help="hosts that train together (default: 1)")
    parser.add_argument("--job_dir", type=Path, help="folder of the job, and OUTPUT_DIR unless KEY VALUE sets that")
    parser.add_argument(
        "--cluster", choices=("slurm", "local", "debug"), default="slurm", help="local: a job of this machine"
    )
    parser.add_argument("--stop_seconds", type=int, default=90, metavar="S", help="time to save and end (default: 90)")
    parser.add_argument(
        "--max_timeouts", type=int, default=20, metavar="N", help="how often the time limit queues the job again"
    )
    parser.add_argument("--port", type=int, help="port on the first host where hosts meet (default: by job number)")
    asked = parser.add_argument_group("resources of each host")
    asked.add_argument("--gpus", type=int, help="GPUs; also sets NUM_GPUS (default: NUM_GPUS)")
    asked.add_argument("--cpus", type=int, help="CPU cores")
    asked.add_argument("--mem", type=float, metavar="GB", help="memory")
    asked.add_argument("--time", type=int, default=1440, metavar="MINUTES", help="time limit (default: a day)")
    for name in SLURM_OPTIONS:
        asked.add_argument(f"--{name}", help="as in sbatch")
    asked.add_argument(
        "--sbatch", action="append", default=[], metavar="KEY=VALUE", help="any other option of sbatch, without --"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Submit the job and, on this machine, wait for it; return the exit status."""
    args = vars(_parse_args(argv))
    default = Path("runs/jobs", f"{args['cfg'].stem}_{time.strftime('%Y%m%d_%H%M%S')}")
    args["job_dir"] = (args["job_dir"] or default).resolve()
    options = JobOptions(slurm={name: args.pop(name) for name in SLURM_OPTIONS}, **args)
    try:
        job = submit(options, TOOL)
    except (ValueError, OSError, RuntimeError) as error:
        print_error(error)
        return 2
    print(f"job {job.job_id}; its log is {job.paths.stdout}", flush=True)
    if options.cluster == "slurm":
        return 0
    failure = wait_for(job)
    print(printable(failure), file=sys.stderr, end="\n" if failure else "")
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
