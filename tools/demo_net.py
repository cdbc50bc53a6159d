"""Draw a model's answers into a video or a camera's pictures: `python tools/demo_net.py --cfg FILE [KEY VALUE ...]`.

The section DEMO says what is shown; see docs/demo_net.md. Without --cfg, a checkpoint's own settings are taken.
"""

import sys
from collections.abc import Sequence

from slowfast.engine.arguments import parse_arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo, and no training or test; return the exit status."""
    arguments = parse_arguments(argv, __doc__)
    # Late, since they import PyTorch, which takes seconds that --help and a wrong option do not need.
    from slowfast.apps.demo.run import run_demo
    from slowfast.engine import command

    alone = ["TRAIN.ENABLE", False, "TEST.ENABLE", False, "DEMO.ENABLE", True]
    return command.main(arguments, extra=alone, demo=command.App(run_demo))


if __name__ == "__main__":
    sys.exit(main())
