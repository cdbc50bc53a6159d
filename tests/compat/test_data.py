"""PySlowFast's functions of data: loaders of boxes, crops, labels and pictures."""

import cv2
import numpy as np
import pytest
import torch

from slowfast.apps.synthetic.formats import SetSpec, make_set
from slowfast.compat import data
from slowfast.config import load_config

BOXES = "person_box_67091280_iou90/ava_detection_val_boxes_and_labels.csv"


@pytest.fixture(scope="module")
def box_cfg(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ava") / "set"
    make_set(folder, SetSpec("ava", train=1, val=1))
    return load_config(None, [
        "NUM_GPUS", 0, "MODEL.MODEL_NAME", "ResNet", "MODEL.ARCH", "slow", "DETECTION.ENABLE", True,
        "MODEL.NUM_CLASSES", 9, "MODEL.LOSS_FUNC", "bce", "MODEL.HEAD_ACT", "sigmoid", "DATA.MULTI_LABEL", True,
        "TRAIN.DATASET", "ava", "TEST.DATASET", "ava", "TRAIN.BATCH_SIZE", 3, "TEST.BATCH_SIZE", 3,
        "DATA.NUM_FRAMES", 4, "DATA.TRAIN_CROP_SIZE", 32, "DATA.TEST_CROP_SIZE", 32, "DATA_LOADER.NUM_WORKERS", 0,
        "DATA.TRAIN_JITTER_SCALES", [32, 40], "AVA.TRAIN_PREDICT_BOX_LISTS", [], "AVA.TEST_PREDICT_BOX_LISTS", [BOXES],
        "AVA.FRAME_DIR", str(folder / "frames"), "AVA.FRAME_LIST_DIR", str(folder / "frame_lists"),
        "AVA.ANNOTATION_DIR", str(folder / "annotations"),
    ])  # fmt: skip


@pytest.mark.parametrize("split", ["train", "test"])
def test_batches_of_boxes(box_cfg, split):
    loader = data.construct_loader(box_cfg, split)
    inputs, labels, index, time, meta = next(iter(loader))
    boxes = len(meta["boxes"])
    assert labels.shape == (boxes, 9) and meta["boxes"].shape == (boxes, 5) and len(time) == len(inputs[0])
    # Rows of a clip lie together, and name its key frame.
    clip = meta["boxes"][:, 0].long()
    assert clip.tolist() == sorted(clip.tolist()) and set(clip.tolist()) == set(range(len(index)))
    assert meta["metadata"].dtype == torch.int64
    for row, (video, second) in zip(clip, meta["metadata"].tolist(), strict=True):
        assert loader.dataset.key_frames[index[row]] == (loader.dataset.videos[video], second)
    if split == "train":
        assert "ori_boxes" not in meta
        return
    # A test shows the whole frame, so boxes are the relative ones times its size.
    assert torch.equal(meta["ori_boxes"][:, 0], meta["boxes"][:, 0])
    size = torch.tensor([*inputs[0].shape[:2:-1]] * 2)
    torch.testing.assert_close(meta["ori_boxes"][:, 1:] * size, meta["boxes"][:, 1:], atol=1.5, rtol=0)


def test_places_of_a_crop_that_is_not_drawn():
    """Columns 0..79 at a short side of 40: the crop of 32 begins at 0, 24 and 48, in the middle of the rows at 4."""
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(80.0), indexing="ij")
    frames = torch.stack([rows, columns])[:, None]
    for place, left in ((0, 0), (1, 24), (2, 48)):
        crop = data.spatial_sampling(frames, place, 40, 40, 32)
        assert crop.shape == (2, 1, 32, 32) and (crop[0, 0, 0, 0], crop[1, 0, 0, 0]) == (4, left)
        assert torch.equal(crop[1, 0, 0], torch.arange(left, left + 32.0))
    with pytest.raises(ValueError, match="crop of 64"):
        data.spatial_sampling(frames, 1, 40, 40, 64)


def test_drawn_crops_follow_numpys_seed():
    frames = torch.rand(3, 4, 40, 60)

    def draw(seed, **more):
        np.random.seed(seed)
        return data.spatial_sampling(frames, -1, 40, 56, 32, **more)

    assert draw(1).shape == (3, 4, 32, 32) and torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    resized = {"aspect_ratio": [0.75, 1.33], "scale": [0.3, 1.0]}
    assert draw(1, **resized).shape == (3, 4, 32, 32)
    still = frames[:, :1].expand(-1, 4, -1, -1)
    np.random.seed(3)
    moved = data.spatial_sampling(still, -1, 0, 0, 32, motion_shift=True, **resized)
    assert not torch.equal(moved[:, 0], moved[:, 3])
    flips = {torch.equal(draw(seed), draw(seed, random_horizontal_flip=False)) for seed in range(8)}
    assert flips == {True, False}


def test_frames_labels_and_pictures(tmp_path):
    assert data.get_sequence(5, 4, 2, 8) == [1, 3, 5, 7] and data.get_sequence(0, 4, 2, 3) == [0, 0, 0, 2]
    assert data.get_random_sampling_rate(0, 8) == 8
    assert {data.get_random_sampling_rate(3, 2) for _ in range(40)} == {2, 3}
    assert data.as_binary_vector([2, 0, 2], 4).tolist() == [1, 0, 1, 0]
    assert data.convert_to_video_level_labels([[[3], [1, 3], []], [[2]]]) == [[[1, 3]] * 3, [[2]]]
    pixels = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    paths = [str(tmp_path / "a.png")] * 2
    assert np.array_equal(data.retry_load_images(paths), [pixels] * 2)
    assert isinstance(data.retry_load_images(paths, backend="opencv"), list)
    with pytest.raises(FileNotFoundError, match=r"b\.png"):
        data.retry_load_images([str(tmp_path / "b.png")])
    assert data.create_sampler([1, 2], True, None) is None
