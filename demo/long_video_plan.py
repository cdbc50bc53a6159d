"""Sets, backbones and methods of the long-video benchmark."""

import math
from dataclasses import dataclass
from pathlib import Path

from sweep_plan import CLIP_CFG, PGT_CFG, ROOT, Overrides

_CLIPS, _STEPS = ROOT / "configs/Synthetic", ROOT / "projects/pgt/configs/Synthetic"
FRAMES = 36  # that a method for the whole video reads


@dataclass(frozen=True)
class VideoSet:
    """A data set: words of the command that makes it, and YAML files of a clip and of steps for each backbone.

    Attributes:
        seconds: of a video.
        classes: number of labels.
        budget: seconds of the CPU that each training gets, unless the command says another number.
    """

    name: str
    making: tuple[str, ...]
    cfgs: dict[str, tuple[Path, Path]]
    seconds: float
    classes: int
    budget: float
    overrides: Overrides = ()


_CATER = {
    "slow": (_CLIPS / "CATER_SLOW_8x8.yaml", _STEPS / "CATER_PGT_36x8.yaml"),
    "vit": (_CLIPS / "CATER_VIT_8x8.yaml", _STEPS / "CATER_VIT_PGT_36x8.yaml"),
}
SETS = {
    "small": VideoSet("small", ("--format", "cater", "--scale", "small"), _CATER, 12.5, 36, 3600.0),
    # Videos of 120 frames: frames that are 3 apart cover as much of them as frames that are 8 apart do of 300.
    "tiny": VideoSet("tiny", ("--format", "cater", "--scale", "tiny"), _CATER, 5.0, 36, 0.0, ("DATA.SAMPLING_RATE", 3)),
    "sweep": VideoSet("sweep", (), {"slow": (CLIP_CFG, PGT_CFG)}, 9.0, 6, 180.0),
}


@dataclass(frozen=True)
class Method:
    """A way to train and test a model on long videos.

    Attributes:
        in_steps: the model reads videos in steps.
        views: evenly spaced clips of a test video; a training is tested once for each number.
        baseline: gets at least the seconds; a method of PGT gets at most them. So rounding never favors PGT.
        reads_features: an LSTM on features of the trained clip model, not a training of the backbone.
    """

    name: str
    title: str
    in_steps: bool = False
    views: tuple[int, ...] = (1,)
    overrides: Overrides = ()
    baseline: bool = False
    reads_features: bool = False


# The most important first: a run that is stopped has done these.
METHODS = (
    Method("pgt_max", "PGT, max", True),
    Method("memory_off", "PGT, memory off", True, overrides=("PGT.MEMORY", False), baseline=True),
    Method("clip", "clip model", views=(10, 30), baseline=True),
    Method("end_to_end", "end to end", overrides=("DATA.NUM_FRAMES", FRAMES), baseline=True),
    Method("pgt_last", "PGT, last", True, overrides=("PGT.CACHE", "last")),
    Method("lstm", "LSTM on clip features", baseline=True, reads_features=True),
    Method("pgt_gate", "PGT, gate", True, overrides=("PGT.CACHE", "gate")),
    Method("pgt_slots", "PGT, slots", True, overrides=("PGT.CACHE", "slots")),
    Method("pgt_avg", "PGT, avg", True, overrides=("PGT.CACHE", "avg")),
    Method("full_gradient", "PGT, max, full gradient", True, overrides=("PGT.FULL_GRADIENT", True)),
    Method(
        "checkpointed",
        "end to end, checkpointed",
        overrides=("DATA.NUM_FRAMES", FRAMES, "MODEL.ACT_CHECKPOINT", True),
        baseline=True,
    ),
)
METHOD_OF = {method.name: method for method in METHODS}
CLIP = METHOD_OF["clip"]
# Of the last step, or of all steps: chosen on the validation videos.
ENSEMBLES = ("sum", "max", "last")


def epochs_for(budget: float, epoch_seconds: float, baseline: bool) -> int:
    """Return the whole epochs that `budget` seconds are, rounded up for a baseline and down for PGT; at least 1."""
    count = budget / epoch_seconds
    return max(1, math.ceil(count) if baseline else math.floor(count))
