"""Something-Something V2: classes by template, a frame of each segment, and what is in one file alone."""

import json
import logging

import numpy as np
import pytest

from slowfast.datasets import MissingSample, build_dataset, build_loader
from slowfast.datasets.loading.sampler import SampleKey
from slowfast.datasets.ssv2 import read_labels, read_videos

TEMPLATES = {"Putting something on a surface": "1", "Pushing something so that it falls": "0", "Doing nothing": "2"}
ENTRIES = [
    {"id": "74225", "label": "putting a cup on a table", "template": "Putting [something] on a surface"},
    {"id": "3", "label": "pushing a pen so that it falls", "template": "Pushing [something] so that [it] falls"},
    {"id": "101", "label": "doing nothing", "template": "Doing nothing", "placeholders": []},
]
LENGTHS = {"101": 20, "74225": 33, "3": 5}
OLD = ("something-something-v2-labels.json", "something-something-v2-{}.json")
NEW = ("labels/labels.json", "labels/{}.json")


def frames_of(clip):
    return [round(float(frame.mean() * 0.225 + 0.45) * 255 / 6) for frame in clip.unbind(1)]


@pytest.fixture(scope="module")
def frames(tmp_path_factory, gray_frames):
    return gray_frames(tmp_path_factory.mktemp("frames"), LENGTHS, 6, "_")


@pytest.fixture(scope="module")
def videos(tmp_path_factory, gray_videos):
    root = gray_videos(tmp_path_factory.mktemp("20bn-something-something-v2"), LENGTHS, 6, 12)
    (root / "3.mp4").rename(root / "3.webm")
    return root


def write_json(folder, names=OLD, entries=ENTRIES, templates=TEMPLATES, **options):
    labels, videos = names
    for name, content in ((labels, templates), *((videos.format(s), entries) for s in ("train", "validation"))):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, **options))
    return folder


def write_lists(folder, names=LENGTHS):
    for split in ("train", "val"):
        rows = (
            f'{name} {number} {frame} {name}/{name}_{frame + 1:06d}.jpg ""\n'
            for number, name in enumerate(names)
            for frame in range(LENGTHS[name])
        )
        (folder / f"{split}.csv").write_text("original_vido_id video_id frame_id path labels\n" + "".join(rows))


@pytest.fixture
def config(dataset_cfg):
    """`config(folder, prefix, *overrides)`: load the config of the set in a folder."""

    def load(folder, prefix, *overrides):
        settings = {
            "TRAIN.DATASET": "ssv2",
            "TEST.DATASET": "ssv2",
            "MODEL.NUM_CLASSES": 3,
            "DATA.PATH_TO_DATA_DIR": str(folder),
            "DATA.PATH_PREFIX": str(prefix),
            "DATA.TRAIN_JITTER_SCALES": [16, 20],
            "DATA.TRAIN_CROP_SIZE": 16,
            "DATA.TEST_CROP_SIZE": 16,
            "DATA.RANDOM_FLIP": False,
            "TEST.NUM_ENSEMBLE_VIEWS": 1,
            "TEST.NUM_SPATIAL_CROPS": 3,
        }
        return dataset_cfg(settings, *overrides)

    return load


@pytest.fixture(params=["lists", "videos", "folders of frames"])
def source(request, tmp_path, frames, videos):
    write_json(tmp_path)
    if request.param == "lists":
        write_lists(tmp_path)
    return tmp_path, videos if request.param == "videos" else frames


def segments(length, count=4):
    size = float(length - 1) / count
    return [(int(np.round(size * i)), int(np.round(size * (i + 1)))) for i in range(count)]


