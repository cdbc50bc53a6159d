"""Masked models against the numbers of the published ones, and properties of their masks and targets."""

import json

import numpy as np
import pytest
import torch

from slowfast.config import load_config
from slowfast.layers.hog import Hog
from slowfast.models import build_model
from slowfast.models.losses import build_loss
from slowfast.models.masked import hog_targets, pixel_targets
from slowfast.models.masks import enlarge, equal_counts, random_mask

CASES = [
    "maskfeat_in1k_vit_b",
    "mae_vit_b_16x4",
    "mae_vit_b_16x4_hog",
    "mae_vit_b_16x4_tube_fulltime",
    "maskfeat_mvitv2_s_16x4",
    "maskfeat_mvitv2_s_16x4_tube",
]
TINY = [
    "MODEL.MODEL_NAME", "MaskMViT", "MODEL.ARCH", "maskmvit", "MODEL.LOSS_FUNC", "multi_mse", "MASK.ENABLE", True,
    "MVIT.EMBED_DIM", 32, "MVIT.NUM_HEADS", 2, "MVIT.DEPTH", 3, "MVIT.PATCH_KERNEL", [2, 16, 16],
    "MVIT.PATCH_STRIDE", [2, 16, 16], "MVIT.PATCH_PADDING", [0, 0, 0], "MVIT.DROPPATH_RATE", 0.0,
    "MASK.PRETRAIN_DEPTH", [1], "MASK.DECODER_EMBED_DIM", 64, "MASK.DECODER_DEPTH", 1, "AUG.MASK_RATIO", 0.75,
    "DATA.NUM_FRAMES", 4, "DATA.TRAIN_CROP_SIZE", 32, "DATA.TEST_CROP_SIZE", 32, "NUM_GPUS", 0,
]  # fmt: skip
MAE = [*TINY, "MASK.MAE_ON", True, "MASK.MAE_RND_MASK", True, "MASK.HEAD_TYPE", "separate_xformer"]
MASKFEAT = [*TINY, "AUG.GEN_MASK_LOADER", True, "AUG.MASK_WINDOW_SIZE", [2, 2, 2]]


def tiny_clip():
    return [torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))]


