"""PySlowFast's modules and names, for code that was written for it."""

import importlib
import warnings

import pytest
import torch

from slowfast import compat


@pytest.fixture
def fresh():
    """Function: import a module of PySlowFast's anew; returns it."""

    def load(name):
        for known in compat.NAMES[name]:
            vars(importlib.import_module(name)).pop(known, None)
        return importlib.import_module(name)

    return load


@pytest.mark.parametrize("module", sorted(compat.NAMES))
def test_every_name_is_there_and_warns_once(module, fresh):
    loaded = fresh(module)
    for name in compat.NAMES[module]:
        with pytest.warns(FutureWarning, match=f"{module}.{name} is PySlowFast's name; here it is "):
            found = getattr(loaded, name)
        assert callable(getattr(found, "open", found))  # of paths
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert getattr(loaded, name) is found
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        loaded.nothing  # noqa: B018


@pytest.mark.parametrize("module", sorted(compat.NAMES))
def test_every_new_name_exists(module):
    for old in compat.NAMES[module]:
        new = compat.new_name(module, old)
        if new.startswith(("loader.", "set.")):
            continue  # a method of an object
        owner, _, name = new.rpartition(".")
        assert hasattr(importlib.import_module(owner), name), new


@pytest.mark.parametrize("module", sorted(compat.ABSENT))
def test_modules_and_names_without_a_counterpart_say_what_takes_their_place(module):
    owner, _, name = module.rpartition(".")
    if owner in compat.NAMES:
        with pytest.raises(AttributeError, match="it is PySlowFast's. Here: ") as error:
            getattr(importlib.import_module(owner), name)
        assert error.value.name == name
    else:
        with pytest.raises(ModuleNotFoundError, match="it is PySlowFast's. Here: ") as error:
            importlib.import_module(module)
        assert error.value.name == module
    assert compat.ABSENT[module] in str(error.value)


def test_other_modules_that_are_missing_are_pythons_matter():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'slowfast.nothing'$"):
        importlib.import_module("slowfast.nothing")


def test_settings_made_in_code_are_derived_and_checked(fresh):
    defaults = fresh("slowfast.config.defaults")
    cfg = defaults.get_cfg()
    cfg.MODEL.MODEL_NAME, cfg.MODEL.ARCH, cfg.RESNET.DEPTH = "ResNet", "slow", 18
    with pytest.warns(FutureWarning):
        infer = defaults.assert_and_infer_cfg
    found = infer(cfg)
    assert found.DATA.INPUT_CHANNEL_NUM == [3] and not found.is_frozen()
    cfg.MODEL.ARCH = "slo"
    with pytest.raises(ValueError, match="MODEL.ARCH"):
        infer(cfg)


def test_pathways_are_packed_as_published(tiny_cfg):
    """Slow frames: `linspace(0, T - 1, T // ALPHA)`, truncated."""
    from slowfast.compat.data import pack_pathway_output

    frames = torch.arange(32.0).view(1, 32, 1, 1).expand(3, -1, 2, 2)
    cfg = tiny_cfg()
    cfg.defrost()
    (only,) = pack_pathway_output(cfg, frames)
    assert only is frames
    cfg.MODEL.ARCH, cfg.SLOWFAST.ALPHA = "slowfast", 8
    slow, fast = pack_pathway_output(cfg, frames)
    assert fast is frames and slow[0, :, 0, 0].tolist() == torch.linspace(0, 31, 4).long().tolist()
    cfg.DATA.REVERSE_INPUT_CHANNEL = True
    colors = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 8, 1, 1)
    assert pack_pathway_output(cfg, colors)[1][:, 0, 0, 0].tolist() == [2, 1, 0]
    cfg.MODEL.ARCH = "third"
    with pytest.raises(ValueError, match="'third'"):
        pack_pathway_output(cfg, frames)


