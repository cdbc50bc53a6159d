"""Train and test as a config says: `python tools/run_net.py --cfg FILE [KEY VALUE ...]`."""

import sys

from slowfast.engine.command import main

if __name__ == "__main__":
    sys.exit(main(description=__doc__))
