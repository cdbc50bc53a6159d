"""The AVA data set on a small one of real JPEG files, whose frames show their number."""

import logging
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from slowfast.apps.prepare.check import CheckOptions, check
from slowfast.apps.prepare.frames import prepare_frames, with_overrides
from slowfast.config import load_config
from slowfast.datasets import build_dataset, build_loader
from slowfast.datasets.loading.batch import Boxes, MissingSample
from slowfast.datasets.loading.sampler import ClipShape, SampleKey
from slowfast.datasets.loading.unreadable import UnreadableError
from slowfast.evaluation.prediction import Prediction

FPS = 30
SIZES = {"tall": (36, 20), "wide": (20, 44)}  # height, width
FRAMES = {"tall": 6 * FPS + 1, "wide": 7 * FPS}  # seconds 900 to 906
TRUTH = """\
tall,0902,0.100,0.200,0.500,0.700,1,0
tall,0902,0.100,0.200,0.500,0.700,3,0
tall,0902,0.600,0.200,0.900,0.700,2,1
tall,0904,0.100,0.100,0.900,0.900,2,1
wide,0904,0.000,0.000,1.000,1.000,5,0
wide,0906,0.200,0.250,0.400,0.750,1,0
"""
PREDICTED = """\
tall,0902,0.11,0.21,0.51,0.71,,0.95
tall,0903,0.11,0.21,0.51,0.71,-1,0.9
wide,0904,0.01,0.01,0.99,0.99,5,0.99
wide,0904,0.5,0.5,0.6,0.6,,0.3
tall,0906,0.11,0.21,0.51,0.71,-1,0.99
"""
LABEL_MAP = 'item { name: "stand" id: 1 }\nitem { name: "sit" id: 2 }\nitem { name: "run" id: 5 }\n'


@pytest.fixture(scope="session")
def ava_frames(tmp_path_factory) -> Path:
    """Frames and their list; the gray of frame i is 40 + i."""
    root = tmp_path_factory.mktemp("ava_frames")
    lines = ["original_vido_id video_id frame_id path labels"]
    for video, (name, count) in enumerate(FRAMES.items()):
        (root / name).mkdir()
        for frame in range(count):
            path = f"{name}/{name}_{frame + 1:06d}.jpg"
            cv2.imwrite(str(root / path), np.full((*SIZES[name], 3), 40 + frame, np.uint8))
            lines.append(f'{name} {video} {frame} {path} ""')
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def ava(ava_frames, tmp_path):
    """build(split, *settings) of a set whose files `write` changes."""
    files = {"truth.csv": TRUTH, "predicted.csv": PREDICTED, "excluded.csv": "tall,0903\n", "map.pbtxt": LABEL_MAP}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    settings = {
        "TRAIN.DATASET": "ava",
        "TEST.DATASET": "ava",
        "TRAIN.BATCH_SIZE": 2,
        "TEST.BATCH_SIZE": 4,
        "DETECTION.ENABLE": True,
        "MODEL.NUM_CLASSES": 5,
        "MODEL.MODEL_NAME": "ResNet",
        "MODEL.ARCH": "slow",
        "DATA.NUM_FRAMES": 4,
        "DATA.SAMPLING_RATE": 5,
        "DATA.TRAIN_JITTER_SCALES": [24, 30],
        "DATA.TRAIN_CROP_SIZE": 20,
        "DATA.TEST_CROP_SIZE": 24,
        "DATA.MEAN": [0.0, 0.0, 0.0],
        "DATA.STD": [1.0, 1.0, 1.0],
        "DATA_LOADER.NUM_WORKERS": 0,
        "NUM_GPUS": 0,
        "AVA.FRAME_DIR": str(ava_frames),
        "AVA.FRAME_LIST_DIR": str(ava_frames),
        "AVA.ANNOTATION_DIR": str(tmp_path),
        "AVA.TRAIN_LISTS": ["list.csv"],
        "AVA.TEST_LISTS": ["list.csv"],
        "AVA.TRAIN_GT_BOX_LISTS": ["truth.csv"],
        "AVA.TEST_PREDICT_BOX_LISTS": ["predicted.csv"],
        "AVA.LABEL_MAP_FILE": "map.pbtxt",
        "AVA.EXCLUSION_FILE": "excluded.csv",
        "AVA.GROUNDTRUTH_FILE": "truth.csv",
    }

    def config(**changed):
        merged = settings | {key.replace("__", "."): value for key, value in changed.items()}
        return load_config(None, [part for pair in merged.items() for part in pair])

    def build(split, **changed):
        return build_dataset(config(**changed), split)

    build.config, build.folder = config, tmp_path
    return build


