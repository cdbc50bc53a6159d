"""Show in a browser what a model sees, live: videos, cameras, and what its memory does.

python tools/serve.py --checkpoint FILE|zoo://NAME [--checkpoint ...] [--host ADDRESS --token SECRET] [--port N]
                      [--boxes FILE.onnx|zoo://NAME] [--sources] [--max-upload-mb N] [--max-seconds S]
                      [--max-videos N] [--max-sessions N] [--max-idle-seconds S] [--device NAME]

The page is for this machine alone, unless --host lets others in, which takes a token. Ctrl-C ends it, and removes what
viewers uploaded. See docs/web.md.
"""

import argparse
import sys
from collections.abc import Sequence

from slowfast.apps.serve.limits import ServeLimits
from slowfast.apps.serve.models import load_models
from slowfast.apps.serve.server import ServeOptions, serve, web_server
from slowfast.runtime.logging import setup_logging
from slowfast.utils.errors import exit_status


def _mebibytes(text: str) -> int:
    """Parse a number of MiB; return bytes."""
    try:
        return int(float(text) * 2**20)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of MiB") from None


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    options, limits = ServeOptions(), ServeLimits()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint", required=True, action="append", metavar="FILE", help="checkpoint, or zoo://NAME; repeatable"
    )
    parser.add_argument("--host", default=options.host, metavar="ADDRESS", help="address to listen on, with --token")
    parser.add_argument(
        "--port", type=int, default=options.port, metavar="N", help=f"0: any that is free (default: {options.port})"
    )
    parser.add_argument("--token", default="", metavar="SECRET", help="what viewers have to know; 8 characters or more")
    parser.add_argument(
        "--boxes",
        default="",
        metavar="FILE",
        help="for models that score boxes of persons: a .onnx file or zoo://NAME of a detector, or detectron2",
    )
    parser.add_argument("--sources", action="store_true", help="viewers may name addresses and cameras of the server")
    parser.add_argument(
        "--max-upload-mb",
        type=_mebibytes,
        default=limits.upload_bytes,
        metavar="N",
        help=f"MiB of a video (default: {limits.upload_bytes / 2**20:g})",
    )
    parser.add_argument(
        "--max-seconds",
        type=float,
        default=limits.seconds,
        metavar="S",
        help=f"length of a video (default: {limits.seconds:g})",
    )
    parser.add_argument(
        "--max-videos", type=int, default=limits.videos, metavar="N", help=f"uploads kept (default: {limits.videos})"
    )
    parser.add_argument(
        "--max-sessions",
        type=int,
        default=limits.sessions,
        metavar="N",
        help=f"streams at a time (default: {limits.sessions})",
    )
    parser.add_argument(
        "--max-idle-seconds",
        type=float,
        default=limits.idle_s,
        metavar="S",
        help=f"time for which answers, unused uploads and silent cameras are kept (default: {limits.idle_s:g})",
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: the GPU if there is one)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    return parser.parse_args(argv)


def _run(args: argparse.Namespace) -> None:
    """Serve the page."""
    setup_logging()
    web_server()  # before the models are read
    limits = ServeLimits(
        args.max_upload_mb, args.max_seconds, args.max_videos, args.max_sessions, args.max_idle_seconds
    )
    options = ServeOptions(args.host, args.port, args.token, args.sources, limits)
    serve(load_models(args.checkpoint, args.device, args.boxes), options)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parse_args(argv)
    return exit_status(lambda: _run(args), args.debug, "the page is closed")


if __name__ == "__main__":
    sys.exit(main())
