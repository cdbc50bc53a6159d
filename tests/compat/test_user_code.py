"""A model and a data set as PySlowFast's users write them, registered by their own names, train and test unchanged."""

import numpy as np
import pytest
import torch
from torch import nn

from slowfast.datasets import DATASET_REGISTRY, build_dataset, build_loader
from slowfast.engine.test import test as run_test
from slowfast.engine.train import train
from slowfast.models import MODEL_REGISTRY, build_model


class UsersNet(nn.Module):
    def __init__(self, cfg):
        super(UsersNet, self).__init__()  # noqa: UP008 (as they write it)
        self.pathways = len(cfg.DATA.INPUT_CHANNEL_NUM)
        self.conv = nn.Conv3d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, cfg.MODEL.NUM_CLASSES)

    def forward(self, x, bboxes=None):
        x = self.head(self.conv(x[-1]).mean(dim=(2, 3, 4)))
        return x if self.training else x.softmax(dim=1)


class Usersdata(torch.utils.data.Dataset):
    def __init__(self, cfg, mode):
        self.cfg, self.mode = cfg, mode
        self.views = cfg.TEST.NUM_ENSEMBLE_VIEWS * cfg.TEST.NUM_SPATIAL_CROPS if mode == "test" else 1

    def __len__(self):
        return 8 * self.views

    def __getitem__(self, index):
        label = index // self.views % 2
        frames = torch.rand(3, 4, 8, 8) * 0.1 + label + float(np.random.rand()) * 0.1
        return [frames] * len(self.cfg.DATA.INPUT_CHANNEL_NUM), label, index, torch.zeros(1), {}


@pytest.fixture
def cfg_of(tiny_cfg, monkeypatch):
    """Function: settings of the model and the data set of this file, which are registered by their own names."""
    for registry in (MODEL_REGISTRY, DATASET_REGISTRY):
        for name in ("_objects", "_facts"):
            monkeypatch.setattr(registry, name, dict(vars(registry)[name]))
    MODEL_REGISTRY.register()(UsersNet)
    assert DATASET_REGISTRY.register()(Usersdata) is Usersdata
    names = ["MODEL.MODEL_NAME", "UsersNet", "TRAIN.DATASET", "usersdata", "TEST.DATASET", "Usersdata"]
    return lambda *more: tiny_cfg(*names, "MODEL.ARCH", "slow", "SOLVER.MAX_EPOCH", 2, *more)


def test_they_train_and_test(cfg_of, last_state):
    cfg = cfg_of("TRAIN.EVAL_PERIOD", 1, "TEST.NUM_ENSEMBLE_VIEWS", 2)
    assert 0 <= train(cfg)["top1_acc"] <= 100
    results = run_test(cfg)
    assert (results["videos"], results["views"]) == (8, 2)
    assert set(last_state(cfg)["model_state"]) == {"conv.weight", "conv.bias", "head.weight", "head.bias"}


def test_arch_says_how_many_pathways_they_have(cfg_of):
    cfg = cfg_of("MODEL.ARCH", "slowfast", "DATA.INPUT_CHANNEL_NUM", [3, 3], "SLOWFAST.ALPHA", 4)
    model = build_model(cfg)
    assert isinstance(model, UsersNet) and model.pathways == 2
    batch = next(iter(build_loader(cfg, "val")))
    assert model(batch.inputs).shape == (batch.size, cfg.MODEL.NUM_CLASSES)
    with pytest.raises(ValueError, match="takes a list of 2 clip"):
        model(batch.inputs[:1])


def test_items_are_a_function_of_seed_epoch_and_index(cfg_of):
    data = build_dataset(cfg_of(), "train")
    torch.manual_seed(5)
    first, state = data[3, 1].inputs[0], torch.get_rng_state()
    assert torch.equal(data[3, 1].inputs[0], first) and not torch.equal(data[3, 2].inputs[0], first)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_name_may_come_first(cfg_of):
    cfg = cfg_of("TRAIN.DATASET", "kinetics")
    assert build_dataset("Usersdata", cfg, "train").num_videos == 8
    assert build_dataset("kinetics", cfg, "val").num_videos == 4


def test_a_model_may_be_asked_for_on_a_gpu(cfg_of, monkeypatch):
    monkeypatch.setattr("slowfast.runtime.device.device_count", lambda: 1)
    with pytest.raises(ValueError, match="'cuda:7', and this host has 1 GPU"):
        build_model(cfg_of(), gpu_id=7)


def _serve(monkeypatch, item):
    monkeypatch.setattr(Usersdata, "__getitem__", item)


def test_several_clips_and_several_labels(cfg_of, monkeypatch):
    clip = torch.zeros(3, 4, 8, 8)
    _serve(monkeypatch, lambda data, index: ([[clip], [clip + 1]], [0, np.int64(1)], [index] * 2, [0, 0], {}))
    one, two = build_dataset(cfg_of(), "train")[0]
    assert (one.label, two.label) == (0, 1) and two.inputs[0].min() == 1
    multi = ["DATA.MULTI_LABEL", True, "MODEL.LOSS_FUNC", "bce_logit", "MODEL.HEAD_ACT", "sigmoid"]
    _serve(monkeypatch, lambda data, index: (clip, np.array([0, 1]), index, {}))
    sample = build_dataset(cfg_of(*multi), "val")[0]
    assert sample.label.tolist() == [0.0, 1.0] and sample.inputs[0] is clip


def test_another_item_in_the_place_of_one_is_left_out(cfg_of, monkeypatch):
    item = Usersdata.__getitem__
    _serve(monkeypatch, lambda data, index: item(data, 2 if index == 5 else index))
    batches = list(build_loader(cfg_of(), "val"))
    assert [missing.video for batch in batches for missing in batch.missing] == [5]
    assert sum(batch.size for batch in batches) == 7


@pytest.mark.parametrize(("split", "views", "wrong"), [("test", 3, "8 items"), ("train", 1, "a Tensor")])
def test_what_does_not_fit_is_told(cfg_of, monkeypatch, split, views, wrong):
    monkeypatch.setattr(Usersdata, "__len__", lambda data: 8)
    _serve(monkeypatch, lambda data, index: torch.zeros(3))
    with pytest.raises(ValueError, match=wrong):
        build_dataset(cfg_of("TEST.NUM_ENSEMBLE_VIEWS", views), split)[0]


def test_the_size_of_single_batches_needs_a_data_set_of_ours(cfg_of):
    with pytest.raises(ValueError, match="SHORT_CYCLE"):
        build_dataset(cfg_of("MULTIGRID.SHORT_CYCLE", True), "train")
