"""Check this machine: versions, GPUs, memory, limits and decoders, and what is wrong, with a remedy for each.

python tools/check_env.py [--cfg FILE] [--self-test] [--no-compile] [KEY VALUE ...]

Prints one block of Markdown to paste into an issue. --self-test takes a minute: are the numbers of each device those of
float64, how fast are precisions, layouts and compiled code, do the GPUs talk to each other. Exit status 0: no fault.
1: a fault, with which runs fail. 2: the check could not run, for instance because of a wrong setting. See docs/gpu.md.
"""

import argparse
import sys
from collections.abc import Sequence

from slowfast.apps.doctor import report, self_test
from slowfast.apps.doctor.machine import Machine
from slowfast.apps.doctor.problems import Loading, find_problems
from slowfast.config import load_config
from slowfast.runtime.logging import setup_logging
from slowfast.utils.errors import exit_status


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", metavar="FILE", help="YAML file of the run to come (default: the settings' defaults)")
    parser.add_argument("--self-test", action="store_true", help="compute and measure too; takes a minute")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, half of that minute")
    parser.add_argument("--crop", type=int, default=0, metavar="N", help="pixels of the self-test's clips")
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the file's")
    return parser.parse_intermixed_args(argv)


def _run(args: argparse.Namespace) -> int:
    """Check and print; return the exit status."""
    if args.crop < 0:
        raise ValueError(f"--crop {args.crop} must be at least 0")
    cfg = load_config(args.cfg, args.overrides)
    machine = Machine.here()
    loading = Loading.from_config(cfg, len(machine.gpus), planned=bool(args.cfg or args.overrides))
    problems = find_problems(machine, loading)
    fault = any(problem.fault for problem in problems)
    _print(report.describe(machine, problems))
    if args.self_test:
        numbers = list(self_test.check_numbers(self_test.devices()))
        _print(report.describe_numbers(numbers))
        exchange = self_test.measure_exchange()
        _print(report.describe_exchange(exchange))
        _print(report.describe_speed(self_test.measure_speed(not args.no_compile, args.crop)))
        fault |= any(each.wrong for each in numbers) or (exchange is not None and bool(exchange.failure))
    return int(fault)


def _print(lines: Sequence[str]) -> None:
    print("\n".join(lines), end="\n\n", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parse_args(argv)
    setup_logging()
    return exit_status(lambda: _run(args), args.debug)


if __name__ == "__main__":
    sys.exit(main())
