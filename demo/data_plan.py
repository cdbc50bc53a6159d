"""Data sets, configs and targets of `demo/data.py`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweep_plan import ROOT

CLIP_FOLDER, PGT_FOLDER = ROOT / "configs/Synthetic", ROOT / "projects/pgt/configs/Synthetic"
METHODS = ("pgt", "clip")
TITLES = {"pgt": "PGT", "clip": "clip model"}
# Stands for the folder of a set in `DataSet.places`.
DATA = "{data}"

Overrides = tuple[object, ...]


# Minimum lead of PGT over the clip model with the same seed, on every set: the target of the demo.
LEAD = 0.1


@dataclass(frozen=True)
class DataSet:
    """A data set in a published format, and its trainings.

    Attributes:
        name: of the format.
        title: of the data set.
        metric: key of the measure in a test's results; `unit` says how many of it make 1.
        measure: its name in the table.
        cfgs: YAML file by method.
        places: settings that say where the set's files lie.
    """

    name: str
    title: str
    metric: str
    measure: str
    cfgs: Mapping[str, Path]
    places: Overrides
    unit: float = 1.0

    def settings(self, data: Path) -> list[object]:
        """Return the settings with the paths of the set's files in the folder `data`."""
        return [place.format(data=data) if isinstance(place, str) else place for place in self.places]


def _cfgs(clip: str, pgt: str) -> dict[str, Path]:
    return {"clip": CLIP_FOLDER / f"{clip}.yaml", "pgt": PGT_FOLDER / f"{pgt}.yaml"}


KINETICS = DataSet(
    "kinetics",
    "Kinetics",
    "top1_acc",
    "top-1 accuracy",
    _cfgs("KINETICS_SLOW_8x1", "KINETICS_PGT_36x1"),
    # Lists made by tools/prepare_kinetics.py.
    ("DATA.PATH_TO_DATA_DIR", "{data}/lists"),
    unit=100,
)
CHARADES = DataSet(
    "charades",
    "Charades",
    "map",
    "multi-label mAP",
    _cfgs("CHARADES_SLOW_8x2", "CHARADES_PGT_36x2"),
    ("DATA.PATH_TO_DATA_DIR", DATA, "DATA.PATH_PREFIX", "{data}/Charades_v1_rgb"),
)
AVA = DataSet(
    "ava",
    "AVA",
    "ava_map",
    "frame mAP@0.5",
    _cfgs("AVA_SLOW_8x4", "AVA_PGT_36x4"),
    (
        *("AVA.FRAME_DIR", "{data}/frames"),
        *("AVA.FRAME_LIST_DIR", "{data}/frame_lists"),
        *("AVA.ANNOTATION_DIR", "{data}/annotations"),
    ),
)
SSV2 = DataSet(
    "ssv2",
    "Something-Something V2",
    "top1_acc",
    "top-1 accuracy",
    _cfgs("SSV2_SLOW_8", "SSV2_PGT_36"),
    ("DATA.PATH_TO_DATA_DIR", DATA, "DATA.PATH_PREFIX", "{data}/frames"),
    unit=100,
)
DATA_SETS = (AVA, CHARADES, KINETICS, SSV2)  # the longest first, so that no core is idle at the end


@dataclass(frozen=True)
class Scale:
    """Size of a demo: videos of each split by set (empty: the default), and overrides of all trainings."""

    videos: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    overrides: Overrides = ()
    judged: bool = True  # compare the scores with the targets


FULL_SCALE = Scale()
# To test the demo itself: every part runs, and nothing is learned.
QUICK_SCALE = Scale(
    {
        "kinetics": {"train": 12, "val": 6, "test": 6},
        "charades": {"train": 12, "val": 6},
        "ava": {"train": 2, "val": 2},
        "ssv2": {"train": 12, "val": 6},
    },
    ("SOLVER.MAX_EPOCH", 1, "TRAIN.BATCH_SIZE", 4, "TEST.BATCH_SIZE", 6, "LOG_PERIOD", 1),
    judged=False,
)