def frames_shown(inputs: torch.Tensor) -> list[int]:
    """The numbers of the frames that a clip (3, T, H, W) shows."""
    return [round(float(frame.median()) * 255) - 40 for frame in inputs.unbind(1)]


def shown(messages, text) -> list[str]:
    return [record.getMessage() for record in messages.records if text in record.getMessage()]


def test_training_on_annotated_boxes(ava):
    data = ava("train")
    assert data.key_frames == [("tall", 902), ("tall", 904), ("wide", 904), ("wide", 906)]
    assert data.names[0] == "tall,0902"
    assert (len(data), data.num_views, data.info.label_kind, data.info.unit) == (4, 1, "boxes", "key frames")
    assert data.videos == ["tall", "wide"]
    sample = data[0, 3]
    (moment,) = sample.key_frames
    assert moment.key_frame == sample.video == 0
    assert frames_shown(sample.inputs[0]) == [50, 55, 60, 65]
    assert sample.inputs[0].shape == (3, 4, 20, 20)
    assert sample.label.tolist() == [1, 1, 1, 0, 0]
    assert {tuple(row) for row in moment.labels.tolist()} <= {(1, 0, 1, 0, 0), (0, 1, 0, 0, 0)}
    assert moment.boxes.dtype == torch.float32
    assert 0 <= float(moment.boxes.min())
    assert float(moment.boxes.max()) <= 19


def test_training_on_predicted_boxes_too(ava):
    data = ava("train", AVA__TRAIN_PREDICT_BOX_LISTS=["truth.csv", "predicted.csv"])
    assert data.key_frames == [("tall", s) for s in (902, 903, 904, 906)] + [("wide", 904), ("wide", 906)]
    assert len(data.boxes_of(0)) == 3
    assert data.boxes_of(0)[-1].tolist() == [0.11, 0.21, 0.51, 0.71]
    unlabeled = data[1].key_frames[0]
    assert unlabeled.labels.tolist() == [[0] * 5]
    low = ava("train", AVA__TRAIN_PREDICT_BOX_LISTS=["predicted.csv"], AVA__DETECTION_SCORE_THRESH=0.2)
    assert len(low.boxes_of(4)) == 3


def test_a_training_box_outside_the_crop_is_left_out_with_its_labels(ava):
    (ava.folder / "truth.csv").write_text(
        "wide,0902,0,0,0.1,1,1,0\nwide,0902,0.2,0,0.8,1,2,0\nwide,0902,0.9,0,1,1,3,0\n"
    )
    data = ava("train")
    counts = set()
    for epoch in range(30):
        (moment,) = data[0, epoch].key_frames
        x1, y1, x2, y2 = moment.boxes.T
        assert bool(((x2 > x1) & (y2 > y1)).all())
        assert moment.labels[:, 1].sum() == 1
        counts.add(len(moment.boxes))
    assert counts == {1, 2}


def test_testing_on_predicted_boxes(ava):
    data = ava("test")
    assert data.key_frames == [("tall", 902), ("tall", 903), ("tall", 906), ("wide", 904)]
    assert data.class_ids == [1, 2, 5]
    assert data.info.class_names[4] == "run"
    assert data.excluded == [("tall", 903)]
    truth = data.ground_truth
    videos = [truth.key_frames[number][0] for number in truth.key_frame]
    assert videos == ["tall"] * 4 + ["wide"] * 2
    assert [truth.key_frames[number][1] for number in truth.key_frame] == [902, 902, 902, 904, 904, 906]
    assert truth.classes.tolist() == [1, 3, 2, 2, 5, 1]
    assert truth.boxes[0].tolist() == [0.1, 0.2, 0.5, 0.7]
    # Whole frames with a short side of 24 pixels; the last frame is repeated at the end.
    tall, wide = data[2], data[3]
    assert tall.inputs[0].shape == (3, 4, 43, 24)
    assert frames_shown(tall.inputs[0]) == [170, 175, 180, 180]
    assert wide.inputs[0].shape == (3, 4, 24, 52)
    # As published: cut to the last pixel of the frame, then both axes scaled by the factor of the longer side.
    expected = torch.tensor([0.44, 0.2, min(0.99 * 44, 43), min(0.99 * 20, 19)]) * 52 / 44
    assert torch.allclose(wide.key_frames[0].boxes, expected[None], atol=1e-4)


