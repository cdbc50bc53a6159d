"""Sets, backbones and methods of the long-video benchmark."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweep_plan import CLIP_CFG, PGT_CFG, ROOT, Overrides

_CLIPS, _STEPS = ROOT / "configs/Synthetic", ROOT / "projects/pgt/configs/Synthetic"


@dataclass(frozen=True)
class VideoSet:
    """A data set: words of the command that makes it, and YAML files of a clip and of steps for each backbone.

    Attributes:
        seconds: of a video.
        chance: what a guess gets, in percent.
        budget: seconds of the CPU that each training gets, unless the command says another number.
        starts: YAML file of the training whose weights all others of a backbone start from; empty: from scratch.
        multi_label: videos have any number of labels, in the folder `compositions` of the set; mAP instead of accuracy.
        videos_of: set whose videos these are; empty: its own.
        costs_of: set of the same sizes, whose costs count for this one; empty: its own.
        blind: what a guess that knows more than chance gets.
    """

    name: str
    making: tuple[str, ...]
    cfgs: dict[str, tuple[Path, Path]]
    seconds: float
    chance: float
    budget: float
    overrides: Overrides = ()
    starts: Mapping[str, Path] = field(default_factory=dict)
    multi_label: bool = False
    videos_of: str = ""
    costs_of: str = ""
    blind: str = ""

    @property
    def measure(self) -> str:
        """Return the name of what is compared."""
        return "mAP" if self.multi_label else "accuracy"

    def percent(self, scores: Mapping[str, float], ensemble: str = "") -> float:
        """Return what is compared, in percent, from the results of a test; with that ensemble of steps, if any."""
        prefix = f"{ensemble}/" if ensemble else ""
        return 100 * scores[f"{prefix}map"] if self.multi_label else scores[f"{prefix}top1_acc"]


_CATER = {
    "slow": (_CLIPS / "CATER_SLOW_8x8.yaml", _STEPS / "CATER_PGT_37x8.yaml"),
    "vit": (_CLIPS / "CATER_VIT_8x8.yaml", _STEPS / "CATER_VIT_PGT_36x8.yaml"),
}
_START = {"slow": _CLIPS / "CATER_SLOW_2x8.yaml", "vit": _CLIPS / "CATER_VIT_2x8.yaml"}
_SMALL, _CELL = ("--format", "cater", "--scale", "small"), 100 / 36
SETS = {
    "still": VideoSet("still", ("--format", "cater", "--scale", "still"), _CATER, 12.5, _CELL, 480.0, starts=_START),
    "small": VideoSet("small", _SMALL, _CATER, 12.5, _CELL, 480.0, starts=_START),
    "moving": VideoSet(
        "moving",
        (*_SMALL, "--moving-camera"),
        {"slow": _CATER["slow"]},
        12.5,
        _CELL,
        480.0,
        starts=_START,
        costs_of="small",
    ),
    "order": VideoSet(
        "order",
        _SMALL,
        {"slow": (_CLIPS / "CATER_ORDER_SLOW_8x8.yaml", _STEPS / "CATER_ORDER_PGT_37x8.yaml")},
        12.5,
        11.3,  # mean over the classes of the share of the test videos that have it
        480.0,
        starts=_START,
        multi_label=True,
        videos_of="small",
        costs_of="small",
        blind="A guess that knows only which shapes are in a video gets an mAP of 27.7 %; one that always answers the "
        "order that is more frequent in the training videos tells 67.9 % of the pairs right.",
    ),
    # Videos of 120 frames: frames that are 3 apart cover as much of them as frames that are 8 apart do of 300.
    "tiny": VideoSet(
        "tiny",
        ("--format", "cater", "--scale", "tiny"),
        _CATER,
        5.0,
        _CELL,
        0.0,
        ("DATA.SAMPLING_RATE", 3, "LOG_PERIOD", 1),
        _START,
    ),
    "sweep": VideoSet(
        "sweep",
        (),
        {
            "slow": (CLIP_CFG, PGT_CFG),
            "vit": (_CLIPS / "SWEEP_VIT_8x1.yaml", _STEPS / "SWEEP_VIT_PGT_36x1.yaml"),
        },
        9.0,
        100 / 6,
        300.0,
        starts={"vit": _CLIPS / "SWEEP_MAE_12x1.yaml"},
    ),
}


@dataclass(frozen=True)
class Method:
    """A way to train and test a model on long videos.

    Attributes:
        in_steps: the model reads videos in steps.
        views: evenly spaced clips of a test video; a training is tested once for each number.
        whole: it reads as many frames at once as the model in steps reads in all.
        reads_features: an LSTM on features of the trained clip model, not a training of the backbone; for one label a
            video.
    """

    name: str
    title: str
    in_steps: bool = False
    views: tuple[int, ...] = (1,)
    overrides: Overrides = ()
    whole: bool = False
    reads_features: bool = False


# The most important first: a run that is stopped has done these.
METHODS = (
    Method("pgt_max", "PGT, max", True, overrides=("PGT.CACHE", "max")),
    Method("memory_off", "PGT, memory off", True, overrides=("PGT.MEMORY", False)),
    Method("clip", "clip model", views=(10, 30)),
    Method("end_to_end", "end to end", whole=True),
    Method("pgt_last", "PGT, last", True, overrides=("PGT.CACHE", "last")),
    Method("lstm", "LSTM on clip features", reads_features=True),
    Method("pgt_gate", "PGT, gate", True, overrides=("PGT.CACHE", "gate")),
    Method("pgt_slots", "PGT, slots", True, overrides=("PGT.CACHE", "slots")),
    Method("pgt_avg", "PGT, avg", True, overrides=("PGT.CACHE", "avg")),
    Method("full_gradient", "PGT, max, full gradient", True, overrides=("PGT.CACHE", "max", "PGT.FULL_GRADIENT", True)),
    Method(
        "gradient_2", "PGT, max, gradient of 2 steps", True, overrides=("PGT.CACHE", "max", "PGT.GRADIENT_STEPS", 2)
    ),
    Method(
        "checkpointed",
        "end to end, checkpointed",
        whole=True,
        overrides=("MODEL.ACT_CHECKPOINT", True),
    ),
)
METHOD_OF = {method.name: method for method in METHODS}
CLIP = METHOD_OF["clip"]
# Of the last step, or of all steps: chosen on the validation videos.
ENSEMBLES = ("sum", "max", "last")


def epochs_for(budget: float, epoch_seconds: float) -> int:
    """Return the whole epochs that are nearest to `budget` seconds, at least 1."""
    return max(1, round(budget / epoch_seconds))