def tiny_mask():
    mask = torch.zeros(2, 2, 2, 2, dtype=torch.bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    return mask


@pytest.mark.parametrize("name", CASES)
def test_keys_predictions_targets_and_gradients(name, parity, repo, relative_error):
    folder = repo / "tests/fixtures/parity"
    meta, expected = parity.load(folder / "ssl", name)
    cfg = load_config(repo / "configs" / meta["reference_config"], meta["overrides"])
    model = build_model(cfg).train()
    keys = json.loads((folder / "state_dicts" / f"{name}.keys.json").read_text())
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == keys
    constants = {key: model.state_dict()[key].clone() for key in meta["not_filled"]}
    parity.fill_module(model).load_state_dict(constants, strict=False)

    # MAE's mask is of all tokens, 8 x 4 x 4; MaskFeat's is that of the loader.
    sides = (4, 4) if expected["mask"].ndim == 2 else expected["mask"].shape[-2:]
    mask = torch.from_numpy(expected["mask"]).view(2, meta["grid"][0], *sides)
    clip = parity.make_clip(meta["clip"]["seed"], meta["clip_seed_shape"]).view(meta["clip"]["shape"])
    (prediction,), targets = model([clip], mask)
    ((target, _),) = targets
    assert len(prediction) == len(target) == meta["rows"]
    assert relative_error(prediction[:8], expected["prediction"]) < 1e-5
    assert relative_error(target[:8], expected["target"]) < 1e-5
    assert relative_error(prediction.double().mean(1), expected["prediction_mean_by_row"]) < 1e-4
    assert relative_error(target.double().square().mean(1), expected["target_mean_square_by_row"]) < 1e-5
    loss = build_loss(cfg)([prediction], targets)
    assert loss.item() == pytest.approx(float(expected["loss"]), rel=1e-5)

    loss.backward()
    norms = {key: float(p.grad.norm()) for key, p in model.named_parameters() if p.requires_grad}
    assert norms.keys() == set(expected["grad_names"].tolist())
    ours, published = [norms[key] for key in expected["grad_names"].tolist()], expected["grad_norms"]
    np.testing.assert_allclose(ours, published, rtol=1e-3, atol=1e-5 * published.max())


def test_pixel_targets_have_the_order_frame_row_column_channel():
    clip = torch.arange(2 * 3 * 4 * 4 * 6.0).view(2, 3, 4, 4, 6)
    found = pixel_targets(clip, (2, 2, 3), first_frame=False, normalize=False)
    assert found.shape == (2, 2, 2, 3, 2 * 2 * 2 * 3)
    for t, y, x in ((0, 0, 0), (1, 1, 2)):
        token = clip[1, :, 2 * t : 2 * t + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        values = [token[c, f, i, j] for f in range(2) for i in range(2) for j in range(2) for c in range(3)]
        assert found[1, t, y, x].tolist() == values
    assert torch.equal(pixel_targets(clip, (2, 2, 3), normalize=False), found[..., :12])
    normalized = pixel_targets(clip, (2, 2, 3), first_frame=False)
    torch.testing.assert_close(normalized.mean(-1), torch.zeros(2, 2, 2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalized.var(-1), torch.ones(2, 2, 2, 3))


def test_hog_targets_are_the_cells_of_a_tokens_first_frame():
    (clip,) = tiny_clip()
    found, cells = hog_targets(Hog(), clip, (2, 2, 2)), Hog()(clip[1, :, 2:3].transpose(0, 1))[0]
    assert found.shape == (2, 2, 2, 2, 108)
    assert torch.equal(found[1, 1, 0, 1], cells[:, :, 0:2, 2:4].flatten())


@pytest.mark.parametrize(("tube", "per_frame", "left"), [(False, False, 6), (True, False, 6), (False, True, 4)])
def test_random_masks_leave_equally_many_tokens(tube, per_frame, left):
    torch.manual_seed(0)
    mask = random_mask(400, (4, 2, 3), 0.75, tube, per_frame)
    assert ((~mask).flatten(1).sum(1) == left).all()
    visible = (~mask).float().mean(0)
    if per_frame:
        assert ((~mask).flatten(2).sum(2) == 1).all()
    if tube:
        # 6 of 24 tokens: one place in all four frames, another in the first two.
        assert (mask[:, 0] == mask[:, 1]).all() and (mask[:, 2] == mask[:, 3]).all()
        assert ((visible[0] - 2 / 6).abs() < 0.1).all() and ((visible[3] - 1 / 6).abs() < 0.1).all()
    else:
        assert ((visible - left / 24).abs() < 0.1).all()


def test_masks_of_the_loader_are_enlarged_and_made_equal():
    mask = tiny_mask()
    assert torch.equal(enlarge(mask, (2, 6, 4)), mask.repeat_interleave(3, 2).repeat_interleave(2, 3))
    mask[1, 0] = True  # 2 and 6 of 8 masked
    equal = equal_counts(mask)
    assert equal.flatten(1).sum(1).tolist() == [4, 4]
    assert (equal | ~mask)[0].all() and (mask | ~equal)[1].all()
    with pytest.raises(ValueError, match="mask has 2 frames and the tokens have 4"):
        enlarge(mask, (4, 2, 2))


def test_maskfeat_sees_nothing_of_masked_patches():
    torch.manual_seed(0)
    model, (clip,), mask = build_model(load_config(None, MASKFEAT)), tiny_clip(), tiny_mask()
    other = clip.clone()
    other[0, :, :2, :16] += 1.0  # the masked patches of the first clip
    (before,), ((target, _),) = model([clip], mask)
    (after,), ((changed, _),) = model([other], mask)
    assert torch.equal(before, after) and before.shape == target.shape == (4, 768)
    torch.testing.assert_close(target, changed)  # a constant is normalized away
    other[0, :, :2, 16:] += 1.0
    assert not torch.equal(model([other], mask)[0][0], before)


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["MASK.PER_FRAME_MASKING", True, "AUG.MASK_RATIO", 0.5],
        ["MASK.DECODER_SEP_POS_EMBED", True],
        ["MVIT.USE_FIXED_SINCOS_POS", True],
        ["MVIT.CLS_EMBED_ON", False],
        ["MASK.DEC_KV_KERNEL", [1, 2, 2], "MASK.DEC_KV_STRIDE", [1, 2, 2]],
    ],
)
def test_mae_sees_nothing_of_masked_patches_and_trains_all_its_parameters(settings):
    torch.manual_seed(0)
    model, (clip,) = build_model(load_config(None, [*MAE, *settings])), tiny_clip()
    mask = random_mask(2, (2, 2, 2), model.ratio, model.tube, model.per_frame)
    shown = (~mask).repeat_interleave(2, 1).repeat_interleave(16, 2).repeat_interleave(16, 3)[:, None]
    (before,), ((target, weight),) = model([clip], mask)
    torch.testing.assert_close(model([clip * shown], mask)[0][0], before)
    assert not torch.allclose(model([clip * ~shown], mask)[0][0], before)
    assert before.shape == target.shape == (int(mask.sum()), 768) and weight == 1.0
    before.square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters() if p.requires_grad)


