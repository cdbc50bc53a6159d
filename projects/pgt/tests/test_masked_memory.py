"""Masked learning with memory, against masked learning of single steps and loops written out."""

import copy

import cv2
import pytest
import torch

from pgt import StepPlan
from pgt.masked import MaskedProgressiveModel, MaskedProgressiveTask
from slowfast.checkpoint.io import checkpoint_path, load_checkpoint
from slowfast.config import load_config
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.epoch_config import build_state
from slowfast.engine.resume import start_training_from
from slowfast.engine.task import build_task
from slowfast.engine.train import train
from slowfast.models import build_model

LR = 0.05
VIT = [
    "MODEL.ARCH", "mvit", "MODEL.NUM_CLASSES", 6, "MVIT.EMBED_DIM", 32, "MVIT.NUM_HEADS", 2, "MVIT.DEPTH", 2,
    "MVIT.PATCH_KERNEL", [2, 8, 8], "MVIT.PATCH_STRIDE", [2, 8, 8], "MVIT.PATCH_PADDING", [0, 0, 0],
    "MVIT.DROPPATH_RATE", 0.0, "DATA.TRAIN_CROP_SIZE", 32, "DATA.TEST_CROP_SIZE", 32, "DATA.INPUT_CHANNEL_NUM", [3],
    "DATA.NUM_FRAMES", 10, "PGT.ENABLE", True, "PGT.STEP_LEN", [6], "PGT.OVERLAP", [2], "PGT.STEPS", 2,
    "PGT.ATTENTION_MEMORY", 2, "PGT.TRAIN_TOGETHER", True, "NUM_GPUS", 0, "TRAIN.BATCH_SIZE", 2,
]  # fmt: skip
PRETRAIN = [
    *VIT, "MODEL.MODEL_NAME", "MaskMViT", "MODEL.LOSS_FUNC", "multi_mse", "MASK.ENABLE", True,
    "MASK.PRETRAIN_DEPTH", [1], "AUG.MASK_RATIO", 0.9, "MASK.NORM_PRED_PIXEL", False,
]  # fmt: skip
MAE = [
    *PRETRAIN, "MASK.MAE_ON", True, "MASK.MAE_RND_MASK", True, "MASK.HEAD_TYPE", "separate_xformer",
    "MASK.DECODER_DEPTH", 1, "MASK.DECODER_EMBED_DIM", 64,
]  # fmt: skip
# Pooled keys and values, relative positions, and windows along time, all of which have memory or read it.
MASKFEAT = [
    *PRETRAIN, "MASK.PRED_HOG", True, "AUG.GEN_MASK_LOADER", True, "AUG.MASK_WINDOW_SIZE", [5, 4, 4],
    "MVIT.PATCH_KERNEL", [3, 8, 8], "MVIT.PATCH_PADDING", [1, 0, 0], "MVIT.POOL_KVQ_KERNEL", [3, 3, 3],
    "MVIT.POOL_KV_STRIDE_ADAPTIVE", [1, 2, 2], "MVIT.REL_POS_SPATIAL", True, "MVIT.REL_POS_TEMPORAL", True,
    "MVIT.CLS_EMBED_ON", False, "MVIT.USE_ABS_POS", False,
]  # fmt: skip
METHODS = {"mae": MAE, "maskfeat": MASKFEAT}


@pytest.fixture(params=METHODS)
def settings(request):
    """Both methods in turn."""
    return METHODS[request.param]


def config(settings, *more):
    return load_config(None, [*settings, *more])


