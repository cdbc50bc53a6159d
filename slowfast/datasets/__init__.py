"""Data sets, video decoding, sampling and transforms."""

from slowfast.datasets.base import ClipDataset, DatasetInfo
from slowfast.datasets.build import DATASET_REGISTRY, build_dataset, build_loader
from slowfast.datasets.loading.batch import Batch, MissingSample, Sample, collate
from slowfast.datasets.loading.unreadable import UnreadableFiles
from slowfast.datasets.video_dataset import VideoDataset

__all__ = [
    "DATASET_REGISTRY",
    "Batch",
    "ClipDataset",
    "DatasetInfo",
    "MissingSample",
    "Sample",
    "UnreadableFiles",
    "VideoDataset",
    "build_dataset",
    "build_loader",
    "collate",
]
