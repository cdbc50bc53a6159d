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
        classes: number of labels.
        budget: seconds of the CPU that each training gets, unless the command says another number.
        starts: YAML file of the training whose weights all others of a backbone start from; empty: from scratch.
    """

    name: str
    making: tuple[str, ...]
    cfgs: dict[str, tuple[Path, Path]]
    seconds: float
    classes: int
    budget: float
    overrides: Overrides = ()
    starts: Mapping[str, Path] = field(default_factory=dict)


_CATER = {
    "slow": (_CLIPS / "CATER_SLOW_8x8.yaml", _STEPS / "CATER_PGT_37x8.yaml"),
    "vit": (_CLIPS / "CATER_VIT_8x8.yaml", _STEPS / "CATER_VIT_PGT_36x8.yaml"),
}
_START = {"slow": _CLIPS / "CATER_SLOW_2x8.yaml", "vit": _CLIPS / "CATER_VIT_2x8.yaml"}
SETS = {
    "still": VideoSet("still", ("--format", "cater", "--scale", "still"), _CATER, 12.5, 36, 480.0, starts=_START),
    "small": VideoSet("small", ("--format", "cater", "--scale", "small"), _CATER, 12.5, 36, 480.0, starts=_START),
    # Videos of 120 frames: frames that are 3 apart cover as much of them as frames that are 8 apart do of 300.
    "tiny": VideoSet(
        "tiny",
        ("--format", "cater", "--scale", "tiny"),
        _CATER,
        5.0,
        36,
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
        6,
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
        reads_features: an LSTM on features of the trained clip model, not a training of the backbone.
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
