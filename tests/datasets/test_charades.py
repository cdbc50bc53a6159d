"""Samples of Charades against targets worked out frame by frame, from all the forms in which the set comes."""

import logging
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from slowfast.datasets import MissingSample, build_dataset, build_loader
from slowfast.datasets.loading.sampler import SampleKey

CLASSES, LENGTHS = 6, {"AAAAA": 60, "BBBBB": 31, "CCCCC": 9}
ACTIONS = {
    "AAAAA": [(0, 0.0, 0.5), (1, 0.4, 1.0), (0, 1.5, 2.1), (5, 2.45, 9.0)],
    "BBBBB": [],
    "CCCCC": [(3, 0.1, 0.12), (4, 0.25, 0.25), (2, 5.0, 6.0)],  # the first lies between two frames, the last behind
}
HEADER = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"


def shown(name, frames, fps=24):
    labels = torch.zeros(CLASSES)
    for frame in frames:
        for label, start, end in ACTIONS[name]:
            if start <= frame / fps <= end:
                labels[label] = 1
    return labels


def raw_length(name, fps):
    return math.ceil(LENGTHS[name] * fps / 24)


def frames_of(clip):
    """Numbers of the frames of a (3, T, H, W) clip, after their gray."""
    return [round(float(frame.mean() * 0.225 + 0.45) * 255 / 3) for frame in clip.unbind(1)]


@pytest.fixture(scope="module")
def rgb(tmp_path_factory, gray_frames):
    """Write a folder of frames as the authors publish them."""
    return gray_frames(tmp_path_factory.mktemp("Charades v1 rgb"), LENGTHS, 3, "-")


@pytest.fixture(scope="module")
def videos(tmp_path_factory, gray_videos):
    """Write the same as videos of another frame rate."""
    lengths = {name: raw_length(name, 30) for name in LENGTHS}
    return gray_videos(tmp_path_factory.mktemp("Charades v1"), lengths, 3, 30)


def write_lists(folder):
    folder.mkdir()
    for split in ("train", "val"):
        lines = ["original_vido_id video_id frame_id path labels\n"]
        for number, (name, length) in enumerate(LENGTHS.items()):
            for frame in range(length):
                labels = ",".join(str(label) for label in shown(name, [frame]).nonzero().flatten().tolist())
                lines.append(f'{name} {number} {frame} {name}/{name}-{frame + 1:06d}.jpg "{labels}"\n')
        (folder / f"{split}.csv").write_text("".join(lines))


def write_annotations(folder, more=""):
    folder.mkdir()
    for split in ("train", "test"):
        lines = [HEADER]
        for name, length in LENGTHS.items():
            actions = ";".join(f"c{label:03d} {start:.2f} {end:.2f}" for label, start, end in ACTIONS[name])
            lines.append(f'{name},S1,Den,6,7,Yes,"one, two",,,{actions},{length / 24:.2f}\n')
        (folder / f"Charades_v1_{split}.csv").write_text("".join(lines) + more)


@pytest.fixture(params=["lists", "annotations and frames", "annotations and videos"])
def source(request, tmp_path, rgb, videos):
    """DATA.PATH_TO_DATA_DIR, DATA.PATH_PREFIX, frames a second."""
    folder = tmp_path / "annotations"
    (write_lists if request.param == "lists" else write_annotations)(folder)
    return folder, videos if "videos" in request.param else rgb, 30 if "videos" in request.param else 24


@pytest.fixture
def config(dataset_cfg):
    """`config(folder, prefix, *overrides)`: load the config of the set in a folder."""

    def load(folder, prefix, *overrides):
        settings = {
            "TRAIN.DATASET": "charades",
            "TEST.DATASET": "Charades",
            "MODEL.NUM_CLASSES": CLASSES,
            "MODEL.LOSS_FUNC": "bce_logit",
            "MODEL.HEAD_ACT": "sigmoid",
            "DATA.MULTI_LABEL": True,
            "DATA.ENSEMBLE_METHOD": "max",
            "DATA.PATH_TO_DATA_DIR": str(folder),
            "DATA.PATH_PREFIX": str(prefix),
            "DATA.TRAIN_JITTER_SCALES": [16, 20],
            "DATA.TRAIN_CROP_SIZE": 16,
            "DATA.TEST_CROP_SIZE": 16,
            "TEST.NUM_ENSEMBLE_VIEWS": 3,
            "TEST.NUM_SPATIAL_CROPS": 3,
        }
        return dataset_cfg(settings, *overrides)

    return load


