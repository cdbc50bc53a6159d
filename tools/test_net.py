"""Test, whatever `TRAIN.ENABLE` and `TEST.ENABLE` say: `python tools/test_net.py --cfg FILE [KEY VALUE ...]`."""

import sys
from collections.abc import Sequence

from slowfast.engine.arguments import parse_arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Test, and train nothing; return the exit status."""
    arguments = parse_arguments(argv, __doc__)
    # Late, since it imports PyTorch, which takes seconds that --help and a wrong option do not need.
    from slowfast.engine import command

    return command.main(arguments, extra=["TRAIN.ENABLE", False, "TEST.ENABLE", True])


if __name__ == "__main__":
    sys.exit(main())
