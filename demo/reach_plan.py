"""Variants, video sets and sizes of the measurement of how far memory reaches (`memory_reach.py`)."""

from dataclasses import dataclass
from pathlib import Path

from sweep_plan import PGT_CFG, Overrides

from slowfast.apps.synthetic.sweep import SweepSpec

NEW_FRAMES = 7  # of a later step, whatever the overlap
STEPS = 5  # of a training video
LONG_STEPS = 11
LAST, MAX, AVG = "last", "max", "avg"
# All start from the demo's clip model, which tells an event's direction and knows nothing of memory. From scratch, 300
# updates are enough for `max` alone.
TRAINING: Overrides = (
    *("TRAIN.CHECKPOINT_FILE_PATH", "zoo://sweep_slow_8x1", "SOLVER.BASE_LR", 0.002),
    *("TRAIN.BATCH_SIZE", 8, "SOLVER.MAX_EPOCH", 2, "TRAIN.EVAL_PERIOD", 2, "TRAIN.CHECKPOINT_PERIOD", 1),
    *("TEST.ENABLE", False, "TEST.BATCH_SIZE", 24, "TENSORBOARD.ENABLE", False),
)
# As many updates on half as many videos of twice the length.
LONG_TRAINING: Overrides = (
    *("TRAIN.BATCH_SIZE", 4, "SOLVER.MAX_EPOCH", 1, "TRAIN.EVAL_PERIOD", 1, "SOLVER.WARMUP_EPOCHS", 0.25),
)


@dataclass(frozen=True)
class Variant:
    """A kind of memory, which is trained once a seed and tested at every gap.

    Attributes:
        name: of its folder and in the results.
        title: its name in the table.
        overrides: settings beside those of the demo's PGT.
        steps: steps of its training videos.
        overlap: frames of memory of a convolution.
        lengths: test it on videos of other lengths too.
        hour: test it on streams of an hour too.
    """

    name: str
    title: str
    overrides: Overrides = ()
    steps: int = STEPS
    overlap: int = 1
    lengths: bool = False
    hour: bool = False

    @property
    def settings(self) -> list[object]:
        """Settings of its training."""
        plan = ["PGT.STEPS", self.steps, "PGT.STEP_LEN", [self.step_len], "PGT.OVERLAP", [self.overlap]]
        frames = self.step_len + (self.steps - 1) * NEW_FRAMES
        return [*TRAINING, *plan, "DATA.NUM_FRAMES", frames, *self.overrides]

    @property
    def step_len(self) -> int:
        """Frames of the first step."""
        return NEW_FRAMES + self.overlap


# Convolutions in time by their number, each of which has a memory: of stages 2 to 5 of two blocks, those whose first
# blocks have a kernel of 3 frames. The demo's model has four.
_LAYERS = {1: [[2], [2], [0], [1]], 2: [[2], [2], [0], [2]]}


def _rule(cache: str, hour: bool = False) -> Variant:
    return Variant(cache, cache, ("PGT.CACHE", cache), lengths=True, hour=hour)


def _long(cache: str) -> Variant:
    title = f"{cache}, trained at {LONG_STEPS} steps"
    return Variant(f"{cache}_long", title, ("PGT.CACHE", cache, *LONG_TRAINING), steps=LONG_STEPS, lengths=True)


def _momentum(cache: str, value: float, hour: bool = False) -> Variant:
    settings = ("PGT.CACHE", cache, "PGT.CACHE_MOMENTUM", value)
    return Variant(f"{cache}_momentum_{value:g}", f"{cache}, momentum {value:g}", settings, hour=hour)


def _overlap(cache: str, frames: int) -> Variant:
    return Variant(f"{cache}_overlap_{frames}", f"{cache}, overlap {frames}", ("PGT.CACHE", cache), overlap=frames)


def _scratch(name: str, title: str, *settings: object) -> Variant:
    start = ("TRAIN.CHECKPOINT_FILE_PATH", "", "SOLVER.BASE_LR", 0.004)
    return Variant(f"{name}_scratch", f"{title}, from scratch", (*start, *settings))


def _layers(cache: str, count: int) -> Variant:
    kernels = ("RESNET.NUM_BLOCK_TEMP_KERNEL", _LAYERS[count])
    title = f"{cache}, {count} layer{'s' if count > 1 else ''}"
    return _scratch(f"{cache}_layers_{count}", title, "PGT.CACHE", cache, *kernels)


def _full_gradient(cache: str) -> Variant:
    settings = ("PGT.CACHE", cache, "PGT.FULL_GRADIENT", True)
    return Variant(f"{cache}_full_gradient", f"{cache}, full gradient", settings)


