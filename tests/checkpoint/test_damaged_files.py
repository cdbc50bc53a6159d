"""Damaged files of ours: each one is refused, or gives what was written, bit by bit."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import random
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from slowfast.apps.features.files import VideoFeatures, load_features
from slowfast.checkpoint.io import load_checkpoint, load_last_checkpoint, save_checkpoint, write_tensor_file
from slowfast.evaluation import predictions
from slowfast.runtime.seed import rng_state
from slowfast.utils.archives import DamagedArchiveError, read_npz

MUTATIONS = 300
BLOCK = 4096


def trained_state() -> dict:
    """Return the content of a checkpoint after a step of a small model."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Conv3d(3, 8, 3), nn.BatchNorm3d(8), nn.Linear(8, 5))
    for value in model.state_dict().values():
        value.copy_(torch.rand(value.shape, generator=generator) * 9)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.rand(parameter.shape, generator=generator)
    optimizer.step()
    return {
        "model_state": model.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "epoch": 4,
        "iteration": 7,
        "rng_state": [rng_state()],
        "cfg": "TASK: ''\nTRAIN: {BATCH_SIZE: 8}\n",
    }


def mutations(whole: bytes, count: int) -> Iterator[bytes]:
    """Yield damaged copies: a bit flipped, a block of zeros, cut off, a block twice or in the place of another."""
    chance = random.Random(0)
    for number in range(count):
        bad = bytearray(whole)
        place, other = chance.randrange(len(bad)), chance.randrange(len(bad))
        kind = number % 10
        if kind < 6:
            bad[place] ^= 1 << chance.randrange(8)
        elif kind == 6:
            bad[place : place + BLOCK] = bytes(len(bad[place : place + BLOCK]))
        elif kind == 7:
            del bad[place:]
        elif kind == 8:
            bad[place:place] = bad[other : other + BLOCK]
        else:
            block = bad[other : other + 512]
            bad[place : place + len(block)] = block
        yield bytes(bad)


