"""Measure what a method of the long-video benchmark costs: memory and time of a training iteration, work of a test.

    python demo/long_video_cost.py --cfg FILE --output FILE.json [KEY VALUE ...]

Time is that of the CPU, so that other processes of the machine count little.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from slowfast.config import activate_projects, load_config
from slowfast.engine.task import build_task
from slowfast.engine.trial import Trial
from slowfast.models import build_model
from slowfast.models.complexity import complexity
from slowfast.runtime.device import device_of, peak_memory_of
from slowfast.utils.files import atomic_write_local

_COUNTERS = Path("/sys/class/powercap")  # of Linux: energy of whole processors (RAPL)


def read_joules(root: Path = _COUNTERS) -> float | None:
    """Return the energy that all processors of the machine have used since some time, or None if it is not readable.

    The counters start again from zero after some kilojoules.
    """
    counters = [path / "energy_uj" for path in root.glob("intel-rapl:?")]
    try:
        return sum(int(counter.read_text()) for counter in counters) / 1e6 if counters else None
    except OSError:
        return None


def measure(cfg, iterations: int) -> dict:
    """Measure a training iteration, and count the multiply-adds of the prediction for one clip.

    Returns:
        `seconds`, CPU seconds of an iteration (median); `joules`, energy of the machine in an iteration (mean), None
        without a counter; `peak_mib`, memory above the idle process; `gflops`, multiply-adds for a clip of
        DATA.NUM_FRAMES frames, in 10^9.
    """
    train = Trial(cfg, training=True)
    memory = peak_memory_of(train, device_of(cfg))  # first: later it would count what the heap holds
    seconds, before = [], read_joules()
    for _ in range(iterations):
        started = time.process_time()
        train()
        seconds.append(time.process_time() - started)
    after = read_joules()
    return {
        "seconds": statistics.median(seconds),
        "joules": None if before is None or after is None or after < before else (after - before) / iterations,
        "peak_mib": memory["peak_mib"],
        "gflops": multiply_adds(cfg) / 1e9,
    }


def multiply_adds(cfg) -> int:
    """Count the multiply-adds of the prediction for one clip, in steps for a model that reads in steps."""
    task, crop, memory = build_task(cfg), cfg.DATA.TEST_CROP_SIZE, None
    steps = task.clip_steps(cfg.DATA.NUM_FRAMES)
    if steps is None:
        return complexity(cfg, crop).multiply_adds
    with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
        model = build_model(cfg).eval()
        with FlopCounterMode(display=False) as counter:
            for step in steps:
                shapes = zip(cfg.DATA.INPUT_CHANNEL_NUM, step, strict=True)
                inputs = [torch.empty(1, channels, len(places), crop, crop) for channels, places in shapes]
                _, memory = task.predict_step(model, inputs, memory)
    return counter.get_total_flops() // 2


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cfg", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE")
    arguments = parser.parse_args()
    cfg = load_config(arguments.cfg, arguments.overrides)
    activate_projects(cfg)
    result = measure(cfg, arguments.iterations)
    atomic_write_local(arguments.output, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