def test_a_forced_flip_mirrors_frames_and_boxes(ava):
    plain, flipped = (ava("test", AVA__TEST_FORCE_FLIP=flip)[0].key_frames[0].boxes for flip in (False, True))
    assert torch.allclose(flipped, torch.stack([23 - plain[:, 2], plain[:, 1], 23 - plain[:, 0], plain[:, 3]], 1))


def test_validation_takes_every_fourth_second(ava):
    data = ava("val")
    assert data.key_frames == [("wide", 904)]
    assert [data.ground_truth.key_frames[number][1] for number in data.ground_truth.key_frame] == [904, 904]
    assert data[0].inputs[0].shape == (3, 4, 24, 24)
    full = ava("val", AVA__FULL_TEST_ON_VAL=True)
    assert len(full.key_frames) == 4
    assert len(full.ground_truth) == 6


def test_no_batch_holds_two_sizes(ava):
    batches = list(build_loader(ava.config(), "test"))
    assert sorted(tuple(batch.inputs[0].shape[-2:]) for batch in batches) == [(24, 52), (43, 24)]
    assert torch.cat([batch.key_frames[0].key_frame for batch in batches]).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("split", ["val", "test"])
def test_annotated_boxes_are_never_scored_silently(ava, caplog, split):
    caplog.set_level(logging.WARNING)
    with pytest.raises(ValueError, match="AVA.TEST_PREDICT_BOX_LISTS is empty.*TEST_ON_GROUND_TRUTH"):
        ava(split, AVA__TEST_PREDICT_BOX_LISTS=[])
    ava(split)
    assert shown(caplog, "ANNOTATED") == []
    # A copy under another name; its persons are numbers over 1, which are no scores; or all are 0.
    (ava.folder / "copy.csv").write_text(TRUTH.replace("0.100", "0.1").replace(",1\n", ",17\n"))
    (ava.folder / "zeros.csv").write_text("".join(f"{line[:-1]}0\n" for line in TRUTH.splitlines()))
    asked = [
        {"AVA__TEST_ON_GROUND_TRUTH": True},
        {"AVA__TEST_PREDICT_BOX_LISTS": ["truth.csv"]},
        {"AVA__TEST_PREDICT_BOX_LISTS": ["./../" + ava.folder.name + "/truth.csv"]},
        {"AVA__TEST_PREDICT_BOX_LISTS": ["copy.csv"]},
        {"AVA__TEST_PREDICT_BOX_LISTS": ["zeros.csv"]},
    ]
    for settings in [*asked, *asked]:
        caplog.clear()
        data = ava(split, **settings, AVA__FULL_TEST_ON_VAL=True)
        assert len(shown(caplog, "ANNOTATED")) == 1
        assert data.key_frames == [("tall", 902), ("tall", 904), ("wide", 904), ("wide", 906)]
        assert data[0].key_frames[0].labels.tolist() == [[1, 0, 1, 0, 0], [0, 1, 0, 0, 0]]


def test_boxes_of_other_moments_for_models_that_read_in_steps(ava):
    (ava.folder / "truth.csv").write_text(TRUTH + "wide,0903,0.1,0.1,0.3,0.3,4,0\n")
    steps = {
        "AVA__FRAMES_AFTER_KEY": 2,
        "AVA__BOX_FRAMES": [2, 5, 8],
        "DATA__NUM_FRAMES": 10,
        "DATA__SAMPLING_RATE": 10,
    }
    data = ava("train", **steps)
    own = data.key_frames.index(("wide", 904))
    sample = data[own]
    # Frames 40 to 130; key frame 120 is number 8, frame 90 is number 5 and frame 60 (second 902, no boxes) number 2.
    assert frames_shown(sample.inputs[0]) == list(range(40, 140, 10))
    assert [moment.key_frame for moment in sample.key_frames] == [-1, data.key_frames.index(("wide", 903)), own]
    stand_in, before, last = sample.key_frames
    assert torch.equal(stand_in.boxes, last.boxes)
    assert torch.equal(stand_in.labels, last.labels)
    assert last.labels.tolist() == [[0, 0, 0, 0, 1]]
    assert before.labels.tolist() == [[0, 0, 0, 1, 0]]
    # A batch of shorter clips: the last of their positions is the key frame.
    short = data[SampleKey(own, 0, ClipShape(7, 16))]
    assert short.inputs[0].shape == (3, 7, 16, 16)
    assert frames_shown(short.inputs[0]) == list(range(70, 140, 10))
    assert [moment.key_frame for moment in short.key_frames] == [data.key_frames.index(("wide", 903)), own]


