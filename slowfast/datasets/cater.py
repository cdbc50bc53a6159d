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
        FileNotFoundError, ValueError: see `read_cells`; ValueError also for a clip of a video with another number of
            frames; and what `Kinetics` raises.
    """

    def __init__(self, cfg: Any, split: str) -> None:
        super().__init__(cfg, split)
        self._cells = [read_cells(truth_path(path)) for path in self.paths] if split == "train" else []

    def sample_of(self, video: int, view: int, clip: Clip) -> Sample:
        """Return the sample of a clip, in training with its cells."""
        sample = super().sample_of(video, view, clip)
        if self.split == "train":
            cells = self._cells[video]
            if len(cells) != clip.num_frames:
                raise ValueError(
                    f"{truth_path(self.paths[video])} has the cells of {len(cells)} frames, but the video has "
                    f"{clip.num_frames}"
                )
            labels = torch.from_numpy(cells[clip.frames].astype(np.int64))
            sample.label, sample.frame_labels = int(labels[-1]), labels
        return sample


def truth_path(video: str) -> Path:
    """Return the file of the ground truth of a video."""
    path = Path(video)
    return path.parent.parent / "truth" / f"{path.stem}.npz"


def read_cells(path: Path) -> np.ndarray:
    """Read the cell of every frame of a video, (T,), from its ground truth.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read.
    """
    try:
        with np.load(path) as truth:
            return truth["cells"]
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} does not exist, the ground truth of a training video; TRAIN.DATASET kinetics trains with the "
            "label of the list alone"
        ) from None
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise ValueError(f"{path} is no ground truth of a video: {error}") from None
