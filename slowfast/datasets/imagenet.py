"""ImageNet, and any data set of images in a folder for each class or in a list. An image is a clip of one frame."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from slowfast.datasets.base import check_split
from slowfast.datasets.clips.clip_maker import Clip, ClipMaker
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.loading.sampler import ClipShape
from slowfast.datasets.transforms import pixels as transforms
from slowfast.datasets.transforms.augmentation import image_lighting
from slowfast.datasets.transforms.crops import Crop, size_by_short_side
from slowfast.datasets.video.find import IMAGE_SUFFIXES
from slowfast.datasets.video.frame_folder import FrameFolder
from slowfast.datasets.video.limits import MediaLimits
from slowfast.datasets.video.reader import VideoReader
from slowfast.datasets.video_dataset import VideoDataset, list_path, read_class_list, read_video_list
from slowfast.runtime.logging import get_logger
from slowfast.runtime.seed import bernoulli
from slowfast.utils.errors import naming_keys

logger = get_logger(__name__)

# Areas of random resized crops, where DATA.TRAIN_JITTER_SCALES_RELATIVE is [].
_AREAS = (0.08, 1.0)
_CLASS_FOLDER = re.compile(r"n[0-9]+")


def _open_image(path: str, limits: MediaLimits) -> VideoReader:
    return FrameFolder([path], fps=1.0, name=path, limits=limits)


def _image_settings(cfg: Any, split: str) -> ClipSettings:
    data = cfg.DATA
    settings = replace(ClipSettings.from_config(cfg, split), temporal_views=1, spatial_views=1)
    if split == "train":
        a = settings.augmentation
        if cfg.AUG.ENABLE:
            augmentation = replace(a, areas=a.areas or _AREAS)
            return replace(settings, augmentation=augmentation, interpolation=cfg.AUG.INTERPOLATION)
        return replace(settings, augmentation=replace(a, color_jitter=image_lighting(cfg)))
    if cfg.AUG.ENABLE:
        crop, ratio = data.TEST_CROP_SIZE, data.IN_VAL_CROP_RATIO
        if not 0 <= ratio <= 1:
            raise ValueError(f"DATA.IN_VAL_CROP_RATIO is {ratio}; it is over 0 and at most 1, or 0 for no crop.")
        short = int(crop / ratio) if ratio else 0
        sizes = {"crop": crop, "full_crop": crop, "short_sides": (short, short)}
        return replace(settings, **sizes, interpolation=cfg.AUG.INTERPOLATION)
    # The published code resizes to TRAIN_CROP_SIZE and crops TEST_CROP_SIZE, which is larger in its setting.
    crop, short = sorted((data.TRAIN_CROP_SIZE, data.TEST_CROP_SIZE))
    return replace(settings, crop=crop, full_crop=crop, short_sides=(short, short))


class ImageMaker(ClipMaker):
    """Make clips of images.

    With `settings.interpolation` (AUG.ENABLE), training: random resized crop, flip, RandAugment or color jitter, random
    erasing. Val and test: bicubic resize of the short side, or to the square if `settings.short_sides` are 0, and
    center crop. The resizing is antialiased, as Pillow's. Without it clips are made as of videos.
    """

    def training_clips(self, path: str, generator: Generator, shape: ClipShape | None = None) -> list[Clip]:
        """Make `augmentation.copies` training clips, each augmented independently."""
        if not self.settings.interpolation:
            return super().training_clips(path, generator, shape)
        s = self.settings.shaped(shape)
        picture = self._picture(path)
        return [self._clip(self._augmented(picture, s, generator, copy), s) for copy in range(s.augmentation.copies)]

    def center_clip(self, path: str) -> Clip:
        """Make the clip of val."""
        if not self.settings.interpolation:
            return super().center_clip(path)
        return self._whole(path)

    def view_clip(self, path: str, view: int) -> Clip:
        """Make the only view of a test."""
        if not self.settings.interpolation:
            return super().view_clip(path, view)
        return self._whole(path)

    def window_crops(
        self, video: VideoReader, windows: Sequence[Sequence[Sequence[int]]], views: Sequence[int] | None = None
    ) -> Iterator[list[list[Tensor]]]:
        """Yield for each window its only view, every frame an image of its own."""
        if not self.settings.interpolation:
            yield from super().window_crops(video, windows, views)
            return
        for window in windows:
            pathways = ([self._pixels(video.frames([index])) for index in pathway] for pathway in window)
            yield [[torch.cat(images, dim=1) for images in pathways]]

    def _whole(self, path: str) -> Clip:
        return self._clip(self._pixels(self._picture(path)), self.settings)

    def _pixels(self, picture: np.ndarray) -> Tensor:
        """Return an image (1, H, W, 3) uint8 of val or test as the model reads it, (3, 1, H', W')."""
        s = self.settings
        if s.short_sides[0]:
            picture = resize_image(picture, *size_by_short_side(*picture.shape[1:3], s.short_sides[0]), "bicubic")
            top, left = (round((side - s.crop) / 2) for side in picture.shape[1:3])
            picture = Crop(top, left, s.crop, s.crop).of(picture)
        else:
            picture = resize_image(picture, s.crop, s.crop, "bicubic")
        colors = transforms.normalization(s.mean, s.std, s.reverse_channels)
        return transforms.to_clip(picture, colors)

    def _augmented(self, picture: np.ndarray, s: ClipSettings, generator: Generator, copy: int) -> Tensor:
        a = s.augmentation
        crop = Crop.random_resized(*picture.shape[1:3], a.areas, a.aspects, generator)
        mode = s.interpolation
        if mode == "random":
            mode = "bilinear" if bernoulli(generator, 0.5) else "bicubic"
        cut = resize_image(crop.of(picture), s.crop, s.crop, mode)
        if s.flip and bernoulli(generator, 0.5):
            cut = cv2.flip(cut[0], 1)[None]
        if a.rand_augment is not None:
            cut = a.rand_augment(cut, generator)
        normalize = transforms.normalization(s.mean, s.std, s.reverse_channels)
        clip = transforms.to_clip(cut, transforms.compose(a.color_jitter.sample(cut, generator), normalize))
        if a.erasing is not None and (not a.erase_second_half or copy >= a.copies // 2):
            a.erasing(clip, generator)
        return clip

    def _picture(self, path: str) -> np.ndarray:
        with self._open(path) as image:
            return image.frames([0])

    def _clip(self, image: Tensor, s: ClipSettings) -> Clip:
        """Make a clip of an image (3, 1, H, W): as many equal frames as the settings say."""
        clip = image.expand(-1, s.num_frames, -1, -1).contiguous()
        return Clip(self._pathways(clip), [0] * s.num_frames, 1, 1.0, None)


class ImageNet(VideoDataset):
    """Images with one label each, in one view.

    `DATA.PATH_TO_PRELOAD_IMDB`/{train,val,test}.json lists {"im_path": ..., "class": ...}. Without that key they are
    the images of `DATA.PATH_TO_DATA_DIR`/{train,val,test}/CLASS/, or of the lists {train,val,test}.csv there, as of
    Kinetics. Classes are numbered by their sorted names: folders named n and digits, or all if none is. A test without
    list or folder of its own takes those of val.

    ImageNet-22K: with `DATA.IN22K_TRAINVAL` the images of val are trained on too, and class folders of train and val
    are numbered together. With `DATA.IN22k_VAL_IN1K` val is that of ImageNet-1K in this folder, whose class folders
    have the numbers of folders of the same names in train; others are left out.

    Sources of the transforms: "Going deeper with convolutions" (arXiv 1409.4842), section 6; with `AUG.ENABLE`, timm's.

    Raises:
        FileNotFoundError: neither list nor folder is there.
        ValueError: a list that does not parse, a label outside the classes, no image; see also `VideoDataset`.
    """

    unit = "images"
    maker = ImageMaker

    def __init__(self, cfg: Any, split: str) -> None:
        with naming_keys(cfg, "MODEL.NUM_CLASSES"):
            source, paths, labels, names = _read(cfg, check_split(split))
        names = read_class_list(list_path(cfg, "classes.txt"), cfg.MODEL.NUM_CLASSES) or names
        opener = partial(_open_image, limits=MediaLimits.from_config(cfg))
        super().__init__(cfg, split, paths, labels, opener, class_names=names, source=source)

    @staticmethod
    def clip_settings(cfg: Any, split: str) -> ClipSettings:
        """Read the settings of the split; see `ImageMaker` for sizes and crops."""
        return _image_settings(cfg, split)


def resize_image(picture: np.ndarray, height: int, width: int, mode: str) -> np.ndarray:
    """Resize an image (1, H, W, 3) uint8 as Pillow does, up to rounding: with antialiasing, unless `mode` is nearest.

    Args:
        mode: nearest, bilinear or bicubic.
    """
    if picture.shape[1:3] == (height, width):
        return picture
    image = torch.from_numpy(np.ascontiguousarray(picture)).permute(0, 3, 1, 2)
    smooth = {} if mode == "nearest" else {"antialias": True, "align_corners": False}
    resized = F.interpolate(image, size=(height, width), mode="nearest-exact" if mode == "nearest" else mode, **smooth)
    return resized.permute(0, 2, 3, 1).contiguous().numpy()


def _read(cfg: Any, split: str) -> tuple[str, Sequence[str], Sequence[int], dict[int, str] | None]:
    """Return the list or folder that was read, the paths of the images, their labels, and names of classes."""
    data = cfg.DATA
    root = data.PATH_TO_PRELOAD_IMDB or data.PATH_TO_DATA_DIR
    val = os.path.join(data.IN22k_VAL_IN1K or root, "val")
    trained = [os.path.join(root, "train"), *([os.path.join(root, "val")] if data.IN22K_TRAINVAL else [])]
    names = None
    if data.IN22K_TRAINVAL or (data.IN22k_VAL_IN1K and split != "train"):
        names = sorted({name for place in trained if os.path.isdir(place) for name in _class_folders(place)})
    if split == "train":
        parts = [_read_first(cfg, [place], names) for place in trained]
        sources, paths, labels, named = zip(*parts, strict=True)
        return " and ".join(sources), list(chain(*paths)), list(chain(*labels)), named[0]
    return _read_first(cfg, [os.path.join(root, "test"), val] if split == "test" else [val], names)


def _read_first(
    cfg: Any, places: Sequence[str], names: list[str] | None
) -> tuple[str, list[str], list[int], dict[int, str] | None]:
    """Read the first of `places` that there is: PLACE.json, if lists are set, or PLACE/ or PLACE.csv."""
    data, classes = cfg.DATA, cfg.MODEL.NUM_CLASSES
    tried = []
    for place in places:
        if data.PATH_TO_PRELOAD_IMDB and os.path.isfile(source := f"{place}.json"):
            return source, *_read_json(source, classes, data.PATH_PREFIX), None
        if not data.PATH_TO_PRELOAD_IMDB and os.path.isdir(place):
            return place, *_read_folders(place, classes, names)
        if not data.PATH_TO_PRELOAD_IMDB and os.path.isfile(source := f"{place}.csv"):
            lists = data.PATH_LABEL_SEPARATOR, data.PATH_PREFIX, data.SKIP_ROWS
            return source, *read_video_list(source, classes, *lists), None
        tried += [f"{place}.json"] if data.PATH_TO_PRELOAD_IMDB else [f"{place}/", f"{place}.csv"]
    key = "DATA.PATH_TO_PRELOAD_IMDB" if data.PATH_TO_PRELOAD_IMDB else "DATA.PATH_TO_DATA_DIR"
    if data.IN22k_VAL_IN1K and places[-1].startswith(data.IN22k_VAL_IN1K):
        key = "DATA.IN22k_VAL_IN1K"
    raise FileNotFoundError(
        f"there is none of {', '.join(tried)}; {key} must be the folder that holds the images' list"
    )


def _read_json(source: str, num_classes: int, prefix: str) -> tuple[list[str], list[int]]:
    with open(source, encoding="utf-8") as stream:
        try:
            entries = json.load(stream)
        except ValueError as error:
            raise ValueError(f"{source} is no JSON: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise ValueError(f'{source} is no list of images, [{{"im_path": ..., "class": ...}}, ...]')
    for number, entry in enumerate(entries):
        fits = isinstance(entry, dict) and isinstance(entry.get("im_path"), str) and type(entry.get("class")) is int
        if not fits:
            raise ValueError(f'{source}, entry {number}: no {{"im_path": ..., "class": ...}} of a path and a number')
        if not 0 <= entry["class"] < num_classes:
            raise ValueError(f"{source}, entry {number} has class {entry['class']}, outside 0 to {num_classes - 1}")
    return [os.path.join(prefix, entry["im_path"]) for entry in entries], [entry["class"] for entry in entries]


def _class_folders(source: str) -> list[str]:
    folders = sorted(entry.name for entry in os.scandir(source) if entry.is_dir() and not entry.name.startswith("."))
    return [name for name in folders if _CLASS_FOLDER.fullmatch(name)] or folders


def _read_folders(
    source: str, num_classes: int, names: list[str] | None
) -> tuple[list[str], list[int], dict[int, str] | None]:
    """Read the images of a folder of classes, which have the numbers of their names in `names`, or else in `source`."""
    folders = _class_folders(source)
    names = names or folders
    if len(names) > num_classes:
        raise ValueError(f"{source} has {len(names)} folders of classes, but the model has {num_classes}")
    numbers = {name: number for number, name in enumerate(names)}
    unknown = [name for name in folders if name not in numbers]
    if unknown:
        logger.warning(
            "%s: %d of %d classes are no class of the training images and are left out: %s",
            *(source, len(unknown), len(folders), ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")),
        )
    paths, labels = [], []
    for folder in (name for name in folders if name in numbers):
        images = sorted(name for name in os.listdir(os.path.join(source, folder)) if _is_image(name))
        paths += [os.path.join(source, folder, name) for name in images]
        labels += [numbers[folder]] * len(images)
    if not paths:
        raise ValueError(f"{source} has no image in a folder of a class ({' '.join(IMAGE_SUFFIXES)})")
    return paths, labels, dict(enumerate(names)) if len(names) == num_classes else None


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
