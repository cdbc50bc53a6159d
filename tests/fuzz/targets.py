"""The readers of files that users bring, with valid files of each kind and generators of odd ones."""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import av
import cv2
import numpy as np
import onnx
import torch
import yaml
from hypothesis import strategies as st

from slowfast.apps.features.files import FeatureFolder, VideoFeatures, about_features, load_features
from slowfast.apps.people.detector import PersonDetector
from slowfast.apps.people.sources import BoxFile
from slowfast.apps.plot.classes import read_classes
from slowfast.apps.plot.confusion import read_confusion
from slowfast.apps.plot.cost import read_cost
from slowfast.apps.plot.curves import read_curves
from slowfast.apps.plot.steps import read_lengths, read_steps
from slowfast.apps.prepare.file_pool import WorkLog
from slowfast.apps.prepare.probe import ProbeCache
from slowfast.apps.visualize.saved import read_scores
from slowfast.checkpoint.io import load_checkpoint, save_checkpoint, write_tensor_file
from slowfast.checkpoint.zoo.download import FileDigest
from slowfast.config import load_config
from slowfast.config.load import cfg_from_yaml
from slowfast.datasets import ssv2
from slowfast.datasets.annotations.frame_list import read_frame_list
from slowfast.datasets.annotations.kinetics import read_segments
from slowfast.datasets.build import build_dataset
from slowfast.datasets.charades import read_annotations
from slowfast.datasets.video import index_cache
from slowfast.datasets.video import open as decode
from slowfast.datasets.video.frame_folder import FrameFolder
from slowfast.datasets.video.in_order import frames_in_order
from slowfast.datasets.video.index_cache import IndexCache
from slowfast.datasets.video.reader import VideoError
from slowfast.datasets.video.torchcodec import TorchCodecReader
from slowfast.engine.epoch_config import build_state
from slowfast.engine.test import last_evaluation
from slowfast.engine.trackers import read_runs
from slowfast.evaluation.ava import BoxRows
from slowfast.evaluation.ava_files import read_boxes, read_detections, read_excluded, read_groundtruth
from slowfast.evaluation.class_plots import read_groups, read_subset
from slowfast.evaluation.predictions import BoxPredictions, ClassificationPredictions
from slowfast.evaluation.predictions import load as load_predictions
from slowfast.evaluation.report import Report, read_class_names
from slowfast.utils.label_map import read_label_map
from tests.fuzz.engine import Target

ODD_NUMBERS = [0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 10**400, 0.5, -0.0, 1e-320, 1e308, *map(float, ("nan", "inf"))]
ODD_TEXTS = [
    "",
    " ",
    "\0",
    "\x1b[2J",
    "\ud800",
    "9" * 400,
    "a" * 300,
    "../..",
    "=cmd|' /C calc'!A0",
    "nan",
    "None",
    "٣",
]
LEAVES = st.sampled_from([None, True, False, *ODD_NUMBERS, *ODD_TEXTS]) | st.integers() | st.floats() | st.text()
ODD = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def changed(draw: Callable, value: Any, odd: st.SearchStrategy) -> Any:
    """Return a copy of nested dicts and lists with up to three entries replaced, removed, or added."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        item, depth = value, draw(st.integers(0, 6))
        while isinstance(item, (dict, list)) and item:
            keys = list(item) if isinstance(item, dict) else range(len(item))
            key = draw(st.sampled_from(keys))
            if depth == 0 or not isinstance(item[key], (dict, list)) or not item[key]:
                what = draw(st.integers(0, 9))
                if what == 0:
                    del item[key]
                elif what == 1 and isinstance(item, dict):
                    item[draw(LEAVES)] = draw(odd)
                else:
                    item[key] = draw(odd)
                break
            item, depth = item[key], depth - 1
    return value


def to_json(value: Any) -> bytes:
    """Write JSON with whatever Python's writer takes, NaN and lone surrogates included."""
    return json.dumps(value).encode()


DEEP = st.integers(2, 5).map(lambda power: 10**power)
DEEP_JSON = st.tuples(st.sampled_from(['{"a":', "["]), DEEP).map(lambda parts: (parts[0] * parts[1]).encode())


