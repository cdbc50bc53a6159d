"""Resume from checkpoints with odd content: an exact state, or one line that names the file; never a traceback."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from slowfast.checkpoint.io import load_checkpoint
from slowfast.engine.ema import weights_to_test
from slowfast.engine.epoch_config import build_state
from slowfast.runtime.seed import rng_state

TENSORS = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "meta": lambda: torch.empty(3, device="meta"),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "complex": lambda: torch.ones(3, dtype=torch.complex64),
}


def put(saved: dict, path: str, value: Any) -> dict:
    """Return a copy with the entry at `path` ("layout/seed") replaced, or removed for `KeyError`."""
    saved = copy.copy(saved)
    item: Any = saved
    *parts, last = path.split("/")
    for part in parts:
        key = int(part) if part.isdigit() else part
        item[key] = copy.copy(item[key])
        item = item[key]
    last = int(last) if last.isdigit() else last
    if value is KeyError:
        del item[last]
    else:
        item[last] = value
    return saved


@pytest.fixture
def resumed(tiny_cfg):
    """`resumed(change)`: the state of a run with Adam and EMA, resumed from its checkpoint changed by a function."""
    state = build_state(tiny_cfg("EMA.ENABLE", True, "SOLVER.OPTIMIZING_METHOD", "adam"))
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    state.epoch, state.iteration, state.step = 2, 1, 7
    state.averages.add({"loss": torch.tensor(2.0)}, 4)
    saved = state.capture()

    def resume(change):
        state.restore(change(copy.deepcopy(saved)), "some.pyth")
        return state

    return resume


ODD = [
    *(("epoch", value) for value in (-2, 2.5, "3", True, 10**400, None, torch.ones(3), [1])),
    *(("iteration", value) for value in (-1, 0.5, "1", 2**60, torch.tensor([1, 2]))),
    *(("step", value) for value in (-1, 1.0, None, 10**400)),
    *(("epoch_length", value) for value in (0, -3, "a", KeyError)),
    *(("layout", value) for value in ([], {}, {"of a newer version": 1}, torch.ones(3))),
    *(("layout/seed", value) for value in ("1", None, 10**400, KeyError)),
    *(("layout/lr_scale", value) for value in (float("nan"), "1", 10**400)),
    ("layout/hosts", -1),
    *(("averages", value) for value in ({}, [], {"sums": [], "samples": 1}, {"sums": {}, "samples": -1}, KeyError)),
    ("averages/sums/loss", "2"),
    *(("rng_state", value) for value in ({}, 3, "x", [None], [{}], [[1, 2]], torch.ones(3))),
    ("rng_state/0/python", [3, [1, 2], None]),
    ("rng_state/0/python", [3, ["a"] * 625, None]),
    ("rng_state/0/python", [3, [*range(624), 624], {}]),
    ("rng_state/0/numpy", ["MT19937", torch.zeros(5), 0, 0, 0.0]),
    ("rng_state/0/numpy", ["MT19937", torch.zeros(624), 10**6, 0, 0.0]),
    ("rng_state/0/numpy", ["PCG64", torch.zeros(624), 0, 0, 0.0]),
    ("rng_state/0/torch", torch.zeros(3, dtype=torch.uint8)),
    ("rng_state/0/torch", torch.zeros(5056)),
    ("rng_state/0/torch", "state"),
    *(("ema_state", value) for value in (None, [], {}, {"model_state": {}, "updates": 1}, torch.ones(3))),
    *(("ema_state/updates", value) for value in (-1, 1.5, "1", 10**400)),
    *(("optimizer_state", value) for value in (None, [], {}, {"state": {}}, "x", torch.ones(3))),
    *(("optimizer_state/param_groups", value) for value in ([], [{}], {}, [1], "x")),
    ("optimizer_state/param_groups/0/params", ["a"]),
    ("optimizer_state/param_groups/0/eps", "small"),
    ("optimizer_state/param_groups/0/amsgrad", True),
    ("optimizer_state/state", []),
    ("optimizer_state/state/0", []),
    ("optimizer_state/state/0/exp_avg", KeyError),
    ("optimizer_state/state/0/exp_avg", 1.0),
    ("optimizer_state/state/0/exp_avg_sq", torch.ones(7)),
    ("optimizer_state/state/0/step", "many"),
    ("optimizer_state/state/0/step", torch.ones(3)),
    *(("optimizer_state/state/0/exp_avg", make) for make in TENSORS.values()),
    *(("ema_state/model_state/s1.pathway0_stem.bn.weight", make) for make in TENSORS.values()),
    ("data", [1]),
]


def test_odd_training_state_is_refused(resumed):
    for path, value in ODD:
        value = value() if callable(value) and value is not KeyError else value
        with pytest.raises(ValueError, match="some.pyth") as caught:
            resumed(lambda saved, path=path, value=value: put(saved, path, value))
        first, *more = str(caught.value).splitlines()
        assert len(first) < 700 and (
            not more or path.startswith("ema_state")
        )  # of weights, keys have lines of their own


def test_the_same_state_unchanged_is_restored(resumed):
    state = resumed(lambda saved: saved)
    assert (state.epoch, state.iteration, state.step) == (2, 1, 7)
    before = rng_state()["torch"]
    assert torch.equal(
        resumed(lambda saved: saved | {"epoch": 2}).optimizer.state_dict()["state"][0]["step"], torch.tensor(1.0)
    )
    assert torch.equal(rng_state()["torch"], before)


def test_odd_settings_in_a_checkpoint_change_nothing(resumed):
    """Settings of another program may be of any form."""
    for cfg in (None, 3, [1], {"A": 1}, torch.ones(3), "A: &a [*a]\n", "[" * 9999):
        assert resumed(lambda saved, cfg=cfg: saved | {"cfg": cfg}).step == 7


def test_settings_and_entries_of_a_newer_version_are_left_alone(resumed, caplog):
    def newer(saved):
        return saved | {"cfg": saved["cfg"] + "NEWER: {KEY: 1}\n", "newer_state": {"a": torch.ones(1)}}

    assert resumed(newer).step == 7
    assert "newer_state" in caplog.text
    assert "NEWER.KEY" in caplog.text


@pytest.mark.parametrize("kind", sorted(TENSORS))
def test_weights_that_no_model_has_are_refused(tmp_path, kind):
    path = str(tmp_path / "x.pyth")
    torch.save({"model_state": {"good": torch.ones(1), "odd": TENSORS[kind]()}}, path)
    with pytest.raises(ValueError, match="x.pyth"):
        load_checkpoint(path)
    with pytest.raises(ValueError, match="x.pyth"):
        weights_to_test({"ema_state": {"model_state": {"odd": TENSORS[kind]()}}}, True, "x.pyth")


@pytest.mark.parametrize("average", [None, [], {}, {"model_state": []}, {"model_state": {1: torch.ones(1)}}])
def test_odd_averaged_weights_to_test_are_refused(average):
    with pytest.raises(ValueError, match="x.pyth"):
        weights_to_test({"model_state": {}, "ema_state": average}, True, "x.pyth")