def plain(item: object) -> object:
    """Return nested content as values that can be compared, with the bytes of arrays."""
    if isinstance(item, torch.Tensor):
        return str(item.dtype), tuple(item.shape), item.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(item, np.ndarray):
        return str(item.dtype), item.shape, item.tobytes()
    if isinstance(item, dict):
        return {key: plain(value) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return [plain(value) for value in item]
    return plain(vars(item)) if isinstance(item, (VideoFeatures, predictions.ClassificationPredictions)) else item


def write_predictions(path: str) -> None:
    scores = np.random.default_rng(0).random((8, 6))
    predictions.ClassificationPredictions(scores, np.arange(8) % 6, [f"{i}.mp4" for i in range(8)]).save(path)


def write_features(path: str) -> None:
    rows = np.random.default_rng(0).random((6, 16), np.float32)
    places = np.arange(12).reshape(6, 2)
    record = VideoFeatures("a.mp4", 1, 30.0, 90, rows, np.arange(6), np.zeros(6, int), places, places / 30)
    np.savez(path, **vars(record), about="{}")


KINDS = {
    "checkpoint.pyth": (lambda path: save_checkpoint(trained_state(), path), load_checkpoint),
    "weights.safetensors": (
        lambda path: write_tensor_file(trained_state()["model_state"], path, "TASK: x\n", epoch=4),
        load_checkpoint,
    ),
    "predictions.npz": (write_predictions, predictions.load),
    "features.npz": (write_features, load_features),
}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_damage_is_refused_or_changes_nothing(tmp_path, name):
    write, read = KINDS[name]
    path = tmp_path / name
    write(str(path))
    whole, expected = path.read_bytes(), plain(read(str(path)))
    refused, same = 0, 0
    for bad in mutations(whole, MUTATIONS):
        path.write_bytes(bad)
        try:
            found = plain(read(str(path)))
        except ValueError:
            refused += 1
        else:
            assert found == expected
            same += 1
    assert refused > MUTATIONS / 2 and refused + same == MUTATIONS


@pytest.mark.slow
def test_no_bit_of_an_archives_directory_changes_what_is_read(tmp_path):
    """One of them marks a record as a folder: PyTorch then returns memory that nobody has written."""
    path = tmp_path / "checkpoint.pyth"
    save_checkpoint({"model_state": {"weight": torch.arange(40.0)}}, str(path))
    whole, expected = path.read_bytes(), plain(load_checkpoint(str(path)))
    for place in range(whole.index(b"PK\x01\x02"), len(whole)):
        for bit in range(8):
            bad = bytearray(whole)
            bad[place] ^= 1 << bit
            path.write_bytes(bad)
            with contextlib.suppress(ValueError):
                assert plain(load_checkpoint(str(path))) == expected, (place, bit)


def test_a_damaged_checkpoint_is_passed_over_with_a_word(tmp_path, caplog):
    """One bit of the tensors of the newest checkpoint: the one before it is used."""
    state = trained_state()
    for epoch in (3, 4):
        save_checkpoint(state | {"epoch": epoch}, str(tmp_path / f"checkpoints/checkpoint_epoch_{epoch + 1:05d}.pyth"))
    newest = tmp_path / "checkpoints" / "checkpoint_epoch_00005.pyth"
    content = newest.read_bytes()
    values = plain(state["model_state"]["0.weight"])[2]
    assert content.count(values) == 1
    place = content.index(values) + 40
    newest.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with caplog.at_level(logging.WARNING):
        saved, path = load_last_checkpoint(str(tmp_path))
    assert saved["epoch"] == 3 and path.endswith("checkpoint_epoch_00004.pyth")
    assert "checkpoint_epoch_00005.pyth" in caplog.text and "CRC" in caplog.text


def test_a_header_that_names_fewer_values_than_there_are(tmp_path):
    """NumPy then reads a part of the record, of which zipfile compares no CRC."""
    path = tmp_path / "x.npz"
    np.savez(path, a=np.arange(60000))
    whole = path.read_bytes()
    assert whole.count(b"(60000,)") == 1
    path.write_bytes(whole.replace(b"(60000,)", b"(40000,)"))
    with np.load(path) as arrays:
        assert len(arrays["a"]) == 40000  # what this is about
    with pytest.raises(DamagedArchiveError, match="x.npz"):
        read_npz(path)


def test_tensor_files_without_a_checksum_are_read(tmp_path):
    """Files of other programs, and those written here before there was one."""
    weights = {"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.bfloat16)}
    save_file(weights, tmp_path / "x.safetensors", {"format": "pt", "epoch": "4"})
    saved = load_checkpoint(str(tmp_path / "x.safetensors"))
    assert saved["epoch"] == 4 and plain(saved["model_state"]) == plain(weights)


def test_damage_in_the_name_of_the_checksum(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensor_file({"a": torch.arange(3.0)}, str(path), "TASK: x\n", epoch=2)
    path.write_bytes(path.read_bytes().replace(b'"sha256"', b'"sha356"'))
    with pytest.raises(ValueError, match="x.safetensors.*without a checksum.*sha356"):
        load_checkpoint(str(path))


def test_the_checksum_is_of_the_content_and_not_of_its_order(tmp_path):
    """It can be computed from what is documented alone."""
    weights = {"b": torch.arange(3.0), "a": torch.ones((), dtype=torch.bfloat16)}
    sums = []
    for number, order in enumerate((("a", "b"), ("b", "a"))):
        path = str(tmp_path / f"{number}.safetensors")
        write_tensor_file({name: weights[name] for name in order}, path, "TASK: x\n", epoch=2)
        with safe_open(path, "pt") as file:
            sums.append(file.metadata()["sha256"])
    head = (
        '[{"cfg": "TASK: x\\n", "epoch": "2", "format": "pt"}, '
        '[["a", "torch.bfloat16", []], ["b", "torch.float32", [3]]]]\n'
    )
    values = np.array([0x3F80], "<u2").tobytes() + np.arange(3, dtype="<f4").tobytes()
    assert sums == [hashlib.sha256(head.encode() + values).hexdigest()] * 2


def test_a_tool_repacked_archive_is_read(tmp_path):
    """Another program's archive without padding and with its own headers, such as Python's."""
    path = tmp_path / "x.pyth"
    save_checkpoint(trained_state(), str(path))
    expected = plain(load_checkpoint(str(path)))
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    assert plain(load_checkpoint(str(path))) == expected


def test_an_array_of_any_size_or_name_comes_back(tmp_path):
    arrays = {"a": np.zeros((0, 3)), "A": np.array("text"), "b.c": np.arange(5, dtype=">i2"), "d": np.float32(2)}
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    found = read_npz(tmp_path / "x.npz")
    assert found.keys() == arrays.keys() and all(plain(found[k]) == plain(np.asarray(v)) for k, v in arrays.items())
    with pytest.raises(DamagedArchiveError, match="'other'"):
        read_npz(tmp_path / "x.npz", ["other"])
