"""No key is dead: away from its default each changes something observable, warns, or refuses all other values.

Every key of the core and of PGT is walked. What is observed: models (structure, weights, outputs of both modes),
optimizers (groups, rates, a step), clips of real videos and their batches, losses, mixing, the phases of a run. Keys of
whole programs (training, demo, TensorBoard) are shown by the tests that `ELSEWHERE` names.
"""

import hashlib
import json
import logging
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from slowfast.config import load_config
from slowfast.config.ignored_keys import reason_without_effect
from slowfast.config.merge import get_key, leaf_keys
from slowfast.config.resolve import num_pathways
from slowfast.datasets.build import build_dataset, build_loader
from slowfast.engine import multigrid
from slowfast.engine.mixing import Mixing
from slowfast.engine.model_setup import ModelSetup
from slowfast.engine.optim import build_optimizer, lr_at, lr_scale
from slowfast.engine.optim_step import build_optim_step
from slowfast.engine.task import build_task, dummy_inputs
from slowfast.engine.trial import random_batch
from slowfast.models import build_model
from slowfast.models.build import build_norm
from slowfast.models.losses import build_loss
from slowfast.runtime.device import device_of
from tests.config.key_cases import CASES, CONTRASTIVE, ELSEWHERE, HERE, REFUSED, RENAMED, SECTIONS

ROOT = Path(__file__).parents[2]
DEFAULTS = load_config(None, ["PROJECTS", ["pgt"]])
KEYS = list(leaf_keys(DEFAULTS))


def digest(*items):
    """Fingerprint of tensors, and of the texts of other things."""
    found = hashlib.sha256()
    for item in items:
        found.update(item.detach().contiguous().numpy().tobytes() if torch.is_tensor(item) else str(item).encode())
    return found.hexdigest()


def observe_model(cfg):
    torch.manual_seed(0)
    model = build_model(cfg)
    state, outputs = model.state_dict(), []
    fresh = digest(repr(model), list(state), *state.values())
    torch.manual_seed(1)
    for name, value in model.named_parameters():
        torch.nn.init.normal_(value, 1.0 if "bn.weight" in name else 0.0, 0.2)
    inputs = dummy_inputs(cfg, 2, cfg.DATA.TRAIN_CROP_SIZE, torch.Generator().manual_seed(2))
    boxes = [torch.tensor([[0.0, 3, 5, 20, 29], [1, 0, 0, 9, 9]])] if cfg.DETECTION.ENABLE else []
    for train in (False, True):
        torch.manual_seed(3)
        outputs.append(model.train(train)(inputs, *boxes))
    return digest(fresh, *outputs, *model.state_dict().values())


def observe_optimizer(cfg):
    torch.manual_seed(0)
    model = build_model(cfg)
    optimizer = build_optimizer(model, cfg)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [{**group, "params": [names[id(p)] for p in group["params"]]} for group in optimizer.param_groups]
    rates = [lr_at(cfg.SOLVER, epoch) for epoch in (0, 0.5, 1.5, 3, 7, 12, 20)]
    step = build_optim_step(cfg, model, optimizer)
    settings = {key: value for key, value in vars(step).items() if isinstance(value, (int, float, str, type(None)))}
    for _ in range(2):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.01) * parameter.sign()
        optimizer.step()
    return digest(type(optimizer), groups, rates, lr_scale(cfg), settings, *model.parameters())


@torch.no_grad()
def observe_clips(cfg):
    found = []
    for split in ("train", "test"):
        dataset, loader = build_dataset(cfg, split), build_loader(cfg, split)
        found += [len(dataset), vars(dataset.unreadable), loader.num_workers, loader.prefetch_factor]
        for epoch in range(2):
            loader.batch_sampler.set_epoch(epoch)
            keys = [[tuple(key) for key in batch] for batch in loader.batch_sampler]
            found.append(keys)
        for key in keys[0][:2] + keys[-1][-1:]:
            samples = dataset[key]
            for sample in samples if isinstance(samples, list) else [samples]:
                found += [sample.label, sample.video, *sample.inputs]
    return digest(*found)


