"""Export a trained model as ONNX and torch.export files, each checked against the model.

python tools/export.py [--cfg FILE] [--checkpoint FILE] --output DIR [--format onnx pt2] [--batch N] [--int8 CLIPS]
    [KEY VALUE ...]

A clip model becomes `model.onnx` and `model.pt2`. A model that reads in steps becomes `first_step` and `next_step`, its
memory among inputs and outputs. `export.json` describes the files. See docs/export.md.
"""

import argparse
import sys
from collections.abc import Sequence

from slowfast.apps.export.export import export
from slowfast.engine.resume import load_run_config
from slowfast.runtime.logging import setup_logging
from slowfast.utils.errors import exit_status


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", metavar="FILE", help="YAML file (default: the config in the checkpoint)")
    parser.add_argument("--checkpoint", metavar="FILE", help="weights (TEST.CHECKPOINT_FILE_PATH)")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the files")
    parser.add_argument("--format", nargs="+", choices=("onnx", "pt2"), default=["onnx", "pt2"], dest="formats")
    parser.add_argument("--batch", type=int, metavar="N", help="fixed batch size (default: any)")
    parser.add_argument("--opset", type=int, metavar="N", help="ONNX opset version (default: the exporter's)")
    parser.add_argument("--int8", type=int, metavar="CLIPS", help="int8 ONNX files too, calibrated on validation clips")
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the file's")
    return parser.parse_intermixed_args(argv)


def _run(args: argparse.Namespace) -> None:
    """Export, and print the paths of the files."""
    setup_logging()
    checkpoint = ["TEST.CHECKPOINT_FILE_PATH", args.checkpoint] if args.checkpoint else []
    cfg = load_run_config(args.cfg, [*checkpoint, *args.overrides])
    about = export(cfg, args.output, args.formats, args.batch, args.opset, args.int8)
    print("\n".join(f"{args.output}/{name}" for graph in about["graphs"] for name in graph["files"]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parse_args(argv)
    return exit_status(lambda: _run(args), args.debug)


if __name__ == "__main__":
    sys.exit(main())