def json_like(value: Any) -> st.SearchStrategy[bytes]:
    """Generate JSON texts: a valid one with odd values in it, and others."""
    return changed(value, ODD).map(to_json) | ODD.map(to_json) | DEEP_JSON


def lines_like(text: str, separators: str) -> st.SearchStrategy[bytes]:
    """Generate texts of lines whose cells are those of a valid text, or odd."""
    cells = sorted({cell for line in text.splitlines() for cell in line.split(separators[0])})
    cell = st.sampled_from(cells) | LEAVES.map(str)
    line = st.lists(cell, max_size=8).map(separators[0].join) | st.sampled_from(text.splitlines()) | st.text(max_size=9)
    rest = st.lists(line, max_size=6).map("\n".join)
    whole = st.tuples(st.sampled_from([text.splitlines()[0] + "\n", ""]), rest).map("".join)
    return whole.map(lambda made: made.encode("utf-8", "surrogatepass"))


# Checkpoints.


def _saved(write: Callable[[str], object], path: Path) -> bytes:
    write(str(path))
    return path.read_bytes()


def _weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = {f"s{n}.conv.weight": torch.randn(8, 3, 3, 5, 5, generator=generator) for n in range(3)}
    return {**weights, "head.bias": torch.zeros(4, dtype=torch.float64), "count": torch.tensor(3)}


def _state() -> dict[str, Any]:
    settings = yaml.safe_dump({"MODEL": {"NUM_CLASSES": 4}, "SOLVER": {"BASE_LR": 0.1}})
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(900)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    return {
        "model_state": _weights(), "optimizer_state": optimizer, "epoch": 3, "iteration": 7, "cfg": settings,
        "rng_state": [{"torch": torch.zeros(5056, dtype=torch.uint8), "python": (3, (1, 2), None)}],
    }  # fmt: skip


def _checkpoints(folder: Path) -> list[bytes]:
    return [
        _saved(lambda path: save_checkpoint(_state(), path), folder / "whole.pyth"),
        _saved(lambda path: torch.save(_state(), path), folder / "theirs.pyth"),
    ]


def _tensor_files(folder: Path) -> list[bytes]:
    return [_saved(lambda path: write_tensor_file(_weights(), path, "A: 1\n", 2), folder / "weights.safetensors")]


def _blobs() -> dict[str, Any]:
    numbers = np.random.default_rng(0)
    arrays = {f"res2_{n}_branch2a_w": numbers.normal(size=(4, 3, 1, 3, 3)).astype("f4") for n in range(3)}
    return {"blobs": {**arrays, "pred_b": np.zeros(4, "f4"), "lr": np.float64(0.1), "model_iter": 5}}


def _pickles(_: Path) -> list[bytes]:
    return [pickle.dumps(_blobs(), protocol) for protocol in (0, 2, 4)]


def _odd_tensors() -> st.SearchStrategy:
    made = [
        torch.zeros(0), torch.tensor(1.5), torch.ones(3, dtype=torch.bfloat16), torch.ones(2, dtype=torch.complex64),
        torch.ones(3, dtype=torch.bool), torch.full((2, 2), float("nan")), torch.eye(3).to_sparse(),
        torch.empty(3, device="meta"), torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        torch.ones(3, dtype=torch.float8_e4m3fn), torch.ones(4, 4)[::2, 1:], torch.ones(1).expand(2**20),
        torch.nn.Parameter(torch.ones(2)), torch.ones(2**3, dtype=torch.int16), torch.eye(2).to_sparse_csr(),
    ]  # fmt: skip
    return st.sampled_from(made)


def _odd_arrays() -> st.SearchStrategy:
    kinds = ["f2", "<f4", ">f8", "i1", ">i8", "u8", "?", "c16", "U3", "S3", "M8[s]", "V4", "g"]
    shapes = [(), (0,), (1,), (3,), (2, 3), (0, 3), (3, 0), (1, 1, 1, 1, 1, 1)]
    plain = st.builds(lambda kind, shape: np.zeros(shape, kind), st.sampled_from(kinds), st.sampled_from(shapes))
    return plain | st.sampled_from([np.full((40, 6), np.nan), np.full(40, 2**62), np.array(["x" * 300] * 40)])


