"""The set after CATER: videos, ground truth, and the lists of both tasks (`docs/cater.md`).

videos/train_000000.mp4         H.264, 24 frames a second
truth/train_000000.npz          positions, visibility, containment and cell of every frame
train.csv, val.csv, test.csv    lines `path cell`: where the snitch is at the end
train_facts.csv ...             facts of each video, to sort results by
classes.txt                     name of cell i in line i
compositions/                   the multi-label task in the format of Charades' authors; its test/ tests on `test`
cater.json                      parameters, written when the set is complete
"""

import atexit
import csv
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from slowfast.apps.synthetic import files, render
from slowfast.apps.synthetic.cater.compositions import class_names, compositions
from slowfast.apps.synthetic.cater.renderer import Renderer, load_mujoco
from slowfast.apps.synthetic.cater.scene import Scene, make_scene, write_truth
from slowfast.apps.synthetic.cater.world import GRID, WorldSpec

FORMAT_VERSION = 1  # raise it whenever the same parameters give other videos
MANIFEST = "cater.json"
_STARTED = "cater_started.json"  # the parameters of a set that is not complete
FPS = 24
CELLS = [f"row {row} column {column}" for row in range(1, GRID + 1) for column in range(1, GRID + 1)]
_MOST_PIXELS = 320
_PREVIEW_VIDEOS, _PREVIEW_FRAMES, _PREVIEW_PIXELS = 10, 12, 128


@dataclass(frozen=True)
class Scale:
    """Defaults of a set: frame size in pixels, videos of each split, and parameters of the scenes."""

    size: int
    counts: dict[str, int]
    world: WorldSpec


_EASY = WorldSpec(objects=(5, 7), cones=(3, 4), frames=(16, 28), slide=(1.5, 4.5), scatter=0.3)
_SMALL = {"train": 1200, "val": 160, "test": 360}
SCALES = {
    "tiny": Scale(64, {"train": 40, "val": 10, "test": 20}, replace(_EASY, slots=4)),
    "small": Scale(64, _SMALL, _EASY),
    "still": Scale(64, _SMALL, replace(_EASY, cone_slides=0.0)),
    "full": Scale(128, {"train": 3080, "val": 770, "test": 1650}, WorldSpec()),
}


