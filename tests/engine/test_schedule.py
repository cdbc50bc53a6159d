import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from slowfast.engine.optim import lr_at, lr_scale
from slowfast.engine.preflight import describe_schedule

CASES = json.loads((Path(__file__).parents[1] / "fixtures" / "lr_schedules.json").read_text())


@pytest.mark.parametrize("name", sorted(CASES))
def test_published_schedules(name):
    case = CASES[name]
    solver = SimpleNamespace(**case["solver"])
    assert [lr_at(solver, epoch) for epoch in case["epoch"]] == pytest.approx(case["lr"], rel=1e-9, abs=1e-15)


def solver(**changes):
    return SimpleNamespace(**{**CASES["Kinetics/SLOW_8x8_R50.yaml"]["solver"], **changes})


def test_steps_after_the_last_epoch_need_no_rate():
    short = solver(LR_POLICY="steps_with_relative_lrs", STEPS=[0, 10, 20], LRS=[1, 0.1], WARMUP_EPOCHS=0.0)
    assert lr_at(short, 19.9) == pytest.approx(0.01)


def test_linear_scaling_uses_the_batch_of_an_update(tiny_cfg):
    assert lr_scale(tiny_cfg()) == 1.0
    scaled = tiny_cfg("SOLVER.LR_REFERENCE_BATCH", 64, "TRAIN.BATCH_SIZE", 8, "TRAIN.ACCUM_STEPS", 2)
    assert lr_scale(scaled) == pytest.approx(0.25)


def test_the_log_names_the_rates_and_a_schedule_that_cannot_be(tiny_cfg):
    warm = tiny_cfg("SOLVER.WARMUP_EPOCHS", 1.0, "SOLVER.WARMUP_START_LR", 0.001, "SOLVER.BASE_LR", 0.02)
    assert "learning rate 0.001 at epoch 0, base 0.02" in describe_schedule(warm)
    late = tiny_cfg("SOLVER.WARMUP_EPOCHS", 2.0, "SOLVER.MAX_EPOCH", 2, "SOLVER.COSINE_AFTER_WARMUP", True)
    with pytest.raises(ValueError, match=r"WARMUP_EPOCHS 2\.0 leaves nothing of SOLVER\.MAX_EPOCH 2"):
        describe_schedule(late)