def _plainly(writer: Callable[[Any, Any], object]) -> Callable[[Any], bytes]:
    def write(value: Any) -> bytes:
        stream = io.BytesIO()
        try:
            writer(value, stream)
        except (pickle.PicklingError, RuntimeError, ValueError, TypeError, OverflowError, NotImplementedError):
            return b"what cannot be written"
        return stream.getvalue()

    return write


class _Call:
    """Pickles as a call."""

    def __init__(self, parts: tuple) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple:
        return self.parts


# A file that shows up beside the case is a finding.
_CALLS = st.sampled_from([(os.mkdir, ("executed",)), (bytearray, (2**36,)), (eval, ("1",)), (np.dtype, ("O",))]).map(
    _Call
)


def _read_checkpoint(path: str) -> Any:
    return load_checkpoint(path)


def _nested(depth: int) -> bytes:
    return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


@functools.cache
def _training() -> Any:
    """Build the state of a tiny run of two videos."""
    folder = Path("run")
    folder.mkdir(exist_ok=True)
    (folder / "video.mp4").write_bytes(_video(folder / "video.mp4", "libx264"))
    for split in ("train", "val", "test"):
        (folder / f"{split}.csv").write_text(f"{folder.resolve() / 'video.mp4'} 0\n" * 4)
    settings = {
        "OUTPUT_DIR": str(folder / "out"), "NUM_GPUS": 0,
        "TRAIN": {"BATCH_SIZE": 2},
        "DATA": {"PATH_TO_DATA_DIR": str(folder), "NUM_FRAMES": 2, "INPUT_CHANNEL_NUM": [3], "TRAIN_CROP_SIZE": 32},
        "DATA_LOADER": {"NUM_WORKERS": 0},
        "EMA": {"ENABLE": True},
        "RESNET": {"DEPTH": 18, "TRANS_FUNC": "basic_transform", "WIDTH_PER_GROUP": 4,
                   "NUM_BLOCK_TEMP_KERNEL": [[2], [2], [2], [2]]},
        "MODEL": {"ARCH": "slow", "MODEL_NAME": "ResNet", "NUM_CLASSES": 2},
        "SOLVER": {"MAX_EPOCH": 20},
    }  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    return build_state(load_config(str(folder / "run.yaml")))


def _runs(folder: Path) -> list[bytes]:
    os.chdir(folder)
    return [_saved(lambda path: save_checkpoint(_training().capture(), path), folder / "run.pyth")]


def _resumed(path: str) -> None:
    _training().restore(load_checkpoint(path), path)


def _changed_runs() -> st.SearchStrategy[bytes]:
    odd = st.deferred(lambda: ODD | _odd_tensors())
    return st.deferred(lambda: changed(_training().capture(), odd)).map(_plainly(torch.save))


# Videos and images.


def _pictures(count: int = 24) -> np.ndarray:
    numbers = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 64)[None, None, :, None]
    return np.clip(ramp + numbers.normal(0, 20, (count, 48, 64, 3)), 0, 255).astype(np.uint8)


def _video(path: Path, codec: str) -> bytes:
    x264 = {"g": "12", "bf": "2", "x264-params": "threads=1:cpu-independent=1"}
    options = {"libx264": x264, "libvpx-vp9": {"cpu-used": "8"}}
    # The same bytes everywhere and each time, so that a seed gives the same cases.
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as output:
        stream = output.add_stream(codec, rate=30, options={"flags": "+bitexact", **options.get(codec, {"g": "12"})})
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for picture in _pictures():
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    return path.read_bytes()


