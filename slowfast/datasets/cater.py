"""The set after CATER (`docs/cater.md`), trained with the place of the snitch at every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from slowfast.datasets.clips.clip_maker import Clip
from slowfast.datasets.kinetics import Kinetics
from slowfast.datasets.loading.batch import Sample


class Cater(Kinetics):
    """Clips of the videos of `Kinetics` lists; the label of a training clip is the snitch's cell in its last frame.

    The array `cells` of truth/NAME.npz, beside the folder of the video NAME.mp4, has the cell of every frame. Training
    samples have `frame_labels`. In val and test the label is that of the list, the cell at the end of the video.

    Raises:
        FileNotFoundError: a training video has no ground truth.
        ValueError: its ground truth cannot be read, or is of another number of frames; and what `Kinetics` raises.
    """

    def __init__(self, cfg: Any, split: str) -> None:
        super().__init__(cfg, split)
        if split == "train":
            lacking = [path for path in map(truth_path, self.paths) if not path.exists()]
            if lacking:
                raise FileNotFoundError(
                    f"{len(lacking)} of {len(self.paths)} training videos have no ground truth, such as {lacking[0]}; "
                    "TRAIN.DATASET kinetics trains with the label of the list alone"
                )

    def sample_of(self, video: int, view: int, clip: Clip) -> Sample:
        """Return the sample of a clip, in training with its cells."""
        sample = super().sample_of(video, view, clip)
        if self.split == "train":
            cells = self._cells(video, clip.num_frames)[clip.frames]
            sample.label, sample.frame_labels = int(cells[-1]), torch.from_numpy(cells)
        return sample

    def _cells(self, video: int, num_frames: int) -> np.ndarray:
        """Return the cell of every frame of a video, (T,) int64."""
        path = truth_path(self.paths[video])
        try:
            with np.load(path) as truth:
                cells = truth["cells"].astype(np.int64)
        except (OSError, KeyError, ValueError, BadZipFile) as error:
            raise ValueError(f"{path} is no ground truth of a video: {error}") from None
        if len(cells) != num_frames:
            raise ValueError(f"{path} has the cells of {len(cells)} frames, but the video has {num_frames}")
        return cells


def truth_path(video: str) -> Path:
    """Return the file of the ground truth of a video."""
    path = Path(video)
    return path.parent.parent / "truth" / f"{path.stem}.npz"
