"""Options of training and testing: `[--cfg FILE ...] [KEY VALUE ...]`.

This file imports nothing that imports PyTorch. Tools parse before they import the rest, which takes seconds, so
`--help` and a wrong option are answered at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

_FILE_OPTIONS = ("--cfg", "--cfg_file", "--cfg_files")


def parse_arguments(argv: Sequence[str] | None = None, description: str | None = "") -> argparse.Namespace:
    """Parse the options, with the list `cfg` of files, and `overrides`.

    Args:
        argv: arguments; None for those of this process.
        description: for `--help`.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        *_FILE_OPTIONS,
        dest="cfg",
        action="append",
        metavar="FILE",
        help="YAML file of settings; several (--cfg A.yaml B.yaml) run one after the other, until one fails; without "
        "it a checkpoint is tested with its own settings",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override those of the file")
    parser.add_argument("--opts", nargs="+", metavar="KEY VALUE", help="the same, as in older command lines")
    parser.add_argument(
        "--num_procs", type=int, help="with NUM_GPUS 0: this many CPU processes that share each batch (for tests)"
    )
    parser.add_argument("--num_shards", type=int, metavar="N", help="number of hosts (not under torchrun)")
    parser.add_argument("--shard_id", type=int, metavar="I", help="index of this host, from 0")
    parser.add_argument(
        "--init_method", default="", metavar="tcp://HOST:PORT", help="rendezvous: address and port of host 0"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    return parser.parse_intermixed_args(_one_file_an_option(sys.argv[1:] if argv is None else argv))


def _one_file_an_option(argv: Sequence[str]) -> list[str]:
    """Put `--cfg` before every further YAML file: with nargs="+" argparse would take overrides for files."""
    words: list[str] = []
    in_files = False
    for word in argv:
        option = word.partition("=")[0] in _FILE_OPTIONS
        first = bool(words) and words[-1] in _FILE_OPTIONS
        in_files = option or (in_files and (first or word.endswith((".yaml", ".yml"))))
        if in_files and not option and not first:
            words.append(_FILE_OPTIONS[0])
        words.append(word)
    return words
