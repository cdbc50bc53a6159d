"""Files of persons once a second, read back by the data set of boxes."""

from fractions import Fraction

import numpy as np
import pytest

from slowfast.apps.people.ava_boxes import write_person_boxes
from slowfast.config import load_config
from slowfast.datasets import build_dataset
from slowfast.datasets.video.reader import VideoError
from slowfast.evaluation.ava_files import read_boxes


def bright_part(frame):
    """Find the columns over 128 as one person, who reaches out of the frame below, and one all outside."""
    columns = np.flatnonzero(frame[..., 1].mean(0) > 128)
    boxes = [[columns[0], 16, columns[-1] + 1, frame.shape[0] + 9], [-20, 5, -3, 30]]
    return np.array(boxes, np.float32), np.array([0.75, 0.625], np.float32)


@pytest.fixture
def walks(encode, tmp_path):
    """Videos of 2.5 seconds, at 10 and at 29.97 frames a second: frame n is white from column 2n, or 1n, for 16."""

    def walk(name, rate, count, speed):
        pictures = np.zeros((count, 32, 96, 3), np.uint8)
        for number in range(count):
            pictures[number, :, speed * number : speed * number + 16] = 255
        return str(encode(tmp_path / name, pictures, options={"crf": "1"}, rate=rate))

    return [walk("ten.mp4", 10, 25, 2), walk("a, b.mp4", Fraction(30000, 1001), 75, 1)]


def test_boxes_at_every_second_are_read_back_by_the_data_set(walks, tmp_path):
    assert write_person_boxes(str(tmp_path / "boxes.csv"), walks, bright_part, first_second=0) == 6
    table = read_boxes(str(tmp_path / "boxes.csv"), 80, 0.0)
    assert table.names == ["ten", "a, b"]
    assert table.seconds.tolist() == [0, 1, 2] * 2
    assert table.scores.tolist() == [0.75] * 6
    columns = np.array([0, 20, 40, 0, 30, 60]) / 96
    expected = np.stack([columns, np.full(6, 0.5), columns + 16 / 96, np.ones(6)], 1)
    np.testing.assert_allclose(table.boxes, expected, atol=1e-6)

    settings = {
        "TRAIN.DATASET": "ava", "DETECTION.ENABLE": True, "NUM_GPUS": 0, "MODEL.NUM_CLASSES": 5,
        "MODEL.MODEL_NAME": "ResNet", "MODEL.ARCH": "slow", "DATA.NUM_FRAMES": 4, "DATA.SAMPLING_RATE": 2,
        "AVA.FRAME_DIR": str(tmp_path), "AVA.FRAME_LIST_DIR": "", "AVA.ANNOTATION_DIR": str(tmp_path),
        "AVA.TRAIN_GT_BOX_LISTS": [], "AVA.TRAIN_PREDICT_BOX_LISTS": ["boxes.csv"], "AVA.FPS": 10,
        "AVA.DETECTION_SCORE_THRESH": 0.5, "AVA.FIRST_SECOND": 0, "AVA.KEY_SECONDS": [],
        "AVA.LABEL_MAP_FILE": "m.pbtxt",
    }  # fmt: skip
    (tmp_path / "m.pbtxt").write_text('item { name: "walk" id: 1 }\n')
    dataset = build_dataset(load_config(None, [part for pair in settings.items() for part in pair]), "train")
    assert dataset.key_frames == [(name, second) for name in ("ten", "a, b") for second in range(3)]
    np.testing.assert_allclose([dataset.boxes_of(number)[0] for number in range(6)], expected, atol=1e-6)


def test_nothing_is_written_if_a_video_cannot_be_read(walks, tmp_path):
    (tmp_path / "boxes.csv").write_text("former")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"text\.mp4"):
        write_person_boxes(str(tmp_path / "boxes.csv"), [walks[0], str(tmp_path / "text.mp4")], bright_part)
    with pytest.raises(ValueError, match=r"ten\.mkv"):
        write_person_boxes(str(tmp_path / "boxes.csv"), [walks[0], str(tmp_path / "ten.mkv")], bright_part)
    assert (tmp_path / "boxes.csv").read_text() == "former"