def test_numbers():
    from slowfast.compat import data, functions

    preds = torch.tensor([[0.1, 0.5, 0.4], [0.7, 0.2, 0.1], [0.2, 0.3, 0.5], [0.1, 0.8, 0.1]])
    labels = torch.tensor([1, 2, 1, 1])
    assert [int(count) for count in functions.topks_correct(preds, labels, (1, 2))] == [2, 3]
    assert [float(value) for value in functions.topk_errors(preds, labels, (1, 2))] == [50.0, 25.0]
    pixels = torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8)
    found = data.tensor_normalize(pixels, [0.45] * 3, [0.225] * 3)
    torch.testing.assert_close(found.flatten(), torch.tensor([-2.0, 0.55 / 0.225, (0.2 - 0.45) / 0.225]))
    torch.testing.assert_close(data.revert_tensor_normalize(found, [0.45] * 3, [0.225] * 3), pixels / 255)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    assert (functions.params_count(model), functions.params_count(model, ignore_bn=True)) == (12, 8)


def test_index_of_a_test_counts_views(tiny_cfg):
    from slowfast.compat.data import construct_loader

    loader = construct_loader(tiny_cfg("TEST.BATCH_SIZE", 8), "test")
    inputs, labels, index, time, meta = next(iter(loader))
    assert sorted(index.tolist()) == list(range(8)) and labels.tolist() == [i // 2 % 2 for i in index.tolist()]
    assert len(time) == len(inputs[0]) == 8 and meta == {} and len(loader) == 1


def test_weights_of_a_file(tiny_cfg, tmp_path):
    from slowfast.compat.functions import get_last_checkpoint, has_checkpoint, load_checkpoint, save_checkpoint
    from slowfast.models import build_model

    cfg = tiny_cfg()
    model, other = build_model(cfg), build_model(cfg)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    assert not has_checkpoint(str(tmp_path)) and get_last_checkpoint(str(tmp_path)) is None
    path = save_checkpoint(str(tmp_path), model, optimizer, 4, cfg)
    assert path == str(tmp_path / "checkpoints/checkpoint_epoch_00005.pyth") == get_last_checkpoint(str(tmp_path))
    again = torch.optim.SGD(other.parameters(), lr=0.5)
    assert load_checkpoint(path, other, optimizer=again) == 4 and again.param_groups[0]["lr"] == 0.1
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert load_checkpoint(path, other, epoch_reset=True) == -1


def test_rates_and_epochs_that_are_due(tiny_cfg):
    """Cosine from BASE_LR 0.1 to 0 over 4 epochs: half of it after two."""
    from slowfast.compat import functions

    cfg = tiny_cfg("SOLVER.MAX_EPOCH", 4, "SOLVER.BASE_LR", 0.1, "SOLVER.WARMUP_EPOCHS", 0.0,
                   "TRAIN.EVAL_PERIOD", 2, "TRAIN.CHECKPOINT_PERIOD", 3)  # fmt: skip
    rates = [functions.get_epoch_lr(2, cfg), functions.get_lr_at_epoch(cfg, 2), functions.get_epoch_lr(0, cfg)]
    assert rates == pytest.approx([0.05, 0.05, 0.1])
    assert [functions.is_eval_epoch(cfg, epoch) for epoch in range(4)] == [False, True, False, True]
    assert [functions.is_checkpoint_epoch(cfg, epoch) for epoch in range(4)] == [False, False, True, True]


def test_what_is_not_as_there_is_told():
    from slowfast.compat import functions

    with pytest.raises(ValueError, match="reduction='none'"):
        functions.get_loss_func("cross_entropy")(reduction="none")
    with pytest.raises(ValueError, match="cross_entropy"):
        functions.get_loss_func("cross_entrop")
    with pytest.raises(RuntimeError, match="NaN"):
        functions.check_nan_losses(torch.tensor(float("nan")))
    with pytest.raises(ValueError, match="1 labels for 2"):
        functions.topks_correct(torch.rand(2, 5), torch.tensor([1]), (1,))
