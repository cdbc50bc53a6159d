"""A folder of videos by class becomes lists, class names and configurations that fit the videos."""

import os
import shutil

import pytest

from slowfast.apps.prepare.folder import FILES, FolderOptions, prepare_folder
from slowfast.apps.prepare.ready_configs import Measured, config_texts
from slowfast.config import load_config
from slowfast.datasets.video_dataset import read_class_list, read_video_list

CLASSES = ("high jump", "run", "walk")


@pytest.fixture
def by_class(tmp_path, encode, pictures):
    """Folder of three classes with five videos each, one of which is in two parts; each file has its own content."""
    root = tmp_path / "my videos"
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number, place in enumerate(("a_part1", "a_part2", "b", "c", "d", "e")):
            content = pictures(12, seed=10 * label + number)
            encode(root / name / f"{place}.mp4", content, rate=12)
    return root


@pytest.fixture
def options(by_class, tmp_path):
    return FolderOptions(str(by_class), str(tmp_path / "out"))


def lists_of(options):
    found = {
        split: read_video_list(os.path.join(options.output, f"{split}.csv"), 3) for split in ("train", "val", "test")
    }
    return {split: dict(zip(*lists, strict=True)) for split, lists in found.items()}


def test_every_video_is_in_one_list_and_every_class_in_all(options, by_class, tmp_path):
    (by_class / "walk" / "broken.mp4").write_text("no video")
    (by_class / "empty").mkdir()
    prepared = prepare_folder(options)
    assert read_class_list(str(tmp_path / "out" / "classes.txt"), 3) == dict(enumerate(CLASSES))
    lists = lists_of(options)
    label_of = {path: label for members in lists.values() for path, label in members.items()}
    assert label_of == {
        str(path): CLASSES.index(path.parent.name) for path in by_class.rglob("*.mp4") if path.stem != "broken"
    }
    assert sum(map(len, lists.values())) == 18
    assert all(set(members.values()) == {0, 1, 2} for members in lists.values())
    # The name of a part says the same video in every class.
    assert [split for split, members in lists.items() if any("a_part" in path for path in members)] == ["train"]
    assert prepared.groups == 13
    assert list(prepared.unreadable) == [str(by_class / "walk" / "broken.mp4")]
    assert "empty" in "".join(prepared.notes)


def test_files_that_are_there_stay(options, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "clip.yaml").write_text("mine")
    with pytest.raises(ValueError, match=r"clip\.yaml.*--overwrite"):
        prepare_folder(options)
    assert os.listdir(tmp_path / "out") == ["clip.yaml"]
    prepare_folder(FolderOptions(options.videos, options.output, overwrite=True))
    assert sorted(os.listdir(tmp_path / "out")) == sorted(FILES)
    assert (tmp_path / "out" / "clip.yaml").read_text() != "mine"


def keep(folder, *names):
    for path in folder.iterdir():
        if path.stem not in names:
            path.unlink()


def test_a_class_of_few_videos_is_named_with_its_number(options, by_class):
    keep(by_class / "run", "b", "c")
    prepared = prepare_folder(options)
    (note,) = prepared.notes
    assert "1 of 3 classes" in note and "run 2" in note
    assert [set(members.values()) for members in lists_of(options).values()] == [{0, 1, 2}, {0, 1, 2}, {0, 2}]


def test_too_few_videos_for_three_lists(options, by_class):
    for name in CLASSES:
        keep(by_class / name, "b")
    with pytest.raises(ValueError, match="3 of 3 classes.*high jump 1, run 1, walk 1"):
        prepare_folder(options)
    assert not os.path.exists(options.output)


def test_a_folder_that_is_none(options, by_class):
    with pytest.raises(FileNotFoundError, match="none"):
        prepare_folder(FolderOptions("none", options.output))
    for name in CLASSES[1:]:
        shutil.rmtree(by_class / name)
        (by_class / name).mkdir()
    (by_class / "run" / "a.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"1 of 3 sub folders.*1 videos are unreadable.*a\.mp4: "):
        prepare_folder(options)
    for name in CLASSES:
        shutil.rmtree(by_class / name)
    with pytest.raises(ValueError, match="no sub folder"):
        prepare_folder(options)


def test_names_with_a_line_break_are_refused(options, by_class):
    (by_class / "walk" / "a\nb.mp4").write_text("")
    with pytest.raises(ValueError, match="line break"):
        prepare_folder(options)


@pytest.mark.parametrize("shares", [(0, 0.1), (0.5, 0.5), (-0.1, 0.2), (float("nan"), 0.1)])
def test_shares_that_leave_no_split(shares):
    with pytest.raises(ValueError, match="--val"):
        FolderOptions("videos", "out", *shares)


@pytest.mark.parametrize(
    ("measured", "clip", "pgt", "views", "crops"),
    [
        # Kinetics: the published 13 x 6 frames; 300 frames are 10 steps (71 frames), 4 apart, and clips 6 apart.
        (Measured(29.97, 10.0, 340), (30, 13, 6), (50, 6, 7), (4, 1), (160, [182, 228], 182)),
        # A second at 12: frames 1 apart, and no more than the fewest steps.
        (Measured(12.0, 1.0, 48), (12, 13, 1), (36, 1, 5), (1, 1), (32, [36, 46], 36)),
        # Ten minutes at 25: 12 frames apart are the most, 34 s of a video.
        (Measured(25.0, 600.0, 720), (25, 13, 5), (71, 12, 10), (10, 10), (160, [182, 228], 182)),
        (Measured(0.5, 20.0, 120), (1, 13, 1), (36, 1, 5), (2, 1), (96, [109, 137], 109)),
    ],
)
def test_settings_follow_from_the_videos(measured, clip, pgt, views, crops, tmp_path):
    for videos in ({"train": 3, "val": 1, "test": 1}, {"train": 500, "val": 1, "test": 1}):
        for name, text in config_texts(measured, 7, videos, str(tmp_path), 0, 2).items():
            (tmp_path / name).write_text(text)
        first, second = (load_config(str(tmp_path / f"{name}.yaml")) for name in ("clip", "pgt"))
        assert (first.DATA.TARGET_FPS, first.DATA.NUM_FRAMES, first.DATA.SAMPLING_RATE) == clip
        assert (second.DATA.NUM_FRAMES, second.DATA.SAMPLING_RATE, second.PGT.STEPS) == pgt
        assert (first.TEST.NUM_ENSEMBLE_VIEWS, second.TEST.NUM_ENSEMBLE_VIEWS) == views
        data = second.DATA
        assert (data.TRAIN_CROP_SIZE, list(data.TRAIN_JITTER_SCALES), data.TEST_CROP_SIZE) == crops
        assert first.MODEL.NUM_CLASSES == second.MODEL.NUM_CLASSES == 7
        assert second.PGT.ENABLE and not first.get("PGT", {}).get("ENABLE", False)
        assert second.OUTPUT_DIR != first.OUTPUT_DIR
        few = videos["train"] == 3
        assert (first.TRAIN.BATCH_SIZE, first.SOLVER.MAX_EPOCH) == ((2, 200) if few else (8, 40))
