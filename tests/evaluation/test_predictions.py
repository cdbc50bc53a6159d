"""Predictions: what they measure, and their files."""

import csv
import dataclasses
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slowfast.evaluation import evaluate_ava_files
from slowfast.evaluation.ava import BoxRows
from slowfast.evaluation.ava_files import write_detections, write_groundtruth
from slowfast.evaluation.classification import classification_metrics
from slowfast.evaluation.predictions import ClassificationPredictions, load


def assert_same(one, other):
    """Check that all fields are equal, bit for bit and in type."""
    assert type(one) is type(other)
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert (a.dtype, a.shape) == (b.dtype, b.shape) and (a == b).all(), field.name
        elif isinstance(a, BoxRows):
            assert_same(a, b)
        elif field.name == "variants":
            assert list(a) == list(b) and all((a[name] == b[name]).all() for name in a)
        else:
            assert a == b, field.name


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_files_of_seconds_with_fractions(box_predictions, suffix, tmp_path):
    box_predictions.save(tmp_path / f"whole{suffix}")
    assert {type(second) for _, second in load(tmp_path / f"whole{suffix}").key_frames} == {int}
    truth = box_predictions.groundtruth
    truth.key_frames[1] = box_predictions.key_frames[1] = ("v", 903.25)
    box_predictions.evaluation = "activitynet"
    box_predictions.save(tmp_path / f"p{suffix}")
    back = load(tmp_path / f"p{suffix}")
    assert_same(box_predictions, back)
    assert back.metrics() == box_predictions.metrics()


def test_files_of_earlier_versions_are_measured_as_they_were(box_predictions, tmp_path):
    box_predictions.save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz") as arrays:
        older = dict(arrays)
    about = json.loads(older["about"].item())
    assert about.pop("evaluation") == "pyslowfast"
    older["about"] = json.dumps(about)
    np.savez(tmp_path / "p.npz", **older)
    assert_same(box_predictions, load(tmp_path / "p.npz"))


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("kind", ["one_label", "several_labels", "box_predictions"])
def test_files_give_back_everything(kind, suffix, request, tmp_path):
    predictions = request.getfixturevalue(kind)
    path = tmp_path / "new folder" / f"predictions{suffix}"
    predictions.save(path)
    back = load(path)
    assert_same(predictions, back)
    assert back.metrics() == predictions.metrics()
    torch.from_numpy(back.scores).add_(1)  # what comes back can be written to
    assert os.listdir(path.parent) == [path.name]


def test_columns_that_others_read(one_label, tmp_path):
    one_label.save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz") as arrays:
        assert arrays["paths"].tolist() == one_label.videos
        assert (arrays["labels"] == one_label.labels).all() and (arrays["scores"] == one_label.scores).all()
    one_label.save(tmp_path / "p.parquet")
    import pandas

    frame = pandas.read_parquet(tmp_path / "p.parquet")
    assert frame["paths"].tolist() == one_label.videos
    assert (np.stack(frame["variants/last"]) == one_label.variants["last"]).all()


def test_names_that_are_no_text(several_labels, tmp_path):
    several_labels.videos[0] = os.fsdecode(b"video \xe4.mp4")
    several_labels.save(tmp_path / "p.npz")
    assert load(tmp_path / "p.npz").videos == several_labels.videos
    several_labels.save(tmp_path / "p.parquet")
    assert load(tmp_path / "p.parquet").videos[0] == "video \\udce4.mp4"


def test_metrics_of_one_label(one_label):
    metrics = one_label.metrics()
    labels = torch.from_numpy(one_label.labels)
    for prefix, scores in {"": one_label.scores, "last/": one_label.variants["last"]}.items():
        scores = torch.from_numpy(scores)
        expected = classification_metrics(scores, labels)
        assert {name: metrics[prefix + name] for name in expected} == expected
    for step in range(3):
        hits = one_label.steps[:, step].argmax(axis=1) == one_label.labels
        assert metrics[f"step{step + 1}/top1_acc"] == pytest.approx(100 * hits.mean())
    assert len(metrics) == 3 * 5 + 3
    assert one_label.confusion().sum() == 40


