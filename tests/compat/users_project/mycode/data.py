"""Videos that are stored as arrays."""

import os

import numpy as np
import torch

from slowfast.datasets import utils as utils
from slowfast.datasets.build import DATASET_REGISTRY
from slowfast.utils import logging
from slowfast.utils.env import pathmgr

logger = logging.get_logger(__name__)


@DATASET_REGISTRY.register()
class Mydata(torch.utils.data.Dataset):
    def __init__(self, cfg, mode, num_retries=10):
        assert mode in ["train", "val", "test"], f"Split '{mode}' not supported"
        self.mode = mode
        self.cfg = cfg
        self._num_clips = cfg.TEST.NUM_ENSEMBLE_VIEWS * cfg.TEST.NUM_SPATIAL_CROPS if mode == "test" else 1
        self._construct_loader()

    def _construct_loader(self):
        path_to_file = os.path.join(self.cfg.DATA.PATH_TO_DATA_DIR, f"{self.mode}.csv")
        assert pathmgr.exists(path_to_file), f"{path_to_file} not found"
        self._path_to_videos, self._labels, self._spatial_temporal_idx = [], [], []
        with pathmgr.open(path_to_file, "r") as f:
            for path_label in f.read().splitlines():
                path, label = path_label.split()
                for idx in range(self._num_clips):
                    self._path_to_videos.append(os.path.join(self.cfg.DATA.PATH_PREFIX, path))
                    self._labels.append(int(label))
                    self._spatial_temporal_idx.append(idx)
        logger.info(f"{self.mode} of {len(self._path_to_videos)} clips")

    def __getitem__(self, index):
        frames = torch.from_numpy(np.load(self._path_to_videos[index]))
        num_frames, rate = self.cfg.DATA.NUM_FRAMES, self.cfg.DATA.SAMPLING_RATE
        room = len(frames) - num_frames * rate
        if self.mode == "train":
            start, spatial_idx = np.random.randint(room + 1), -1
            sizes = self.cfg.DATA.TRAIN_JITTER_SCALES + [self.cfg.DATA.TRAIN_CROP_SIZE]
        else:
            temporal = self._spatial_temporal_idx[index] // self.cfg.TEST.NUM_SPATIAL_CROPS
            start, spatial_idx = room * temporal // self._num_clips, 1
            sizes = [self.cfg.DATA.TEST_CROP_SIZE] * 3
        half = num_frames * rate // 2
        frames = frames[utils.get_sequence(start + half, half, rate, len(frames))]
        frames = utils.tensor_normalize(frames, self.cfg.DATA.MEAN, self.cfg.DATA.STD)
        frames = frames.permute(3, 0, 1, 2)  # T H W C -> C T H W
        frames = utils.spatial_sampling(frames, spatial_idx, *sizes, random_horizontal_flip=self.cfg.DATA.RANDOM_FLIP)
        return utils.pack_pathway_output(self.cfg, frames), self._labels[index], index, 0, {}

    def __len__(self):
        return len(self._path_to_videos)

    @property
    def num_videos(self):
        return len(self._path_to_videos)
