"""MoCo, BYOL, SimCLR and SwAV against the numbers of the published code."""

import copy
import itertools
import json
import math

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


@pytest.fixture
def small(tiny_model):
    """`small(method, *settings)`: a model of the method with a small backbone, in float64, in train mode."""

    def build(method, *settings):
        given = [
            *tiny_model, "MODEL.MODEL_NAME", "ContrastiveModel", "MODEL.LOSS_FUNC", "contrastive_loss",
            "CONTRASTIVE.TYPE", method, "CONTRASTIVE.DIM", 6, "CONTRASTIVE.MLP_DIM", 10, "CONTRASTIVE.T", 0.3,
            "CONTRASTIVE.NUM_MLP_LAYERS", 4, "CONTRASTIVE.QUEUE_LEN", 9, "TRAIN.BATCH_SIZE", 3, "DATA.NUM_FRAMES", 2,
            "DATA.TRAIN_CROP_NUM_TEMPORAL", 3, "CONTRASTIVE.MOMENTUM", 0.6, "SOLVER.MAX_EPOCH", 8, *settings,
        ]  # fmt: skip
        torch.manual_seed(0)
        return build_model(load_config(None, given)).double().train()

    return build


def iterate(model, clips, epoch, before):
    """Run an iteration, move the weights by its gradients, and return the loss."""
    model.zero_grad()
    total = 0.0
    for compute in model.passes(forward, model, clips, epoch, before):
        loss = compute()
        loss.backward()
        total += loss.item()
    model.finish(epoch)
    with torch.no_grad():
        for p in model.parameters():
            if p.grad is not None:
                p -= 0.05 * p.grad
    return total


def features(network, clip):
    return [row / row.norm() for row in network(clip)]


def random_clips(count):
    generator = torch.Generator().manual_seed(1)
    return [[torch.randn(3, 3, 2, 32, 32, generator=generator).double()] for _ in range(count)]


@pytest.mark.parametrize("sequential", [True, False])
@pytest.mark.parametrize("all_views", [True, False])
def test_moco_one_row_at_a_time(sequential, all_views, small):
    """Four keys of three videos wrap around a queue of nine; the momentum rises along a cosine."""
    settings = ["CONTRASTIVE.SEQUENTIAL", sequential, "CONTRASTIVE.MOCO_MULTI_VIEW_QUEUE", all_views]
    model, clips = small("moco", *settings, "CONTRASTIVE.MOMENTUM_ANNEALING", True), random_clips(4)
    queue, pointer, history = [row.clone() for row in model.queue_x], 0, None
    for iteration, epoch in enumerate((2.0, 2.5, 3.0)):
        rises = 2.0 + 0.5 * (iteration - 1) if sequential else epoch
        m = 1 - 0.4 * (math.cos(math.pi * rises / 8) + 1) / 2
        online = {name: p.detach().clone() for name, p in model.backbone.named_parameters()}
        history = {n: m * history[n] + (1 - m) * p for n, p in online.items()} if history else online
        with torch.no_grad():
            own = [features(model.backbone, clip) for clip in clips]
            encoder = copy.deepcopy(model.backbone)
            for name, p in encoder.named_parameters():
                p.copy_(history[name])
            keys = [features(encoder, clip) for clip in clips]
        losses = []
        for query in range(4 if sequential else 1):
            rows = []
            for other in (number for number in range(4) if number != query):
                for video in range(3):
                    q = own[query][video]
                    negatives = sum(math.exp(float(q @ old) / 0.3) for old in queue)
                    positive = math.exp(float(q @ keys[other][video]) / 0.3)
                    rows.append(-math.log(positive / (positive + negatives)))
            losses.append(sum(rows) / len(rows))
        assert iterate(model, clips, epoch, epoch - 0.5) == pytest.approx(sum(losses), rel=1e-9)
        for clip in (keys if sequential else keys[1:])[: None if all_views else 1]:
            for key in clip:
                queue[pointer], pointer = key, (pointer + 1) % 9
        assert int(model.ptr) == pointer and torch.allclose(model.queue_x, torch.stack(queue), atol=1e-12)


@pytest.mark.parametrize(("count", "sequential", "depth"), [(3, True, 3), (2, False, 2)])
def test_byol_one_row_at_a_time(count, sequential, depth, small):
    settings = ["CONTRASTIVE.SEQUENTIAL", sequential, "CONTRASTIVE.PREDICTOR_DEPTHS", [depth]]
    model, clips = small("byol", *settings, "DATA.TRAIN_CROP_NUM_TEMPORAL", count), random_clips(count)
    assert sum(isinstance(m, torch.nn.Linear) for m in model.backbone.head.predictors.modules()) == depth
    with torch.no_grad():
        predictor = model.backbone.head.predictors[0]
        guesses = [features(predictor, model.backbone(clip)) for clip in clips]
        keys = [features(model.backbone, clip) for clip in clips]
    expected = 0.0
    for one in range(count):
        pairs = [float(guesses[one][v] @ keys[other][v]) for other in range(count) if other != one for v in range(3)]
        expected -= sum(pairs) / len(pairs) / 0.3
    assert iterate(model, clips, 0.0, 0.0) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("count", "sequential"), [(4, True), (2, False)])
def test_simclr_one_row_at_a_time(count, sequential, small):
    settings = ["CONTRASTIVE.SEQUENTIAL", sequential, "DATA.TRAIN_CROP_NUM_TEMPORAL", count]
    model, clips = small("simclr", *settings), random_clips(count)
    with torch.no_grad():
        own = [features(model.backbone, clip) for clip in clips]
    expected = 0.0
    for first, second in itertools.pairwise(own):
        rows = [*first, *second]
        for one in range(6):
            others = {other: math.exp(float(rows[one] @ rows[other]) / 0.3) for other in range(6) if other != one}
            expected -= math.log(others[(one + 3) % 6] / sum(others.values())) / 6
    assert iterate(model, clips, 0.0, 0.0) == pytest.approx(expected, rel=1e-9)


def test_swav_one_row_at_a_time(small):
    """Codes of the first two of three clips, balanced with a queue of two batches from epoch 15 on."""
    model, clips = small("swav", "CONTRASTIVE.SWAV_QEUE_LEN", 6), random_clips(3)
    queues = [[], []]
    for epoch in (14.0, 15.0, 15.5, 16.0):
        with torch.no_grad():
            prototypes = [row / row.norm() for row in model.swav_prototypes.weight]
            own = [features(model.backbone, clip) for clip in clips]
            scores = [torch.stack([torch.stack([f @ p for p in prototypes]) for f in clip]) for clip in own]
            losses = []
            for clip, queue in enumerate(queues):
                rows = [*scores[clip]]
                if epoch >= 15 and len(queue) == 6:
                    rows += [torch.stack([f @ p for p in prototypes]) for f in queue]
                codes = np.exp(torch.stack(rows).numpy() / 0.05)
                for _ in range(3):
                    codes = codes / codes.sum(axis=0)
                    codes = codes / codes.sum(axis=1, keepdims=True)
                for other in (number for number in range(3) if number != clip):
                    chances = np.exp(scores[other].numpy() / 0.3)
                    chances /= chances.sum(axis=1, keepdims=True)
                    losses.append(-(codes[:3] * np.log(chances)).sum(axis=1).mean())
                if epoch >= 15:
                    queue[:] = [*own[clip], *queue][:6]
        assert iterate(model, clips, epoch, epoch) == pytest.approx(sum(losses) / 4, rel=1e-8)