def _read_video(path: str, backend: str = "pyav") -> None:
    with decode.open(path, backend) as video:
        count = video.num_frames
        assert 1 <= count < 1_000_000, count
        assert 0 < video.fps < 1e6, video.fps
        frames = video.frames([0, count // 2, count - 1])
    assert frames.dtype == np.uint8, frames.dtype
    assert frames.shape[::3] == (3, 3), frames.shape
    for _ in frames_in_order(path):
        pass


def _video_target(name: str, *codecs: str) -> Target:
    def seeds(folder: Path) -> list[bytes]:
        return [_video(folder / f"{codec}.{name}", codec) for codec in codecs]

    return Target(name, "videos", f"case.{name}", seeds, _read_video, refusals=(VideoError,))


_VERSION = "video.mp4", 1, 2, 3, None


def _indices(folder: Path) -> list[bytes]:
    """Write the cached indices of a file whose packets are trusted, and of one whose frames were counted."""
    contents = []
    for codec, counts in (("libx264", False), ("libvpx", True)):
        path = folder / f"{codec}.mkv"
        path.write_bytes(_video(path, codec))
        with decode.open(str(path)) as video:
            facts = video.facts
        assert (facts.counted is not None) == counts
        cache = IndexCache(str(folder))
        with mock.patch.object(index_cache, "LONG_FILE", 1):
            cache.keep(_VERSION, facts)
        contents.append(Path(cache.path_of(_VERSION)).read_bytes())
    return contents


def _read_index(path: str) -> Any:
    cache = IndexCache(os.path.dirname(path))
    shutil.copy(path, cache.path_of(_VERSION))
    facts = cache.load(_VERSION)
    if facts is None:
        raise ValueError(f"{path} is no index")
    return facts.fps, list(facts.index.pts), list(facts.index.key_pts), list(facts.counted or ())


def _torchcodec_targets() -> list[Target]:
    try:
        TorchCodecReader.require()
    except ImportError:
        return []
    read = functools.partial(_read_video, backend="torchcodec")
    targets = [_video_target("mp4", "libx264"), _video_target("mkv", "libx264"), _video_target("ts", "libx264")]
    return [dataclasses.replace(t, name=f"torchcodec-{t.name}", group="torchcodec", read=read) for t in targets]


def _image_target(name: str) -> Target:
    def seeds(_: Path) -> list[bytes]:
        return [cv2.imencode(f".{name}", picture)[1].tobytes() for picture in _pictures(2)]

    def read(path: str) -> None:
        assert FrameFolder([path], 30.0, name="film").frames([0]).shape[::3] == (1, 3)

    return Target(name, "images", f"case.{name}", seeds, read, refusals=(VideoError,))


# Detectors of persons.


def _detectors(_: Path) -> list[bytes]:
    """Make a NanoDet and a YOLOX of 32 pixels, 16 + 4 + 1 places, whose outputs add the mean of the image to noise."""
    files, numbers = [], np.random.default_rng(0)
    for width in (80 + 32, 5 + 80):
        noise = onnx.numpy_helper.from_array(numbers.random((1, 21, width), np.float32), "noise")
        nodes = [
            onnx.helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
            onnx.helper.make_node("Add", ["noise", "mean"], ["output"]),
        ]
        ends = [("image", [1, 3, 32, 32]), ("output", [1, 21, width])]
        image, output = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, size) for name, size in ends)
        graph = onnx.helper.make_graph(nodes, "detector", [image], [output], [noise])
        versions = {"opset_imports": [onnx.helper.make_opsetid("", 17)], "ir_version": 8}
        files.append(onnx.helper.make_model(graph, **versions).SerializeToString())
    return files


def _read_detector(path: str) -> None:
    boxes, scores = PersonDetector(path)(_pictures(1)[0])
    assert boxes.shape == (len(scores), 4), boxes.shape


# Configs.

_CONFIG = {
    "TRAIN": {"DATASET": "kinetics", "BATCH_SIZE": 8, "CHECKPOINT_FILE_PATH": ""},
    "DATA": {"NUM_FRAMES": 8, "INPUT_CHANNEL_NUM": [3], "MEAN": [0.45, 0.45, 0.45]},
    "RESNET": {"NUM_BLOCK_TEMP_KERNEL": [[3], [4], [6], [3]], "SPATIAL_DILATIONS": [[1], [1], [1], [1]]},
    "SOLVER": {"BASE_LR": 0.1, "STEPS": [0, 5], "LRS": [1, 0.1], "LR_POLICY": "steps_with_relative_lrs"},
    "MODEL": {"ARCH": "slow", "MODEL_NAME": "ResNet", "NUM_CLASSES": 4},
    "PGT": {"ENABLE": True, "STEP_LEN": 4, "NUM_STEPS": 2},
}


