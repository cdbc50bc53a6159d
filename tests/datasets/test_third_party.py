"""A data set from outside: a class of a few lines, registered under a name, trains, tests and is checked."""

import os
from pathlib import Path

import pytest
import torch

from slowfast.apps.prepare.check import CheckOptions, check
from slowfast.datasets import DATASET_REGISTRY, ClipDataset, Sample, VideoDataset, build_dataset, build_loader
from slowfast.engine.test import test as run_test
from slowfast.engine.train import train


@DATASET_REGISTRY.register("class_folders")
class ClassFolders(VideoDataset):
    """Videos in `DATA.PATH_PREFIX`/SPLIT/CLASS/."""

    def __init__(self, cfg, split):
        folder = Path(cfg.DATA.PATH_PREFIX) / split
        classes = sorted(path.name for path in folder.iterdir())
        paths = sorted(folder.glob("*/*.mp4"))
        labels = [classes.index(path.parent.name) for path in paths]
        names = dict(enumerate(classes))
        super().__init__(cfg, split, list(map(str, paths)), labels, class_names=names, source=str(folder))


@DATASET_REGISTRY.register("noise")
class Noise(ClipDataset):
    """Clips without files, of several labels each."""

    label_kind = "multi"

    def __init__(self, cfg, split):
        super().__init__(cfg, split, [f"noise {number}" for number in range(8)])
        self.labels = torch.eye(2).repeat(4, 1)

    def training_sample(self, video, generator, shape):
        clip = torch.randn(3, 4, 32, 32, generator=generator) + self.labels[video, 0]
        return Sample([clip], self.labels[video], video, 0)

    def evaluation_sample(self, video, view):
        return self.training_sample(video, torch.Generator().manual_seed(video), None)


DATASET_REGISTRY.register("not_a_class")(lambda cfg, split: [])


@pytest.fixture
def folders_cfg(tiny_data, tmp_path, tiny_cfg):
    """Function: settings of a short run on the tiny videos, sorted into folders."""
    for split in ("train", "val", "test"):
        for line in (tiny_data / f"{split}.csv").read_text().splitlines():
            path, label = line.rsplit(" ", 1)
            folder = tmp_path / "videos" / split / ("dark", "bright")[int(label)]
            folder.mkdir(parents=True, exist_ok=True)
            os.symlink(path, folder / Path(path).name)
    keys = ["TRAIN.DATASET", "class_folders", "TEST.DATASET", "Class_Folders", "SOLVER.MAX_EPOCH", 1]
    return lambda *more: tiny_cfg(*keys, "DATA.PATH_PREFIX", str(tmp_path / "videos"), *more)


def test_a_data_set_of_videos_trains_and_tests(folders_cfg):
    cfg = folders_cfg("TRAIN.EVAL_PERIOD", 1)
    assert 0 <= train(cfg)["top1_acc"] <= 100
    results = run_test(cfg)
    assert (results["videos"], results["views"], results["unreadable_files"]) == (4, 2, 0)


def test_its_description_reaches_the_checks(folders_cfg):
    data = build_dataset(folders_cfg(), "train")
    assert (data.info.label_kind, data.info.unit) == ("single", "videos")
    assert data.info.class_names == {0: "bright", 1: "dark"}
    assert data.summary(2).startswith("12 videos")
    for path in Path(data.info.source, "dark").iterdir():
        path.unlink()
    report = check(folders_cfg(), CheckOptions(splits=["train"]))
    (lacking,) = [finding for finding in report.findings if finding.kind == "class-without-samples"]
    assert lacking.examples == ["dark"]


def test_a_data_set_of_any_clips(tiny_cfg):
    keys = ["DATA.MULTI_LABEL", True, "MODEL.LOSS_FUNC", "bce_logit", "MODEL.HEAD_ACT", "sigmoid"]
    keys += ["TRAIN.DATASET", "noise", "TEST.DATASET", "noise", "DATA.ENSEMBLE_METHOD", "max", "SOLVER.MAX_EPOCH", 1]
    cfg = tiny_cfg(*keys, "TRAIN.EVAL_PERIOD", 1)
    assert train(cfg)["map"] > 0
    loader = build_loader(cfg, "train")
    again = build_loader(cfg, "train", loader.dataset).dataset
    assert check(cfg, CheckOptions(splits=["train", "val"], allowed=["overlap"])).passed
    assert again is not loader.dataset
    assert torch.equal(again[3, 1].inputs[0], loader.dataset[3, 1].inputs[0])


def test_the_kind_of_labels_is_checked_before_a_data_set_is_read(tiny_cfg):
    with pytest.raises(ValueError, match="MULTI_LABEL"):
        build_dataset(tiny_cfg("TRAIN.DATASET", "noise"), "train")


def test_something_else_is_no_data_set(tiny_cfg):
    with pytest.raises(ValueError, match="derive it from .*VideoDataset"):
        build_dataset(tiny_cfg("TRAIN.DATASET", "not_a_class"), "train")
