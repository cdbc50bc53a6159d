"""Experiments, measurements and targets of the demo."""

from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLIP_CFG = ROOT / "configs/Synthetic/SWEEP_SLOW_8x1.yaml"
PGT_CFG = ROOT / "projects/pgt/configs/Synthetic/SWEEP_PGT_36x1.yaml"
MEMORY_OFF_CFG = ROOT / "projects/pgt/configs/Synthetic/SWEEP_PGT_36x1_MEMORY_OFF.yaml"

CHANCE = 100 / 6
# A model that knows both events but not their order guesses between two classes.
ORDER_BLIND = 50.0

Overrides = tuple[object, ...]


@dataclass(frozen=True)
class Experiment:
    """A training: YAML file and overrides; `name` is its folder, `title` its name in the table."""

    name: str
    title: str
    cfg: Path
    overrides: Overrides = ()

    @property
    def in_steps(self) -> bool:
        """Return True if the model reads videos in steps."""
        return self.cfg != CLIP_CFG


EXPERIMENTS = (
    Experiment("memory_off", "PGT, memory off", MEMORY_OFF_CFG),
    Experiment("pgt", "PGT", PGT_CFG),
    Experiment("clip", "clip model", CLIP_CFG),
)
VARIANTS = (
    Experiment("cache_last", "PGT, cache last", PGT_CFG, ("PGT.CACHE", "last")),
    Experiment("cache_avg", "PGT, cache avg", PGT_CFG, ("PGT.CACHE", "avg")),
    Experiment("full_gradient", "PGT, full gradient", PGT_CFG, ("PGT.FULL_GRADIENT", True)),
    Experiment("late_loss", "PGT, loss on late steps", PGT_CFG, ("PGT.STEP_WEIGHTS", [0, 0, 0, 1, 1])),
)


@dataclass(frozen=True)
class Row:
    """A line of the table: `metric` of an experiment's scores, and its target range in percent (None: open)."""

    experiment: str
    metric: str
    title: str
    low: float | None = None
    high: float | None = None

    def verdict(self, value: float) -> str:
        """Compare `value` percent with the target: "met", "missed", or "" without a target."""
        if self.low is None and self.high is None:
            return ""
        inside = (self.low is None or value >= self.low) and (self.high is None or value <= self.high)
        return "met" if inside else "missed"

    @property
    def target(self) -> str:
        """Format the target range; "" without a target."""
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        if self.low is not None:
            return f">= {self.low:g}"
        return f"<= {self.high:g}" if self.high is not None else ""


ROWS = (
    Row("clip", "views", "clip model, 10 views", 45, 65),
    Row("pgt", "sum", "PGT, sum over steps", low=95),
    Row("pgt", "last", "PGT, last step", low=85),
    Row("pgt", "max", "PGT, max over steps"),
    Row("pgt", "last_wiped", "PGT, last step, memory wiped before it", high=40),
    Row("pgt", "last_swapped", "PGT, last step, memory of another video", high=40),
    Row("memory_off", "sum", "PGT with memory off, sum over steps", 40, 55),
    Row("memory_off", "last", "PGT with memory off, last step"),
) + tuple(
    Row(variant.name, metric, f"{variant.title}, {words}")
    for variant in VARIANTS
    for metric, words in (("sum", "sum"), ("last", "last step"))
)


@dataclass(frozen=True)
class MemoryPoint:
    """A measurement of training memory: method, number of frames, YAML file and overrides."""

    method: str
    frames: int
    cfg: Path
    overrides: Overrides = ()


END_TO_END = "end to end"
PROGRESSIVE = "PGT"
FULL_GRADIENT = "PGT, full gradient"
MEMORY_OFF = "PGT, memory off"


def memory_points(step_counts: tuple[int, ...]) -> list[MemoryPoint]:
    """Return the measurements, in steps and end to end, for videos of n steps (8 frames, then 7 a step)."""
    points = []
    for steps in step_counts:
        frames = 8 + 7 * (steps - 1)
        length = ("DATA.NUM_FRAMES", frames)
        points.append(MemoryPoint(END_TO_END, frames, CLIP_CFG, length))
        points.append(MemoryPoint(PROGRESSIVE, frames, PGT_CFG, (*length, "PGT.STEPS", steps)))
    points.append(MemoryPoint(FULL_GRADIENT, 36, PGT_CFG, ("PGT.FULL_GRADIENT", True)))
    points.append(MemoryPoint(MEMORY_OFF, 36, MEMORY_OFF_CFG))
    return points


@dataclass(frozen=True)
class Scale:
    """Size of a demo: videos of each split, numbers of steps to measure memory at, overrides of all trainings."""

    videos: dict[str, int]
    step_counts: tuple[int, ...]
    overrides: Overrides = ()
    judged: bool = True  # compare the scores with the targets
    memory_overrides: Overrides = field(default=())


FULL_SCALE = Scale({"train": 1200, "val": 240, "test": 480}, (1, 5, 9))
# To test the demo itself: every part runs, and nothing is learned.
QUICK_SCALE = Scale(
    {"train": 24, "val": 6, "test": 12},
    (5,),
    ("SOLVER.MAX_EPOCH", 1, "TRAIN.BATCH_SIZE", 8, "TEST.BATCH_SIZE", 12, "LOG_PERIOD", 1),
    judged=False,
    memory_overrides=("TRAIN.BATCH_SIZE", 4),
)
