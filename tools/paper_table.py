"""Show the published figures of papers' tables beside what was measured, matched by the settings of the tests.

python tools/paper_table.py show [FOLDER ...] [--table WORD] [--format markdown|csv|latex] [--output FILE]
python tools/paper_table.py page

show reads every test_results.json below the folders, with the config.yaml beside it. A test belongs to the rows whose
settings it has, whatever its folder is called. Settings that make no other row (batch, GPUs, crops, schedule, views)
may differ, and are listed. Several seeds give a mean and a standard deviation. page writes the tables of MODEL_ZOO.md
and docs/reproduce.md anew.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from slowfast.apps.paper import table
from slowfast.apps.paper.documents import write_documents
from slowfast.apps.paper.measured import find_results
from slowfast.apps.paper.rows import read_paper
from slowfast.runtime.logging import setup_logging
from slowfast.utils.errors import exit_status
from slowfast.utils.files import atomic_write_local

ROOT = Path(__file__).resolve().parents[1]


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("page")
    show = commands.add_parser("show")
    show.add_argument("folders", nargs="*", metavar="FOLDER", help="folders with results of tests, at any depth")
    show.add_argument("--table", default="", metavar="WORD", help="only rows whose name or table has this word")
    show.add_argument("--format", choices=table.FORMATS, default="markdown", help="default: markdown")
    show.add_argument("--output", metavar="FILE", help="file to write the table to")
    return parser.parse_args(argv)


def _show(args: argparse.Namespace) -> int:
    """Print or write a table; return the exit status."""
    paper = read_paper(ROOT)
    lines, others = table.pair(paper.rows, find_results(args.folders))
    # With results and no word, only rows that were run are of interest.
    chosen = [line for line in lines if args.table.lower() in f"{line.row.table} {line.row.name}".lower()]
    if args.folders and not args.table:
        chosen = [line for line in chosen if line.results]
    if chosen:
        text = table.render(chosen, paper, args.format)
        if args.output:
            atomic_write_local(args.output, text)
        else:
            print(text, end="")
    else:
        print("no row" + (f" has the word {args.table!r}" if args.table else " has the settings of a result"))
    print(table.describe_others(others), end="", file=sys.stderr)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parse_args(argv)
    setup_logging()
    return exit_status(lambda: _show(args) if args.command == "show" else write_documents(ROOT))


if __name__ == "__main__":
    sys.exit(main())
