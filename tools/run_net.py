"""Train, test, visualize and run the demo as a config says: `python tools/run_net.py --cfg FILE [KEY VALUE ...]`."""

import sys
from collections.abc import Sequence

from slowfast.apps.demo.run import run_demo
from slowfast.apps.visualize.run import visualize
from slowfast.apps.visualize.settings import check
from slowfast.engine.command import App
from slowfast.engine.command import main as command


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the config enables; return the exit status."""
    return command(argv, description=__doc__, demo=App(run_demo), visualize=App(visualize, check))


if __name__ == "__main__":
    sys.exit(main())