@dataclass(frozen=True)
class CaterSpec:
    """Parameters of a set; None is the default of the scale. `size` is the side of the square frames in pixels."""

    scale: str = "small"
    size: int | None = None
    train: int | None = None
    val: int | None = None
    test: int | None = None
    moving: bool = False
    seed: int = 0
    version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ValueError(f"scale {self.scale}: there are {', '.join(SCALES)}")
        for name, usual in {"size": SCALES[self.scale].size, **SCALES[self.scale].counts}.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, usual)
        render.check_size(self.size)
        if self.size > _MOST_PIXELS:
            raise ValueError(f"size {self.size}: frames have at most {_MOST_PIXELS} pixels")
        files.check_set(self.counts, self.seed)

    @property
    def world(self) -> WorldSpec:
        """Return the parameters of the scenes."""
        return SCALES[self.scale].world

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of videos of each split."""
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def parameters(self) -> dict[str, Any]:
        """Return all that the files depend on, as JSON has it."""
        world = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self.world).items()}
        return {**asdict(self), "world": world}

    def videos(self) -> Iterator[tuple[str, int]]:
        """Yield (split, index) of every video."""
        return ((split, index) for split, count in self.counts.items() for index in range(count))

    def scene(self, split: str, index: int) -> Scene:
        """Make the scene of a video."""
        return make_scene(self.seed, split, index, self.world, self.moving)


@dataclass(frozen=True)
class VideoFacts:
    """Facts of a video, a row of `train_facts.csv`. Frames count from 0.

    Attributes:
        name: of its files.
        label: cell of the snitch in the last frame.
        last_visible_frame, last_visible_cell: when and where the snitch is seen last.
        covered_frame: frame from which on the snitch is under a cone to the end; -1 if it is open at the end.
        slides_after: how often the snitch moves after it is seen last.
        objects: number of objects.
    """

    name: str
    label: int
    last_visible_frame: int
    last_visible_cell: int
    covered_frame: int
    slides_after: int
    objects: int


def make_cater(root: Path, spec: CaterSpec, workers: int = 0) -> bool:
    """Make the set in the folder `root`; return False if the complete set was there.

    A run that was stopped goes on where it was: videos that are complete are kept.

    Args:
        workers: number of processes; 0 works in this one.

    Raises:
        ValueError: `root` holds a set made with other parameters, or MuJoCo cannot draw.
        OSError: a file cannot be written.
    """
    root = Path(root).resolve()
    videos = list(spec.videos())
    complete = files.read_manifest(root / MANIFEST, spec.parameters) is not None
    if complete and all(_video_path(root, *v).exists() and _truth_path(root, *v).exists() for v in videos):
        return False
    files.read_manifest(root / _STARTED, spec.parameters)
    load_mujoco()  # before anything is written
    for folder in ("videos", "truth", "compositions/test"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    parameters = {**spec.parameters, "root": str(root)}
    files.write_manifest(root / _STARTED, parameters)
    made = files.make_videos(partial(_make_video, root, spec), videos, workers, 1)
    facts = {split: [m[0] for v, m in zip(videos, made, strict=True) if v[0] == split] for split in spec.counts}
    labels = {split: [m[1] for v, m in zip(videos, made, strict=True) if v[0] == split] for split in spec.counts}
    for split in spec.counts:
        _write_lists(root, split, facts[split])
    (root / "classes.txt").write_text("\n".join(CELLS) + "\n")
    for folder, tested in (("compositions", "val"), ("compositions/test", "test")):
        (root / folder / "Charades_v1_classes.txt").write_text(
            "".join(f"c{number:03d} {name}\n" for number, name in enumerate(class_names()))
        )
        for part, split in (("train", "train"), ("test", tested)):
            path = root / folder / f"Charades_v1_{part}.csv"
            _write_compositions(path, facts[split], labels[split], spec.world.num_frames / FPS)
    files.write_manifest(root / MANIFEST, parameters)
    (root / _STARTED).unlink()
    return True


def preview(spec: CaterSpec) -> np.ndarray:
    """Draw frames of the first training videos, one a row: a picture (H, W, 3) uint8 RGB."""
    rows = []
    for index in range(min(_PREVIEW_VIDEOS, spec.train)):
        scene = spec.scene("train", index)
        frames = _renderer(spec.size).draw(scene.world, scene.camera)
        rows.append(frames[np.linspace(0, len(frames) - 1, _PREVIEW_FRAMES).astype(int)])
    return render.contact_sheet(rows, scale=max(1, _PREVIEW_PIXELS // spec.size))


@cache
def _renderer(size: int) -> Renderer:
    """Return the renderer of this process. It is closed before the interpreter ends, which unloads OpenGL."""
    renderer = Renderer(size)
    atexit.register(renderer.close)
    return renderer


def _make_video(root: Path, spec: CaterSpec, video: tuple[str, int]) -> tuple[VideoFacts, list[int]]:
    """Write a video and then its ground truth, unless both are there; return its facts and compositions."""
    scene = spec.scene(*video)
    path, truth = _video_path(root, *video), _truth_path(root, *video)
    if not (path.exists() and truth.exists()):
        part = path.with_name(f"{path.stem}.part.mp4")
        files.encode_video(part, _renderer(spec.size).draw(scene.world, scene.camera), FPS)
        part.replace(path)
        write_truth(truth, scene)
    return _facts(path.stem, scene), compositions(scene.world)


def _facts(name: str, scene: Scene) -> VideoFacts:
    world, last = scene.world, scene.last_visible
    end_of_open = int(np.flatnonzero(world.inside[:, 0] < 0)[-1]) + 1
    moves = np.diff(world.positions[last:, 0, :2], axis=0).any(axis=1).astype(int)
    return VideoFacts(
        name=name,
        label=scene.label,
        last_visible_frame=last,
        last_visible_cell=int(world.cells[last]),
        covered_frame=end_of_open if end_of_open < len(world.inside) else -1,
        slides_after=int(np.count_nonzero(np.diff(moves, prepend=0) == 1)),
        objects=len(world.objects),
    )


def _write_lists(root: Path, split: str, videos: list[VideoFacts]) -> None:
    """Write the list and the facts of a split."""
    lines = (f"{root / 'videos' / facts.name}.mp4 {facts.label}\n" for facts in videos)
    (root / f"{split}.csv").write_text("".join(lines))
    text = io.StringIO()
    table = csv.DictWriter(text, [column.name for column in fields(VideoFacts)], lineterminator="\n")
    table.writeheader()
    table.writerows(map(asdict, videos))
    (root / f"{split}_facts.csv").write_text(text.getvalue())


def _write_compositions(path: Path, videos: list[VideoFacts], labels: list[list[int]], seconds: float) -> None:
    """Write the classes of a split's videos, each over the whole video, as Charades' authors write actions."""
    rows = ["id,actions,length\n"]
    for facts, numbers in zip(videos, labels, strict=True):
        actions = ";".join(f"c{number:03d} 0.00 {seconds:.2f}" for number in numbers)
        rows.append(f"{facts.name},{actions},{seconds:.2f}\n")
    path.write_text("".join(rows))


def _video_path(root: Path, split: str, index: int) -> Path:
    return root / "videos" / f"{split}_{index:06d}.mp4"


def _truth_path(root: Path, split: str, index: int) -> Path:
    return root / "truth" / f"{split}_{index:06d}.npz"