def test_rates_of_the_long_cycle_keep_the_key_frame(ava):
    data = ava("train", AVA__FRAMES_AFTER_KEY=2, MULTIGRID__LONG_CYCLE_SAMPLING_RATE=9)
    rates = set()
    for epoch in range(40):
        frames = frames_shown(data[2, epoch].inputs[0])
        rates.add(frames[1] - frames[0])
        assert frames[2] == 120
    assert rates == {5, 6, 7, 8, 9}


def test_the_same_draws_for_the_same_key(ava):
    data, again = ava("train"), ava("train")
    for key in [(0, 0), (3, 7)]:
        assert torch.equal(data[key].inputs[0], again[key].inputs[0])
        assert torch.equal(data[key].key_frames[0].boxes, again[key].key_frames[0].boxes)


def test_a_frame_that_cannot_be_read(ava, ava_frames, tmp_path):
    lines = (ava_frames / "list.csv").read_text().replace("wide/wide_000121.jpg", "wide/lost_000121.jpg")
    (tmp_path / "list.csv").write_text(lines)
    data = ava("test", AVA__FRAME_LIST_DIR=str(tmp_path))
    missing = data[3]
    assert isinstance(missing, MissingSample)
    assert (missing.video, missing.path) == (3, "wide,0904")
    assert "lost_000121.jpg: no such file" in missing.cause
    train = ava("train", AVA__FRAME_LIST_DIR=str(tmp_path))
    sample = train[2]
    assert sample.video != 2
    assert sample.replaced[0][0] == "wide,0904"
    train.unreadable.update_from(sample.replaced)
    with pytest.raises(UnreadableError, match="AVA.FRAME_DIR"):
        train.unreadable.check()


def test_the_set_travels_to_another_process(ava):
    data = ava("train")
    other = pickle.loads(pickle.dumps(data))
    assert torch.equal(other[3, 2].inputs[0], data[3, 2].inputs[0])
    loader = build_loader(ava.config(DATA_LOADER__NUM_WORKERS=1), "test")
    assert sum(batch.size for batch in loader) == 4


def test_clips_of_another_shape(ava):
    data = ava("train")
    other = data.reshaped(ava.config(DATA__NUM_FRAMES=2, DATA__SAMPLING_RATE=10))
    assert frames_shown(other[0].inputs[0]) == [50, 60]
    assert other.unreadable is data.unreadable


def test_frames_in_memory(ava):
    plain, cached = ava("train"), ava("train", DATA__CACHE_VIDEOS=True)
    assert torch.equal(plain[1, 4].inputs[0], cached[1, 4].inputs[0])


def test_seconds_without_a_frame(ava):
    (ava.folder / "truth.csv").write_text(TRUTH + "tall,0907,0.1,0.1,0.3,0.3,4,0\ntall,0908,0.1,0.1,0.3,0.3,4,0\n")
    message = r"truth.csv, line 7: 'tall,0907.*' second 907 is frame 210 .*tall has frames 0 to 180 \(and 1 rows more\)"
    message = message.replace("' second", "': second")
    for split in ("train", "test"):
        with pytest.raises(ValueError, match=message):
            ava(split)