def test_val_and_test_take_the_middle_of_each_segment(source, config):
    val, test = (build_dataset(config(*source), split) for split in ("val", "test"))
    assert val.labels == test.labels == [1, 0, 2]
    assert (len(val), len(test)) == (3, 9)
    for video, entry in enumerate(ENTRIES):
        middle = [(start + end) // 2 for start, end in segments(LENGTHS[entry["id"]])]
        assert frames_of(val[video].inputs[0]) == middle
        assert [frames_of(test[3 * video + view].inputs[0]) for view in range(3)] == [middle] * 3
        assert test[3 * video].label == [1, 0, 2][video]


def test_training_takes_any_frame_of_each_segment(source, config):
    dataset = build_dataset(config(*source), "train")
    for video, entry in enumerate(ENTRIES):
        bounds = segments(LENGTHS[entry["id"]])
        clips = [frames_of(dataset[video, epoch].inputs[0]) for epoch in range(25)]
        for clip in clips:
            assert all(start <= frame <= end for frame, (start, end) in zip(clip, bounds, strict=True))
        assert len(set(map(tuple, clips))) > 3


def test_clips_of_multigrid(source, config):
    cfg = config(*source, "MULTIGRID.LONG_CYCLE_SAMPLING_RATE", 8, "MULTIGRID.DEFAULT_S", 16)
    sample = build_dataset(cfg, "train")[SampleKey(0, 0, (2, 12))]
    assert sample.inputs[0].shape == (3, 2, 12, 12)
    bounds = segments(33, 2)
    assert all(start <= f <= end for f, (start, end) in zip(frames_of(sample.inputs[0]), bounds, strict=True))


def test_batches_through_workers(source, config):
    (batch,) = build_loader(config(*source, "DATA_LOADER.NUM_WORKERS", 2, "TRAIN.BATCH_SIZE", 3), "train")
    assert sorted(batch.labels.tolist()) == [0, 1, 2]
    assert batch.frame_labels is None


@pytest.mark.parametrize("source", ["lists", "videos"], indirect=True)
def test_the_videos_of_the_test_have_no_templates(source, config):
    """They are taken where there is no file of validation."""
    folder, _ = source
    (folder / "something-something-v2-test.json").write_text(json.dumps([{"id": "101"}, {"id": "3"}]))
    assert build_dataset(config(*source), "test").num_videos == 3
    (folder / "something-something-v2-validation.json").unlink()
    if (folder / "val.csv").exists():
        (folder / "val.csv").rename(folder / "test.csv")
    dataset = build_dataset(config(*source), "test")
    assert list(dataset.labels) == [-1, -1] and dataset.classes_seen is None
    assert frames_of(dataset[0].inputs[0]) == [(start + end) // 2 for start, end in segments(LENGTHS["101"])]
    assert dataset.info.class_names[1] == "Putting something on a surface"
    with pytest.raises(FileNotFoundError, match="validation"):
        build_dataset(config(*source), "val")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_templates_are_in_all_entries_or_in_none(tmp_path, frames, config, split):
    write_json(tmp_path, entries=[ENTRIES[0], {"id": "3"}], indent=0)
    with pytest.raises(ValueError, match="line 7: .*has no template"):
        build_dataset(config(tmp_path, frames), split)
    write_json(tmp_path, entries=[{"id": "3"}], indent=0)
    if split == "test":
        assert build_dataset(config(tmp_path, frames), split).labels == [-1]
    else:
        with pytest.raises(ValueError, match="line 2: .*has no template"):
            build_dataset(config(tmp_path, frames), split)


@pytest.mark.parametrize("names", [OLD, NEW, ("labels.json", "{}.json")])
def test_names_of_the_files(tmp_path, frames, names, config):
    write_json(tmp_path, names, indent=4)
    write_lists(tmp_path)
    assert build_dataset(config(tmp_path, frames), "val").labels == [1, 0, 2]


def test_only_what_is_in_both_is_used(tmp_path, frames, caplog, config):
    write_json(tmp_path, entries=[*ENTRIES[:2], {"id": "9", "template": "Doing nothing"}])
    write_lists(tmp_path)
    with caplog.at_level(logging.WARNING):
        dataset = build_dataset(config(tmp_path, frames), "train")
    assert (list(dataset.paths), list(dataset.labels)) == (["74225", "3"], [1, 0])
    first, second = caplog.messages
    annotations, frames_list = tmp_path / "something-something-v2-train.json", tmp_path / "train.csv"
    assert first == f"1 videos of {annotations} are not in {frames_list} and left out: 2 are in both"
    assert second == f"1 videos of {frames_list} are not in {annotations} and left out: 2 are in both"
    write_json(tmp_path, entries=[{"id": "9", "template": "Doing nothing"}])
    with pytest.raises(ValueError, match=r"no video is both in .*, which begins with 9, and in .* begins with 101"):
        build_dataset(config(tmp_path, frames), "train")


def test_a_video_that_is_missing(tmp_path, videos, caplog, config):
    write_json(tmp_path, entries=[*ENTRIES, {"id": "9", "template": "Doing nothing"}])
    with caplog.at_level(logging.WARNING):
        dataset = build_dataset(config(tmp_path, videos), "val")
    assert f"1 of 4 videos are not in {videos}, such as 9" in caplog.text
    assert isinstance(dataset[3], MissingSample)


def test_settings_that_do_no_good_are_noted(tmp_path, frames, caplog, config):
    write_json(tmp_path)
    write_lists(tmp_path)
    with caplog.at_level(logging.WARNING):
        build_dataset(config(tmp_path, frames), "test")
        assert caplog.messages == []
        build_dataset(config(tmp_path, frames, "TEST.NUM_ENSEMBLE_VIEWS", 10), "test")
        build_dataset(config(tmp_path, frames, "DATA.RANDOM_FLIP", True), "train")
    with pytest.raises(ValueError, match="TEST.CYCLIC_LOAD True.*set it to False"):
        build_dataset(config(tmp_path, frames, "TEST.CYCLIC_LOAD", True), "test")
    views, flip = caplog.messages
    assert "TEST.NUM_ENSEMBLE_VIEWS is 10, but all temporal views of a video are the same frames" in views
    assert "DATA.RANDOM_FLIP is True" in flip


def test_several_labels_are_none_of_this_set(tmp_path, frames, config):
    write_json(tmp_path)
    cfg = config(
        tmp_path, frames, "DATA.MULTI_LABEL", True, "MODEL.LOSS_FUNC", "bce_logit", "MODEL.HEAD_ACT", "sigmoid"
    )
    with pytest.raises(ValueError, match="TRAIN.DATASET ssv2 has one label per video"):
        build_dataset(cfg, "train")


@pytest.mark.parametrize(
    ("entry", "cause"),
    [
        ({"id": "5", "template": "Eating [something]"}, "template 'Eating something', which is none of the 3"),
        ({"id": "5"}, "has no template"),
        ({"template": "Doing nothing"}, "no id"),
        ({"id": "a/../b", "template": "Doing nothing"}, "no id that names a video"),
        ({"id": True, "template": "Doing nothing"}, "no id"),
        ({"id": "3", "template": "Doing nothing"}, "has id 3, which an earlier entry has too"),
        (["5", "Doing nothing"], "is not an entry with id and template"),
        (None, "is not an entry"),
    ],
)
@pytest.mark.parametrize(("indent", "line"), [(None, 1), (0, 12)])
def test_wrong_entries(tmp_path, entry, cause, indent, line):
    write_json(tmp_path, entries=[*ENTRIES[:2], entry, ENTRIES[2]], indent=indent)
    labels = read_labels(str(tmp_path / OLD[0]), 3)
    path = tmp_path / OLD[1].format("train")
    with pytest.raises(ValueError, match=cause) as caught:
        read_videos(str(path), labels)
    assert str(caught.value).startswith(f"{path}, line {line}: {json.dumps(entry)}")
    wrong = []
    assert len(read_videos(str(path), labels, wrong)) == 3
    assert wrong == [str(caught.value)]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ('[\n{"id": "1",\n]', r"line 3: '\]' does not parse"),
        ("{}", "line 1: the file is not like"),
        ("[]", "lists no video"),
        ("", "line 1: '' does not parse"),
        ("[" * 100_000, "does not parse"),
        ('[{"id": "1", "template": "a"},\n {"id": "2",\n "id": "3"}]', r'line 2: .* the name "id" twice'),
        ('[{"id": ' + "9" * 5000 + "}]", "line 1: .* does not parse"),
    ],
)
def test_files_that_do_not_parse(tmp_path, text, cause):
    path = tmp_path / "videos.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=cause):
        read_videos(str(path), {})


@pytest.mark.parametrize("label", ["3", "-1", "x", None, True, 1.0, "²", "9" * 5000])
def test_wrong_labels(tmp_path, label):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"Doing nothing": 0, "Eating something": label}, indent=1))
    with pytest.raises(ValueError, match=r"line 3: 'Eating something' has class .* 0 to 2$"):
        read_labels(str(path), 3)


def test_files_that_are_not_there(tmp_path, frames, config):
    with pytest.raises(
        FileNotFoundError, match=r"must be the folder that holds something-something-v2-labels.json \(or"
    ):
        build_dataset(config(tmp_path, frames), "train")
    write_json(tmp_path)
    with pytest.raises(FileNotFoundError, match="none of the 3 videos of the list lies in"):
        build_dataset(config(tmp_path, tmp_path), "train")
