"""Targets and boxes of every step, against unions and loops written out."""

import pytest
import torch
from torch.nn import functional as F

from pgt import StepPlan
from pgt.task import step_boxes, step_target
from slowfast.config import load_config
from slowfast.datasets.loading.batch import Batch, Boxes
from slowfast.engine.optim_step import build_optim_step
from slowfast.engine.task import build_task
from slowfast.models import build_model

CLASSES = 5
MULTI_LABEL = ["MODEL.LOSS_FUNC", "bce_logit", "MODEL.HEAD_ACT", "sigmoid", "DATA.MULTI_LABEL", True]
DETECTION = [
    "DETECTION.ENABLE", True, "MODEL.HEAD_ACT", "sigmoid", "MODEL.LOSS_FUNC", "bce", "PGT.PG_EVAL", True,
    "RESNET.SPATIAL_STRIDES", [[1], [2], [2], [1]], "RESNET.SPATIAL_DILATIONS", [[1], [1], [1], [2]],
]  # fmt: skip


def test_centers_and_spans_of_the_published_setting():
    plan = StepPlan((8,), (1,), 5)
    assert plan.centers() == [4, 11, 18, 25, 32]
    assert [list(plan.span(s)) for s in (0, 1, 4)] == [list(range(8)), list(range(7, 15)), list(range(28, 36))]
    assert plan.centers()[-1] == plan.num_frames - plan.frames_after_key


@pytest.mark.parametrize(("length", "overlap", "steps"), [(8, 1, 5), (7, 2, 3), (5, 4, 4), (2, 1, 1)])
def test_the_key_frame_is_the_center_of_the_last_step(length, overlap, steps):
    plan = StepPlan((length,), (overlap,), steps)
    spans = [plan.span(s) for s in range(steps)]
    assert spans[0] == range(length) and spans[-1].stop == plan.num_frames
    assert [span.start + length - length // 2 for span in spans] == plan.centers()
    # All but the memory is read anew.
    assert [span[overlap if s else 0] for s, span in enumerate(spans)] == [r[0] for r in plan.frame_ranges()]


def clip_of(labels, frames):
    """Rows as batches have them, (2 N - 1, classes), of a clip of these frames of a video with labels a frame."""
    rows = []
    for i, frame in enumerate(frames):
        rows.append(labels[frame])
        if i + 1 < len(frames):
            between = labels[frame + 1 : frames[i + 1]]
            rows.append(between.amax(dim=0) if len(between) else torch.zeros_like(labels[0]))
    return torch.stack(rows)


@pytest.fixture
def labeled(progressive_cfg, random_clip):
    """Return a config, a batch of two clips with every third frame of 70, and the labels of all their frames."""
    cfg = progressive_cfg("slow", *MULTI_LABEL, "BN.NORM_TYPE", "frozen_batchnorm")
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(2, 70, CLASSES, generator=generator) < 0.03).to(torch.uint8)
    frames = [list(range(0, 66, 3)), [min(i * 5, 69) for i in range(22)]]
    batch = Batch(
        random_clip(cfg), torch.zeros(2, CLASSES), torch.arange(2), torch.zeros(2, dtype=torch.int64),
        frame_labels=torch.stack([clip_of(*pair) for pair in zip(labels, frames, strict=True)]),
    )  # fmt: skip
    return cfg, batch, labels, frames


def test_a_step_has_the_class_of_its_last_frame():
    labels = torch.arange(2 * 22).view(2, 22)
    batch = Batch([], labels[:, -1], torch.arange(2), torch.zeros(2, dtype=torch.int64), frame_labels=labels)
    for plan, ends in [(StepPlan((8,), (1,), 3), (7, 14, 21)), (StepPlan((2, 8), (1, 1), 3, alpha=4), (7, 14, 21))]:
        assert [step_target(batch, plan, step).tolist() for step in range(3)] == [[end, 22 + end] for end in ends]


def test_a_step_has_the_labels_of_all_frames_from_its_memory_to_its_last(labeled):
    cfg, batch, labels, frames = labeled
    plan = StepPlan.from_config(cfg)
    for step, first in enumerate((0, 7, 14)):
        expected = [labels[i, frames[i][first] : frames[i][first + 7] + 1].amax(dim=0).float() for i in range(2)]
        torch.testing.assert_close(step_target(batch, plan, step), torch.stack(expected))


def test_training_takes_the_target_of_each_step(labeled, parity):
    cfg, batch, _, _ = labeled
    plan = StepPlan.from_config(cfg)
    model = parity.fill_module(build_model(cfg)).train()
    memory, losses = None, []
    with torch.no_grad():
        for s, step in enumerate(plan.split(batch.inputs)):
            logits, memory = model(step, memory)
            losses.append(F.binary_cross_entropy_with_logits(logits, step_target(batch, plan, s)))
    assert len({round(float(loss), 6) for loss in losses}) == plan.steps
    result = build_task(cfg).train_step(
        model, batch, build_optim_step(cfg, model, torch.optim.SGD(model.parameters(), 0.0))
    )
    torch.testing.assert_close(result["loss"], torch.stack(losses).mean(), rtol=1e-5, atol=1e-6)