def test_seconds_that_are_no_key_frames(ava, caplog):
    caplog.set_level(logging.WARNING)
    (ava.folder / "truth.csv").write_text("tall,0900,0.1,0.1,0.3,0.3,4,0\n" + TRUTH)
    assert len(ava("train")) == 4
    (message,) = shown(caplog, "KEY_SECONDS")
    assert "1 of 7 boxes" in message
    assert "truth.csv, line 1" in message
    assert ava("train", AVA__KEY_SECONDS=[]).key_frames[0] == ("tall", 900)
    assert ava("train", AVA__KEY_SECONDS=[903, 904]).key_frames == [("tall", 904), ("wide", 904)]
    with pytest.raises(ValueError, match=r"train has no key frame.*truth.csv.*KEY_SECONDS \[0, 5\]"):
        ava("train", AVA__KEY_SECONDS=[0, 5])
    with pytest.raises(ValueError, match="FULL_TEST_ON_VAL"):
        ava("val", AVA__KEY_SECONDS=[902, 903])


def test_a_set_of_ones_own(ava):
    """Other rate, other first second, all its seconds."""
    (ava.folder / "truth.csv").write_text("tall,3,0.1,0.1,0.9,0.9,4,0\ntall,0,0.1,0.1,0.9,0.9,1,0\n")
    data = ava("train", AVA__FPS=12.5, AVA__FIRST_SECOND=0, AVA__KEY_SECONDS=[], AVA__LABEL_MAP_FILE="")
    assert data.key_frames == [("tall", 0), ("tall", 3)]
    assert frames_shown(data[1].inputs[0])[2] == 38
    assert data.info.class_names == {i: str(i + 1) for i in range(5)}


def test_the_number_of_classes(ava, caplog):
    with pytest.raises(ValueError, match="map.pbtxt has 3 classes with ids up to 5, but MODEL.NUM_CLASSES is 4.*set"):
        ava("train", MODEL__NUM_CLASSES=4)
    caplog.set_level(logging.WARNING)
    assert ava("train", MODEL__NUM_CLASSES=80).class_ids == [1, 2, 5]
    assert shown(caplog, "MODEL.NUM_CLASSES is 80")


def test_videos_without_frames(ava, caplog):
    caplog.set_level(logging.WARNING)
    (ava.folder / "truth.csv").write_text(TRUTH + "lost,0902,0.1,0.1,0.3,0.3,4,0\n")
    assert len(ava("train")) == 4
    assert "1 of 3 videos have no frames, such as lost" in shown(caplog, "lost")[0]
    caplog.clear()
    assert len(ava("test")) == 4
    assert "1 of 7 annotated boxes" in shown(caplog, "count as missed")[0]


