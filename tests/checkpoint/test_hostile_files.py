"""Files made to exhaust or end the process, or to change what the next file gives: one line each, in little time."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import pytest
import torch

from slowfast.checkpoint import load_checkpoint
from slowfast.checkpoint.formats.plain_pickle import RefusedPickleError, read_plain_pickle

DEEP = 100_000


def torch_file(pickled: bytes, records: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a PyTorch file with this data.pkl."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("a/data.pkl", pickled)
        for name, content in {"version": b"3\n", "byteorder": b"little", **(records or {})}.items():
            archive.writestr(f"a/{name}", content)
    return stream.getvalue()


def old_torch_file(pickled: bytes, storages: bytes = b"\x80\x02].") -> bytes:
    """Return a file as PyTorch before 1.6 wrote it."""
    facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = [pickle.dumps(item, 2) for item in (0x1950A86A20F9469CFC6C, 1001, facts)]
    return b"".join([*head, pickled, storages])


def weights(entry: bytes) -> bytes:
    """Return a pickle of {"model_state": {"w": entry}}."""
    return b"\x80\x02}X\x0b\x00\x00\x00model_state}X\x01\x00\x00\x00w" + entry + b"ss."


def tensor(elements: int, shape: tuple[int, ...], strides: tuple[int, ...], old: bool = False) -> bytes:
    """Return the instructions that make a tensor of float32 from storage 0; `old` for `old_torch_file`."""
    count, size, steps = (re_memo(pickle.dumps(numbers, 2)[2:-1]) for numbers in (elements, shape, strides))
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
        b"X\x03\x00\x00\x00cpu" + count + (b"NtQ" if old else b"tQ") + b"K\x00" + size + steps
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )  # fmt: skip


def re_memo(instructions: bytes) -> bytes:
    """Return instructions without the one that numbers their result."""
    return instructions[:-2] if instructions[-2:-1] == b"q" else instructions


def deep_key(levels: int) -> bytes:
    return b"\x80\x02}" + b"K\x01" + b"\x85" * levels + b"K\x01s."


def overlapping() -> bytes:
    """Return an archive whose directory names the same bytes as two records."""
    whole = torch_file(weights(tensor(1, (1,), (1,))), {"data/0": bytes(4), "data/1": bytes(4)})
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        one, other = (archive.getinfo(f"a/data/{number}").header_offset for number in "01")
    assert whole.count(struct.pack("<I", other)) == 1
    return whole.replace(struct.pack("<I", other), struct.pack("<I", one))


def far_zip64() -> bytes:
    """Return an archive whose end names a directory of 2**60 entries far behind the file."""
    whole = torch_file(weights(tensor(1, (1,), (1,))), {"data/0": bytes(4)})
    end = whole.rindex(b"PK\x05\x06")
    far = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 2**60, 2**60, 2**62, 2**62)
    return whole[:end] + far + struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1) + b"PK\x05\x06" + b"\xff" * 18


ONE = weights(tensor(1, (1,), (1,)))
TORCH: dict[str, Callable[[], bytes]] = {
    "a key nested deep": lambda: torch_file(deep_key(DEEP)),
    "a key nested deep, old": lambda: old_torch_file(deep_key(DEEP)),
    "463 bytes, a key nested deep": lambda: torch_file(deep_key(DEEP), compression=zipfile.ZIP_DEFLATED),
    "lists nested deep": lambda: torch_file(b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b"."),
    "a frozen set of a deep key": lambda: torch_file(b"\x80\x04(K\x01" + b"\x85" * DEEP + b"\x91."),
    "a compressed record": lambda: torch_file(
        weights(tensor(2**20, (2**20,), (1,))), {"data/0": bytes(2**22)}, compression=zipfile.ZIP_DEFLATED
    ),
    "a storage larger than its record": lambda: torch_file(
        weights(tensor(2**28, (2**28,), (1,))), {"data/0": bytes(4)}
    ),
    "a storage larger than the file, old": lambda: old_torch_file(weights(tensor(2**33, (2**33,), (1,), old=True))),
    "4 bytes for 4 TiB of weights": lambda: torch_file(weights(tensor(1, (2**40,), (0,))), {"data/0": bytes(4)}),
    "a storage of -1 elements": lambda: torch_file(weights(tensor(-1, (1,), (1,))), {"data/0": bytes(4)}),
    "a storage from nothing": lambda: torch_file(weights(b"ctorch\nFloatStorage\n\x8a\x05\x00\x00\x00\x00\x08\x85R")),
    "a text that is copied 100,000 times": lambda: torch_file(
        weights(b"(c_codecs\nencode\nq\x01X\x00\x00\x10\x00" + b"a" * 2**20 + b"X\x06\x00\x00\x00latin1\x86q\x02R"
                + b"h\x01h\x02R" * 100_000 + b"l")
    ),
    "overlapping records": overlapping,
    "a directory that lies": far_zip64,
    "something before the archive": lambda: b"PK\x03\x04" + bytes(96) + torch_file(ONE, {"data/0": bytes(4)}),
    "methods of a dict replaced": lambda: torch_file(
        b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsK\x01sb."
    ),
    "the same by pairs": lambda: torch_file(
        b"\x80\x02ccollections\nOrderedDict\n)R](X\x05\x00\x00\x00itemsK\x01\x86eb."
    ),
    "no content": lambda: torch_file(b""),
    "no data.pkl": lambda: torch_file(ONE).replace(b"data.pkl", b"data.pkk"),
    "an empty archive": lambda: b"PK\x05\x06" + bytes(18),
}  # fmt: skip


def assert_refused_in_one_line(path) -> None:
    with pytest.raises(ValueError, match=re.escape(path.name)) as caught:
        load_checkpoint(str(path))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("name", sorted(TORCH))
def test_pytorch_files(tmp_path, name):
    path = tmp_path / "x.pyth"
    path.write_bytes(TORCH[name]())
    assert_refused_in_one_line(path)


def test_the_same_kinds_without_the_attack_are_read(tmp_path):
    """What the makers above write is refused for the attack alone."""
    path = tmp_path / "x.pyth"
    for content in (
        torch_file(weights(tensor(6, (2, 3), (3, 1))), {"data/0": np.arange(6, dtype="<f4").tobytes()}),
        old_torch_file(
            weights(tensor(6, (2, 3), (3, 1), old=True)),
            b"\x80\x02]X\x01\x00\x00\x000a." + struct.pack("<q", 6) + np.arange(6, dtype="<f4").tobytes(),
        ),
    ):
        path.write_bytes(content)
        assert load_checkpoint(str(path))["model_state"]["w"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_content_that_is_used_often_is_gone_through_once(tmp_path):
    """20 ** 90 lists are no reason to refuse what lies beside them, nor to count them."""
    nested: list = []
    for _ in range(90):
        nested = [nested] * 20
    torch.save({"model_state": {"w": torch.ones(2)}, "other": nested}, tmp_path / "x.pyth")
    assert load_checkpoint(str(tmp_path / "x.pyth"))["model_state"]["w"].tolist() == [1, 1]


def test_what_is_nested_as_deep_as_files_are_is_read(tmp_path):
    nested: object = 1
    for _ in range(60):
        nested = {"a": [nested, (nested,)]} if isinstance(nested, int) else (nested,)
    state = {"model_state": OrderedDict(w=torch.ones(2)), "more": nested, ("a", (1, 2)): {1: None, 2.5: {3}}}
    torch.save(state, tmp_path / "x.pyth")
    assert load_checkpoint(str(tmp_path / "x.pyth"))["more"] == nested


HEADER = {"__metadata__": {}, "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
SAFE = {
    "a header longer than the file": lambda: struct.pack("<Q", 2**62) + b"{}" + bytes(100),
    "a header of 2**40 bytes": lambda: struct.pack("<Q", 2**40) + b"{}" + bytes(100),
    "nested deep": lambda: struct.pack("<Q", 2 * DEEP) + b"[" * DEEP + b"]" * DEEP,
    "metadata nested deep": lambda: safe_file({"__metadata__": {"a": {"b": []}}}),
    "overlapping tensors": lambda: safe_file({**HEADER, "v": HEADER["w"]}),
    "a shape larger than the file": lambda: safe_file({"w": {**HEADER["w"], "shape": [2**62, 4]}}),
    "a negative shape": lambda: safe_file({"w": {**HEADER["w"], "shape": [-1]}}),
    "an epoch that is no number": lambda: safe_file({**HEADER, "__metadata__": {"epoch": "9" * 5000}}),
    "a dtype without a meaning": lambda: safe_file({"w": {**HEADER["w"], "dtype": "F" * 100_000}}),
    "complex weights": lambda: safe_file({"w": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}, 8),
    "a checksum of something else": lambda: safe_file({**HEADER, "__metadata__": {"sha256": "0" * 64}}),
}


def safe_file(header: dict, size: int = 4) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


@pytest.mark.parametrize("name", sorted(SAFE))
def test_safetensors_files(tmp_path, name):
    path = tmp_path / "x.safetensors"
    path.write_bytes(SAFE[name]())
    assert_refused_in_one_line(path)


def blobs(*entries: bytes) -> bytes:
    return b"\x80\x02}X\x05\x00\x00\x00blobs}(" + b"".join(entries) + b"us."


CAFFE2 = {
    "a number of 100 bits": lambda: blobs(pickle.dumps("pred_w", 2)[2:-3], pickle.dumps(2**100, 2)[2:-1]),
    "a number of a million bits": lambda: pickle.dumps({"blobs": {"pred_w": 2**1_000_000}}, 2),
    "a name of a million letters": lambda: pickle.dumps({"blobs": {"a" * 1_000_000: None}}, 2),
    "bytes that are copied 100,000 times": lambda: blobs(
        pickle.dumps("w", 2)[2:-3],
        b"(c_codecs\nencode\nq\x01X\x00\x00\x10\x00" + b"a" * 2**20 + b"X\x06\x00\x00\x00latin1\x86q\x02R"
        + b"h\x01h\x02R" * 100_000 + b"l",
    ),
    "no blobs": lambda: pickle.dumps({"blobs": [1]}, 2),
    "names that are no text": lambda: pickle.dumps({"blobs": {1: np.ones(1, "f4")}}, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CAFFE2))
def test_caffe2_files(tmp_path, name):
    path = tmp_path / "x.pkl"
    path.write_bytes(CAFFE2[name]())
    assert_refused_in_one_line(path)


STAND_INS = {
    "encode": b"c_codecs\nencode\n",
    "dict": b"ccollections\nOrderedDict\n",
    "bytes": b"c__builtin__\nbytes\n",
    "array": b"cnumpy\nndarray\n",
    "dtype": b"cnumpy\ndtype\n",
    "reconstruct": b"cnumpy.core.multiarray\n_reconstruct\n",
    "scalar": b"cnumpy._core.multiarray\nscalar\n",
    "buffer": b"cnumpy._core.numeric\n_frombuffer\n",
}


@pytest.mark.parametrize("target", sorted(STAND_INS))
def test_a_refused_pickle_changes_nothing_for_the_next(target):
    """BUILD sets attributes; defaults of a function decide what it gives."""
    good = pickle.dumps({"a": np.arange(3.0), "b": OrderedDict(c=np.float32(1)), "d": np.array([])}, 2)
    expected = read_plain_pickle(io.BytesIO(good))
    for name, value in {
        "__defaults__": b"X\x05\x00\x00\x00utf-8\x85",
        "__kwdefaults__": b"}",
        "__code__": b"c_codecs\nencode\n",
        "__doc__": b"N",
        "marker": b"K\x01",
        "__setstate__": b"c_codecs\nencode\n",
    }.items():
        text = b"X" + struct.pack("<I", len(name)) + name.encode()
        for state in (b"}" + text + value + b"s", b"N}" + text + value + b"s\x86"):
            with pytest.raises(RefusedPickleError, match="nothing was executed"):
                read_plain_pickle(io.BytesIO(b"\x80\x02" + STAND_INS[target] + state + b"b."))
    found = read_plain_pickle(io.BytesIO(good))
    assert found["a"].tolist() == expected["a"].tolist() == [0, 1, 2]
    assert found["b"] == {"c": 1} and found["d"].shape == (0,)
