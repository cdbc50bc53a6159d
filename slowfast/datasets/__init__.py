"""Data sets, video decoding, sampling and transforms."""

from slowfast.datasets.build import DATASET_REGISTRY, build_dataset, build_loader
from slowfast.datasets.loading.batch import Batch, MissingSample, Sample, collate
from slowfast.datasets.loading.unreadable import UnreadableFiles

__all__ = [
    "DATASET_REGISTRY",
    "Batch",
    "MissingSample",
    "Sample",
    "UnreadableFiles",
    "build_dataset",
    "build_loader",
    "collate",
]
