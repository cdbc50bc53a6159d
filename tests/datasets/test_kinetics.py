"""Samples of the Kinetics data set against clips cut by hand from a full decode."""

import logging
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from slowfast.datasets import MissingSample, Sample, build_dataset, collate
from slowfast.datasets.kinetics import Kinetics
from slowfast.datasets.loading.unreadable import UnreadableFiles
from slowfast.datasets.video.open import DECODING_BACKENDS

FRAMES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory, encode, pictures):
    """Six videos in every list, the last a single frame, names with spaces."""
    path = tmp_path_factory.mktemp("kinetics like")
    options = {"g": "10", "bf": "2", "x264-params": "threads=1"}
    for number in range(6):
        frames = pictures(1 if number == 5 else FRAMES, seed=number)
        encode(path / f"video {number}.mp4", frames, options=options, rate=15 if number == 1 else 30)
    for split in ("train", "val", "test"):
        (path / f"{split}.csv").write_text("".join(f"video {n}.mp4 {n % 3}\n" for n in range(6)))
    return path


@pytest.fixture
def cfg(folder, dataset_cfg):
    """`cfg(*overrides, data=folder)`: load the config of the lists in a folder."""

    def load(*overrides, data=folder):
        settings = {
            "MODEL.NUM_CLASSES": 3,
            "DATA.PATH_TO_DATA_DIR": str(data),
            "DATA.PATH_PREFIX": str(folder),
            "DATA.SAMPLING_RATE": 3,
            "DATA.TRAIN_JITTER_SCALES": [36, 44],
            "DATA.TRAIN_CROP_SIZE": 32,
            "DATA.TEST_CROP_SIZE": 32,
            "DATA.MEAN": [0.4, 0.5, 0.6],
            "TEST.NUM_ENSEMBLE_VIEWS": 2,
            "TEST.NUM_SPATIAL_CROPS": 3,
        }
        return dataset_cfg(settings, *overrides)

    return load


def by_hand(frames, indices, short, crop, place):
    """Normalize, resize and crop as published, in as few and plain steps as possible; `place` is 0 to 1."""
    clip = torch.from_numpy(np.stack([frames[i] for i in indices])).float() / 255
    clip = (clip - torch.tensor([0.4, 0.5, 0.6])) / torch.tensor([0.225] * 3)
    wide = math.floor(64 / 48 * short)
    clip = F.interpolate(clip.permute(0, 3, 1, 2), (short, wide), mode="bilinear", align_corners=False)
    top, left = math.ceil((short - crop) / 2), math.ceil((wide - crop) * place)
    return clip[:, :, top : top + crop, left : left + crop].transpose(0, 1)


def test_test_views(cfg, folder, decode_all):
    dataset = build_dataset(cfg(), "test")
    assert (dataset.num_videos, dataset.num_views, len(dataset)) == (6, 6, 36)
    assert dataset.labels == [0, 1, 2, 0, 1, 2]
    assert dataset.paths[0] == str(folder / "video 0.mp4")
    frames = decode_all(folder / "video 0.mp4")
    # 12 frames span a clip; two views of 40 frames start at 0 and 14.
    for view, (start, place) in enumerate((s, p) for s in (0, 14) for p in (0, 0.5, 1)):
        sample = dataset[view]
        assert (sample.video, sample.view, sample.label) == (0, view, 0)
        indices = [int(start + i * 11 / 3) for i in range(4)]
        expected = by_hand(frames, indices, 32, 32, place)
        torch.testing.assert_close(sample.inputs[0], expected, rtol=1e-4, atol=1e-4)


def test_frame_rate_of_the_video_sets_the_span(cfg, folder, decode_all):
    """At 15 frames a second 4 x 3 frames of 1/30 s are 6 frames."""
    frames = decode_all(folder / "video 1.mp4")
    sample = build_dataset(cfg(), "test")[6]
    expected = by_hand(frames, [0, 1, 3, 5], 32, 32, 0)
    torch.testing.assert_close(sample.inputs[0], expected, rtol=1e-4, atol=1e-4)


def test_one_spatial_crop_is_the_center_of_the_training_size(cfg, folder, decode_all):
    dataset = build_dataset(cfg("TEST.NUM_SPATIAL_CROPS", 1), "test")
    assert dataset.num_views == 2
    expected = by_hand(decode_all(folder / "video 0.mp4"), [14, 17, 21, 25], 36, 32, 0.5)
    torch.testing.assert_close(dataset[1].inputs[0], expected, rtol=1e-4, atol=1e-4)


