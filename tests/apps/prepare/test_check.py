"""Test the check of data sets: each fault is made on purpose in a set that is otherwise sound."""

import functools
import json
import os
import shutil

import cv2
import numpy as np
import pytest
import torch

from slowfast.apps.prepare.check import KINDS, CheckOptions, Report, check
from slowfast.apps.prepare.probe import Facts, ProbeCache, probe
from slowfast.datasets import build_dataset
from slowfast.datasets.video import open as decode
from slowfast.datasets.video.frame_folder import FrameFolder
from slowfast.datasets.video_dataset import read_video_list
from slowfast.utils.errors import LineErrors, collect_errors


@pytest.fixture
def lists(tmp_path, tiny_data):
    """Copies of the tiny set's lists, in a folder of their own: {split: lines}, and a function that writes them."""
    folder = tmp_path / "lists"
    folder.mkdir()

    def write(**changed):
        for split in ("train", "val", "test"):
            lines = (tiny_data / f"{split}.csv").read_text().splitlines()
            (folder / f"{split}.csv").write_text("\n".join(changed.get(split, lambda same: same)(lines)) + "\n")
        return folder

    return write


@pytest.fixture
def checked(tiny_cfg, lists):
    """`checked(*settings, **changed)`: check the tiny set with changed lists; return the report."""

    def report(*settings, cache="", allowed=(), sample=0, limit=100, **changed):
        cfg = tiny_cfg("DATA.PATH_TO_DATA_DIR", str(lists(**changed)), *settings)
        return check(cfg, CheckOptions(cache=str(cache), allowed=allowed, sample=sample, limit=limit))

    return report


def kinds(report):
    return {(finding.kind, finding.split): finding for finding in report.findings}


def test_a_sound_set_passes_with_its_counts(checked):
    report = checked()
    assert report.passed
    assert report.findings == []
    train = report.splits["train"]
    assert (train.videos, train.samples, train.classes_seen, train.probed, train.unreadable) == (12, 12, 2, 12, 0)
    assert (train.frames, train.seconds) == (12 * 16, pytest.approx(12 * 16 / 30, abs=1e-3))
    assert report.splits["test"].samples == 8
    assert json.loads(json.dumps(report.values()))["passed"] is True
    assert report.lines()[-1] == "passed"


def test_all_wrong_lines_are_found(checked):
    report = checked(train=lambda lines: [*lines, "no label", "a.mp4 2", "b.mp4 x", "c.mp4 -1"])
    found = kinds(report)
    assert not report.passed
    assert [example.split("csv, ")[1][:7] for example in found["wrong-line", "train"].examples] == [
        "line 13",
        "line 15",
    ]
    assert [example.split("csv, ")[1][:7] for example in found["label-range", "train"].examples] == [
        "line 14",
        "line 16",
    ]
    assert report.splits["train"].videos == 12
    assert not any(finding.split != "train" for finding in report.findings)


def test_wrong_lines_are_counted_beyond_those_kept(checked):
    report = checked(train=lambda lines: [*lines, *["wrong"] * 30], limit=10)
    assert sum(finding.count for finding in report.findings) == 30
    assert sum(len(finding.examples) for finding in report.findings) == 10


def test_a_set_that_cannot_be_built_fails_alone(checked):
    report = checked(val=lambda lines: [""])
    assert list(kinds(report)) == [("list", "val")]
    assert "lists no video" in report.findings[0].examples[0]
    assert list(report.splits) == ["train", "test"]


