"""How clips of one split are cut from videos: sizes, rates and views."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from slowfast.config.resolve import num_pathways
from slowfast.datasets.loading.batch_shapes import ClipShape
from slowfast.datasets.transforms.augmentation import Augmentation

# Data sets whose published loaders read frames as blue, green, red, which REVERSE_INPUT_CHANNEL True turns round.
BLUE_FIRST = ("charades", "ssv2")


@dataclass(frozen=True)
class ClipSettings:
    """How clips of one split are cut from videos; lengths in frames, sizes in pixels."""

    num_frames: int
    sampling_rate: int
    greatest_rate: int  # train: the sampling rate is drawn from `sampling_rate` to this
    target_fps: float
    fps_jitter: float  # train: target_fps rises by a random amount up to this
    use_offset: bool
    short_sides: tuple[int, int]  # of `full_crop`: drawn from this range in train, the first one elsewhere
    inverse_uniform: bool
    crop: int  # side of the square; 0 for whole frames
    full_crop: int  # train: the crop that `short_sides` are for; of a smaller one the first is that much smaller
    flip: bool  # train: mirror half of the clips; elsewhere: mirror all of them
    temporal_views: int
    spatial_views: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reverse_channels: bool
    alpha: int  # frames of the clip for each that a slow pathway sees; 0 without one
    slow_indices: tuple[int, ...]  # these frames make the slow pathway, () for evenly spread ones
    augmentation: Augmentation  # of train; nothing elsewhere

    @staticmethod
    def from_config(cfg: Any, split: str) -> ClipSettings:
        """The settings of `split`, from a validated configuration."""
        data = cfg.DATA
        testing, training, boxes = split == "test", split == "train", cfg.DETECTION.ENABLE
        spatial = cfg.TEST.NUM_SPATIAL_CROPS if testing and not boxes else 1
        crop = data.TEST_CROP_SIZE if testing or (boxes and not training) else data.TRAIN_CROP_SIZE
        # Several crops cover frames whose short side is the crop; one is cut from the smallest training size.
        covering = spatial > 1 or (boxes and not training)
        short_sides = (crop, crop) if covering else tuple(data.TRAIN_JITTER_SCALES)
        return ClipSettings(
            num_frames=data.NUM_FRAMES,
            sampling_rate=data.SAMPLING_RATE,
            greatest_rate=max(data.SAMPLING_RATE, cfg.MULTIGRID.LONG_CYCLE_SAMPLING_RATE),
            target_fps=data.TARGET_FPS,
            fps_jitter=data.TRAIN_JITTER_FPS,
            use_offset=data.USE_OFFSET_SAMPLING,
            short_sides=(max(short_sides[0], crop), short_sides[1]) if testing else short_sides,
            inverse_uniform=data.INV_UNIFORM_SAMPLE,
            crop=0 if boxes and testing else crop,
            full_crop=cfg.MULTIGRID.DEFAULT_S or crop,
            flip=data.RANDOM_FLIP if training else boxes and cfg.AVA.TEST_FORCE_FLIP,
            temporal_views=cfg.TEST.NUM_ENSEMBLE_VIEWS if testing and not boxes else 1,
            spatial_views=spatial,
            mean=tuple(data.MEAN),
            std=tuple(data.STD),
            reverse_channels=_blue_first(cfg, cfg.TEST.DATASET if testing else cfg.TRAIN.DATASET),
            alpha=cfg.SLOWFAST.ALPHA if num_pathways(cfg) == 2 else 0,
            slow_indices=tuple(cfg.SLOWFAST.SLOW_INDICES),
            augmentation=Augmentation.from_config(cfg) if training else Augmentation(),
        )

    def shaped(self, shape: ClipShape | None) -> ClipSettings:
        """These settings for the training clips of a batch of that shape."""
        frames, crop = shape or ClipShape()
        crop = crop or self.crop
        # As published for multigrid: a smaller crop comes from frames that may be scaled down as much, but need not be.
        least = int(round(self.short_sides[0] * crop / self.full_crop))
        return replace(
            self,
            num_frames=frames or self.num_frames,
            crop=crop,
            full_crop=crop,
            short_sides=(least, self.short_sides[1]),
        )

    @property
    def num_views(self) -> int:
        """Views of one video; view = temporal * `spatial_views` + spatial."""
        return self.temporal_views * self.spatial_views


def _blue_first(cfg: Any, dataset: str) -> bool:
    """Whether the channels that a model gets are blue, green, red, as its published settings mean it."""
    turns = [dataset.lower() in BLUE_FIRST, cfg.DATA.REVERSE_INPUT_CHANNEL, cfg.DETECTION.ENABLE and cfg.AVA.BGR]
    return sum(turns) % 2 == 1
