"""The restricted unpickler: what Caffe2's files hold comes through, and nothing else is even called."""

import builtins
import io
import os
import pickle
import random
import struct
import subprocess
from collections import OrderedDict, defaultdict
from functools import partial

import numpy as np
import pytest

from slowfast.checkpoint import load_checkpoint
from slowfast.checkpoint.formats.plain_pickle import RefusedPickleError, read_plain_pickle


def read(content):
    return read_plain_pickle(io.BytesIO(content))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", "CF")
def test_arrays_of_every_protocol_and_layout(protocol, order):
    numbers = np.random.default_rng(0)
    arrays = {
        kind: np.asarray(numbers.normal(size=(3, 4, 2)) * 50, dtype=kind, order=order)
        for kind in ("f2", "<f4", ">f4", "f8", "i1", "<i4", ">i8", "u1", "u8", "?")
    }
    arrays |= {"empty": np.zeros((0, 3), "f4"), "none": np.array(2.5)}
    back = read(
        pickle.dumps({"blobs": arrays, "scalar": np.float64(0.1), "more": (1, [None, "x", b"y", 2.5, True])}, protocol)
    )
    for kind, array in arrays.items():
        assert np.array_equal(back["blobs"][kind], array) and back["blobs"][kind].shape == array.shape
        assert back["blobs"][kind].dtype == array.dtype.newbyteorder("=") and back["blobs"][kind].flags.writeable
    assert back["scalar"] == 0.1 and back["more"] == [1, [None, "x", b"y", 2.5, True]]


def test_a_pickle_of_python_2():
    """Read a handwritten pickle of Python 2's cPickle: the bytes of an array are a string."""
    raw = np.array([1.5, -2.0, 255.25], "<f4").tobytes()
    content = (
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x03\x85"
        b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + b"U" + struct.pack("B", len(raw)) + raw + b"tbs."
    )  # fmt: skip
    assert read(content)["a"].tolist() == [1.5, -2.0, 255.25]


class Reduced:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments, *([] if state is None else [state]))

    def __reduce__(self):
        return self.parts


def attacks(trace):
    command = f"touch {trace}"
    return {
        "os.system": Reduced(os.system, command),
        "eval": Reduced(eval, f"open({str(trace)!r}, 'w')"),
        "exec": Reduced(exec, f"open({str(trace)!r}, 'w')"),
        "open": Reduced(open, str(trace), "w"),
        "import": Reduced(builtins.__import__, "os"),
        "getattr": Reduced(getattr, Reduced(builtins.__import__, "os"), "system"),
        "popen": Reduced(subprocess.Popen, ["touch", str(trace)]),
        "partial": Reduced(partial, os.system, command),
        "map": Reduced(list, Reduced(map, os.system, [command])),
        "defaultdict": defaultdict(partial(os.system, command)),
        "numpy.load": Reduced(np.load, str(trace)),
        "numpy.fromfile": Reduced(np.fromfile, str(trace)),
        "memmap": Reduced(np.memmap, str(trace), "u1", "w+"),
        "loads": Reduced(pickle.loads, pickle.dumps(Reduced(os.system, command))),
        "type": Reduced(type, "Made", (), {}),
        "array of objects": np.array([Reduced(os.system, command), None], dtype=object),
        "record": np.zeros(2, [("a", "f4")]),
        "text": np.array(["some", "text"]),
    }


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("kind", sorted(attacks("x")))
def test_a_crafted_pickle_is_refused_and_does_nothing(kind, protocol, tmp_path):
    trace = tmp_path / "executed"
    attack = attacks(trace)[kind]
    for number, nested in enumerate((attack, {"blobs": {"conv1_w": attack}}, [{"a": (attack,)}])):
        path = tmp_path / f"{number}.pkl"
        path.write_bytes(pickle.dumps(nested, protocol))
        with pytest.raises(RefusedPickleError):
            read(path.read_bytes())
        with pytest.raises(ValueError, match=f"{number}.pkl"):
            load_checkpoint(str(path))
    assert not trace.exists()