def test_unreadable_files_are_counted_with_causes(checked, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    extra = [f"{tmp_path}/none.mp4 0", f"{tmp_path}/text.mp4 1"]
    report = checked(val=lambda lines: lines + extra)
    finding = kinds(report)["unreadable", "val"]
    assert (finding.count, report.splits["val"].unreadable, report.passed) == (2, 2, False)
    assert "none.mp4: no such file" in finding.examples[0]
    assert "text.mp4: InvalidDataError" in finding.examples[1]
    assert checked(val=lambda lines: lines + extra, allowed=["unreadable"]).passed


def test_copies_repeats_and_overlap(checked, tmp_path, tiny_data):
    shutil.copy(tiny_data / "val 1.mp4", tmp_path / "other name.mp4")
    report = checked(
        train=lambda lines: [*lines, lines[3], f"{tmp_path}/other name.mp4 1"],
        val=lambda lines: [*lines, f"{tmp_path}/other name.mp4 1"],
        test=lambda lines: [*lines, f"{tiny_data}/train 5.mp4 1"],
    )
    found = kinds(report)
    assert [example.rsplit("/", 1)[1] for example in found["same-path", "train"].examples] == ["train 3.mp4: 2 times"]
    assert found["same-content", "val"].count == 1
    assert found["overlap", "train+val"].count == 2  # by its path, and by its content
    assert found["overlap", "train+test"].examples == [f"{tiny_data}/train 5.mp4"]
    assert not report.passed


def test_classes_without_samples_and_videos_too_short(checked):
    report = checked("MODEL.NUM_CLASSES", 4, "DATA.NUM_FRAMES", 16, "DATA.SAMPLING_RATE", 2)
    found = kinds(report)
    assert report.passed
    assert found["class-without-samples", "train"].examples == ["2", "3"]
    assert found["short", "train"].count == 12
    assert found["duplicate-view", "test"].examples[0].endswith("test 0.mp4: 1 different ones of 2")
    assert ("duplicate-view", "val") not in found


def test_remarks_on_how_files_are_read_are_notes(checked, tmp_path, encode, pictures):
    raw = encode(tmp_path / "raw.h264", pictures(60))
    report = checked(val=lambda lines: [*lines, f"{raw} 0"])
    finding = kinds(report)["reading", "val"]
    assert (finding.count, report.passed) == (1, True)
    assert "raw.h264: it has no usable time stamps; 30 frames a second" in finding.examples[0]


def test_a_sample_is_spread_over_the_list(checked):
    report = checked(sample=3)
    assert [facts.probed for facts in report.splits.values()] == [3, 3, 3]
    assert checked(sample=100).splits["train"].probed == 12


def test_what_is_known_of_a_file_counts_until_it_changes(checked, tmp_path, monkeypatch):
    cache = tmp_path / "cache.jsonl"
    looked = []

    def watched(open_video, thorough, path):
        looked.append(path)
        return probe(open_video, thorough, path)

    monkeypatch.setattr("slowfast.apps.prepare.check.probe", watched)
    first = checked(cache=cache)
    assert len(looked) == 20
    lines = cache.read_text().splitlines()
    cache.write_text("\n".join([*lines[:-1], lines[-1][:20]]))  # stopped while it wrote
    looked.clear()
    again = checked(cache=cache)
    assert again.values() == first.values()
    assert len(looked) == 1
    os.utime(looked[0])
    looked.clear()
    checked(cache=cache)
    assert len(looked) == 1


def test_a_cache_of_another_program_is_passed_over(tmp_path):
    path = tmp_path / "cache.jsonl"
    path.write_text('3\n["a", [], {"frames": 1}]\n[["a"], [], {}]\n{"a": 1}\n\n')
    with ProbeCache(str(path), "pyav") as cache:
        assert cache.get("a") is None


@pytest.fixture
def folder(tmp_path):
    """A folder of ten images."""
    path = tmp_path / "frames"
    path.mkdir()
    for number in range(10):
        cv2.imwrite(str(path / f"{number:03d}.jpg"), np.full((8, 8, 3), 20 * number, np.uint8))
    return path


def open_images(numbers, folder, _):
    return FrameFolder([f"{folder}/{number:03d}.jpg" for number in numbers], 10.0, name="video")


def test_images_are_compared_with_their_folder(folder):
    look = functools.partial(functools.partial, open_images)
    facts = probe(look(range(10), folder), False, "video")
    assert (facts.cause, facts.frames, facts.fps, facts.missing, facts.other) == ("", 10, 10.0, 0, 0)
    assert probe(look(range(8), folder), False, "video").other == 2
    facts = probe(look(range(12), folder), False, "video")
    assert (facts.missing, facts.cause) == (2, f"{folder}/010.jpg: no such file and 1 more")
    assert "none of its 2 images" in probe(look([20, 21], folder), False, "video").cause


def test_every_image_is_decoded_when_asked(folder):
    data = (folder / "002.jpg").read_bytes()
    (folder / "002.jpg").write_bytes(data[: len(data) // 2])
    look = functools.partial(open_images, range(10), folder)
    assert probe(look, False, "video").cause == ""
    assert "002.jpg" in probe(look, True, "video").cause


def test_every_frame_of_a_video_is_decoded_when_asked(tmp_path, encode, pictures):
    path = encode(tmp_path / "a.mp4", pictures(70))
    assert probe(decode.open, True, str(path)) == probe(decode.open, False, str(path))
    assert probe(decode.open, True, str(path)).frames == 70


def test_readers_without_a_place_for_messages_use_that_of_the_context(tmp_path):
    (tmp_path / "a.csv").write_text("wrong\na.mp4 1\n")
    wrong = LineErrors(5)
    with collect_errors(wrong):
        assert read_video_list(str(tmp_path / "a.csv"), 2) == (["a.mp4"], [1])
    assert (len(wrong), wrong.count) == (1, 1)
    with pytest.raises(ValueError, match="line 1"):
        read_video_list(str(tmp_path / "a.csv"), 2)


def test_the_verdict_follows_the_kinds():
    for kind, fails in KINDS.items():
        report = Report(2)
        report.add(kind, "train", "things", ["one"])
        assert report.passed is not fails
        assert Report(2, [kind], findings=report.findings).passed
    report.add("list", "train", "nothing", [])
    assert len(report.findings) == 1


def test_a_line_says_what_a_data_set_holds(tiny_cfg):
    data = build_dataset(tiny_cfg(), "test")
    assert data.summary(2) == "4 videos, 2 temporal x 1 spatial views, 2 classes occur of 2"
    data.labels = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    assert data.summary() == "4 videos, 2 temporal x 1 spatial views, 2 classes occur"
    data.labels = list(data.labels)
    assert data.classes_seen == {1, 2}
    data.labels = ()
    assert data.summary(2) == "4 videos, 2 temporal x 1 spatial views"


def test_facts_survive_the_way_through_a_file(tmp_path):
    facts = Facts("", 3, 29.97, 4, 5, "ab", "", 0, 0)
    (tmp_path / "caf\udce9.mp4").touch()
    for _ in range(2):
        with ProbeCache(str(tmp_path / "new" / "cache.jsonl"), "pyav") as cache:
            found = cache.get(str(tmp_path / "caf\udce9.mp4"))
            cache.put(str(tmp_path / "caf\udce9.mp4"), (), facts)
    assert found == facts


@pytest.fixture
def listed_frames(tmp_path, tiny_cfg):
    """`listed_frames(change, extra)`: check two changed videos of six images, listed as Charades'."""
    lines = ["original_vido_id video_id frame_id path labels"]
    for number, video in enumerate(("AAAAA", "BBBBB")):
        (tmp_path / "images" / video).mkdir(parents=True)
        for frame in range(6):
            path = f"{video}/{video}-{frame + 1:06d}.jpg"
            cv2.imwrite(str(tmp_path / "images" / path), np.full((48, 64, 3), 100 * number + frame, np.uint8))
            lines.append(f'{video} {number} {frame} {path} "{number}"')

    def report(change=lambda folder: None, extra=()):
        (tmp_path / "val.csv").write_text("\n".join([*lines, *extra]) + "\n")
        change(tmp_path / "images")
        keys = ["DATA.PATH_TO_DATA_DIR", str(tmp_path), "DATA.PATH_PREFIX", str(tmp_path / "images")]
        keys += ["TRAIN.DATASET", "charades", "TEST.DATASET", "charades", "DATA.MULTI_LABEL", True]
        keys += ["MODEL.LOSS_FUNC", "bce_logit", "MODEL.HEAD_ACT", "sigmoid", "DATA.ENSEMBLE_METHOD", "max"]
        keys += ["DATA.NUM_FRAMES", 2, "DATA.SAMPLING_RATE", 1]
        return check(tiny_cfg(*keys), CheckOptions(splits=["val"]))

    return report


def test_images_that_are_listed_and_there_pass(listed_frames):
    report = listed_frames()
    assert report.passed, report.lines()
    facts = report.splits["val"]
    assert (facts.videos, facts.frames, facts.classes_seen) == (2, 12, 2)
    assert facts.seconds == 12 / 24


def test_images_that_are_missing_or_too_many_are_counted(listed_frames):
    def change(folder):
        (folder / "AAAAA" / "AAAAA-000003.jpg").unlink()
        shutil.copy(folder / "BBBBB" / "BBBBB-000006.jpg", folder / "BBBBB" / "BBBBB-000007.jpg")

    found = kinds(listed_frames(change, ['AAAAA 0 6 AAAAA/x.jpg "9"']))
    assert "outside 0 to 1" in found["label-range", "val"].examples[0]
    missing, more = found["frame-count", "val"].examples
    assert "AAAAA: 1 of 6 images are not there" in missing
    assert "AAAAA-000003.jpg: no such file" in missing
    assert "BBBBB: 6 images are listed, 7 are in" in more
    assert ("unreadable", "val") not in found


def test_a_folder_that_is_not_there_is_unreadable(listed_frames):
    found = kinds(listed_frames(lambda folder: shutil.rmtree(folder / "AAAAA")))
    assert "none of its 6 images is there" in found["unreadable", "val"].examples[0]
    assert ("frame-count", "val") not in found
