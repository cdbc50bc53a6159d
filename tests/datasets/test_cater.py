"""Labels of clips of the set after CATER, against the cell of the frame that a clip ends with."""

import numpy as np
import pytest
import torch

from slowfast.datasets import build_dataset, collate

FRAMES, CLASSES = 40, 36
CELLS = {name: (np.arange(FRAMES) * 7 + number) % CLASSES for number, name in enumerate("abc")}


@pytest.fixture
def root(tmp_path, encode, pictures):
    """Three videos with a cell for each frame, in the folders of the set."""
    (tmp_path / "truth").mkdir()
    (tmp_path / "videos").mkdir()
    for number, (name, cells) in enumerate(CELLS.items()):
        encode(tmp_path / f"videos/{name}.mp4", pictures(FRAMES, seed=number), rate=24)
        np.savez_compressed(tmp_path / f"truth/{name}.npz", cells=cells.astype(np.int8), other=np.zeros(3))
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.csv").write_text("".join(f"videos/{n}.mp4 {cells[-1]}\n" for n, cells in CELLS.items()))
    return tmp_path


@pytest.fixture
def dataset(root, dataset_cfg):
    """`dataset(split)`: clips of 4 frames that are 5 apart."""

    def build(split, *overrides):
        settings = {
            "TRAIN.DATASET": "cater",
            "TEST.DATASET": "cater",
            "MODEL.NUM_CLASSES": CLASSES,
            "DATA.PATH_TO_DATA_DIR": str(root),
            "DATA.PATH_PREFIX": str(root),
            "DATA.NUM_FRAMES": 4,
            "DATA.SAMPLING_RATE": 5,
            "DATA.TARGET_FPS": 24,
            "TEST.NUM_ENSEMBLE_VIEWS": 3,
        }
        return build_dataset(dataset_cfg(settings, *overrides), split)

    return build


def test_a_training_clip_has_the_cell_of_its_last_frame_and_those_of_all(dataset):
    train, ends = dataset("train"), set()
    for video, cells in enumerate(CELLS.values()):
        for epoch in range(8):
            sample = train[video, epoch]
            assert sample.frame_labels.dtype == torch.int64
            # 7 has an inverse modulo 36, so a cell names the frame, or one 36 later.
            frames = (sample.frame_labels.numpy() - cells[0]) * 31 % CLASSES
            assert set(np.diff(frames) % CLASSES) <= {6, 7}  # spread over a span of 20
            assert sample.label == cells[frames[-1]] == sample.frame_labels[-1]
            ends.add(int(frames[-1]))
    assert len(ends) > 8  # clips are at random times
    batch = collate([train[video, 0] for video in range(3)])
    assert batch.frame_labels.shape == (3, 4) and torch.equal(batch.frame_labels[:, -1], batch.labels)


@pytest.mark.parametrize("split", ["val", "test"])
def test_other_clips_have_the_label_of_the_list(dataset, split):
    samples = [dataset(split)[index] for index in range(3 * dataset(split).num_views)]
    assert [sample.label for sample in samples] == [
        cells[-1] for cells in CELLS.values() for _ in range(len(samples) // 3)
    ]
    assert all(sample.frame_labels is None for sample in samples)


def test_training_needs_the_ground_truth_and_testing_does_not(dataset, root):
    (root / "truth/b.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"truth/b\.npz does not exist"):
        dataset("train")
    assert dataset("test")[0].label == CELLS["a"][-1]


@pytest.mark.parametrize("broken", ["cut", "other array", "another length"])
def test_broken_ground_truth_names_its_file(dataset, root, broken):
    path = root / "truth/a.npz"
    if broken == "cut":
        path.write_bytes(path.read_bytes()[:200])
    else:
        arrays = {"cell": CELLS["a"]} if broken == "other array" else {"cells": CELLS["a"][:-1]}
        np.savez_compressed(path, **arrays)
    with pytest.raises(ValueError, match=r"truth/a\.npz"):
        dataset("train")[0]
