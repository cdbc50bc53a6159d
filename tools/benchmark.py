"""Size, speed and memory of a configuration's model next to a plain baseline; or what a truncated gradient leaves out.

python tools/benchmark.py --cfg FILE [KEY VALUE ...] [--variants NAME,...] [--measure size,time,memory,steps]
python tools/benchmark.py --cfg FILE [KEY VALUE ...] --point "KEY VALUE ..." [--point "KEY VALUE ..."]...
python tools/benchmark.py --cfg FILE [KEY VALUE ...] --truncation-gap [--steps N ...] [--checkpoint FILE]...
python tools/benchmark.py --cfg FILE [KEY VALUE ...] --data [--workers 0,1,2,4] [--clips N] [--soak N]

The first form works on random clips (TRAIN.BATCH_SIZE of them, DATA.TRAIN_CROP_SIZE pixels) and gives
  size    parameters and multiply-adds
  time    of predicting and of a training iteration; for a configuration that reads clips in steps also in steps. The
          variants take turns with the baseline in one process, in --iterations rounds; ratios are of the same round
  memory  of each of these, over the idle process, in a process of its own
  steps   memory of a training iteration in steps against the number of --steps, in a process of its own
The baseline is the same weights as plain contiguous fp32 nn.Conv3d modules, on the whole clip.
A variant is words joined with +: config (as it is set), fp32, bf16, fp16, compile, contiguous, channels_last,
recompute, unfolded.

Every --point is a set of overrides of its own: time and memory of a training iteration, each in a process of its own,
the points in turn `--repeats` times; the table gives medians.

--truncation-gap compares, for a model that reads a clip in steps, the gradient that is cut between steps with the full
one, on training batches in train mode, by layer and number of steps, and measures the memory each needs.

--data loads clips of the configured data set: training clips and test views a second, by stage in --iterations rounds
of --clips clips in this process, and from a loader with each number of workers. --soak N has one worker make N training
clips and says whether its memory stays flat. For one core: taskset -c 0 env OMP_NUM_THREADS=1 python tools/benchmark.py
"""

import argparse
import json
import shlex
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from fvcore.common.config import CfgNode

from pgt.analysis.report import DEPTHS, as_values, format_gap, format_memory, plot_gap
from pgt.analysis.truncation import RANDOM, gap_of_weights, gradient_memory, step_task
from slowfast.apps.benchmark.compare import (
    BASELINE,
    WORKS,
    Variant,
    compare,
    has_steps,
    make_variant,
    measure_alone,
    steps_config,
)
from slowfast.apps.benchmark.data import SPLITS, measure_data, soak
from slowfast.apps.benchmark.report import (
    as_rows,
    format_data,
    format_points,
    format_soak,
    format_steps,
    format_work,
    machine,
)
from slowfast.config import load_config
from slowfast.engine.task import task_class
from slowfast.models.complexity import complexity
from slowfast.runtime.device import device_of

MEASURES = ("size", "time", "memory", "steps")


def words(text: str) -> list[str]:
    """The words of a list with commas."""
    return text.split(",")


def numbers(text: str) -> list[int]:
    """The numbers, 0 or more, of a list with commas."""
    found = [int(word) for word in words(text)]
    if min(found) < 0:
        raise argparse.ArgumentTypeError(f"{min(found)} is less than 0")
    return found