def test_metrics_of_several_labels(several_labels):
    labels = torch.from_numpy(several_labels.labels)
    steps = [
        classification_metrics(torch.from_numpy(several_labels.steps[:, step]), labels)["map"] for step in range(2)
    ]
    whole = classification_metrics(torch.from_numpy(several_labels.scores), labels)["map"]
    assert several_labels.metrics() == {"map": whole, "step1/map": steps[0], "step2/map": steps[1]}
    assert math.isnan(several_labels.class_table()["value"][4]) and several_labels.confusion() is None


def test_metrics_of_boxes_are_those_of_their_files(box_predictions, tmp_path):
    write_groundtruth(tmp_path / "truth.csv", box_predictions.groundtruth)
    (tmp_path / "excluded.csv").write_text("v,0904\n")
    for name, prefix in ((None, ""), ("last", "last/")):
        write_detections(tmp_path / "found.csv", box_predictions.detections(name))
        files = (tmp_path / "truth.csv", tmp_path / "found.csv", tmp_path / "excluded.csv")
        expected = evaluate_ava_files(*files, [1, 3, 7])
        assert 0 < box_predictions.metrics()[f"{prefix}ava_map"] == pytest.approx(expected["mAP@0.5"], abs=1e-12)
    table = box_predictions.class_table()
    assert table.iloc[:, :3].values.tolist() == [[1, "stand", 1], [3, "sit", 3], [7, "run", 0]]
    assert box_predictions.metrics()["ava_classes"] == 2
    box_predictions.excluded = box_predictions.key_frames
    with pytest.raises(ValueError, match="no class has a ground truth box"):
        box_predictions.metrics()


@pytest.mark.parametrize(("evaluation", "empty"), [("pyslowfast", []), ("activitynet", ["w,0902"])])
def test_rows_that_count_give_the_same_without_lists(box_predictions, tmp_path, evaluation, empty):
    """Neither excluded key frames nor a label map are needed, though some boxes are of a class that is not scored."""
    box_predictions.evaluation = evaluation
    box_predictions.groundtruth.classes[[0, 4]] = 2  # w,902 has no other box
    truth, found = (
        box_predictions.counted(rows) for rows in (box_predictions.groundtruth, box_predictions.detections())
    )
    assert (len(truth), len(found)) == (2, 24)
    write_groundtruth(tmp_path / "truth.csv", truth)
    write_detections(tmp_path / "found.csv", found)
    assert "v,0904" not in (tmp_path / "truth.csv").read_text() + (tmp_path / "found.csv").read_text()
    assert [line for line in (tmp_path / "truth.csv").read_text().splitlines() if line.count(",") == 1] == empty
    result = evaluate_ava_files(tmp_path / "truth.csv", tmp_path / "found.csv", evaluation=evaluation)
    assert 0 < box_predictions.metrics()["ava_map"] == pytest.approx(result["mAP@0.5"], abs=1e-12)