# The most important first: they are run in this order.
VARIANTS = (
    _rule(MAX, hour=True),
    _rule(AVG),
    _rule(LAST, hour=True),
    Variant("off", "memory off", ("PGT.MEMORY", False), lengths=True, hour=True),
    _rule("gate", hour=True),
    _rule("slots"),
    _momentum(AVG, 0.9, hour=True),
    _momentum(LAST, 0.9),
    _long(MAX),
    _long(AVG),
    Variant("max_body", "max, none in the head", ("PGT.CACHE", MAX, "PGT.HEAD", False)),
    # `last` hands features over one step at most, so what lasts longer is in the head.
    Variant("max_head", "max in the head, last elsewhere", ("PGT.CACHE", LAST, "PGT.HEAD_CACHE", MAX)),
    _overlap(AVG, 4),
    _overlap(MAX, 4),
    _full_gradient(AVG),
    _full_gradient(MAX),
    Variant("max_gradient_2", "max, gradient of 2 steps", ("PGT.CACHE", MAX, "PGT.GRADIENT_STEPS", 2)),
    _momentum(AVG, 0.5),
    _momentum(AVG, 0.25),
    _overlap(AVG, 2),
    _overlap(MAX, 2),
    _momentum(MAX, 0.9),
    _momentum(LAST, 0.5),
    _momentum(LAST, 0.25),
    *(_scratch(cache, cache, "PGT.CACHE", cache) for cache in (MAX, AVG, LAST)),
    _scratch("off", "memory off", "PGT.MEMORY", False),
    *(_layers(cache, count) for cache in (MAX, AVG) for count in _LAYERS),
)


@dataclass(frozen=True)
class Streams:
    """Streams to test on, see `reach_stream.py`: gaps in steps, number of streams, and of forks of each at a gap."""

    gaps: tuple[int, ...]
    count: int
    forks: int


@dataclass(frozen=True)
class Scale:
    """Size of a measurement.

    Attributes:
        train: videos of a training set.
        lengths: steps of the videos of the test sets, which have any gap.
        test: videos of a test set.
        gaps: streams for all variants.
        hour: streams for some.
        overrides: settings of all trainings.
    """

    train: int
    lengths: tuple[int, ...]
    test: int
    gaps: Streams
    hour: Streams
    overrides: Overrides = ()

    def training_set(self, variant: Variant) -> SweepSpec:
        """Return the training set of a variant; all gaps are as likely."""
        steps = {"steps": variant.steps, "step_len": variant.step_len, "overlap": variant.overlap}
        return SweepSpec(train=self.train, val=6, test=1, **steps)

    def test_sets(self) -> list[SweepSpec]:
        """Return the test sets; all gaps are as likely."""
        return [SweepSpec(train=1, val=1, test=self.test, steps=count) for count in self.lengths]


FULL_SCALE = Scale(
    train=1200,
    lengths=(5, 10, 20, 50, 100),
    test=48,
    gaps=Streams((1, 2, 4, 8, 16, 32, 64), count=48, forks=2),
    hour=Streams((1, 4, 16, 64, 256, 1024, 2048), count=12, forks=4),
)
# To test the measurement itself: every part runs, and nothing is learned.
QUICK_SCALE = Scale(
    train=16,
    lengths=(5, 6),
    test=6,
    gaps=Streams((1, 3), count=3, forks=2),
    hour=Streams((1, 5), count=2, forks=1),
    overrides=("SOLVER.MAX_EPOCH", 1, "TRAIN.EVAL_PERIOD", 1, "LOG_PERIOD", 1),
)
CFG: Path = PGT_CFG

# Panels of the figure: title, kind of results (`reach_report.py`), and names in the legend by variant.
PANELS = (
    ("Rules", "gaps", {MAX: MAX, AVG: AVG, LAST: LAST, "gate": "gate", "slots": "slots", "off": "memory off"}),
    (
        "Rules, from scratch",
        "gaps",
        {"max_scratch": MAX, "avg_scratch": AVG, "last_scratch": LAST, "off_scratch": "memory off"},
    ),
    (
        "Momentum",
        "gaps",
        {
            AVG: "avg, 0",
            "avg_momentum_0.9": "avg, 0.9",
            "last_momentum_0.9": "last, 0.9",
            "max_momentum_0.9": "max, 0.9",
        },
    ),
    (
        "Overlap and gradient",
        "gaps",
        {
            MAX: MAX,
            "max_overlap_4": "max, overlap 4",
            "max_gradient_2": "max, gradient of 2 steps",
            "max_full_gradient": "max, full gradient",
        },
    ),
    (
        "Layers with memory, from scratch",
        "gaps",
        {
            **{f"max_layers_{count}_scratch": f"max, {count}" for count in _LAYERS},
            "max_scratch": "max, 4",
            **{f"avg_layers_{count}_scratch": f"avg, {count}" for count in _LAYERS},
            "avg_scratch": "avg, 4",
        },
    ),
    (
        "Length",
        "lengths",
        {MAX: MAX, AVG: AVG, "max_long": f"max, {LONG_STEPS} steps", "avg_long": f"avg, {LONG_STEPS} steps"},
    ),
    (
        "Streams of an hour",
        "hour",
        {MAX: MAX, "gate": "gate", "avg_momentum_0.9": "avg, momentum 0.9", LAST: LAST, "off": "memory off"},
    ),
)
