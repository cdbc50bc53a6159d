"""Kinetics, and any data set of trimmed videos in CSV lists `path label`."""

from __future__ import annotations

from typing import Any

from slowfast.config.resolve import num_labels
from slowfast.datasets.base import check_split
from slowfast.datasets.video_dataset import VideoDataset, list_path, read_class_list, read_video_list
from slowfast.utils.errors import naming_keys


class Kinetics(VideoDataset):
    """Clips of the videos in `DATA.PATH_TO_DATA_DIR`/{train,val,test}.csv, with one label each, or none in test.csv.

    `classes.txt` in the same folder, the name of class i in line i, names the classes if it is there.

    Raises:
        FileNotFoundError, ValueError: see `read_video_list`; ValueError also for an unknown `DATA.DECODING_BACKEND`.
        UnreadableError: as `VideoDataset`.
    """

    def __init__(self, cfg: Any, split: str) -> None:
        csv_path = list_path(cfg, f"{check_split(split)}.csv")
        data = cfg.DATA
        num_classes, key = num_labels(cfg)
        with naming_keys(cfg, key, "DATA.PATH_LABEL_SEPARATOR", "DATA.SKIP_ROWS"):
            paths, labels = read_video_list(
                csv_path,
                num_classes,
                data.PATH_LABEL_SEPARATOR,
                data.PATH_PREFIX,
                data.SKIP_ROWS,
                labels_optional=split == "test",
            )
        names = read_class_list(list_path(cfg, "classes.txt"), num_classes)
        super().__init__(cfg, split, paths, labels, class_names=names, source=csv_path)