def test_training_targets(source, config):
    folder, prefix, fps = source
    dataset = build_dataset(config(folder, prefix), "train")
    assert len(dataset) == dataset.num_videos == 3
    seen = set()
    for epoch in range(12):
        for video, name in enumerate(LENGTHS):
            sample = dataset[video, epoch]
            (clip,) = sample.inputs
            assert clip.shape == (3, 4, 16, 16)
            frames = frames_of(clip)
            seen.add((name, frames[0]))
            last = raw_length(name, fps) - 1
            # Five pictures apart, at 24 a second, of which the raw frames are the nearest in time.
            assert all(abs(b - a - 5 * fps / 24) <= 1 for a, b in pairwise(frames) if a > 0 and b < last)
            assert torch.equal(sample.label, shown(name, range(frames[0], frames[-1] + 1), fps))
            rows = sample.frame_labels
            assert rows.dtype == torch.uint8 and rows.shape == (7, CLASSES)
            for i, frame in enumerate(frames):
                assert torch.equal(rows[2 * i].float(), shown(name, [frame], fps))
            for i, (a, b) in enumerate(pairwise(frames)):
                assert torch.equal(rows[2 * i + 1].float(), shown(name, range(a + 1, b), fps))
    assert len(seen) > 12


def test_targets_of_val_and_test_are_those_of_the_whole_video(source, config):
    folder, prefix, fps = source
    cfg = config(folder, prefix)
    expected = [shown(name, range(raw_length(name, fps)), fps) for name in LENGTHS]
    val, test = build_dataset(cfg, "val"), build_dataset(cfg, "test")
    assert (len(val), len(test), test.num_views) == (3, 27, 9)
    for video, name in enumerate(LENGTHS):
        sample = val[video]
        assert torch.equal(sample.label, expected[video])
        assert sample.label.dtype == torch.float32
        assert sample.frame_labels is None
        assert frames_of(sample.inputs[0]) == clip_of(name, fps, lambda room: room // 2)
        for view in range(9):
            sample = test[9 * video + view]
            assert (sample.video, sample.view) == (video, view)
            assert torch.equal(sample.label, expected[video])
            temporal = view // 3
            assert frames_of(sample.inputs[0]) == clip_of(name, fps, lambda room, k=temporal: round(room / 2 * k))


def clip_of(name, fps, start_in):
    """Raw frames nearest to pictures 5 apart, 24 of which a second make the video; the first by the room for it."""
    raw = raw_length(name, fps)
    pictures = round(raw * 24 / fps)
    start = start_in(max(pictures - 16, 0))
    return [min(round(min(start + 5 * i, pictures - 1) * fps / 24), raw - 1) for i in range(4)]


@pytest.mark.parametrize("write", [write_lists, write_annotations])
def test_only_a_test_can_do_without_actions(tmp_path, rgb, config, monkeypatch, write):
    for name in ACTIONS:
        monkeypatch.setitem(ACTIONS, name, [])
    write(tmp_path / "empty")
    assert build_dataset(config(tmp_path / "empty", rgb), "test").classes_seen is None
    for split in ("train", "val"):
        with pytest.raises(ValueError, match=r"\w+\.csv names no action of any video"):
            build_dataset(config(tmp_path / "empty", rgb), split)


def test_lists_and_annotations_give_the_same(tmp_path, rgb, config):
    write_lists(tmp_path / "lists")
    write_annotations(tmp_path / "annotations")
    one, other = (build_dataset(config(tmp_path / name, rgb), "train") for name in ("lists", "annotations"))
    assert torch.equal(one.labels, other.labels)
    assert one.labels.tolist() == [shown(name, range(length)).tolist() for name, length in LENGTHS.items()]
    for video in range(3):
        a, b = one[video, 7], other[video, 7]
        assert torch.equal(a.inputs[0], b.inputs[0])
        assert torch.equal(a.label, b.label) and torch.equal(a.frame_labels, b.frame_labels)


def test_batches_through_workers(tmp_path, rgb, config):
    write_lists(tmp_path / "lists")
    overrides = ["DATA_LOADER.NUM_WORKERS", 2, "TRAIN.BATCH_SIZE", 3]
    (batch,) = build_loader(config(tmp_path / "lists", rgb, *overrides), "train")
    assert batch.labels.shape == (3, CLASSES)
    assert batch.frame_labels.shape == (3, 7, CLASSES)
    assert torch.equal(batch.frame_labels.amax(dim=1).float(), batch.labels)


def test_clips_of_multigrid(tmp_path, rgb, config):
    """Frames and crop of the batch, and a sampling rate drawn up to that of the long cycle."""
    write_lists(tmp_path / "lists")
    cfg = config(tmp_path / "lists", rgb, "MULTIGRID.LONG_CYCLE_SAMPLING_RATE", 8, "MULTIGRID.DEFAULT_S", 16)
    dataset = build_dataset(cfg, "train")
    steps = set()
    for epoch in range(30):
        sample = dataset[SampleKey(0, epoch, (3, 12))]
        assert sample.inputs[0].shape == (3, 3, 12, 12)
        assert sample.frame_labels.shape == (5, CLASSES)
        steps |= set(np.diff(frames_of(sample.inputs[0])).tolist())
    assert steps == {5, 6, 7, 8}


def test_slow_and_fast_frames(tmp_path, rgb, config):
    write_lists(tmp_path / "lists")
    two = [
        "MODEL.MODEL_NAME",
        "SlowFast",
        "MODEL.ARCH",
        "slowfast",
        "DATA.INPUT_CHANNEL_NUM",
        [3, 3],
        "SLOWFAST.ALPHA",
        2,
    ]
    tables = ["RESNET.SPATIAL_STRIDES", [[1, 1]] + [[2, 2]] * 3, "RESNET.SPATIAL_DILATIONS", [[1, 1]] * 4]
    tables += ["NONLOCAL.LOCATION", [[[], []]] * 4, "NONLOCAL.GROUP", [[1, 1]] * 4]
    tables += ["RESNET.NUM_BLOCK_TEMP_KERNEL", [[3, 3], [4, 4], [6, 6], [3, 3]]]
    sample = build_dataset(config(tmp_path / "lists", rgb, *two, *tables), "train")[0]
    slow, fast = map(frames_of, sample.inputs)
    assert slow == [fast[0], fast[3]]
    assert sample.frame_labels.shape == (7, CLASSES)  # of the fast pathway


def test_frames_that_are_missing(tmp_path, rgb, caplog, config):
    """Refuse a folder with a hole, which would shift all labels behind it."""
    write_annotations(tmp_path / "annotations", "DDDDD,,,,,,,,,c000 0 1,2\n")
    root = tmp_path / "rgb"
    for name, length in LENGTHS.items():
        (root / name).mkdir(parents=True)
        for frame in range(length):
            if (name, frame) != ("BBBBB", 4):
                (root / name / f"{name}-{frame + 1:06d}.jpg").symlink_to(rgb / name / f"{name}-{frame + 1:06d}.jpg")
    with caplog.at_level(logging.WARNING):
        val = build_dataset(config(tmp_path / "annotations", root), "val")
    assert f"1 of 4 videos are not in {root}, such as DDDDD" in caplog.text
    hole, absent = val[1], val[3]
    assert isinstance(hole, MissingSample) and isinstance(absent, MissingSample)
    assert hole.cause == "the frame before BBBBB-000006.jpg is missing: no number 5"
    assert "o such file" in absent.cause


def test_a_list_that_leaves_out_frames_says_so(tmp_path, rgb, caplog, config):
    write_lists(tmp_path / "lists")
    lines = (tmp_path / "lists/train.csv").read_text().splitlines(keepends=True)
    (tmp_path / "lists/train.csv").write_text("".join(lines[:5] + lines[6:]))
    with caplog.at_level(logging.WARNING):
        build_dataset(config(tmp_path / "lists", rgb), "train")
    assert "lacks frames of 1 videos, such as AAAAA" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "cause"),
    [
        (["DATA.MULTI_LABEL", False], "set it to True, with MODEL.LOSS_FUNC bce_logit"),
        (["MODEL.LOSS_FUNC", "cross_entropy"], "set bce_logit"),
        (["MODEL.HEAD_ACT", "softmax"], "set sigmoid"),
        (["MODEL.NUM_CLASSES", 5], r"val.csv, line 61: .* label 5, outside 0 to 4"),
        (["DATA.PATH_TO_DATA_DIR", "/nowhere"], "must be the folder that holds val.csv .* or Charades_v1_test.csv"),
        (["TEST.DATASET", "kinetics"], "DATA.MULTI_LABEL is True, but TEST.DATASET kinetics has one label per video"),
    ],
)
def test_settings_that_do_not_suit(tmp_path, rgb, overrides, cause, config):
    write_lists(tmp_path / "lists")
    with pytest.raises((ValueError, FileNotFoundError), match=cause):
        build_dataset(config(tmp_path / "lists", rgb, *overrides), "test")


def test_frames_that_are_nowhere(tmp_path, config):
    write_annotations(tmp_path / "annotations")
    for prefix, cause in ((tmp_path, "none of the 3 videos"), ("/nowhere", "set DATA.PATH_PREFIX")):
        with pytest.raises(FileNotFoundError, match=cause):
            build_dataset(config(tmp_path / "annotations", prefix), "train")


def test_a_sum_over_views_is_noted(tmp_path, rgb, caplog, config):
    write_lists(tmp_path / "lists")
    with caplog.at_level(logging.WARNING):
        build_dataset(config(tmp_path / "lists", rgb, "DATA.ENSEMBLE_METHOD", "sum"), "test")
    assert "published results on Charades use max" in caplog.text
