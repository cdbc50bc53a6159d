"""Train, test, visualize and run the demo as a config says: `python tools/run_net.py --cfg FILE [KEY VALUE ...]`."""

import sys
from collections.abc import Sequence

from slowfast.engine.arguments import parse_arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the config enables; return the exit status."""
    arguments = parse_arguments(argv, __doc__)
    # Late, since they import PyTorch, which takes seconds that --help and a wrong option do not need.
    from slowfast.apps.demo.run import run_demo
    from slowfast.apps.visualize.run import visualize
    from slowfast.apps.visualize.settings import check
    from slowfast.engine import command

    return command.main(arguments, demo=command.App(run_demo), visualize=command.App(visualize, check))


if __name__ == "__main__":
    sys.exit(main())