def _configs(_: Path) -> list[bytes]:
    texts = [yaml.safe_dump({name: _CONFIG[name] for name in _CONFIG if name != "PGT"}), "MODEL: {NUM_CLASSES: 3}\n"]
    return [text.encode() for text in texts]


def _odd_configs() -> st.SearchStrategy[bytes]:
    whole = yaml.safe_load(load_config(None).dump())
    names = sorted(name for name, value in whole.items() if isinstance(value, dict))
    some = st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)
    sections = some.flatmap(lambda chosen: changed({name: whole[name] for name in chosen}, ODD))
    write = _plainly(lambda value, stream: stream.write(yaml.safe_dump(value).encode("utf-8", "surrogatepass")))
    bombs = st.sampled_from([
        "&a [*a]", "A: &a {B: *a}", "<<: [1]", "? [1]\n: 2", "_BASE_: case.yaml", "_BASE_: [case.yaml, case.yaml]",
        "_BASE_: .", "_BASE_: /dev/zero", "PROJECTS: [os]", "PROJECTS: [.]", "PROJECTS: ['']", "!!python/name:os.open",
        "\tA: 1", "MODEL:\n\tNUM_CLASSES: 3", "MODEL: [1]", "MODEL.NUM_CLASSES: 3", "MODEL: {NUM_CLASSES: 1e400}",
        "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: &d [*c,*c]", "2001-01-01: 1", "%TAG ! x\n---\na: 1",
        "---\n---", "\ufeffA: 1",
    ]).map(str.encode)  # fmt: skip
    deep = DEEP.map(lambda depth: b"A: " + b"[" * depth)
    return sections.map(write) | bombs | deep


# Annotations.

_LISTS = {
    "list": "folder/a.mp4 0\nfolder/b c.mp4 3\n/x/d.mp4 1\n",
    "segments": "label,youtube_id,time_start,time_end,split\nrun,abcdefghijk,1,11,train\n\"a, b\",zzzzz,0,10,val\n",
    "frames": "original_vido_id video_id frame_id path labels\n" + "".join(
        f'V{video} {video} {frame} V{video}/V{video}-{frame + 1:06d}.jpg "0,3"\n'
        for video in range(2) for frame in range(4)
    ),
    "charades": "id,subject,actions,length\nA1,S,c002 1.0 4.5;c000 0 3,10.5\nB2,S,,7.25\n",
    "boxes": "v,0902,0.1,0.2,0.5,0.9,3,1\nv,0902,0.1,0.2,0.5,0.9,2,1\nw,903.5,0,0,1,1,1,2\nw,0904\n",
    "excluded": "v,0902\nw,1000\n",
    "pbtxt": 'item {\n  name: "stand"\n  id: 1\n}\nlabel { name: "sit" label_id: 2 label_type: PERSON }\n',
    "names": "one\ntwo\nthree\n",
    "class-subset": "run\nwalk\n",
}  # fmt: skip


def _read_list(path: str) -> None:
    cfg = load_config(None, ["TRAIN.DATASET", "kinetics", "MODEL.NUM_CLASSES", 4]).clone()
    cfg.defrost()
    folder = os.path.dirname(path)
    cfg.DATA.PATH_TO_DATA_DIR = folder
    build_dataset(cfg, "train")


def _read_boxes(path: str) -> None:
    errors: list[str] = []
    read_boxes(path, 4, errors=errors)
    BoxFile(path, 4, 0.5, 900)
    read_groundtruth(path)
    read_detections(path)


def _read_names(path: str) -> None:
    for number, name in read_class_names(path).items():
        assert (type(number), type(name)) == (int, str), (number, name)