def test_each_decoded_block_has_a_share_of_the_loss_of_pixels():
    model = build_model(load_config(None, [*MASKFEAT, "MASK.PRETRAIN_DEPTH", [0, 2]]))
    predictions, targets = model(tiny_clip(), tiny_mask())
    assert len(model.blocks) == 3 and [weight for _, weight in targets] == [0.5, 0.5]
    assert not torch.equal(*predictions) and torch.equal(targets[0][0], targets[1][0])
    loss = build_loss(load_config(None, MASKFEAT))(predictions, targets)
    expected = sum((p - t).square().mean() for p, (t, _) in zip(predictions, targets, strict=True)) / 2
    torch.testing.assert_close(loss, expected)


def test_initial_weights_fall_with_depth():
    plain, scaled = (build_model(load_config(None, [*MAE, "MASK.SCALE_INIT_BY_DEPTH", on])) for on in (False, True))
    for number, (a, b) in enumerate(zip(plain.blocks, scaled.blocks, strict=True), start=1):
        for x, y in ((a.attn.proj, b.attn.proj), (a.mlp.fc2, b.mlp.fc2)):
            assert (y.weight.std() / x.weight.std()).item() == pytest.approx((2 * number) ** -0.5, rel=0.15)
        assert b.mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.15)


def test_layers_by_depth_hold_every_parameter_once():
    for settings in (MAE, MASKFEAT):
        model = build_model(load_config(None, settings))
        owned = [id(p) for group in model.depth_groups() for module in group for p in module.parameters()]
        assert sorted(owned) == sorted(id(p) for p in model.parameters())
        assert len(model.depth_groups()) == len(model.blocks) + 2
        assert [tuple(x.shape) for x in model.forward_features(tiny_clip())] == [(2, 32, 2, 2, 2)]


def test_mistakes():
    with pytest.raises(ValueError, match="AUG.GEN_MASK_LOADER"):
        build_model(load_config(None, MASKFEAT))(tiny_clip())
    with pytest.raises(ValueError, match="AUG.MASK_RATIO 0.95 leaves none of 8 tokens"):
        random_mask(1, (2, 2, 2), 0.95)
    with pytest.raises(ValueError, match="no classifier"):
        build_model(load_config(None, MAE)).reset_classifier(3)
    fine = ["MVIT.PATCH_KERNEL", [2, 4, 4], "MVIT.PATCH_STRIDE", [2, 4, 4], "MASK.PRED_HOG", True]
    with pytest.raises(ValueError, match="do not divide a token of 4 x 4"):
        build_model(load_config(None, [*MASKFEAT, *fine]))


def test_clips_are_whole_tokens_where_these_are_pooled():
    odd = ["DATA.TRAIN_CROP_SIZE", 48, "MVIT.POOL_Q_STRIDE", [[1, 1, 2, 2]]]
    with pytest.raises(ValueError, match="TRAIN_CROP_SIZE 48 are not whole tokens of 2 x 32 x 32"):
        build_model(load_config(None, [*MASKFEAT, *odd]))