def a_mask(plan):
    """Return the loader's mask of two clips, all but some places of each token frame."""
    mask = torch.ones(2, plan.num_frames // 2, 4, 4, dtype=torch.bool)
    mask[0, :, 0, 1] = mask[1, :, 3, 2] = False
    return mask


def setup(cfg, parity, random_clip):
    model, plan = parity.fill_module(build_model(cfg)).train(), StepPlan.from_config(cfg)
    (clip,) = random_clip(cfg)
    return model, plan, clip.requires_grad_()


def a_batch(clip, plan):
    zeros = torch.zeros(2, dtype=torch.long)
    return Batch(inputs=[clip], labels=zeros, video=zeros, view=zeros, mask=a_mask(plan))


def split(clip, plan):
    """Return clip and mask of each step, cut by hand."""
    mask, frames = a_mask(plan), [0, 6, 10, 14]
    ends = list(zip(frames, frames[1:], strict=False))[: plan.steps]
    return [([clip[:, :, a:b]], mask[:, a // 2 : b // 2]) for a, b in ends]


def error(output):
    (prediction,), ((target, _),) = output
    return (prediction - target).square().mean()


# Masks of a test are given, also to MAE.
GIVEN = ["MASK.MAE_RND_MASK", False, "AUG.GEN_MASK_LOADER", True, "AUG.MASK_WINDOW_SIZE", [5, 4, 4]]


def given(settings, *more):
    return config(settings, *GIVEN, *more)


@pytest.mark.parametrize(("full", "cache"), [(False, "last"), (True, "last"), (False, "gate")])
def test_two_steps_are_trained_as_written_out(settings, full, cache, parity, random_clip, train_once):
    cfg = given(settings, "PGT.FULL_GRADIENT", full, "PGT.STEP_WEIGHTS", [1.0, 0.5], "PGT.CACHE", cache)
    model, plan, clip = setup(cfg, parity, random_clip)
    twin = copy.deepcopy(model)
    result = train_once(cfg, model, a_batch(clip.detach(), plan))

    (first, first_mask), (second, second_mask) = split(clip.detach(), plan)
    losses = [error(twin(first, None, first_mask)[0])]
    memory = twin.step_features(first)[1]
    if not full:
        memory = {name: frames.detach() for name, frames in memory.items()}
    losses.append(error(twin(second, memory, second_mask)[0]))
    (losses[0] + 0.5 * losses[1]).backward()
    with torch.no_grad():
        for (name, p), trained in zip(twin.named_parameters(), model.parameters(), strict=True):
            if p.grad is not None:
                torch.testing.assert_close(trained, p - LR * p.grad, rtol=1e-4, atol=1e-6, msg=name)
    torch.testing.assert_close(result["loss"], (losses[0] + 0.5 * losses[1]).detach() / 1.5)


@pytest.mark.parametrize("full", [False, True])
def test_gradients_reach_past_frames_only_where_asked_for(settings, full, parity, random_clip):
    model, plan, clip = setup(given(settings, "PGT.FULL_GRADIENT", full), parity, random_clip)
    (first, first_mask), (second, second_mask) = split(clip, plan)
    _, memory = model(first, None, first_mask, seen=first)
    error(model(second, memory, second_mask)[0]).backward()
    assert clip.grad[:, :, 6:].any()
    assert bool(clip.grad[:, :, :6].any()) == full
    assert all(frames.requires_grad == full for frames in memory.values())


def test_memory_is_that_of_the_same_frames_in_training_with_labels(settings, parity, random_clip):
    three = ["PGT.STEPS", 3, "DATA.NUM_FRAMES", 14, "AUG.MASK_WINDOW_SIZE", [7, 4, 4]]
    model, plan, clip = setup(given(settings, *three), parity, random_clip)
    labeled = ["MODEL.MODEL_NAME", "MViT", "MODEL.LOSS_FUNC", "cross_entropy", "MASK.ENABLE", False]
    plain = config(settings, *three, *labeled, "AUG.GEN_MASK_LOADER", False)
    supervised = build_model(plain).train()
    missing, _ = supervised.load_state_dict(model.state_dict(), strict=False)
    assert {key.partition(".")[0] for key in missing} <= {"head", "norm"}
    memory = expected = None
    for step, mask in split(clip, plan):
        _, memory = model(step, memory, mask, seen=step)
        _, expected = supervised(step, expected)
        assert memory and expected.keys() - memory.keys() <= {"pool"}
        for name, frames in memory.items():
            torch.testing.assert_close(frames, expected[name].detach())


def test_a_masked_step_sees_past_frames_through_memory_and_nothing_of_what_is_masked(parity, random_clip):
    model, plan, clip = setup(given(MAE), parity, random_clip)
    (first, _), (second, mask) = split(clip.detach(), plan)

    def predict(past, present):
        return model(present, model.remember(past, None), mask)[0][0][0]

    before = predict(first, second)
    hidden = mask.repeat_interleave(2, 1).repeat_interleave(8, 2).repeat_interleave(8, 3)[:, None]
    assert torch.equal(predict(first, [second[0] + hidden]), before)
    assert not torch.allclose(predict([first[0] + 1], second), before)


@pytest.mark.parametrize("off", [["PGT.MEMORY", False], []], ids=["memory off", "no step before"])
def test_without_memory_each_step_is_plain_masked_learning(settings, off, parity, random_clip, train_once):
    cfg = given(settings, *off)
    model, plan, clip = setup(cfg, parity, random_clip)
    apart = ["PGT.ENABLE", False, "MODEL.POSITIONS_FOR", [6, 32]]
    plain = parity.fill_module(build_model(given(settings, *apart))).train()
    losses = []
    for step, mask in split(clip.detach(), plan)[: 2 if off else 1]:
        output, memory = model(step, None, mask, seen=step)
        assert bool(memory) is not bool(off)
        expected = plain(step, mask)
        for ours, theirs in ((output[0][0], expected[0][0]), (output[1][0][0], expected[1][0][0])):
            torch.testing.assert_close(ours, theirs)
        losses.append(error(expected))
    if off:
        result = train_once(cfg, model, a_batch(clip.detach(), plan))
        torch.testing.assert_close(result["loss"], sum(losses).detach() / 2)


def test_a_step_ahead_is_predicted_from_steps_that_end_before(parity, random_clip, train_once):
    cfg = given(MAE, "PGT.STEPS", 3, "DATA.NUM_FRAMES", 14, "AUG.MASK_WINDOW_SIZE", [7, 4, 4], "PGT.MASK_AHEAD", 1)
    model, plan, clip = setup(cfg, parity, random_clip)
    (first, _), (second, second_mask), (third, third_mask) = split(clip.detach(), plan)
    memory = model.remember(first, None)
    losses = [error(model(second, None, second_mask)[0]), error(model(third, memory, third_mask)[0])]
    result = train_once(cfg, model, a_batch(clip.detach(), plan))
    torch.testing.assert_close(result["loss"], sum(losses).detach() / 2)


def test_a_step_that_the_mask_leaves_whole_costs_nothing(parity, random_clip, train_once):
    cfg = given(MASKFEAT)
    model, plan, clip = setup(cfg, parity, random_clip)
    batch = a_batch(clip.detach(), plan)
    batch.mask[:, 3:] = False
    (first, mask), _ = split(clip.detach(), plan)
    expected = error(model(first, None, mask)[0]).detach()
    torch.testing.assert_close(train_once(cfg, model, batch)["loss"], expected / 2)


@pytest.mark.parametrize("steps", [[2, 3], []])
def test_masks_of_the_model_and_random_lengths(steps, parity, random_clip, train_once):
    cfg = config(MAE, "PGT.STEPS_RANGE", steps)
    model, plan, clip = setup(cfg, parity, random_clip)
    longer = torch.cat([clip, clip[:, :, :4]], dim=2).detach() if steps else clip.detach()
    zeros = torch.zeros(2, dtype=torch.long)
    counts = []
    model.pred_head.projections[0].register_forward_hook(lambda _, __, y: counts.append(len(y)))
    result = train_once(cfg, model, Batch(inputs=[longer], labels=zeros, video=zeros, view=zeros))
    # int(10 %) of 48 tokens of the first step and of 32 of a later one stay.
    assert counts == [2 * (48 - 4), *[2 * (32 - 3)] * (2 if steps else 1)] and result["loss"].isfinite()


def test_runs_resume_exactly_with_pictures_and_fine_tune(run_cfg, tmp_path, caplog):
    constant = ["SOLVER.LR_POLICY", "steps_with_relative_lrs", "SOLVER.STEPS", [0], "SOLVER.LRS", [1.0]]
    for name, epochs in (("whole", [2]), ("resumed", [1, 2])):
        for last in epochs:
            own = ["SOLVER.MAX_EPOCH", last, "OUTPUT_DIR", str(tmp_path / name), "VIS_MASK.ENABLE", name == "whole"]
            cfg = run_cfg(*MAE, "TASK", "ssl", *constant, *own)
            assert type(build_task(cfg)) is MaskedProgressiveTask
            train(cfg)
    files = [checkpoint_path(tmp_path / name, 2, pretraining=True) for name in ("whole", "resumed")]
    weights, again = (load_checkpoint(file)["model_state"] for file in files)
    assert all(torch.equal(weights[key], again[key]) for key in weights)
    picture = cv2.imread(str(tmp_path / "whole/visualization/mask/epoch_2.png"))
    assert picture.shape[1:] == (2 * 32, 3)  # the four frames of the last step are two patches long

    tuned = ["MODEL.MODEL_NAME", "MViT", "MVIT.USE_MEAN_POOLING", True, "TRAIN.CHECKPOINT_FILE_PATH", files[0]]
    state = build_state(run_cfg(*VIT, *tuned))
    start_training_from(state)
    assert state.epoch == 0
    own = state.model.state_dict()
    assert all(torch.equal(own[key], weights[key]) for key in own if not key.startswith("head."))
    left = [key for key in weights if key not in own]
    assert {key.partition(".")[0] for key in left} == {"mask_token", "pred_head", "decoder_pos_embed", "decoder_embed"}
    assert all(key in caplog.text for key in ("mask_token", "head.projection.weight"))


@pytest.mark.parametrize("full", [False, True])
def test_activation_checkpointing_changes_nothing(settings, full, run_cfg, random_clip):
    weights = []
    for on in (False, True):
        cfg = run_cfg(*settings, *GIVEN, "PGT.FULL_GRADIENT", full, "MODEL.ACT_CHECKPOINT", on)
        torch.manual_seed(0)
        state, plan = build_state(cfg), StepPlan.from_config(cfg)
        state.task.train_step(state.model, a_batch(random_clip(cfg)[0], plan), state.optim_step)
        weights.append(state.model.state_dict())
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_the_model_decides_on_the_task():
    assert isinstance(build_model(config(MAE)), MaskedProgressiveModel)
    assert config(MAE).TASK == config(MAE, "TASK", "ssl").TASK == "progressive_masked"
    assert config(MAE, "TASK", "progressive_masked", "PGT.ENABLE", False).TASK == ""
    with pytest.raises(ValueError, match="trained without labels"):
        build_task(config(MAE, "PGT.ENABLE", False, "TASK", "contrastive"))


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["AUG.MASK_RATIO", 1.5], "AUG.MASK_RATIO is 1.5"),
        (["PGT.STEPS", 1, "DATA.NUM_FRAMES", 6], "a clip of 1 step .* at least 2 steps"),
        (["PGT.MASK_AHEAD", 1], "PGT.MASK_AHEAD is 1; in clips of 2 steps .* 0 to 0"),
        (["PGT.OVERLAP", [1], "PGT.STEPS", 3, "DATA.NUM_FRAMES", 16], r"the 5 new ones .* MVIT.PATCH_STRIDE\[0\] 2"),
        ([*GIVEN, "PGT.STEPS_RANGE", [2, 3]], "masks of the loader have one size"),
        (["MVIT.PATCH_2D", True], "no steps in time"),
        (["MODEL.COMPILE", True], "MODEL.COMPILE False"),
        (["MODEL.MODEL_NAME", "MViT", "MODEL.LOSS_FUNC", "cross_entropy", "PGT.MASK_AHEAD", 1], "masks nothing"),
    ],
)
def test_mistakes(more, named):
    with pytest.raises(ValueError, match=named) as caught:
        config(MAE, *more)
    assert "\n" not in str(caught.value)


def test_memory_of_another_model_or_batch(parity, random_clip):
    model, plan, clip = setup(given(MAE), parity, random_clip)
    (first, _), (second, mask) = split(clip, plan)
    memory = model.remember(first, None)
    with pytest.raises(ValueError, match="of another model"):
        model(second, {"head": clip}, mask)
    with pytest.raises(ValueError, match="batch, channels and size must agree"):
        model(second, {name: frames[:1] for name, frames in memory.items()}, mask)