def observe_training(cfg):
    """Loss, mixing, steps between building a model and using it, schedule of the phases."""
    mixing = Mixing.from_config(cfg)
    phases = [multigrid.epoch_config(cfg, epoch) for epoch in (0, 3, 11)]
    phases = [[get_key(phase, key) for key in PHASE_KEYS] for phase in phases]
    return digest(build_loss(cfg), mixing and vars(mixing), ModelSetup.from_config(cfg), phases)


def observe_pretraining(cfg):
    """Steps of masked or contrastive learning on noise, in early and late epochs; weights, predictions, features."""
    torch.manual_seed(0)
    model, task = build_model(cfg).train(), build_task(cfg)
    fresh = digest(repr(model), list(model.state_dict()), *model.state_dict().values())
    step = build_optim_step(cfg, model, torch.optim.SGD(model.parameters(), 0.05))
    batch, found = random_batch(cfg, 8), []
    if cfg.MODEL.MODEL_NAME == "ContrastiveModel":  # two clips of each of four videos
        batch.video, batch.view, batch.labels = batch.video // 2, batch.video % 2, batch.video // 2 % 3
        if model.knn_mem is not None:
            model.knn_mem.reserve(4)
    for epoch in (0, 0, 1, 16, 17):
        task.epoch, task.iteration, task.progress, task.before = epoch, len(found), epoch, epoch
        found += [task.train_step(model, batch, step)["loss"]]
    model.eval()
    if task.evaluates:
        found += [task.predict(model, batch).scores]
    elif cfg.MODEL.MODEL_NAME == "MaskMViT":
        predictions, targets = model(batch.inputs, batch.mask)
        found += [*predictions, *[x for pair in targets for x in pair if torch.is_tensor(x)]]
    return digest(fresh, *found, *model.state_dict().values())


PHASE_KEYS = ("DATA.NUM_FRAMES", "DATA.TRAIN_CROP_SIZE", "DATA.SAMPLING_RATE", "TRAIN.BATCH_SIZE", "SOLVER.MAX_EPOCH",
              "SOLVER.STEPS", "SOLVER.LRS", "BN.NORM_TYPE", "BN.NUM_SPLITS", "MULTIGRID.DEFAULT_B")  # fmt: skip

UNCHANGED = {}  # what is observed without the change, by what it is and the settings


def away(key):
    """Another value of a key: the other truth value, or another number of the same kind."""
    value = get_key(DEFAULTS, key)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value * 2 or 2
    return value / 2 or 0.25


def kind_of(key):
    """The way in which a key is shown to be alive; "" for none."""
    if reason_without_effect(key):
        return "ignored"
    if key in REFUSED:
        return "refused"
    if key in RENAMED:
        return "renamed"
    if key in HERE:
        return "here"
    if key in CASES:
        return "observed"
    if any(fnmatchcase(key, pattern) for pattern in ELSEWHERE):
        return "elsewhere"
    return "observed" if key.split(".")[0] in SECTIONS else ""


def keys_of(kind):
    return [key for key in KEYS if kind_of(key) == kind]


def test_every_key_is_walked():
    published = json.loads((ROOT / "tests/fixtures/config/config_defaults.json").read_text())
    of_pgt = json.loads((ROOT / "tests/fixtures/config/pgt_defaults.json").read_text())["keys"]

    def names(tree, front=""):
        for name, value in tree.items():
            yield from names(value, f"{front}{name}.") if isinstance(value, dict) else [front + name]

    assert len(list(names(published))) == 339
    assert {*names(published), *names(of_pgt)} <= set(KEYS)
    assert [key for key in KEYS if not kind_of(key)] == []
    assert [key for key in [*CASES, *REFUSED, *RENAMED, *HERE] if key not in KEYS] == []
    assert [p for p in ELSEWHERE if not any(fnmatchcase(key, p) for key in keys_of("elsewhere"))] == []