def test_every_box_is_listed_with_every_class(box_predictions):
    rows = box_predictions.detections()
    assert len(rows) == 30
    assert rows.scores.reshape(10, 3).tolist() == box_predictions.scores.tolist()
    assert rows.classes[3:6].tolist() == [1, 3, 7] and rows.key_frame[3:6].tolist() == [0, 0, 0]
    assert (rows.boxes[3:6] == box_predictions.boxes[1]).all()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"labels": np.zeros(3, int)}, r"scores \(40, 6\) do not go with labels \(3,\)"),
        ({"steps": np.zeros((40, 2, 5))}, r"steps \(40, 2, 5\)"),
        ({"variants": {"max": np.zeros((40, 5))}}, r"variant max \(40, 5\)"),
        ({"videos": ["a"]}, "1 videos for 40"),
        ({"class_names": ["a"]}, "1 class_names for 6"),
    ],
)
def test_what_does_not_fit_is_named(one_label, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(one_label, **change)


def test_boxes_that_do_not_fit(box_predictions):
    with pytest.raises(ValueError, match=r"scores \(10, 3\) do not go with boxes \(9, 4\), class_ids \(2,\)"):
        dataclasses.replace(box_predictions, boxes=np.zeros((9, 4)), class_ids=np.array([1, 2]))


@pytest.mark.parametrize("name", ["cut.npz", "cut.parquet", "text.npz", "text.parquet", "foreign.npz"])
def test_files_that_are_not_ours(one_label, tmp_path, name):
    path = tmp_path / name
    if name.startswith("cut"):
        one_label.save(path)
        path.write_bytes(path.read_bytes()[:-200])
    elif name.startswith("text"):
        path.write_text("some text\n")
    else:
        np.savez(path, scores=np.zeros(3))
    with pytest.raises(ValueError, match=f"{name} is not a whole file of predictions"):
        load(path)


def complaint(path):
    """Measure a file of predictions as tools/evaluate.py does; return the message of the ValueError, "" without."""
    try:
        predictions = load(path)
        predictions.metrics()
        predictions.class_table()
    except ValueError as error:
        return str(error)
    return ""


TYPES = ["f2", "f4", "f8", ">f4", "g", "i1", ">i8", "u8", "?", "c16", "U5", "S3", "M8[s]", "V4", [("a", "f4")]]
TEXTS = ["", "null", "[]", "3", '"text"', "{}", "[" * 10_000, '{"a":' * 10_000, "9" * 5000, "1e400", "NaN", "\udcff"]
# Other columns of the file: (name, type, shape), filled with one number; and other JSON: a key's value, or all of it.
COLUMNS = st.tuples(
    st.sampled_from(["scores", "labels", "paths", "steps", "variants/last", "boxes", "key_frame", "groundtruth.class"]),
    st.sampled_from(TYPES),
    st.lists(st.sampled_from([0, 1, 3, 6, 10, 40]), max_size=3).map(tuple),
    st.sampled_from([0, 1, -1, 7, float("nan"), float("inf")]),
)
VALUES = st.sampled_from([None, True, -1, 1e400, "x", "9" * 50, [], {}, [None], [[1]], ["a"] * 6, {"a": 1}, 2**70])
KEYS = st.sampled_from(["version", "kind", "class_names", "meta", "class_ids", "evaluation"])


def filled(type_name, shape, value):
    with np.errstate(invalid="ignore"):
        return np.full(shape, value).astype(np.dtype(type_name))


@pytest.mark.parametrize("kind", ["one_label", "several_labels", "box_predictions"])
def test_odd_content_is_measured_or_refused_in_one_line(kind, request, tmp_path):
    path = tmp_path / "p.npz"
    request.getfixturevalue(kind).save(path)
    with np.load(path) as arrays:
        sound = dict(arrays)
    about = json.loads(sound["about"].item())
    outcomes = []

    @settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=120,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        st.lists(COLUMNS, max_size=1), st.lists(st.tuples(KEYS, VALUES), max_size=1), st.none() | st.sampled_from(TEXTS)
    )
    def measure(columns, changes, text):
        odd = dict(sound)
        try:
            odd.update({name: filled(type_name, shape, value) for name, type_name, shape, value in columns})
        except (ValueError, TypeError, OverflowError):
            return  # NumPy has no such array
        text = json.dumps({**about, **dict(changes)}) if text is None else text
        np.savez(path, **{**odd, "about": text})
        outcomes.append(complaint(path))
        assert len(outcomes[-1].splitlines()) <= 1

    measure()
    assert "" in outcomes and len(set(outcomes)) > 20


@pytest.mark.parametrize("name", ["scores", "labels", "paths", "about"])
def test_a_file_that_lacks_something(one_label, tmp_path, name):
    one_label.save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz") as arrays:
        rest = {key: arrays[key] for key in arrays.files if key != name}
    np.savez(tmp_path / "p.npz", **rest)
    with pytest.raises(ValueError, match=f"p.npz is not a whole file of predictions: .*{name}"):
        load(tmp_path / "p.npz")


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_of_a_score_is_found(one_label, tmp_path, suffix, bit):
    one_label.scores = np.random.default_rng(3).random((40, 6)).astype(np.float32)
    path = tmp_path / f"p{suffix}"
    one_label.save(path)
    data = bytearray(path.read_bytes())
    data[data.index(one_label.scores[20:22].tobytes()) + bit] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is not a whole file of predictions"):
        load(path)


def test_arrays_in_the_byte_order_of_another_machine(one_label, tmp_path):
    one_label.save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz") as arrays:
        other = {key: a.astype(a.dtype.newbyteorder()) if a.dtype.kind in "fi" else a for key, a in arrays.items()}
    np.savez(tmp_path / "p.npz", **other)
    assert_same(load(tmp_path / "p.npz"), one_label)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["scores", "steps", "variants"])
