"""Draw a model's answers into a video or a camera's pictures: `python tools/demo_net.py --cfg FILE [KEY VALUE ...]`.

The section DEMO says what is shown; see docs/demo_net.md. Without --cfg, a checkpoint's own settings are taken.
"""

import sys
from collections.abc import Sequence

from slowfast.apps.demo.run import run_demo
from slowfast.engine.command import App
from slowfast.engine.command import main as command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo, and no training or test; return the exit status."""
    alone = ["TRAIN.ENABLE", False, "TEST.ENABLE", False, "DEMO.ENABLE", True]
    return command(argv, extra=alone, description=__doc__, demo=App(run_demo))


if __name__ == "__main__":
    sys.exit(main())