@pytest.mark.parametrize("key", keys_of("observed"))
def test_another_value_changes_what_is_observed(key, tiny_models, tiny_data):
    what, model, *settings = SECTIONS.get(key.split(".")[0], ("", "ResNet"))
    value, *more = CASES[key] if key in CASES else (away(key),)
    if more and str(more[0]).startswith("@"):
        other, _, name = more.pop(0)[1:].partition("/")
        what, model, settings = other, name or model, []
    base = [*tiny_models[model]]
    if what == "clips":
        base += ["DATA.PATH_TO_DATA_DIR", str(tiny_data), "MODEL.NUM_CLASSES", 2, "DATA_LOADER.NUM_WORKERS", 0,
                 "TRAIN.BATCH_SIZE", 4, "TEST.BATCH_SIZE", 4, "TEST.NUM_ENSEMBLE_VIEWS", 2,
                 "TEST.NUM_SPATIAL_CROPS", 1, "DATA.NUM_FRAMES", 4, "DATA.TRAIN_JITTER_SCALES", [36, 40]]  # fmt: skip
    base += [*settings, *more]
    observe = {"model": observe_model, "optimizer": observe_optimizer, "clips": observe_clips,
               "training": observe_training, "pretraining": observe_pretraining}[what]  # fmt: skip
    before, cfg = load_config(None, base), load_config(None, [*base, key, value])
    assert get_key(cfg, key) != get_key(before, key)
    if (what, str(base)) not in UNCHANGED:
        UNCHANGED[what, str(base)] = observe(before)
    assert observe(cfg) != UNCHANGED[what, str(base)]


@pytest.mark.parametrize("key", keys_of("refused"))
def test_another_value_is_refused(key, tiny_cfg):
    with pytest.raises((ValueError, FileNotFoundError), match=key.replace(".", r"\.")):
        build_dataset(tiny_cfg("PROJECTS", ["pgt"], key, REFUSED[key]), "train")


@pytest.mark.parametrize("key", keys_of("renamed"))
def test_an_older_name_sets_the_newer(key):
    value = get_key(DEFAULTS, key)
    other = [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]] if key.endswith("EIGVEC") else [1.0, 2.0, 3.0]
    if not isinstance(value, list):
        other = value + "/x" if isinstance(value, str) else away(key)
    assert get_key(load_config(None, [key, other]), RENAMED[key]) == other


@pytest.mark.parametrize("key", keys_of("ignored"))
def test_an_ignored_key_warns(key, caplog):
    value = get_key(DEFAULTS, key)
    if isinstance(value, bool | int | float):
        other = away(key) if abs(value) < float("inf") else 0.25
    else:
        other = (
            value + "x" if isinstance(value, str) else [*value, *value[:1]] if value else 3 if value is None else [1]
        )
    caplog.set_level(logging.WARNING)
    load_config(None, ["PROJECTS", ["pgt"], key, other])
    assert key in caplog.text


@pytest.mark.parametrize("key", keys_of("elsewhere"))
def test_tests_of_programs_name_their_keys(key):
    files = " ".join(names for pattern, names in ELSEWHERE.items() if fnmatchcase(key, pattern)).split()
    words = " ".join((ROOT / name).read_text() for name in files)
    assert key.rpartition(".")[2] in words


def test_groups_of_synchronized_norms(tiny_cfg, monkeypatch):
    seen = []
    monkeypatch.setattr("slowfast.models.build.norm_group", lambda *sizes: seen.append(sizes))
    for settings in ([], ["BN.NUM_SYNC_DEVICES", 2], ["BN.GLOBAL_SYNC", True]):
        build_norm(tiny_cfg("NUM_GPUS", 2, "BN.NORM_TYPE", "sync_batchnorm", *settings), "sync_batchnorm")
    assert seen == [(False, 1), (False, 2), (True, 1)]
    apex = tiny_cfg("BN.NORM_TYPE", "sync_batchnorm_apex")
    assert apex.BN.NORM_TYPE == "sync_batchnorm"


