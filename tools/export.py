"""Write a trained model for other programs: ONNX and torch.export files, each checked against the model.

python tools/export.py [--cfg FILE] [--checkpoint FILE] --output DIR [--format onnx pt2] [--batch N] [KEY VALUE ...]

A clip model becomes `model.onnx` and `model.pt2`; a model that reads in steps `first_step` and `next_step`, with its
memory as inputs and outputs. `export.json` names and measures all of them. See docs/export.md.
"""

import argparse
import sys

from slowfast.apps.export.export import export
from slowfast.engine.checkpoint_config import load_run_config
from slowfast.runtime.logging import setup_logging
from slowfast.utils.errors import exit_status


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", metavar="FILE", help="YAML file of settings; without it the checkpoint's own")
    parser.add_argument("--checkpoint", metavar="FILE", help="weights (TEST.CHECKPOINT_FILE_PATH)")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the files")
    parser.add_argument("--format", nargs="+", choices=("onnx", "pt2"), default=["onnx", "pt2"], dest="formats")
    parser.add_argument("--batch", type=int, metavar="N", help="clips at a time; default: any number")
    parser.add_argument("--opset", type=int, metavar="N", help="version of ONNX's operators; default: the exporter's")
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the file's")
    return parser.parse_intermixed_args()


def run(args: argparse.Namespace) -> None:
    """Export, and name the files."""
    given = ["TEST.CHECKPOINT_FILE_PATH", args.checkpoint] if args.checkpoint else []
    overrides = [*given, *args.overrides]
    setup_logging()
    cfg = load_run_config(args.cfg, overrides)
    about = export(cfg, args.output, args.formats, args.batch, args.opset)
    print("\n".join(f"{args.output}/{name}" for graph in about["graphs"] for name in graph["files"]))


def main() -> int:
    args = parse_args()
    return exit_status(lambda: run(args), args.debug)


if __name__ == "__main__":
    sys.exit(main())
