"""Measure size, speed and memory of a config's model beside a baseline, or how fast clips are loaded.

python tools/benchmark.py --cfg FILE [KEY VALUE ...] [--variants NAME,...] [--measure size,time,memory,steps]
python tools/benchmark.py --cfg FILE [KEY VALUE ...] --point "KEY VALUE ..." [--point "KEY VALUE ..."]...
python tools/benchmark.py --cfg FILE [KEY VALUE ...] --data [--workers 0,1,2,4] [--clips N]
python tools/benchmark.py --cfg FILE [KEY VALUE ...] --epochs
python tools/benchmark.py --cfg FILE [KEY VALUE ...] --soak N
python tools/benchmark.py --stream day|camera|pool|speed|persons|viewers [--model "FILE|zoo://NAME [KEY VALUE ...]"]...

The first form measures on random clips (TRAIN.BATCH_SIZE of them, DATA.TRAIN_CROP_SIZE pixels):
  size    parameters and multiply-adds
  time    prediction and training iteration, for a task with steps also in steps. Variants take turns with the baseline
          in one process, in --iterations rounds; ratios are within a round
  memory  peak of each of these over the idle process, in a process of its own
  steps   peak memory of a training iteration by number of steps
The baseline has the same weights as plain contiguous fp32 nn.Conv3d modules, and reads the whole clip.
A variant is a name, or several joined with +: config (as configured), fp32, bf16, fp16, depthwise_fp32, compile,
graphs (compiled with CUDA graphs), contiguous, channels_last, recompute, unfolded.

Every --point is a set of overrides: time and memory of a training iteration, each in a process of its own. Points take
turns, --repeats times; the table gives medians.

--data loads clips of the configured data set: training clips and test views per second, by stage in --iterations rounds
of --clips clips in this process, and from a loader by number of workers. --epochs is PySlowFast's benchmark: it loads
BENCHMARK.NUM_EPOCHS epochs of training clips, with a line every BENCHMARK.LOG_PERIOD iterations. --soak N lets one
worker make N training clips and tells whether its memory grows. For one core: taskset -c 0 env OMP_NUM_THREADS=1
python tools/benchmark.py ...

--stream measures streams, and prints a table of Markdown. A model is a checkpoint, or a YAML file with random weights:
  day     memory of the process at each of --hours hours of a looped file in one session, as fast as it goes
  camera  the same of a source like a camera, which stalls, falls silent, hangs up and comes back
  pool    --streams streams at once beside one after the other, in --iterations rounds; their answers, and their memory
  speed   time and multiply-adds per second of video, and delay of the answers, of each --model in --variants, beside
          clips of the same backbone that answer as often, in turn; random weights, the clips of noise
  persons time of a frame in the detector --detector FILE.onnx, and in the tracker
  viewers tools/serve.py with --streams viewers for --seconds: delay, dropped frames, memory, errors. Half of them watch
          videos, and half send frames of cameras; needs the extra web
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slowfast.apps.benchmark.compare import WORKS
from slowfast.apps.benchmark.data import SPLITS
from slowfast.apps.benchmark.run import (
    MEASURES,
    ConfigSource,
    compare_points,
    measure_epochs,
    measure_loading,
    measure_model,
    watch_worker,
)
from slowfast.apps.benchmark.stream_speed import compare_speed, measure_persons
from slowfast.apps.benchmark.streams import compare_pool, watch_camera, watch_day
from slowfast.apps.benchmark.viewers import watch_server
from slowfast.utils.errors import exit_status, names_among
from slowfast.utils.files import atomic_write_local

STREAM_KINDS = ("day", "camera", "pool", "speed", "persons", "viewers")


def _worker_counts(text: str) -> list[int]:
    """Parse comma-separated numbers, each at least 0."""
    counts = [int(word) for word in text.split(",")]
    if min(counts) < 0:
        raise argparse.ArgumentTypeError(f"{min(counts)} is less than 0")
    return counts


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", metavar="FILE", help="YAML file")
    parser.add_argument("--iterations", type=int, default=5, metavar="N", help="rounds, or timed iterations of a point")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="processes of each measurement of memory")
    parser.add_argument("--output", type=Path, metavar="JSON", help="file to write the results to")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the file's")
    speed = parser.add_argument_group("size, speed and memory")
    speed.add_argument("--variants", default="fp32,bf16", metavar="NAME,...", help="default: fp32,bf16")
    names = {"metavar": "NAME,...", "help": "default: all"}
    speed.add_argument("--measure", type=names_among(MEASURES), default=list(MEASURES), **names)
    speed.add_argument("--works", type=names_among(WORKS), default=list(WORKS), **names)
    speed.add_argument("--baseline", action=argparse.BooleanOptionalAction, default=True, help="measure it too")
    speed.add_argument(
        "--steps", type=int, nargs="+", default=[], metavar="N", help="default: 1, the config's, and twice as many"
    )
    speed.add_argument("--point", action="append", default=[], metavar="'KEY VALUE ...'", help="overrides of a point")
    data = parser.add_argument_group("loading clips")
    data.add_argument("--data", action="store_true", help="measure loading")
    data.add_argument("--splits", type=names_among(SPLITS), default=list(SPLITS), **names)
    data.add_argument("--workers", type=_worker_counts, default=[0, 1, 2, 4], metavar="N,...", help="default: 0,1,2,4")
    data.add_argument("--clips", type=int, default=60, metavar="N", help="of a round, or of a loader (default: 60)")
    data.add_argument("--epochs", action="store_true", help="load whole epochs, as the section BENCHMARK says")
    data.add_argument("--soak", type=int, default=0, metavar="N", help="measure a worker's memory over N clips instead")
    stream = parser.add_argument_group("streams")
    stream.add_argument("--stream", choices=STREAM_KINDS, help="what to measure")
    stream.add_argument("--model", action="append", default=[], metavar="'FILE [KEY VALUE ...]'", help="a model")
    stream.add_argument("--hours", type=int, default=24, metavar="N", help="of the day (default: 24)")
    stream.add_argument("--streams", type=int, default=64, metavar="N", help="of the pool, or viewers (default: 64)")
    stream.add_argument("--seconds", type=int, default=120, metavar="N", help="of the viewers (default: 120)")
    stream.add_argument("--detector", default="", metavar="FILE.onnx", help="detector of persons")
    args = parser.parse_args(argv)
    if bool(args.cfg) == bool(args.stream):
        parser.error("give --cfg FILE, or --stream KIND")
    if args.stream and args.overrides:
        parser.error(f"{' '.join(args.overrides)} goes with --cfg; with --stream write --model 'FILE KEY VALUE'")
    for name in ("iterations", "repeats", "clips", "hours", "streams", "seconds"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} {getattr(args, name)} must be at least 1")
    if args.output and not args.output.absolute().parent.is_dir():
        parser.error(f"--output {args.output}: make its folder first")
    return args


def _measure_stream(args: argparse.Namespace) -> dict[str, Any]:
    """Measure streams; ValueError if it takes another number of models."""
    if args.stream == "persons":
        return measure_persons(args.detector, rounds=args.iterations)
    if args.stream == "speed":
        return compare_speed(args.model, args.variants.split(","), args.iterations)
    if len(args.model) != 1:
        raise ValueError(f"--stream {args.stream} measures one model, and {len(args.model)} are named with --model")
    if args.stream == "day":
        return watch_day(args.model[0], args.hours)
    if args.stream == "camera":
        return watch_camera(args.model[0], args.hours)
    if args.stream == "viewers":
        return watch_server(Path(__file__).with_name("serve.py"), args.model[0], args.streams, args.seconds)
    return compare_pool(args.model[0], args.streams, args.iterations)


def _run(args: argparse.Namespace) -> None:
    """Measure, and write the results as JSON if asked to."""
    source = ConfigSource(args.cfg, args.overrides)
    if args.stream:
        measured = _measure_stream(args)
    elif args.soak:
        measured = watch_worker(source, args.soak)
    elif args.epochs:
        measured = measure_epochs(source)
    elif args.data:
        measured = measure_loading(source, args.splits, args.workers, args.clips, args.iterations)
    elif args.point:
        measured = compare_points(source, args.point, args.iterations, args.repeats)
    else:
        variants = args.variants.split(",")
        measured = measure_model(
            source, variants, args.measure, args.works, args.baseline, args.iterations, args.repeats, args.steps
        )
    if args.output:
        atomic_write_local(args.output, json.dumps(measured, indent=2) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parse_args(argv)
    return exit_status(lambda: _run(args))


if __name__ == "__main__":
    sys.exit(main())