def test_the_error_names_what_was_asked_for():
    for content, words in (
        (pickle.dumps(Reduced(os.system, "true")), "posix.system.*nothing was executed"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "numpy.ndarray.tofile"),
        (b"cbuiltins\ngetattr\n.", "builtins.getattr"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "__builtin__.eval"),
        (b"(S'true'\nios\nsystem\n.", "makes objects.*nothing was executed"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "makes objects"),
        (b"\x80\x02ccopy_reg\n_reconstructor\n.", "copy_reg._reconstructor"),
        (b"\x80\x02cnumpy.core.multiarray\n__class__\n.", "multiarray.__class__"),
    ):
        with pytest.raises(RefusedPickleError, match=words):
            read(content)


def test_a_pickle_cannot_change_what_the_next_one_meets():
    """State may be set on whatever a pickle names: here on the stand-ins for numpy's names."""
    for target in (
        b"cnumpy\ndtype\n",
        b"cnumpy\nndarray\n",
        b"cnumpy.core.multiarray\nscalar\n",
        b"c_codecs\nencode\n",
    ):
        for name in (b"__setstate__", b"__init__", b"__code__", b"__class__", b"numpy"):
            # BUILD with a pair (None, {name: _codecs.encode}) sets attributes.
            content = b"\x80\x02" + target + b"(N}U" + bytes([len(name)]) + name + b"c_codecs\nencode\nst" + b"b."
            with pytest.raises(RefusedPickleError):
                read(content)
    assert read(pickle.dumps({"a": np.arange(3.0), "b": OrderedDict(c=np.float32(1))}, 2))["a"].tolist() == [0, 1, 2]


def test_shapes_and_bytes_that_disagree():
    good = pickle.dumps(np.arange(6, dtype="f8").reshape(2, 3), 2)
    for before, after in ((b"K\x02K\x03\x86", b"K\x02K\x04\x86"), (b"K\x02K\x03\x86", b"J\xff\xff\xff\x7fK\x03\x86")):
        assert before in good
        with pytest.raises(RefusedPickleError, match="cannot be read"):
            read(good.replace(before, after))


def test_damage_at_random_is_an_error_or_harmless():
    blobs = {"blobs": {"conv1_w": np.ones((2, 2), "f4"), "lr": np.float32(0.1), "n": 3}}
    chance, refused = random.Random(0), 0
    plain = (dict, list, tuple, str, bytes, int, float, type(None), np.ndarray, np.generic)
    for protocol in (0, 2, 4):
        good = pickle.dumps(blobs, protocol)
        for _ in range(700):
            bad = bytearray(good)
            for _ in range(chance.randint(1, 4)):
                bad[chance.randrange(len(bad))] = chance.randrange(256)
            cut = chance.choice([len(bad), chance.randrange(len(bad))])
            try:
                assert isinstance(read(bytes(bad[:cut])), plain)
            except RefusedPickleError:  # and nothing else may come
                refused += 1
    assert 0 < refused < 2100


HEAVY = {
    "a key nested too deep": b"\x80\x02}K\x01" + b"\x85" * 300_000 + b"K\x01s.",
    "the same among several": b"\x80\x02}(K\x01" + b"\x85" * 300_000 + b"K\x01u.",
    "the same in a dict made at once": b"\x80\x02(K\x01" + b"\x85" * 300_000 + b"K\x01d.",
    "the same in an ordered dict": b"\x80\x02ccollections\nOrderedDict\n]K\x01"
    + b"\x85" * 300_000
    + b"K\x01\x86a\x85R.",
    "a list nested too deep": b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b".",
    "a place of two thousand million": b"\x80\x02Nr\xff\xff\xff\x7f0.",
    "bytes longer than all disks": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7fx.",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a shape too large": pickle.dumps(np.zeros(0, "f4"), 2).replace(
        b"K\x00\x85", b"\x8a\x08" + b"\xff" * 7 + b"\x7f\x85"
    ),
}


@pytest.mark.parametrize("kind", sorted(HEAVY))
def test_a_pickle_that_means_to_exhaust_the_process(kind):
    with pytest.raises(RefusedPickleError):
        read(HEAVY[kind])


def test_what_occurs_ten_times_in_each_of_twenty_levels_is_gone_through_once():
    item = [1.0]
    for _ in range(18):
        item = [item] * 10
    back = read(pickle.dumps(item, 2))
    assert back[3][5] is back[0][0]
