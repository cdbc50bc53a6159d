"""Test, whatever `TRAIN.ENABLE` and `TEST.ENABLE` say: `python tools/test_net.py --cfg FILE [KEY VALUE ...]`."""

import sys

from slowfast.engine.command import main

if __name__ == "__main__":
    sys.exit(main(extra=["TRAIN.ENABLE", False, "TEST.ENABLE", True], description=__doc__))
