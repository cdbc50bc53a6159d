"""Draw what a model sees and confuses: `python tools/visualization.py --cfg FILE [KEY VALUE ...]`.

The section TENSORBOARD says what is drawn; see docs/visualization.md. Without --cfg, a checkpoint's own settings are
taken. Pictures are for TensorBoard, and files in OUTPUT_DIR/visualization.
"""

import sys
from collections.abc import Sequence

from slowfast.engine.arguments import parse_arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Visualize, and run no training, test or demo; return the exit status."""
    arguments = parse_arguments(argv, __doc__)
    # Late, since they import PyTorch, which takes seconds that --help and a wrong option do not need.
    from slowfast.apps.visualize.run import visualize
    from slowfast.engine import command

    alone = ["TRAIN.ENABLE", False, "TEST.ENABLE", False, "DEMO.ENABLE", False, "TENSORBOARD.ENABLE", True]
    return command.main(arguments, extra=alone, visualize=command.App(visualize))


if __name__ == "__main__":
    sys.exit(main())