def test_without_boxes_in_the_model(ava):
    with pytest.raises(ValueError, match="DETECTION.ENABLE True"):
        ava("train", DETECTION__ENABLE=False)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("GROUNDTRUTH_FILE", "AVA.GROUNDTRUTH_FILE is empty"),
        ("TEST_LISTS", "AVA.TEST_LISTS names it, in the folder AVA.FRAME_LIST_DIR"),
    ],
)
def test_files_that_are_not_named(ava, key, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ava("val", **{f"AVA__{key}": "" if key.endswith("FILE") else ["none.csv"]})


@pytest.mark.parametrize("changed", [{"TEST_PREDICT_BOX_LISTS": []}, {"TEST_ON_GROUND_TRUTH": True}])
def test_a_test_without_annotations_needs_predicted_boxes(ava, changed):
    assert len(ava("test", AVA__GROUNDTRUTH_FILE="").ground_truth) == 0
    with pytest.raises(ValueError, match="AVA.GROUNDTRUTH_FILE is empty"):
        ava("test", AVA__GROUNDTRUTH_FILE="", **{f"AVA__{key}": value for key, value in changed.items()})


@pytest.mark.parametrize(
    "key", ["LABEL_MAP_FILE", "EXCLUSION_FILE", "GROUNDTRUTH_FILE", "TEST_PREDICT_BOX_LISTS", "TRAIN_GT_BOX_LISTS"]
)
def test_a_missing_file_is_named_with_its_key(ava, key):
    name = ["none.csv"] if key.endswith("LISTS") else "none.csv"
    with pytest.raises(FileNotFoundError, match=f"none.csv; AVA.{key} names it"):
        ava("train" if key.startswith("TRAIN") else "test", **{f"AVA__{key}": name})


def test_no_predicted_boxes_needed_for_annotated_ones(ava):
    data = ava("test", AVA__TEST_PREDICT_BOX_LISTS=["none.csv"], AVA__TEST_ON_GROUND_TRUTH=True)
    assert len(data) == 4


@pytest.mark.parametrize(
    ("truth", "excluded", "counts"),
    [
        ("", "", "0 boxes are annotated, 0 of them"),
        ("tall,0903,0.1,0.1,0.9,0.9,1,0\n", "tall,0903\n", "1 boxes are annotated, 0 of them"),
        ("tall,0902,0.1,0.1,0.9,0.9,3,0\n", "tall,0903\n", "1 boxes are annotated, 1 of them"),
    ],
    ids=["empty", "excluded", "class without a name"],
)
def test_nothing_to_score_against_is_found_at_the_start(ava, truth, excluded, counts):
    (ava.folder / "truth.csv").write_text(truth)
    (ava.folder / "excluded.csv").write_text(excluded)
    with pytest.raises(ValueError, match=counts):
        ava("test")


def test_a_list_that_lacks_frames_is_warned_of(ava, ava_frames, tmp_path, caplog):
    lines = (ava_frames / "list.csv").read_text().splitlines()
    (tmp_path / "list.csv").write_text("\n".join(lines[:20] + lines[23:]) + "\n")
    with caplog.at_level(logging.WARNING):
        ava("train", AVA__FRAME_LIST_DIR=str(tmp_path))
    (message,) = shown(caplog, "lacks frames")
    assert "1 of 2 videos (tall lacks 3)" in message


def test_no_list_of_frames_named(ava):
    with pytest.raises(ValueError, match="AVA.TRAIN_LISTS is empty"):
        ava("train", AVA__TRAIN_LISTS=[])


def test_video_files_in_place_of_frame_lists(ava, tmp_path, encode):
    """Frames by time: a video at 15 frames per second, of which every one is two of AVA's."""
    videos = tmp_path / "videos"
    videos.mkdir()
    pictures = np.repeat(np.arange(0, 210, 2, dtype=np.uint8)[:, None, None, None] + 40, 48, 1)
    pictures = np.broadcast_to(pictures, (105, 48, 64, 3)).copy()
    encode(videos / "wide.mp4", pictures, rate=15)
    (ava.folder / "truth.csv").write_text("wide,0904,0.1,0.1,0.9,0.9,4,0\nlost,0904,0.1,0.1,0.9,0.9,4,0\n")
    settings = {"AVA__FRAME_LIST_DIR": "", "AVA__FRAME_DIR": str(videos)}
    data = ava("train", **settings, DATA__SAMPLING_RATE=6)
    assert data.key_frames == [("wide", 904)]
    assert np.abs(np.array(frames_shown(data[0].inputs[0])) - [108, 114, 120, 126]).max() <= 2
    cfg = ava.config(**settings, AVA__TRAIN_GT_BOX_LISTS=["truth.csv"], OUTPUT_DIR=str(tmp_path / "out"))
    report = check(cfg, CheckOptions(splits=("train",), cache=str(tmp_path / "cache.jsonl")))
    assert {finding.kind for finding in report.findings} == {"class-without-samples"}
    assert (report.splits["train"].videos, report.splits["train"].frames) == (1, 210)
    (ava.folder / "truth.csv").write_text("wide,0907,0.1,0.1,0.9,0.9,4,0\n")
    with pytest.raises(ValueError, match="wide has frames 0 to 209"):
        ava("train", **settings)
    with pytest.raises(FileNotFoundError, match="AVA.FRAME_LIST_DIR"):
        ava("train", AVA__FRAME_LIST_DIR="", AVA__FRAME_DIR=str(tmp_path / "nowhere"))


def test_videos_of_one_list_overlap_only_where_both_splits_have_boxes(ava):
    def overlap(training: str):
        (ava.folder / "training.csv").write_text(training)
        cfg = ava.config(AVA__TRAIN_GT_BOX_LISTS=["training.csv"])
        report = check(cfg, CheckOptions(splits=("train", "test"), allowed=("unreadable",)))
        return [finding for finding in report.findings if finding.kind == "overlap"]

    (ava.folder / "predicted.csv").write_text("wide,0904,0.01,0.01,0.99,0.99,5,0.99\n")
    assert overlap("tall,0902,0.1,0.2,0.5,0.7,1,0\n") == []
    (found,) = overlap("wide,0906,0.2,0.25,0.4,0.75,1,0\n")
    assert found.count == 1


def write_clips(root: Path, encode) -> None:
    """Write ten seconds of Kinetics twice and of a movie, at 10 frames a second; the gray of frame i is 40 + 2 * i."""
    root.mkdir()
    pictures = np.repeat(np.arange(40, 240, 2, dtype=np.uint8)[:, None, None, None], 48, 1)
    pictures = np.broadcast_to(pictures, (100, 48, 64, 3)).copy()
    for name in ("-x_0DEF-123_000084_000094", "nobody-here_000010_000020", "wide"):
        encode(root / f"{name}.mp4", pictures, rate=10)


@pytest.fixture
def ava_kinetics(ava, tmp_path, encode):
    """Make `build(split, **settings)` of files of AVA and AVA-Kinetics, for videos in the folder `videos`."""
    write_clips(tmp_path / "videos", encode)
    (tmp_path / "truth.csv").write_text(
        "-x_0DEF-123,89.5,0.1,0.2,0.5,0.7,1,0\nnobody-here,0012.000\nwide,0904,0.1,0.1,0.9,0.9,2,0\n"
        "-x_0DEF-123,0089.500,0.1,0.2,0.5,0.7,2,0\n"
    )
    (tmp_path / "predicted.csv").write_text(
        "nobody-here,12,0.11,0.21,0.51,0.71,,0.99\n-x_0DEF-123,89.500,0.11,0.21,0.51,0.71,,0.98\nwide,904.0,0.11,0.11,0.91,0.91,,0.97\n"
    )
    settings = {
        "AVA__FRAME_LIST_DIR": "",
        "AVA__FRAME_DIR": str(tmp_path / "videos"),
        "AVA__KINETICS_CLIPS": True,
        "AVA__FPS": 10,
        "AVA__EVALUATION": "activitynet",
        "AVA__EXCLUSION_FILE": "",
    }

    def build(split, **changed):
        return ava(split, **{**settings, **changed})

    build.config = lambda **changed: ava.config(**{**settings, **changed})
    build.folder = tmp_path
    return build


@pytest.fixture(params=["videos", "frames"])
def footage_settings(request, ava_kinetics):
    """Settings that read the videos themselves, or frames and lists that `prepare_frames` makes of them."""
    if request.param == "videos":
        return {}
    folder = ava_kinetics.folder
    options = with_overrides("ava_kinetics", fps=10)
    files = [
        str(shutil.copy(folder / "truth.csv", folder / f"kinetics_{split}_v1.0.csv")) for split in ("train", "val")
    ]
    where = [str(folder / name) for name in ("videos", "frames", "lists")]
    report = prepare_frames("ava_kinetics", options, files, *where, 0)
    assert report.images == dict.fromkeys(["-x_0DEF-123_000084_000094", "wide", "nobody-here_000010_000020"], 100)
    assert (report.failed, report.odd, report.lists) == ({}, {}, {"train": 3, "val": 3})
    lists = {"AVA__FRAME_LIST_DIR": str(folder / "lists"), "AVA__FRAME_DIR": str(folder / "frames")}
    return {**lists, "AVA__TRAIN_LISTS": ["train.csv"], "AVA__TEST_LISTS": ["val.csv"]}


def test_ava_kinetics_frames_of_fractional_seconds(ava_kinetics, footage_settings):
    data = ava_kinetics("train", **footage_settings)
    assert set(data.key_frames) == {("-x_0DEF-123", 89.5), ("wide", 904)}
    assert set(data.names) == {"-x_0DEF-123,0089.5", "wide,0904"}
    assert sum(data.box_counts) == 2 and data.num_labels == 3
    for (video, _), sample in ((data.key_frames[number], data[number]) for number in range(2)):
        # Frame 0 is second 84 of the clip, second 900 of the movie; the key frame is the third of the four.
        key = {"-x_0DEF-123": 55, "wide": 40}[video]
        shown = np.array(frames_shown(sample.inputs[0])) / 2
        assert np.abs(shown - [key - 10, key - 5, key, key + 5]).max() <= 1.5
    test = ava_kinetics("test", **footage_settings)
    assert set(test.key_frames) == {("-x_0DEF-123", 89.5), ("wide", 904), ("nobody-here", 12)}
    report = check(ava_kinetics.config(**footage_settings), CheckOptions(splits=("train", "test")))
    assert {finding.kind for finding in report.findings} <= {"class-without-samples", "overlap", "same-content"}


@pytest.mark.parametrize(("evaluation", "named", "unnamed"), [("pyslowfast", 0.5, 0.5), ("activitynet", 0.5, 1.0)])
def test_ava_kinetics_key_frames_without_persons(ava_kinetics, evaluation, named, unnamed):
    """A sure detection where nobody is halves the precision of class 1, if the annotations name the key frame."""
    truth = ava_kinetics.folder / "truth.csv"
    for expected in (named, unnamed):
        data = ava_kinetics("test", AVA__EVALUATION=evaluation)
        evaluator = data.make_evaluator(ava_kinetics.config(AVA__EVALUATION=evaluation))
        scores = torch.tensor([[0.9 if video == "nobody-here" else 0.5] for video, _ in data.key_frames]).repeat(1, 5)
        nothing, key_frames = torch.zeros(0), torch.arange(3)
        boxes = Boxes(nothing, nothing, key_frames, torch.zeros(3, dtype=torch.int64))
        # The movie's box is not scored, so that one box is right and one wrong.
        scores[data.key_frames.index(("wide", 904))] = 0.0
        evaluator.process(None, Prediction(scores, boxes))
        table = evaluator.predictions().class_table()
        assert table["value"].tolist()[0] == expected
        truth.write_text(truth.read_text().replace("nobody-here,0012.000\n", ""))


def test_validation_takes_every_fourth_second_of_clips_too(ava_kinetics):
    data = ava_kinetics("val")
    assert set(data.key_frames) == {("wide", 904), ("nobody-here", 12)}
    assert set(data.ground_truth.key_frames) == {("wide", 904), ("nobody-here", 12)}
    (ava_kinetics.folder / "truth.csv").write_text("-x_0DEF-123,88.5,0.1,0.2,0.5,0.7,1,0\nnobody-here,13\n")
    (ava_kinetics.folder / "predicted.csv").write_text("-x_0DEF-123,88.5,0.11,0.21,0.51,0.71,,0.98\n")
    assert ava_kinetics("val").ground_truth.key_frames == [("-x_0DEF-123", 88.5)]


def test_without_the_key_clips_are_not_found(ava_kinetics):
    assert ava_kinetics("train", AVA__KINETICS_CLIPS=False).key_frames == [("wide", 904)]


def test_a_second_outside_the_clip_and_two_clips_of_one_video(ava_kinetics, encode):
    truth = ava_kinetics.folder / "truth.csv"
    truth.write_text("-x_0DEF-123,94.5,0.1,0.2,0.5,0.7,1,0\n")
    with pytest.raises(ValueError, match=r"second 94.5 is frame 105 .*frame 0 is second 84.*has frames 0 to 99"):
        ava_kinetics("train")
    videos = ava_kinetics.folder / "videos"
    shutil.copy(videos / "wide.mp4", videos / "-x_0DEF-123_000090_000100.mp4")
    with pytest.raises(ValueError, match="-x_0DEF-123_000084_000094 and -x_0DEF-123_000090_000100 are clips of"):
        ava_kinetics("train")
    truth.write_text("-x_0DEF-123_000090_000100,94.5,0.1,0.2,0.5,0.7,1,0\n")
    data = ava_kinetics("train")
    assert np.abs(np.array(frames_shown(data[0].inputs[0]))[2] / 2 - 45) <= 1.5


def test_clips_extracted_at_another_rate_are_found(ava_kinetics):
    folder = ava_kinetics.folder
    options = with_overrides("ava_kinetics", fps=5)
    prepare_frames("ava_kinetics", options, [], *(str(folder / name) for name in ("videos", "frames", "lists")), 0)
    settings = {"AVA__FRAME_LIST_DIR": str(folder / "lists"), "AVA__FRAME_DIR": str(folder / "frames")}
    (folder / "truth.csv").write_text("-x_0DEF-123,85.5,0.1,0.2,0.5,0.7,1,0\nwide,901,0.1,0.2,0.5,0.7,1,0\n")
    cfg = ava_kinetics.config(**settings, AVA__TRAIN_LISTS=["frames.csv"], AVA__KEY_SECONDS=[])
    report = check(cfg, CheckOptions(splits=("train",)))
    (found,) = (finding for finding in report.findings if finding.kind == "frame-count")
    assert found.count == 1 and "5.0 s, the annotations say 10.0 s" in found.examples[0]