def test_validation_clip_is_the_center(cfg, folder, decode_all):
    dataset = build_dataset(cfg(), "val")
    assert len(dataset) == 6
    expected = by_hand(decode_all(folder / "video 2.mp4"), [14, 17, 21, 25], 36, 32, 0.5)
    sample = dataset[(2, 7)]
    assert (sample.video, sample.view, sample.label) == (2, 0, 2)
    torch.testing.assert_close(sample.inputs[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_one_frame_video_fills_the_clip(split, cfg):
    dataset = build_dataset(cfg(), split)
    clip = dataset[5 * dataset.num_views].inputs[0]
    assert clip.shape == (3, 4, 32, 32)
    assert (clip == clip[:, :1]).all()


def test_training_clip_is_cut_from_its_video(cfg, folder, decode_all):
    """Without scaling and flipping, a training clip is a block of the decoded frames: find it."""
    settings = cfg("DATA.TRAIN_JITTER_SCALES", [48, 48], "DATA.RANDOM_FLIP", False)
    dataset, frames = build_dataset(settings, "train"), np.stack(decode_all(folder / "video 3.mp4"))
    video = torch.from_numpy(frames).permute(3, 0, 1, 2) / 255.0
    video = (video - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1, 1)) / 0.225
    # A window starts anywhere in the 28 frames of room, not only at whole frames.
    windows = {tuple(int(start + i * 11 / 3) for i in range(4)) for start in np.arange(0, 28, 0.01)}
    places = set()
    for epoch in range(6):
        clip = dataset[(3, epoch)].inputs[0]
        found = [
            (window, top, left)
            for top in range(17)
            for left in range(33)
            if (video[:, :, top : top + 32, left : left + 32] - clip[:, :1]).abs().amax((0, 2, 3)).min() < 1e-4
            for window in windows
            if torch.allclose(video[:, list(window), top : top + 32, left : left + 32], clip, atol=1e-4)
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) == 6  # another place each epoch


def test_training_sample_depends_on_seed_epoch_and_index_alone(cfg):
    dataset = build_dataset(cfg(), "train")
    torch.manual_seed(1)
    first = dataset[(0, 3)].inputs[0]
    torch.manual_seed(2)
    dataset[(4, 1)]
    assert torch.equal(dataset[(0, 3)].inputs[0], first)
    assert not torch.equal(dataset[(0, 4)].inputs[0], first)
    assert not torch.equal(build_dataset(cfg("RNG_SEED", 9), "train")[(0, 3)].inputs[0], first)


def test_pathways(cfg):
    settings = cfg(
        "MODEL.MODEL_NAME", "SlowFast", "MODEL.ARCH", "slowfast", "SLOWFAST.ALPHA", 2, "DATA.INPUT_CHANNEL_NUM", [3, 3]
    )
    for split in ("train", "val", "test"):
        slow, fast = build_dataset(settings, split)[0].inputs
        assert torch.equal(slow, fast[:, [0, 3]])
    settings = cfg(
        "MODEL.MODEL_NAME",
        "SlowFast",
        "MODEL.ARCH",
        "slowfast",
        "SLOWFAST.ALPHA",
        2,
        "DATA.INPUT_CHANNEL_NUM",
        [3, 3],
        "SLOWFAST.SLOW_INDICES",
        [1, 2],
    )
    slow, fast = build_dataset(settings, "val")[0].inputs
    assert torch.equal(slow, fast[:, [1, 2]])


def test_reversed_channels(cfg):
    plain = build_dataset(cfg(), "val")[0].inputs[0]
    reverse = build_dataset(cfg("DATA.REVERSE_INPUT_CHANNEL", True), "val")[0].inputs[0]
    assert torch.equal(reverse, plain.flip(0))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_cached_videos_give_the_same_clips(split, cfg):
    plain, cached = build_dataset(cfg(), split), build_dataset(cfg("DATA.CACHE_VIDEOS", True), split)
    for index in range(0, len(plain), 5):
        assert torch.equal(plain[(index, 1)].inputs[0], cached[(index, 1)].inputs[0])


@pytest.fixture
def broken(tmp_path, folder):
    """Lists in which the second of six videos is no video and the fourth does not exist."""
    (tmp_path / "text.mp4").write_text("no video")
    names = ["video 0.mp4", str(tmp_path / "text.mp4"), "video 1.mp4", "none.mp4", "video 2.mp4", "video 4.mp4"]
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.csv").write_text("".join(f"{name} {n % 3}\n" for n, name in enumerate(names)))
    return tmp_path


@pytest.mark.parametrize("cached", [False, True])
def test_unreadable_training_file_is_replaced(cached, cfg, broken):
    settings = cfg("DATA.CACHE_VIDEOS", cached, "DATA.MAX_UNREADABLE_FRACTION", 0.5, data=broken)
    dataset = build_dataset(settings, "train")
    videos = set()
    for epoch in range(8):
        sample, again = dataset[(1, epoch)], dataset[(1, epoch)]
        assert sample.video not in (1, 3)
        assert sample.label == sample.video % 3  # the label is that of the video shown
        assert torch.equal(sample.inputs[0], again.inputs[0])
        path, cause = sample.replaced[0]
        assert path == str(broken / "text.mp4")
        assert "InvalidDataError" in cause
        videos.add(sample.video)
    assert len(videos) > 1
    batch = collate([dataset[(0, 0)], dataset[(1, 0)]])
    assert batch.size == 2
    assert batch.replaced == batch.unreadable == dataset[(1, 0)].replaced


@pytest.mark.parametrize("split", ["val", "test"])
def test_unreadable_evaluation_file_is_left_out(split, cfg, broken):
    dataset = build_dataset(cfg(data=broken), split)
    index = 3 * dataset.num_views
    missing = dataset[index]
    assert isinstance(missing, MissingSample)
    assert (missing.video, missing.view, missing.cause) == (3, 0, "no such file")
    batch = collate([dataset[0], missing])
    assert batch.video.tolist() == [0]
    assert batch.labels.tolist() == [0]
    assert batch.inputs[0].shape == (1, 3, 4, 32, 32)
    assert batch.unreadable == [(dataset.paths[3], "no such file")]
    empty = collate([missing])
    assert (empty.size, empty.inputs, len(empty.to("cpu").labels)) == (0, [], 0)


def test_no_training_file_readable(cfg, tmp_path):
    (tmp_path / "train.csv").write_text("".join(f"none {n}.mp4 0\n" for n in range(4)))
    dataset = build_dataset(cfg(data=tmp_path), "train")
    with pytest.raises(RuntimeError, match="11 training videos(.|\n)*none 2.mp4: no such file") as caught:
        dataset[(2, 0)]
    assert str(caught.value).count("none 2.mp4") == 1  # each path once, however often it was drawn


def test_cache_stops_at_too_many_unreadable(cfg, broken):
    with pytest.raises(RuntimeError, match="2 of 6.*MAX_UNREADABLE_FRACTION 0.05"):
        build_dataset(cfg("DATA.CACHE_VIDEOS", True, data=broken), "train")


def test_book_of_unreadable_files(caplog):
    book = UnreadableFiles(40, 0.05)
    with caplog.at_level(logging.WARNING):
        assert book.update_from([("a.mp4", "first"), ("b.mp4", "cut off"), ("a.mp4", "second")]) == 2
        assert not book.add("a.mp4", "third")
    assert book == {"a.mp4": "first", "b.mp4": "cut off"}
    assert ["a.mp4: first" in record.getMessage() for record in caplog.records] == [True, False]
    book.check()  # 2 of 40 are 5 %: allowed
    book.add("c.mp4", "empty")
    with pytest.raises(RuntimeError, match="3 of 40.*0.05(.|\n)*a.mp4: first(.|\n)*c.mp4: empty"):
        book.check()


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["DATA.PATH_LABEL_SEPARATOR", ","], "train.csv, line 1"),
        (["MODEL.NUM_CLASSES", 2], "train.csv, line 3.*label 2"),
    ],
)
def test_bad_settings(overrides, message, cfg):
    with pytest.raises(ValueError, match=message):
        Kinetics(cfg(*overrides), "train")


