"""Files of the persons that a detector finds once a second, as the data set `ava` reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from slowfast.apps.people.sources import Detector, shares
from slowfast.datasets.video import open as decode
from slowfast.datasets.video.find import stem
from slowfast.datasets.video.timing import Timeline
from slowfast.evaluation.ava import BoxRows
from slowfast.evaluation.ava_files import write_detections
from slowfast.evaluation.ava_lines import NO_LABEL


def write_person_boxes(path: str, videos: Sequence[str], detector: Detector, first_second: int = 0) -> int:
    """Write the persons at every second of videos for `AVA.TRAIN_PREDICT_BOX_LISTS` or `TEST_PREDICT_BOX_LISTS`.

    A line is `video,second,x1,y1,x2,y2,-1,score`, with the edges as shares of width and height, cut to the frame. The
    frame of a second is the nearest in time.

    Args:
        path: the file to write; it is replaced when all videos are read.
        videos: video files; their names without folder and suffix are those of the lines.
        detector: frame (H, W, 3) uint8 RGB -> boxes (n, 4) in pixels and scores (n,), such as a `PersonDetector`.
        first_second: of the videos, as `AVA.FIRST_SECOND`.

    Returns:
        Number of boxes.

    Raises:
        ValueError: two videos of one name.
        VideoError: a video cannot be read; nothing is written.
        OSError: the file cannot be written; a former one is unchanged.
    """
    names: dict[str, str] = {}
    for video in videos:
        if names.setdefault(stem(video), video) != video:
            raise ValueError(
                f"{names[stem(video)]} and {video} would both be video {stem(video)} of {path}; rename one, or write "
                "two files"
            )
    key_frames, rows = [], []
    for name, video in names.items():
        for second, boxes, scores in _persons(video, detector):
            rows += [(len(key_frames), *box, score) for box, score in zip(boxes, scores, strict=True)]
            key_frames.append((name, first_second + second))
    table = np.array(rows, np.float64).reshape(-1, 6)
    classes = np.full(len(table), NO_LABEL)
    write_detections(path, BoxRows(key_frames, table[:, 0], table[:, 1:5], classes, table[:, 5].astype(np.float32)))
    return len(table)


def _persons(path: str, detector: Detector) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield second, relative boxes (n, 4) and scores (n,) for every second of a video that has a frame."""
    with decode.open(path) as video:
        times = Timeline.of(video).times
        for second in range(int(times[-1]) + 1):
            frame = video.frames([int(np.abs(times - second).argmin())])[0]
            yield second, *shares(*detector(frame), frame)
