"""Settings of the clips of one split: sizes, rates and views."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from slowfast.config.resolve import num_pathways
from slowfast.datasets.loading.sampler import ClipShape
from slowfast.datasets.transforms.augmentation import Augmentation
from slowfast.datasets.transforms.pixels import Normalization
from slowfast.utils.registry import REGISTRIES


@dataclass(frozen=True)
class ClipSettings:
    """Sizes, rates and views of the clips of one split; lengths in frames, sizes in pixels."""

    num_frames: int
    sampling_rate: int
    max_sampling_rate: int  # train: the sampling rate is random from `sampling_rate` to this
    target_fps: float
    fps_jitter: float  # train: a random amount up to this is added to target_fps
    use_offset: bool
    short_sides: tuple[int, int]  # for `full_crop`: train samples from this range, val and test use the first
    inverse_uniform: bool
    crop: int  # side of the square; 0 for whole frames
    full_crop: int  # train: crop that `short_sides` are meant for; a smaller crop scales the first of them down
    flip: bool  # train: mirror half of the clips; val and test: mirror all
    temporal_clips: int  # train: clips of a video in a sample
    clip_gaps: tuple[float, float]  # train: least and greatest distance from the end of one to the start of the next
    temporal_views: int
    spatial_views: int
    cyclic: bool  # test: clips that reach past the end of a video go on at its start
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reverse_channels: bool
    alpha: int  # frame-rate ratio of the slow pathway; 0 without one
    slow_indices: tuple[int, ...]  # frames of the slow pathway; () for evenly spread ones
    augmentation: Augmentation  # train only
    as_bytes: bool = False  # clips of frames that are not resized exactly stay uint8, see `normalization`
    interpolation: str = ""  # of images: of the crops of train; val and test are bicubic; "" resizes them as frames

    @staticmethod
    def from_config(cfg: Any, split: str) -> ClipSettings:
        """Read the settings of `split` from a validated configuration."""
        data = cfg.DATA
        testing, training, boxes = split == "test", split == "train", cfg.DETECTION.ENABLE
        spread = testing or (split == "val" and cfg.TRAIN.FULL_TIME_EVAL)
        spatial = cfg.TEST.NUM_SPATIAL_CROPS if testing and not boxes else 1
        crop = data.TEST_CROP_SIZE if testing or (boxes and not training) else data.TRAIN_CROP_SIZE
        # Several crops cover frames resized to the crop; a single crop is cut from the smallest training size.
        covering = spatial > 1 or (boxes and not training)
        short_sides = (crop, crop) if covering else tuple(data.TRAIN_JITTER_SCALES)
        return ClipSettings(
            num_frames=data.NUM_FRAMES,
            sampling_rate=data.SAMPLING_RATE,
            max_sampling_rate=max(data.SAMPLING_RATE, cfg.MULTIGRID.LONG_CYCLE_SAMPLING_RATE),
            target_fps=data.TARGET_FPS,
            fps_jitter=data.TRAIN_JITTER_FPS,
            use_offset=data.USE_OFFSET_SAMPLING,
            short_sides=(max(short_sides[0], crop), short_sides[1]) if testing else short_sides,
            inverse_uniform=data.INV_UNIFORM_SAMPLE,
            crop=0 if boxes and testing else crop,
            full_crop=cfg.MULTIGRID.DEFAULT_S or crop,
            flip=data.RANDOM_FLIP if training else boxes and cfg.AVA.TEST_FORCE_FLIP,
            temporal_clips=data.TRAIN_CROP_NUM_TEMPORAL,
            clip_gaps=(cfg.CONTRASTIVE.DELTA_CLIPS_MIN, cfg.CONTRASTIVE.DELTA_CLIPS_MAX),
            temporal_views=cfg.TEST.NUM_ENSEMBLE_VIEWS if spread and not boxes else 1,
            spatial_views=spatial,
            cyclic=testing and cfg.TEST.CYCLIC_LOAD,
            mean=tuple(data.MEAN),
            std=tuple(data.STD),
            reverse_channels=_is_bgr(cfg, cfg.TEST.DATASET if testing else cfg.TRAIN.DATASET),
            alpha=cfg.SLOWFAST.ALPHA if num_pathways(cfg) == 2 else 0,
            slow_indices=tuple(cfg.SLOWFAST.SLOW_INDICES),
            augmentation=Augmentation.from_config(cfg) if training else Augmentation(),
        )

    def for_loader(self, cfg: Any) -> ClipSettings:
        """Return the settings of clips that a loader hands over, which may stay 8-bit."""
        return replace(self, as_bytes=cfg.DATA_LOADER.NORMALIZE_ON_DEVICE)

    @property
    def normalization(self) -> Normalization | None:
        """Normalization of 8-bit clips; None where there are none."""
        return Normalization(self.mean, self.std, self.reverse_channels) if self.as_bytes else None

    def shaped(self, shape: ClipShape | None) -> ClipSettings:
        """Return the settings of training clips of that shape."""
        frames, crop = shape or ClipShape()
        crop = crop or self.crop
        # As published for multigrid: a smaller crop lowers the least short side, not the greatest.
        least = int(round(self.short_sides[0] * crop / self.full_crop))
        return replace(
            self,
            num_frames=frames or self.num_frames,
            crop=crop,
            full_crop=crop,
            short_sides=(least, self.short_sides[1]),
        )

    def facts(self) -> dict[str, Any]:
        """Return how test clips are made, as plain values for programs that make them without this one.

        Frames are scaled to [0, 1], resized bilinearly (no antialiasing) to `short_side` and cropped at the center to
        `crop` (0: not cropped). Then `mean` is subtracted and the result divided by `std`, both of R, G, B, and
        channels are put in `channel_order`. A clip of `frames` spans `frames` x `sampling_rate` / `target_fps`
        seconds. With two pathways, every `alpha`-th of them goes to the slow one (0: one pathway). Of images `resize`
        says how they are resized; a `short_side` of 0 is a square of `crop`.
        """
        order = "BGR" if self.reverse_channels else "RGB"
        return {
            "frames": self.num_frames,
            "sampling_rate": self.sampling_rate,
            "target_fps": self.target_fps,
            "short_side": self.short_sides[0],
            "crop": self.crop,
            "channel_order": order,
            "mean": list(self.mean),
            "std": list(self.std),
            "alpha": self.alpha,
            **({"resize": "bicubic, antialiased"} if self.interpolation else {}),
        }

    @property
    def num_views(self) -> int:
        """Number of views per video; view = temporal * `spatial_views` + spatial."""
        return self.temporal_views * self.spatial_views


def _is_bgr(cfg: Any, dataset: str) -> bool:
    """Return True if the model gets BGR channels, as its published settings mean it."""
    datasets = REGISTRIES["TRAIN.DATASET"]
    known = datasets.names(dataset)[0] in datasets
    swaps = [
        known and datasets.fact(dataset, "bgr"),
        cfg.DATA.REVERSE_INPUT_CHANNEL,
        cfg.DETECTION.ENABLE and cfg.AVA.BGR,
    ]
    return sum(swaps) % 2 == 1
