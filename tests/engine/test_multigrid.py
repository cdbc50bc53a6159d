"""The cycles' arithmetic against the published schedules, and what the settings may be."""

import itertools
import json

import pytest

from slowfast.config import load_config
from slowfast.engine import multigrid
from slowfast.engine.epoch_config import check_phases, phases
from slowfast.engine.optim import lr_at, lr_scale

NAMES = [
    "Kinetics/SLOWFAST_8x8_R50_stepwise_multigrid.yaml",
    "Charades/SLOWFAST_16x8_R50_multigrid.yaml",
    "SSv2/SLOWFAST_16x8_R50_multigrid.yaml",
]
KINETICS = NAMES[0]
STEPS = ["SOLVER.LR_POLICY", "steps_with_relative_lrs", "SOLVER.STEPS", [0, 4], "SOLVER.LRS", [1, 0.1]]
LONG = [*STEPS, "SOLVER.MAX_EPOCH", 6, "MULTIGRID.LONG_CYCLE", True]


@pytest.fixture
def published(repo):
    return lambda name, *overrides: load_config(repo / "configs" / name, list(overrides))


@pytest.mark.parametrize("name", NAMES)
def test_published_schedules(name, published, repo):
    want = json.loads((repo / "tests/fixtures/multigrid.json").read_text())[name]
    cfg, changes, last = published(name), [], None
    epochs = [multigrid.epoch_config(cfg, epoch) for epoch in range(int(want["max_epoch"]))]
    for number, epoch in enumerate(epochs):
        shape = {
            "batch_size": epoch.TRAIN.BATCH_SIZE,
            "num_frames": epoch.DATA.NUM_FRAMES,
            "crop": epoch.DATA.TRAIN_CROP_SIZE,
        }
        if shape != last:
            changes.append({"epoch": number, **shape})
            last = shape
        assert epoch.SOLVER.STEPS == want["steps"]
        assert epoch.SOLVER.MAX_EPOCH == want["max_epoch"]
        assert epoch.SOLVER.BASE_LR == want["base_lr"]
    assert changes == want["long_cycle"]


def test_learning_rate_follows_the_batch_and_drops_in_the_middle_of_fine_tuning(published):
    """Kinetics: three turns of batches of 8, 4, 2 and 1 times 64, each 10 times lower, then fine-tuning at the plain
    batch, first with the rate before it and from its middle on (epoch 329 to 358, so 343) 10 times lower still.
    """
    cfg = multigrid.epoch_config(published(KINETICS), 0)
    turns = [factor * 0.1**turn for turn, factor in itertools.product(range(3), (8, 4, 2, 1))]
    assert cfg.SOLVER.LRS == pytest.approx([*turns, 0.01, 0.001])
    assert cfg.SOLVER.STEPS[-2:] == [329, 343]
    rates = [lr_at(cfg.SOLVER, epoch) for epoch in (73.0, 110.0, 142.0, 157.9, 158.0, 342.9, 343.0)]
    assert rates == pytest.approx([0.4, 0.2, 0.1, 0.1, 0.08, 0.001, 0.0001])
    assert lr_at(cfg.SOLVER, 17.0) == pytest.approx((0.01 + 0.8) / 2)  # half-way up the warm-up of 34 epochs


def test_rate_for_a_reference_batch_counts_the_batch_without_a_cycle(published):
    cfg = published(KINETICS, "SOLVER.LR_REFERENCE_BATCH", 128)
    assert [lr_scale(multigrid.epoch_config(cfg, epoch)) for epoch in (0, 80, 340)] == [0.5] * 3


def test_every_shape_takes_as_many_iterations_between_two_drops():
    """Up to the rounding of epochs, which a long run makes small; and the whole costs what EPOCH_FACTOR says."""
    factors = [[0.5, 0.5], [0.5, 1.0], [1.0, 1.0]]
    stages = multigrid.LongCycle.plan(16, 128, [0, 4000, 6000], 8000, factors, epoch_factor=2.0).stages
    assert [(stage.step, stage.batch_factor, stage.num_frames, stage.crop) for stage in stages] == [
        *[(0, 8, 8, 64), (0, 2, 8, 128), (0, 1, 16, 128)],
        *[(1, 8, 8, 64), (1, 2, 8, 128), (1, 1, 16, 128)],
        (2, 1, 16, 128),
    ]
    iterations = [(stage.end - stage.start) / stage.batch_factor for stage in stages]
    assert iterations[:3] == pytest.approx([iterations[0]] * 3, rel=2e-3)
    assert iterations[3:6] == pytest.approx([iterations[0] / 2] * 3, rel=2e-3)
    # 6000 epochs became sum(iterations[:6]) plain ones, so the last 2000 shrink by the same.
    assert iterations[6] == pytest.approx(sum(iterations[:6]) * 2000 / 6000, rel=2e-3)
    assert stages[-1].end == 16000
    assert [stage.start for stage in stages[1:]] == [stage.end for stage in stages[:-1]]


