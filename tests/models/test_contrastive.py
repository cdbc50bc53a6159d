"""MoCo, BYOL, SimCLR and SwAV against the numbers of the published code."""

import json

import numpy as np
import pytest
import torch

from slowfast.config import load_config
from slowfast.engine.optim import layer_scales
from slowfast.models import build_model

# Epoch of the two iterations of each fixture; the momentum encoder's one and the prototypes' freezing depend on it.
CASES = ("moco_slow_r50", "byol_slow_r50", "simclr_slow_r50", "swav_slow_r50")


def forward(module, clip):
    return module(clip)


@pytest.mark.parametrize("name", CASES)
def test_two_published_iterations(name, parity, repo, relative_error):
    folder = repo / "tests/fixtures/parity/ssl"
    meta, expected = parity.load(folder, name)
    cfg = load_config(repo / "configs" / meta["reference_config"], meta["overrides"])
    model = build_model(cfg).double().train()
    keys = json.loads((folder / f"{name}.keys.json").read_text())
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == keys
    parity.fill_module(model)
    for buffer in ("ptr", "queue_x", "iter"):
        if f"before_{buffer}" in expected:
            assert np.array_equal(model.get_buffer(buffer).numpy(), expected[f"before_{buffer}"])

    before = 0.0
    for iteration, epoch in enumerate(meta["epochs"], 1):
        clips = [
            [parity.make_clip(f"clip/{name}/iteration{iteration}/view{v}", meta["view_shape"]).double()]
            for v in range(meta["views"])
        ]
        model.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        for compute in model.passes(forward, model, clips, epoch, before):
            loss = compute()
            loss.backward()
            total += loss.detach()
        model.finish(epoch)
        before = epoch
        assert model.shown_loss(total, len(clips)).item() == pytest.approx(
            float(expected[f"loss_{iteration}"]), rel=1e-8
        )

        norms = {key: float(p.grad.norm()) for key, p in model.named_parameters() if p.grad is not None}
        names = expected[f"grad_names_{iteration}"].tolist()
        assert norms.keys() == set(names)
        assert relative_error([norms[key] for key in names], expected[f"grad_norms_{iteration}"]) < 1e-8
        check_state(model, expected, f"after{iteration}_", epoch, relative_error)
        with torch.no_grad():
            for key, p in model.named_parameters():
                if p.requires_grad:
                    p += 0.05 * parity.fill_tensor(f"update{iteration}/{key}", p)


def check_state(model, expected, prefix, epoch, relative_error):
    found = {name.removeprefix(prefix): value for name, value in expected.items() if name.startswith(prefix)}
    if not found:
        return
    assert model.momentum(epoch) == pytest.approx(float(found.pop("momentum")), abs=1e-12)
    history = dict(model.named_parameters())
    names, norms = found.pop("history_names").tolist(), found.pop("history_norms")
    assert relative_error([float(history[key].norm()) for key in names], norms) < 1e-12
    state = model.state_dict()
    for key, value in found.items():
        assert relative_error(state[key], value) < 1e-9 if value.any() else not state[key].any()


@pytest.mark.parametrize("method", ["moco", "byol", "simclr", "swav"])
def test_layers_learn_by_their_depth(method, tiny_model):
    depths = ["CONTRASTIVE.PREDICTOR_DEPTHS", [2]] if method == "byol" else []
    ssl = ["MODEL.MODEL_NAME", "ContrastiveModel", "MODEL.LOSS_FUNC", "contrastive_loss", "CONTRASTIVE.QUEUE_LEN", 8]
    clips = ["DATA.TRAIN_CROP_NUM_TEMPORAL", 2, "CONTRASTIVE.TYPE", method, "TRAIN.BATCH_SIZE", 4, *depths]
    model = build_model(load_config(None, [*tiny_model, *ssl, *clips]))
    scales = layer_scales(model, 0.5)
    named = {name: scales[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    # A ResNet of 18 layers: the stem, 8 blocks, the head.
    assert named["backbone.s1.pathway0_stem.conv.weight"] == 0.5**9
    assert named["backbone.s5.pathway0_res1.branch2.b.weight"] == 0.5
    last = [scale for name, scale in named.items() if "head" in name or "prototypes" in name]
    assert set(last) == {1.0}