def _list_target(name: str, file: str, read: Callable[[str], Any], separator: str = ",") -> Target:
    text = _LISTS[name]
    return Target(name, "annotations", file, lambda _: [text.encode()], read, lines_like(text, separator))


_LABELS = {"Holding something": "0", "Pushing something": "1", "Turning something": 2}
_ENTRIES = [
    {"id": "1", "template": "Holding [something]", "label": "holding a cup", "placeholders": ["a cup"]},
    {"id": "2", "template": "Turning [something]"},
]


def _read_ssv2(path: str) -> None:
    labels = {"Holding something": 0, "Turning something": 2}
    for video in ssv2.read_videos(path, labels):
        assert (type(video.name), type(video.label)) == (str, int), video


# Results, features, and files that programs keep.


def _predictions() -> list[ClassificationPredictions | BoxPredictions]:
    numbers = np.random.default_rng(0)
    labels = numbers.integers(0, 6, 40)
    steps = numbers.random((40, 3, 6)).astype("f4")
    names = [f"video {number}" for number in range(40)]
    one = ClassificationPredictions(
        steps.sum(1), labels, names, steps, {"last": steps[:, -1]}, list("abcdef"), {"views": 30}
    )
    several = ClassificationPredictions(steps.mean(1), (numbers.random((40, 6)) < 0.3).astype("f4"), names)
    boxes = np.tile([[0.1, 0.1, 0.5, 0.9]], (6, 1))
    truth = BoxRows([("v", 902), ("v", 903)], [0, 1], boxes[:2], [1, 3])
    found = BoxPredictions(
        [("v", 902), ("v", 903), ("w", 1)], np.repeat(np.arange(3), 2), boxes, numbers.random((6, 3)), [1, 3, 7], truth
    )
    return [one, several, found]


def _prediction_files(suffix: str) -> Callable[[Path], list[bytes]]:
    def seeds(folder: Path) -> list[bytes]:
        return [_saved(made.save, folder / f"{number}{suffix}") for number, made in enumerate(_predictions())]

    return seeds


def _read_predictions(path: str) -> Any:
    predictions = load_predictions(path)
    try:
        Report.from_predictions(predictions)
    except ValueError as error:  # of scores; the tools name the file
        raise ValueError(f"{path}: {error}") from error
    return [value for _, value in sorted(vars(predictions).items()) if isinstance(value, (np.ndarray, list, dict))]


def _score_pickles(_: Path) -> list[bytes]:
    scores, labels = torch.rand(3, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1])
    return [pickle.dumps([scores, labels]), pickle.dumps([scores.numpy(), labels.numpy()], 2)]


def _odd_npz(arrays: Callable[[], list[dict[str, Any]]]) -> st.SearchStrategy[bytes]:
    odd = _odd_arrays() | ODD.map(json.dumps)
    save = _plainly(lambda value, stream: np.savez(stream, **{str(key): item for key, item in value.items()}))
    return st.deferred(lambda: st.sampled_from(arrays()).flatmap(lambda each: changed(each, odd))).map(save)


def _prediction_arrays() -> list[dict[str, Any]]:
    made = []
    for each in _predictions():
        stream = Path("arrays.npz")
        each.save(stream)
        with np.load(stream) as arrays:
            made.append(dict(arrays))
        stream.unlink()
    about = json.loads(made[0]["about"].item())
    return [
        *made,
        *({**made[0], "about": json.dumps({**about, key: odd})} for key in about for odd in (None, 1e400, [], {})),
    ]


def _features() -> tuple[VideoFeatures, dict]:
    numbers = np.random.default_rng(0)
    index = np.arange(4)
    pairs = np.stack([index, index + 3], axis=1)
    record = VideoFeatures(
        "a.mp4", 3, 29.97, 90, numbers.random((4, 8)).astype("f4"), index, index * 0, pairs, pairs / 30
    )
    return record, {"kind": "clip", "model": "ResNet", "weights": "abc", "shape": [8]}


def _feature_files(kind: str) -> Callable[[Path], list[bytes]]:
    def seeds(folder: Path) -> list[bytes]:
        files, (record, about) = FeatureFolder(str(folder), kind), _features()
        files.write(record, about)
        return [Path(files.path_of(record.path)).read_bytes()]

    return seeds


