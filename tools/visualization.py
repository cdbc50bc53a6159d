"""Draw what a model sees and confuses: `python tools/visualization.py --cfg FILE [KEY VALUE ...]`.

The section TENSORBOARD says what is drawn; see docs/visualization.md. Without --cfg, a checkpoint's own settings are
taken. Pictures are for TensorBoard, and files in OUTPUT_DIR/visualization.
"""

import sys
from collections.abc import Sequence

from slowfast.apps.visualize.run import visualize
from slowfast.engine.command import App
from slowfast.engine.command import main as command


def main(argv: Sequence[str] | None = None) -> int:
    """Visualize, and run no training, test or demo; return the exit status."""
    alone = ["TRAIN.ENABLE", False, "TEST.ENABLE", False, "DEMO.ENABLE", False, "TENSORBOARD.ENABLE", True]
    return command(argv, extra=alone, description=__doc__, visualize=App(visualize))


if __name__ == "__main__":
    sys.exit(main())