def test_features_and_norms_of_all_processes(tiny_models, monkeypatch):
    seen = []
    monkeypatch.setattr("slowfast.models.build.norm_group", lambda *sizes: None)
    monkeypatch.setattr("slowfast.models.contrastive_methods.gather_rows", lambda rows: seen.append(rows) or rows)
    base = [*tiny_models["ResNet"], *CONTRASTIVE, "CONTRASTIVE.TYPE", "simclr", "CONTRASTIVE.BN_MLP", True]
    for everywhere, count in ((True, 2), (False, 0)):
        cfg = load_config(None, [*base, "CONTRASTIVE.SIMCLR_DIST_ON", everywhere])
        clips = [random_batch(cfg, 4).inputs] * 2
        (loss,) = (model := build_model(cfg)).passes(lambda module, clip: module(clip), model, clips, 0.0, 0.0)
        seen.clear()
        loss()
        assert len(seen) == count
    for synchronized in (False, True):
        model = build_model(load_config(None, [*base, "NUM_GPUS", 2, "CONTRASTIVE.BN_SYNC_MLP", synchronized]))
        norms = [module for module in model.backbone.head.modules() if isinstance(module, _BatchNorm)]
        assert [isinstance(norm, torch.nn.SyncBatchNorm) for norm in norms] == [synchronized]


def test_gpus_are_asked_for(tiny_cfg, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(tiny_cfg("NUM_GPUS", 0)).type == "cpu"
    with pytest.raises(ValueError, match="NUM_GPUS"):
        device_of(tiny_cfg("NUM_GPUS", 1))


def test_memory_is_pinned_for_a_gpu(tiny_cfg, monkeypatch):
    monkeypatch.setattr("slowfast.datasets.build.device_of", lambda cfg: torch.device("cuda"))
    assert [build_loader(tiny_cfg("DATA_LOADER.PIN_MEMORY", on), "val").pin_memory for on in (True, False)] == [1, 0]


def test_pathways_of_a_model_that_is_not_registered():
    cfg = load_config(None, ["MODEL.ARCH", "i3d", "MODEL.MODEL_NAME", "ResNet"]).clone()
    cfg.defrost()
    cfg.MODEL.MODEL_NAME = "of a published file"
    assert num_pathways(cfg) == 1
    cfg.MODEL.MULTI_PATHWAY_ARCH = ["i3d"]
    assert num_pathways(cfg) == 2


def test_dummy_load_reads_one_sample(tiny_cfg, monkeypatch):
    dataset = build_dataset(tiny_cfg("DATA.DUMMY_LOAD", True, "TEST.NUM_ENSEMBLE_VIEWS", 2), "test")
    first = dataset[0]
    monkeypatch.setattr(dataset, "open_video", None)
    monkeypatch.setattr(dataset, "evaluation_sample", None)
    later = [dataset[index] for index in (1, 3, 7)]
    assert [(sample.video, sample.view) for sample in later] == [(0, 1), (1, 1), (3, 1)]
    assert all(torch.equal(sample.inputs[0], first.inputs[0]) for sample in later)
    dataset = build_dataset(tiny_cfg("DATA.DUMMY_LOAD", True, "DATA.TRAIN_CROP_NUM_TEMPORAL", 2), "train")
    assert [(clip.video, clip.view) for clip in dataset[3]] == [(3, 0), (3, 1)]


def test_chunks_of_the_list_take_turns(tiny_cfg):
    loader = build_loader(tiny_cfg("DATA.LOADER_CHUNK_SIZE", 4, "DATA.LOADER_CHUNK_OVERALL_SIZE", 10), "train")
    seen = []
    for epoch in range(4):
        loader.batch_sampler.set_epoch(epoch)
        seen.append({key.index for batch in loader.batch_sampler for key in batch})
    assert seen == [{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9, 0, 1}, {0, 1, 2, 3}] and len(loader) == 1