def _feature_arrays() -> list[dict[str, Any]]:
    record, about = _features()
    return [{**dataclasses.asdict(record), "about": json.dumps(about)}]


def _read_features(path: str) -> Any:
    about_features(path)
    return [value for _, value in sorted(vars(load_features(path)).items())]


def _read_stored_config(path: str) -> None:
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    cfg_from_yaml(text, origin=path, foreign=True)


def _read_evaluation(path: str) -> None:
    assert type(last_evaluation(os.path.dirname(path))) is int


def _read_runs(path: str) -> None:
    runs = read_runs(os.path.dirname(path))
    assert all(type(part) is str for entry in runs.items() for part in entry)


def _read_probes(path: str) -> None:
    with ProbeCache(path, "how") as cache:
        assert cache.get("/nowhere.mp4") is None


def _read_log(path: str) -> None:
    log = WorkLog(path)
    assert all(isinstance(line, list) for line in log.former)
    log.close()


def _read_digest(path: str) -> None:
    found = FileDigest.recorded(Path(path.removesuffix(".json")))
    assert (type(found.size), type(found.sha256)) == (int, str), found


_EVALUATION = {"epoch": 3, "top1_acc": 50.0, "_type": "val"}
_RUNS = {"wandb": "b5ialwbv", "mlflow": "0765d65a21034eea9927391048df43ae"}
_FACTS = ["/a.mp4", ["how", 0, 1, 2], {"cause": "", "frames": 3}]
_DIGEST = {"size": 5, "sha256": "ab" * 32}

_STATS = {"_type": "train_epoch", "epoch": "1/2", "loss": 0.5}
_STEPS = {"step1/map": 0.5, "step2/map": 0.75, "map": 0.75}
_DEMO = {"runs": [{"name": "pgt", "title": "PGT", "accuracy": {"steps": [20.0, 90.0]}}]}
_CLIPS = {"by_temporal_clips": {"1": {"map": 0.5}, "10": {"map": 0.75}}}
_POINTS = [{"point": "DATA.NUM_FRAMES 8", "seconds": 0.5, "peak_mib": 20.0}]
_BY_STEPS = {"memory_by_steps": [{"steps": 1, "frames": 8, "peak_mib": {"fp32": 20.0, "bf16": None}}]}
_CONFUSION = "label,sit,run\nsit,3,1\nrun,0,4\n"
_CLASSES = "number,class,samples,accuracy in percent\n0,sit,4,75.0\n1,run,0,nan\n"


def _plot_target(name: str, file: str, read: Callable[[str], Any], *seeds: Any) -> Target:
    """Return a target of a reader of tools/plot.py, whose files are JSON, or lines of cells."""
    if isinstance(seeds[0], str):
        return Target(name, "plots", file, lambda _: [seeds[0].encode()], read, lines_like(seeds[0], ","))
    generated = st.one_of(*map(json_like, seeds))
    return Target(name, "plots", file, lambda _: [to_json(seed) + b"\n" for seed in seeds], read, generated)