def test_evaluation_spreads_over_a_stage():
    cycle = multigrid.LongCycle.plan(8, 64, [0, 20], 30, [[1.0, 0.5], [1.0, 1.0]], 1.0)
    assert [(stage.start, stage.end) for stage in cycle.stages] == [(0, 20), (20, 25), (25, 30)]
    due = [done for done in range(1, 31) if cycle.evaluation_due(done, 3)]
    # Every 20 // 3 + 1, 5 // 3 + 1 and 5 // 3 + 1 epochs, counted back from the ends.
    assert due == [6, 13, 20, 21, 23, 25, 26, 28, 30]


@pytest.mark.parametrize(
    ("clips", "base", "processes", "kind"),
    [
        (64, 8, 8, ("sub_batchnorm", 8)),
        (16, 8, 1, ("sub_batchnorm", 2)),
        (20, 8, 1, ("sub_batchnorm", 2)),
        (8, 8, 8, ("batchnorm", 1)),
        (12, 8, 8, ("batchnorm", 1)),
        (2, 8, 8, ("sync_batchnorm", 4)),
        (1, 8, 8, ("sync_batchnorm", 8)),
        (1, 8, 4, ("sync_batchnorm", 4)),
        (3, 8, 8, ("sync_batchnorm", 2)),
        (2, 6, 8, ("sync_batchnorm", 2)),  # groups of 3 do not go into 8
        (5, 8, 8, ("batchnorm", 1)),
        (2, 8, 1, ("batchnorm", 1)),
    ],
)
def test_norm_keeps_its_batch(clips, base, processes, kind):
    assert multigrid.norm_over(clips, base, processes) == kind


def test_norm_of_parts_that_are_uneven():
    with pytest.raises(ValueError, match="28 clips .* 3 equal splits.*MULTIGRID.BN_BASE_SIZE 8"):
        multigrid.norm_over(28, 8, 1)


def test_norms_of_a_run_on_the_cpu(published):
    def norms(*overrides):
        cfg = published(KINETICS, "NUM_GPUS", 0, "TRAIN.BATCH_SIZE", 4, *overrides)
        found = [multigrid.epoch_config(cfg, epoch).BN for epoch in (0, 80, 120, 150)]
        return [(norm.NORM_TYPE, norm.NUM_SPLITS) for norm in found]

    assert norms() == [("sub_batchnorm", 4), ("sub_batchnorm", 2), ("batchnorm", 1), ("batchnorm", 1)]
    assert norms("BN.NORM_TYPE", "frozen_batchnorm") == [("frozen_batchnorm", 1)] * 4


def test_sampling_rates_reach_as_far_as_the_full_clip(published):
    cfg = published(KINETICS)
    rates = [multigrid.epoch_config(cfg, epoch).MULTIGRID.LONG_CYCLE_SAMPLING_RATE for epoch in (0, 80, 120, 150)]
    assert rates == [8, 4, 4, 2]


def test_short_cycle_alone_stretches_the_schedule(tiny_cfg):
    settings = ["SOLVER.STEPS", [0, 3, 5], "SOLVER.MAX_EPOCH", 7, "MULTIGRID.SHORT_CYCLE", True]
    cfg = tiny_cfg(*STEPS, *settings, "SOLVER.LRS", [1, 0.1, 0.01])
    epoch = multigrid.epoch_config(cfg, 3)
    assert (epoch.SOLVER.STEPS, epoch.SOLVER.MAX_EPOCH) == ([0, 4, 7], 10)
    assert epoch.TRAIN.BATCH_SIZE == cfg.TRAIN.BATCH_SIZE
    assert (cfg.SOLVER.STEPS, cfg.SOLVER.MAX_EPOCH) == ([0, 3, 5], 7)