def test_bad_split_and_name(cfg):
    with pytest.raises(ValueError, match="'trian'.*train, val, test"):
        build_dataset(cfg(), "trian")
    with pytest.raises(ValueError, match="knetics.*kinetics"):
        build_dataset(cfg("TRAIN.DATASET", "knetics"), "val")


def test_sample_is_picklable(cfg):
    import pickle

    sample = build_dataset(cfg(), "val")[0]
    assert isinstance(pickle.loads(pickle.dumps(sample)), Sample)


def test_a_decoding_backend_is_chosen_by_name_and_others_can_be_added(cfg):
    opened = []

    def recording(path, threads):
        opened.append(path)
        return DECODING_BACKENDS.get("pyav")(path, threads)

    DECODING_BACKENDS.register("recording")(recording)
    sample = build_dataset(cfg("DATA.DECODING_BACKEND", "recording"), "val")[0]
    assert torch.equal(sample.inputs[0], build_dataset(cfg(), "val")[0].inputs[0])
    assert len(opened) == 1
    with pytest.raises(ValueError, match="DECODING_BACKEND is 'pyva'.*nearest is pyav"):
        build_dataset(cfg("DATA.DECODING_BACKEND", "pyva"), "val")


def test_a_label_outside_the_classes_is_answered_with_the_keys(cfg):
    with pytest.raises(ValueError, match=r"MODEL.NUM_CLASSES 2, DATA.PATH_LABEL_SEPARATOR ' '.*train.csv, line 3: "):
        build_dataset(cfg("MODEL.NUM_CLASSES", 2), "train")