def words_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """`words` that must be among `known`."""

    def parse(text: str) -> list[str]:
        unknown = [word for word in words(text) if word not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
        return words(text)

    return parse


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", required=True, help="YAML file")
    parser.add_argument("--iterations", type=int, default=5, help="rounds, or timed iterations of a point (median)")
    parser.add_argument("--repeats", type=int, default=3, help="processes a point of memory (median)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("opts", nargs="*", help="KEY VALUE ...", metavar="KEY VALUE")
    speed = parser.add_argument_group("size, speed and memory")
    speed.add_argument("--variants", type=words, default="fp32,bf16", metavar="NAME,...", help="default: fp32,bf16")
    speed.add_argument(
        "--measure", type=words_of(MEASURES), default=list(MEASURES), metavar="WHAT,...", help="default: all four"
    )
    speed.add_argument(
        "--works", type=words_of(WORKS), default=list(WORKS), metavar="WORK,...", help=f"default: {','.join(WORKS)}"
    )
    speed.add_argument("--baseline", action=argparse.BooleanOptionalAction, default=True, help="measure it too")
    speed.add_argument("--point", action="append", default=[], help="overrides of one point, quoted")
    gap = parser.add_argument_group("how much truncation leaves out")
    gap.add_argument("--truncation-gap", action="store_true", help="measure this")
    gap.add_argument(
        "--steps",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="numbers of steps (default: 1 to all; for memory 1, all and twice as many)",
    )
    gap.add_argument("--batches", type=int, default=8, help="training batches to average over")
    gap.add_argument(
        "--checkpoint",
        action="append",
        metavar="FILE",
        help='weights, or "random"; several in turn (default: TRAIN.CHECKPOINT_FILE_PATH, or random)',
    )
    gap.add_argument("--by", choices=DEPTHS, default="stage", help="what a row is of")
    gap.add_argument("--plot", type=Path, metavar="PNG", help="picture to draw (needs matplotlib)")
    data = parser.add_argument_group("loading clips")
    data.add_argument("--data", action="store_true", help="measure this")
    data.add_argument(
        "--splits", type=words_of(SPLITS), default=list(SPLITS), metavar="SPLIT,...", help="default: both"
    )
    data.add_argument("--workers", type=numbers, default=[0, 1, 2, 4], metavar="N,...", help="default: 0,1,2,4")
    data.add_argument("--clips", type=int, default=60, help="of a round, or of a loader (default: 60)")
    data.add_argument("--soak", type=int, default=0, metavar="N", help="watch a worker's memory over N clips instead")
    child = parser.add_argument_group("one point of memory, measured in this process and printed as a line of JSON")
    child.add_argument("--in-process", action="store_true", help="measure a training iteration, or one of the next two")
    child.add_argument("--arm", nargs=2, metavar=("WORK", "NAME"), help="a work, and a variant or the baseline")
    child.add_argument("--gradient", choices=("truncated", "full"), help="one gradient, at --steps N")
    return parser.parse_args()


def measure_in_child(args: argparse.Namespace, overrides: str, *options: str) -> dict[str, float] | None:
    """The figures of one point, from a fresh process; None where its memory ran out."""
    command = [sys.executable, __file__, "--in-process", "--cfg", args.cfg]
    command += [*options, "--", *args.opts, *shlex.split(overrides)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode == -signal.SIGKILL:
        return None
    done.check_returncode()
    return json.loads(done.stdout.splitlines()[-1])


def measure_in_process(args: argparse.Namespace) -> dict[str, float] | None:
    """The figures of one point, here; None where memory ran out."""
    steps = args.steps[0] if args.steps else None
    if args.gradient:
        return gradient_memory(load_config(args.cfg, args.opts), steps, args.gradient == "truncated")
    work, name = args.arm or ("train_steps", "config")
    try:
        return measure_alone(variant_of(args, work, name, steps), work.startswith("train"), args.iterations)
    except torch.OutOfMemoryError:
        return None


def median_of_children(args: argparse.Namespace, *options: str) -> dict[str, float] | None:
    """Medians over `--repeats` processes; None where memory ran out."""
    results = [measure_in_child(args, "", "--iterations", "0", *options) for _ in range(args.repeats)]
    return None if None in results else medians(results)


def medians(results: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(result[key] for result in results) for key in results[0]}


def variant_of(args: argparse.Namespace, work: str, name: str, steps: int | None = None) -> Variant:
    """One way to do a work, with the settings of the command line."""
    return make_variant(lambda overrides: load_config(args.cfg, [*args.opts, *overrides]), work, name, steps)


def measure_model(args: argparse.Namespace) -> dict:
    """Size, speed and memory of a configuration, with tables."""
    cfg = load_config(args.cfg, args.opts)
    arms = [BASELINE, *args.variants] if args.baseline else args.variants
    works = [work for work in args.works if has_steps(cfg) or not work.endswith("_steps")]
    for work in works:  # a mistake shows before the first measurement
        for name in arms:
            variant_of(args, work, name)
    where = machine(device_of(cfg))
    clips = {"batch": cfg.TRAIN.BATCH_SIZE, "frames": cfg.DATA.NUM_FRAMES, "crop": cfg.DATA.TRAIN_CROP_SIZE}
    print(f"{args.cfg} {shlex.join(args.opts)}\n{', '.join(f'{key} {value}' for key, value in where.items())}")
    print(", ".join(f"{key} {value}" for key, value in clips.items()))
    result = {"cfg": args.cfg, "overrides": args.opts, "machine": where, "clips": clips}
    result |= {"rounds": args.iterations, "repeats": args.repeats}
    if "size" in args.measure:
        size = complexity(cfg)
        print(size, flush=True)
        result |= {"parameters": size.parameters, "gflops": size.multiply_adds / 1e9}
    result["works"] = {work: measure_work(args, work, arms) for work in works}
    if "steps" in args.measure and has_steps(cfg):
        result["memory_by_steps"] = memory_by_steps(args, cfg, arms)
    return result


def measure_work(args: argparse.Namespace, work: str, arms: list[str]) -> list[dict]:
    """Time and memory of one work in every way, with a table."""
    rows = [{"name": name} for name in arms]
    if "time" in args.measure:
        made = [variant_of(args, work, name) for name in arms]
        rows = as_rows(compare(made, work.startswith("train"), args.iterations), made[0].cfg.TRAIN.BATCH_SIZE)
    if "memory" in args.measure:
        for row in rows:
            memory = median_of_children(args, "--arm", work, row["name"]) or {}
            row |= {key: memory.get(key) for key in ("peak_mib", "process_mib")}
    if len(rows[0]) > 1:
        print(f"\n{format_work(work, rows)}", flush=True)
    return rows


def memory_by_steps(args: argparse.Namespace, cfg: CfgNode, arms: list[str]) -> list[dict]:
    """Memory of a training iteration in steps for each number of steps, with a table."""
    own = task_class(cfg)(cfg).num_steps
    points = []
    for steps in args.steps or sorted({1, own, 2 * own}):
        memory = {name: median_of_children(args, "--arm", "train_steps", name, "--steps", str(steps)) for name in arms}
        frames = steps_config(cfg, steps).DATA.NUM_FRAMES
        peaks = {name: value and value["peak_mib"] for name, value in memory.items()}
        points.append({"steps": steps, "frames": frames, "peak_mib": peaks})
    print(f"\n{format_steps(points)}", flush=True)
    return points


def compare_points(args: argparse.Namespace) -> list[dict]:
    """Time and memory of a training iteration at every point, with a table."""
    runs = {point: [] for point in args.point}
    for _ in range(args.repeats):
        for point in args.point:
            runs[point].append(measure_in_child(args, point, "--iterations", str(args.iterations)))
    lacking = [point for point, results in runs.items() if None in results]
    if lacking:
        raise ValueError(f"memory ran out at --point {lacking[0]!r}")
    rows = [{"point": point, **medians(results)} for point, results in runs.items()]
    print(format_points(rows))
    return rows


def measure_loading(args: argparse.Namespace) -> dict:
    """Clips a second of the configured data set, or the memory of a worker, with tables."""
    cfg = load_config(args.cfg, args.opts)
    if min(args.clips, args.iterations) < 1 or args.soak < 0:
        raise ValueError("--clips and --iterations must be at least 1, and --soak at least 0")
    result = {"cfg": args.cfg, "overrides": args.opts, "machine": machine(torch.device("cpu"))}
    result |= {"frames": cfg.DATA.NUM_FRAMES, "sampling_rate": cfg.DATA.SAMPLING_RATE}
    print(
        f"{args.cfg} {shlex.join(args.opts)}\n{', '.join(f'{key} {value}' for key, value in result['machine'].items())}"
    )

    def load(overrides: Sequence) -> CfgNode:
        return load_config(args.cfg, [*args.opts, *overrides])

    if args.soak:
        result["soak"] = soak(load, args.soak)
        print(format_soak(result["soak"]))
    else:
        result["data"] = measure_data(load, args.splits, args.workers, args.clips, args.iterations)
        print("\n" + "\n\n".join(format_data(split, figures) for split, figures in result["data"].items()))
    return result


def compare_gradients(args: argparse.Namespace) -> dict:
    """The gap of a truncated gradient and the memory of both, with tables and the plot."""
    cfg = load_config(args.cfg, args.opts)
    weights = args.checkpoint or [cfg.TRAIN.CHECKPOINT_FILE_PATH or RANDOM]
    _, steps = step_task(cfg, args.steps)
    print(f"{args.batches} batches of {cfg.TRAIN.BATCH_SIZE} clips; train mode, full precision", flush=True)
    results = []
    for source, gaps in gap_of_weights(cfg, steps, args.batches, weights):
        results.append(as_values(source, steps, gaps, args.by))
        print(f"\n{format_gap(results[-1])}", flush=True)
    memory = [
        {"steps": count, **{kind: memory_of_gradient(args, count, kind) for kind in ("truncated", "full")}}
        for count in steps
    ]
    print(f"\npeak memory of one gradient, over the idle process\n{format_memory(memory)}")
    if args.plot:
        plot_gap(args.plot, results, memory)
    return {"batches": args.batches, "batch_size": cfg.TRAIN.BATCH_SIZE, "gap": results, "memory_mib": memory}


def memory_of_gradient(args: argparse.Namespace, steps: int, kind: str) -> float:
    """Peak memory of one gradient in MiB, the median over `--repeats` fresh processes."""
    return median_of_children(args, "--gradient", kind, "--steps", str(steps))["peak_mib"]


def main() -> int:
    args = parse_args()
    measure = compare_gradients if args.truncation_gap else compare_points if args.point else measure_model
    if args.data or args.soak:
        measure = measure_loading
    try:
        if args.in_process:
            print(json.dumps(measure_in_process(args)))
            return 0
        measured = measure(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"error: the process above, {shlex.join(map(str, error.cmd))}, failed", file=sys.stderr)
        return 1
    if args.output:
        args.output.write_text(json.dumps(measured, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
