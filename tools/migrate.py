"""Tell what of a project that was written for PySlowFast works here.

python tools/migrate.py FOLDER [--json FILE]

Python and YAML files of FOLDER are read; nothing of them is run. For each name of PySlowFast's that the project
imports, each class that it registers and each key of its settings, a line tells what it is here: `same` works as it is,
`mapped` works and has another name here, `missing` has to be changed. See docs/migrating.md.

Exit status 0: all works. 1: something is missing. 2: a wrong argument.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from slowfast.apps.migrate.scan import MAPPED, MISSING, SAME, Finding, scan
from slowfast.runtime.distributed import atomic_write
from slowfast.utils.errors import exit_status

_TITLES = {
    MISSING: "to be changed",
    MAPPED: "works, under another name here",
    SAME: "works as it is",
}


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", help="folder of the project")
    parser.add_argument("--json", metavar="FILE", help="file to write the findings to")
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    return parser.parse_args(argv)


def _lines(findings: list[Finding]) -> list[str]:
    """Return the findings as text, by verdict."""
    lines = []
    for verdict, title in _TITLES.items():
        found = [finding for finding in findings if finding.verdict == verdict]
        if found:
            lines += ["", f"{verdict}: {title} ({len(found)})"]
        for finding in found:
            more = f" and {len(finding.places) - 1} more" if len(finding.places) > 1 else ""
            lines.append(f"  {finding.name} -> {finding.here} ({finding.places[0]}{more})")
    return lines[1:] or ["nothing of PySlowFast's is used here"]


def _run(args: argparse.Namespace) -> int:
    """Read the project, print and write the findings; return the exit status."""
    findings = scan(args.folder)
    print("\n".join(_lines(findings)))
    if args.json:
        atomic_write(args.json, json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2) + "\n")
    return 1 if any(finding.verdict == MISSING for finding in findings) else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parse_args(argv)
    return exit_status(lambda: _run(args), args.debug)


if __name__ == "__main__":
    sys.exit(main())
