"""Small sets with the folders, names and files that the authors of Kinetics, Charades, AVA and SSv2 publish."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from slowfast.apps.synthetic import files, render
from slowfast.apps.synthetic.ava import AVAFormat
from slowfast.apps.synthetic.charades import CharadesFormat
from slowfast.apps.synthetic.kinetics import KineticsFormat
from slowfast.apps.synthetic.scenes import MAX_VIDEOS, Format, Key
from slowfast.apps.synthetic.ssv2 import SSv2Format

FORMAT_VERSION = 3  # raise it whenever the same parameters give other files
MANIFEST = "synthetic.json"
_CHUNK = 10  # videos a worker makes at a time
_PREVIEW_VIDEOS, _PREVIEW_FRAMES = 6, 36


FORMATS: dict[str, Format] = {
    "kinetics": KineticsFormat(),
    "charades": CharadesFormat(),
    "ava": AVAFormat(),
    "ssv2": SSv2Format(),
}


@dataclass(frozen=True)
class SetSpec:
    """Parameters of a set: format, videos of each split (None: the default), short side in pixels, and seed."""

    format: str
    train: int | None = None
    val: int | None = None
    test: int | None = None
    size: int = render.MIN_SIZE
    seed: int = 0
    version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format {self.format}: there are {', '.join(FORMATS)}")
        render.check_size(self.size)
        usual = FORMATS[self.format].counts
        for split, count in {"train": self.train, "val": self.val, "test": self.test}.items():
            if split not in usual and count is not None:
                raise ValueError(f"{split} {count}: the format {self.format} has {' and '.join(usual)} alone")
            if split in usual and count is None:
                object.__setattr__(self, split, usual[split])
            if count is not None and not 1 <= count <= MAX_VIDEOS:
                raise ValueError(f"{split} {count}: a split needs from 1 to {MAX_VIDEOS} videos")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: must not be negative")

    @property
    def counts(self) -> dict[str, int]:
        """Number of videos of each split that the format has."""
        values = {"train": self.train, "val": self.val, "test": self.test}
        return {split: values[split] for split in FORMATS[self.format].counts}

    def videos(self) -> Iterator[Key]:
        """Yield the key of every video."""
        for split, count in self.counts.items():
            yield from (Key(self.seed, split, index, self.size) for index in range(count))


def make_set(root: Path, spec: SetSpec, workers: int = 0) -> bool:
    """Make the set in the folder `root`; return False if the complete set was there.

    Args:
        workers: number of processes; 0 works in this one.

    Raises:
        ValueError: `root` holds a set made with other parameters.
        OSError: a file cannot be written.
    """
    root = Path(root).resolve()
    if _is_complete(root, spec):
        return False
    root.mkdir(parents=True, exist_ok=True)
    keys = list(spec.videos())
    made = files.make_videos(partial(_make_video, root, spec.format), keys, workers, _CHUNK)
    facts = dict(zip(keys, made, strict=True))
    for split in spec.counts:
        FORMATS[spec.format].write_lists(root, split, [facts[key] for key in keys if key.split == split])
    files.write_manifest(root / MANIFEST, {**asdict(spec), "root": str(root)})
    return True


def preview(spec: SetSpec) -> np.ndarray:
    """Draw the first training videos, one a row: a picture (H, W, 3) uint8 RGB. Long videos show every n-th frame."""
    keys = list(spec.videos())[: min(_PREVIEW_VIDEOS, spec.counts["train"])]
    videos = [FORMATS[spec.format].draw(key)[0] for key in keys]
    shape = np.max([frames.shape[1:3] for frames in videos], axis=0)
    shown = []
    for frames in videos:
        some = frames[:: -(-len(frames) // _PREVIEW_FRAMES)]
        rest = shape - some.shape[1:3]
        shown.append(np.pad(some, ((0, 0), (0, rest[0]), (0, rest[1]), (0, 0))))
    return render.contact_sheet(shown)


def _make_video(root: Path, name: str, key: Key) -> Any:
    frames, facts = FORMATS[name].draw(key)
    FORMATS[name].write_video(root, frames, facts)
    return facts


def _is_complete(root: Path, spec: SetSpec) -> bool:
    if files.read_manifest(root / MANIFEST, asdict(spec)) is None:
        return False
    return all((root / FORMATS[spec.format].last_file(key)).exists() for key in spec.videos())