def test_scores_that_are_no_numbers_are_saved_but_not_measured(one_label, tmp_path, where, value):
    array = {"scores": one_label.scores, "steps": one_label.steps[:, 1], "variants": one_label.variants["last"]}[where]
    array[7, 2] = value
    one_label.save(tmp_path / "p.npz")
    with pytest.raises(ValueError, match="1 of 40 videos are NaN or infinite.*: folder/video 7, ü.mp4"):
        load(tmp_path / "p.npz").metrics()
    if where == "scores":
        for measure in (one_label.class_table, one_label.confusion):
            with pytest.raises(ValueError, match="video 7"):
                measure()
    if where == "steps":
        with pytest.raises(ValueError, match="video 7"):
            one_label.step_values()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("variant", [False, True])
def test_scores_of_boxes_that_are_no_numbers(box_predictions, tmp_path, variant, value):
    (box_predictions.variants["last"] if variant else box_predictions.scores)[5, 1] = value
    box_predictions.save(tmp_path / "p.npz")
    with pytest.raises(ValueError, match="1 of 30 rows of detections are NaN or infinite.*: v, second 904"):
        load(tmp_path / "p.npz").metrics()


def test_other_mistakes_with_files(one_label, tmp_path):
    with pytest.raises(ValueError, match="end in .npz or .parquet"):
        one_label.save(tmp_path / "p.csv")
    with pytest.raises(FileNotFoundError, match="no file of predictions"):
        load(tmp_path / "p.npz")
    one_label.save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz") as arrays:
        changed = dict(arrays)
    changed["about"] = json.dumps({**json.loads(changed["about"].item()), "version": 9})
    np.savez(tmp_path / "p.npz", **changed)
    with pytest.raises(ValueError, match="version 9"):
        load(tmp_path / "p.npz")


@pytest.mark.slow
def test_without_pyarrow_npz_works_and_parquet_says_what_to_do(one_label, tmp_path):
    one_label.save(tmp_path / "p.npz")
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from slowfast.evaluation.predictions import load\n"
        f"p = load({str(tmp_path / 'p.npz')!r})\n"
        f"p.save({str(tmp_path / 'p.parquet')!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "ValueError: Parquet files need pyarrow" in done.stderr and "pip install pyarrow" in done.stderr
    assert not (tmp_path / "p.parquet").exists()


def rows_of(predictions, path):
    predictions.save_table(path)
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_table_for_people_tells_what_the_metrics_count(tmp_path):
    """Seven classes, of which two share the best score of a video."""
    scores = np.random.default_rng(0).random((40, 7)).round(1)
    labels = np.arange(40) % 7
    names = [*"abcdef", "=g"]
    videos = [f"folder, with comma/{number}.mp4" for number in range(40)]
    predictions = ClassificationPredictions(scores, labels, videos, class_names=names)
    rows = rows_of(predictions, tmp_path / "p.csv")
    assert [row["video"] for row in rows] == videos
    assert [row["label"] for row in rows] == [{"=g": "'=g"}.get(names[label], names[label]) for label in labels]
    correct = np.mean([int(row["correct"]) for row in rows])
    in_five = np.mean([row["label"] in [row[f"top{rank}"] for rank in range(1, 6)] for row in rows])
    metrics = predictions.metrics()
    assert (100 * correct, 100 * in_five) == (pytest.approx(metrics["top1_acc"]), pytest.approx(metrics["top5_acc"]))
    for row, values in zip(rows, scores, strict=True):
        found = [float(row[f"score{rank}"]) for rank in range(1, 6)]
        assert found == sorted(values, reverse=True)[:5]
        numbers = [names.index(row[f"top{rank}"].removeprefix("'")) for rank in range(1, 6)]
        assert values[numbers].tolist() == found


def test_the_table_of_several_labels_and_of_scores_that_are_no_numbers(tmp_path):
    scores = np.array([[0.25, 0.5], [0.5, 0.25], [0.5, np.nan]])
    labels = np.array([[1, 1], [0, 1], [0, 0]])
    rows = rows_of(ClassificationPredictions(scores, labels, ["x", "y", "z"]), tmp_path / "p.csv")
    assert [list(row.values()) for row in rows] == [
        ["x", "0; 1", "1", "1", "0.5", "0", "0.25"],
        ["y", "1", "0", "0", "0.5", "1", "0.25"],
        ["z", "", "", "", "", "", ""],
    ]