def test_without_a_cycle_nothing_changes(tiny_cfg):
    cfg = tiny_cfg()
    assert multigrid.epoch_config(cfg, 1) is cfg
    assert multigrid.describe(cfg) == ""
    assert list(phases(cfg)) == [(0, cfg)]


def test_the_schedule_in_words(published):
    lines = multigrid.describe(published(KINETICS)).splitlines()
    assert lines[0] == "multigrid: 358 epochs in place of 239"
    assert lines[1] == "  epochs 1 to 73: batches of 512, 8 frames, 158 pixels; sub_batchnorm"
    assert lines[-1].endswith("of 112, 158 pixels")
    assert len(lines) == 1 + 13 + 1


def test_phases_are_looked_at_before_training(tiny_cfg):
    cfg = tiny_cfg(*LONG, "DATA.TRAIN_CROP_SIZE", 36, "MULTIGRID.LONG_CYCLE_FACTORS", [[0.25, 1.0], [1.0, 1.0]])
    check_phases(cfg, range(16))
    with pytest.raises(ValueError, match="12 training videos do not fill one batch of 16.*enlarges 4 times"):
        check_phases(cfg, range(12))
    accumulated = cfg.clone()
    accumulated.defrost()
    accumulated.TRAIN.ACCUM_STEPS = 2
    with pytest.raises(ValueError, match="epoch 1 has 1 batches of 16, fewer than TRAIN.ACCUM_STEPS 2"):
        check_phases(accumulated, range(16))


SLOWFAST = ["MODEL.ARCH", "slowfast", "SLOWFAST.ALPHA", 8, "DATA.NUM_FRAMES", 32]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["MULTIGRID.LONG_CYCLE", True], "LR_POLICY is cosine.*steps_with_relative_lrs and at least two STEPS"),
        ([*LONG, "SOLVER.STEPS", [0]], r"STEPS \[0\.?0?\], MAX_EPOCH 6.*at least two STEPS"),
        ([*LONG, "SOLVER.MAX_EPOCH", 3], "MAX_EPOCH 3.*none over MAX_EPOCH"),
        ([*LONG, "MULTIGRID.LONG_CYCLE_FACTORS", [[2.0, 1.0]]], "over 0 and at most 1"),
        ([*LONG, "MULTIGRID.LONG_CYCLE_FACTORS", [[0.05, 1.0]]], "leave no frame of DATA.NUM_FRAMES 8"),
        ([*LONG, "MULTIGRID.LONG_CYCLE_FACTORS", [[1.0, 0.1]]], "make crops of 22 pixels; the head needs at least 32"),
        ([*LONG, "DATA.TRAIN_NUM_FRAMES", [4, 8]], "both set the frames of a clip"),
        ([*LONG, *SLOWFAST, "MULTIGRID.LONG_CYCLE_FACTORS", [[0.4, 1.0]]], "length 13 is no multiple.*8 or 16"),
        (["MULTIGRID.SHORT_CYCLE", True, "MULTIGRID.SHORT_CYCLE_FACTORS", [0.5]], "two factors over 0"),
        (
            [*LONG, "MULTIGRID.SHORT_CYCLE", True, "MULTIGRID.LONG_CYCLE_FACTORS", [[1.0, 0.4]]],
            r"crops of \[112, 158\] pixels, so much larger than the 90",
        ),
        (["MULTIGRID.EPOCH_FACTOR", 0.0], "EPOCH_FACTOR is 0.0"),
        (["MULTIGRID.EVAL_FREQ", 0], "EVAL_FREQ is 0"),
        (["DATA.TRAIN_NUM_FRAMES", [0, 8]], "every entry must be at least 1"),
        ([*SLOWFAST, "DATA.TRAIN_NUM_FRAMES", [12]], "TRAIN_NUM_FRAMES 12 is no multiple of SLOWFAST.ALPHA 8.*8 or 16"),
        (
            [*SLOWFAST, "DATA.TRAIN_NUM_FRAMES", [16], "SLOWFAST.SLOW_INDICES", [0, 17, 18, 19]],
            r"needs 2 frames from 0 to 15 \(DATA.TRAIN_NUM_FRAMES 16",
        ),
    ],
)
def test_settings_that_cannot_be(settings, message):
    plain = [] if "slowfast" in settings else ["MODEL.MODEL_NAME", "ResNet", "MODEL.ARCH", "slow"]
    with pytest.raises(ValueError, match=message):
        load_config(None, [*plain, *settings])