TARGETS = [
    Target("pyth", "checkpoints", "case.pyth", _checkpoints, _read_checkpoint,
           st.deferred(lambda: changed(_state(), ODD | _odd_tensors() | _CALLS)).map(_plainly(torch.save))),
    Target("pyth-damage", "checkpoints", "case.pyth", _checkpoints, _read_checkpoint, exact=True),
    Target("safetensors", "checkpoints", "case.safetensors", _tensor_files, _read_checkpoint, exact=True),
    Target("caffe2", "checkpoints", "case.pkl", _pickles, _read_checkpoint,
           st.deferred(lambda: changed(_blobs(), ODD | _odd_arrays() | _CALLS)).map(_plainly(pickle.dump))
           | DEEP.map(_nested)),
    Target("resume", "checkpoints", "case.pyth", _runs, _resumed, _changed_runs()),
    _video_target("mp4", "libx264", "mpeg4"),
    _video_target("mkv", "libx264"),
    _video_target("avi", "mpeg4", "mjpeg"),
    _video_target("ts", "libx264"),
    _video_target("webm", "libvpx-vp9"),
    *_torchcodec_targets(),
    _image_target("jpg"),
    _image_target("png"),
    Target("packet-index", "videos", "case.bin", _indices, _read_index, exact=True),
    Target("detector", "detectors", "case.onnx", _detectors, _read_detector),
    Target("config", "configs", "case.yaml", _configs, load_config, st.deferred(_odd_configs), named=False),
    Target("stored-config", "configs", "case.yaml", _configs, _read_stored_config, st.deferred(_odd_configs),
           named=False),
    _list_target("list", "train.csv", _read_list, " "),
    _list_target("segments", "train.csv", read_segments),
    _list_target("frames", "case.csv", lambda path: read_frame_list(path, "", 4), " "),
    _list_target("charades", "case.csv", lambda path: read_annotations(path, 4)),
    _list_target("boxes", "case.csv", _read_boxes),
    _list_target("excluded", "case.csv", read_excluded),
    _list_target("pbtxt", "case.pbtxt", read_label_map, " "),
    _list_target("names", "case.txt", _read_names),
    Target("names-json", "annotations", "case.json", lambda _: [to_json({"a": 0, "b": 1}), to_json(["a", "b"])],
           _read_names, json_like({"a": 0, "b": 1})),
    _list_target("class-subset", "case.txt", lambda path: read_subset(path, ["run", "walk", "sit"])),
    Target("ssv2-labels", "annotations", "case.json", lambda _: [to_json(_LABELS)],
           lambda path: ssv2.read_labels(path, 4), json_like(_LABELS)),
    Target("ssv2-videos", "annotations", "case.json", lambda _: [to_json(_ENTRIES)], _read_ssv2, json_like(_ENTRIES)),
    Target("predictions", "results", "case.npz", _prediction_files(".npz"), _read_predictions,
           _odd_npz(_prediction_arrays)),
    Target("predictions-damage", "results", "case.npz", _prediction_files(".npz"), _read_predictions, exact=True),
    Target("predictions-parquet", "results", "case.parquet", _prediction_files(".parquet"), _read_predictions),
    Target("saved-scores", "results", "case.pkl", _score_pickles, read_scores),
    Target("val-results", "results", "val_results.json", lambda _: [to_json(_EVALUATION)], _read_evaluation,
           json_like(_EVALUATION)),
    Target("tracker-runs", "results", "tracker_runs.json", lambda _: [to_json(_RUNS)], _read_runs, json_like(_RUNS)),
    Target("features", "features", "case.npz", _feature_files("npz"), _read_features, _odd_npz(_feature_arrays)),
    Target("features-damage", "features", "case.npz", _feature_files("npz"), _read_features, exact=True),
    Target("features-parquet", "features", "case.parquet", _feature_files("parquet"), _read_features),
    Target("probe-cache", "logs", "case.jsonl", lambda _: [to_json(_FACTS) + b"\n"], _read_probes, json_like(_FACTS)),
    Target("work-log", "logs", "case.jsonl", lambda _: [to_json(_FACTS) + b"\n"], _read_log, json_like(_FACTS)),
    _plot_target("plot-curves", "json_stats.jsonl", lambda path: read_curves([("", [path])], "loss"), _STATS),
    _plot_target("plot-steps", "case.json", lambda path: read_steps([("", [path])]), _STEPS, _DEMO),
    _plot_target("plot-length", "case.json", lambda path: read_lengths([("", [path])]), _CLIPS),
    _plot_target("plot-cost", "case.json", lambda path: read_cost([("", [path])]), _POINTS, _BY_STEPS),
    _plot_target("plot-groups", "case.json", read_groups, {"sport": ["run"], "rest": ["sit", "lie"]}),
    _plot_target("plot-confusion", "case.csv", read_confusion, _CONFUSION),
    _plot_target("plot-classes", "case.csv", lambda path: read_classes("", path), _CLASSES),
    Target("digest", "logs", "case.json", lambda _: [to_json(_DIGEST)], _read_digest, json_like(_DIGEST)),
]  # fmt: skip