def boxes_of(counts, key_frame, seed):
    """So many boxes in each of two clips of 32 pixels, with labels."""
    generator = torch.Generator().manual_seed(seed)
    total = sum(counts)
    corner = torch.rand(total, 2, generator=generator) * 16
    index = torch.arange(2).repeat_interleave(torch.tensor(counts))
    labels = (torch.rand(total, CLASSES, generator=generator) < 0.2).float()
    number = torch.cat([torch.arange(count) for count in counts])
    return Boxes(
        torch.cat([index[:, None], corner, corner + 12], dim=1), labels, torch.tensor(key_frame)[index], number
    )


@pytest.fixture
def boxed(progressive_settings, random_clip):
    """`boxed(*more)`: build a config, and a batch with boxes at three key frames."""

    def build(*more):
        cfg = load_config(None, progressive_settings("slow", *DETECTION, *more))
        moments = [boxes_of((2, 1), [4, 7], 1), boxes_of((1, 3), [-1, 8], 2), boxes_of((1, 2), [5, 9], 3)]
        batch = Batch(random_clip(cfg), torch.zeros(2, CLASSES), torch.arange(2), torch.zeros(2, dtype=torch.int64))
        batch.key_frames = moments
        return cfg, batch

    return build


def test_the_project_asks_for_boxes_at_the_centers_of_its_steps(boxed):
    cfg, _ = boxed()
    assert (cfg.AVA.FRAMES_AFTER_KEY, cfg.AVA.BOX_FRAMES) == (4, [4, 11, 18])
    off = load_config(None, ["PGT.ENABLE", False, "AVA.BOX_FRAMES", [1, 3], "TASK", "progressive"])
    assert (off.AVA.FRAMES_AFTER_KEY, off.AVA.BOX_FRAMES) == (-1, [])


def test_training_scores_the_boxes_of_each_step(boxed, parity):
    cfg, batch = boxed("BN.NORM_TYPE", "frozen_batchnorm")
    model = parity.fill_module(build_model(cfg)).train()
    memory, losses = None, []
    with torch.no_grad():
        for step, boxes in zip(StepPlan.from_config(cfg).split(batch.inputs), batch.key_frames, strict=True):
            scores, memory = model(step, memory, boxes.boxes)
            losses.append(F.binary_cross_entropy(scores, boxes.labels))
    result = build_task(cfg).train_step(
        model, batch, build_optim_step(cfg, model, torch.optim.SGD(model.parameters(), 0.0))
    )
    torch.testing.assert_close(result["loss"], torch.stack(losses).mean(), rtol=1e-5, atol=1e-6)
    assert result["scores"].shape == (3, CLASSES)


@torch.no_grad()
def test_evaluation_of_the_last_steps_boxes_of_all_and_of_a_whole_clip(boxed, parity, run_steps):
    cfg, batch = boxed()
    model = parity.fill_module(build_model(cfg)).eval()
    plan, boxes = StepPlan.from_config(cfg), [moment.boxes for moment in batch.key_frames]
    scores, _ = run_steps(model, plan.split(batch.inputs), boxes=boxes)
    last = build_task(cfg).predict(model, batch)
    torch.testing.assert_close(last.scores, scores[-1])
    assert last.boxes is batch.key_frames[-1]

    every = build_task(boxed("PGT.ALL_STEP_TEST", True)[0]).predict(model, batch)
    torch.testing.assert_close(every.scores, torch.cat(scores))
    assert every.boxes.key_frame.tolist() == [4, 4, 7, -1, 8, 8, 8, 5, 9, 9]
    assert every.boxes.number.tolist() == [0, 1, 0, 0, 0, 1, 2, 0, 0, 1]

    whole = build_task(boxed("PGT.PG_EVAL", False)[0]).predict(model, batch)
    torch.testing.assert_close(whole.scores, model.whole_clip(batch.inputs, batch.key_frames[-1].boxes))


def test_boxes_of_another_number_of_key_frames_are_an_error(boxed):
    cfg, batch = boxed()
    batch.key_frames = batch.key_frames[:2]
    with pytest.raises(ValueError, match="2 key frames of a clip, but 3 steps"):
        step_boxes(batch, StepPlan.from_config(cfg))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["PGT.ALL_STEP_TEST", True, "PGT.PG_EVAL", False], "it needs both"),
        (["PGT.ALL_STEP_TEST", True, "PGT.ENSEMBLE_METHOD", "last"], "set ENSEMBLE_METHOD sum or max"),
    ],
)
def test_boxes_of_all_steps_need_steps(boxed, settings, message):
    with pytest.raises(ValueError, match=message):
        boxed(*settings)
