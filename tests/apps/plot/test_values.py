"""What is drawn is what the files hold."""

import json

import numpy as np
import pytest

from slowfast.apps.plot.ava import RECALLS, Detections, area, curve_lines, draw_precision_recall
from slowfast.apps.plot.classes import draw_classes, read_classes
from slowfast.apps.plot.confusion import draw_confusion, join_groups, read_confusion, worst_pairs
from slowfast.apps.plot.cost import MEMORY, SECONDS, draw_cost, read_cost
from slowfast.apps.plot.curves import draw_curves, read_curves
from slowfast.apps.plot.report import draw_report
from slowfast.apps.plot.steps import draw_steps, read_lengths, read_steps
from slowfast.evaluation.report import Report


def drawn(axes):
    """Return {name in the legend: (x, y)} of the lines of an axes."""
    found = {}
    for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
        line = handle[0] if hasattr(handle, "has_yerr") else handle
        found[name] = (list(line.get_xdata()), list(line.get_ydata()))
    return found


def panels(figure):
    """Return the first axes of each plot of a figure of several."""
    return [panel.axes[0] for row in figure.subfigs for panel in row.subfigs]


def error_bars(axes):
    """Return (low, high) of each error bar of the containers of an axes."""
    return [[tuple(ends[:, 1]) for ends in box.lines[2][0].get_segments()] for box in axes.containers]


def bars(axes):
    """Return the widths of the bars of each container of an axes."""
    return [[bar.get_width() for bar in box] for box in axes.containers]


def test_curves_of_seeds_are_their_mean_with_the_deviation_as_a_band(run_folder):
    folders = [run_folder("a", (3, 2, 1)), run_folder("b", (5, 2, 3))]
    lines = read_curves([("PGT", folders), ("clip", folders[:1])], "loss")
    axes = draw_curves(lines, "loss", 3.25).axes[0]
    assert drawn(axes) == {"PGT": ([1, 2, 3], [4, 2, 2]), "clip": ([1, 2, 3], [3, 2, 1])}
    (band,) = axes.collections
    edges = band.get_paths()[0].vertices
    deviation = np.std([[3, 2, 1], [5, 2, 3]], axis=0, ddof=1)
    for epoch, mean, off in zip((1, 2, 3), (4, 2, 2), deviation, strict=True):
        assert {mean - off, mean + off} <= set(edges[edges[:, 0] == epoch, 1])


def test_any_key_of_any_kind_smoothed(run_folder):
    folder = run_folder("a")
    (line,) = read_curves([("a", [folder])], "top1_acc")  # of the validation, the only kind that has it
    assert (line.x.tolist(), line.mean.tolist()) == ([1, 2, 3], [10, 20, 30])
    first, second = read_curves([("a", [folder])], "loss", ["train_iter", "train_epoch"], smooth=3)
    assert first.x.tolist() == [0.5, 1, 1.5, 2, 2.5, 3]
    raw = [4, 5, 3, 4, 2, 3]
    assert first.raw.tolist() == raw
    assert first.mean == pytest.approx([np.mean(raw[max(0, i - 1) : i + 2]) for i in range(6)])
    assert first.name != second.name


def test_a_resumed_run_counts_as_it_was_last_and_a_half_line_does_not(run_folder, tmp_path):
    folder = run_folder("a")
    with open(f"{folder}/json_stats.jsonl", "a") as stream:
        stream.write('{"_type": "train_epoch", "epoch": "2/3", "loss": 9.0}\n')
        stream.write('{"_type": "train_epoch", "epoch": "3/3", "loss": null}\n{"_type": "train_ep')
    (line,) = read_curves([("a", [folder])], "loss")
    assert line.mean.tolist() == [3, 9, 1]


def test_steps_of_seeds_have_error_bars(run_folder):
    results = [{"step1/map": 0.2, "step2/map": 0.6, "map": 0.7}, {"step1/map": 0.4, "step2/map": 0.6, "map": 0.7}]
    folders = [run_folder(str(n), results=part) for n, part in enumerate(results)]
    lines, metric = read_steps([("PGT", folders)])
    axes = draw_steps(lines, metric, 3.25).axes[0]
    assert (metric, axes.get_ylabel()) == ("map", "mAP")
    (name, (x, y)), off = next(iter(drawn(axes).items())), np.std([0.2, 0.4], ddof=1)
    assert (name, x) == ("PGT", [1, 2]) and y == pytest.approx([0.3, 0.6])
    assert np.array(error_bars(axes)) == pytest.approx(np.array([[[0.3 - off, 0.3 + off], [0.6, 0.6]]]))
    assert axes.get_ylim()[1] > 0.6  # lines that are drawn aside count for the limits


def test_steps_of_the_demo_are_joined_by_method(tmp_path):
    runs = [
        {"name": "pgt", "title": "PGT", "seed": 0, "accuracy": {"steps": [20.0, 90.0], "sum": 90.0}},
        {"name": "pgt", "title": "PGT", "seed": 1, "accuracy": {"steps": [30.0, 80.0], "sum": 90.0}},
        {"name": "clip", "title": "clip model", "seed": 0, "accuracy": {"views": 50.0}},
    ]
    (tmp_path / "results.json").write_text(json.dumps({"runs": runs}))
    (line,), metric = read_steps([("demo", [str(tmp_path / "results.json")])])
    assert (line.name, line.mean.tolist(), line.seeds, metric) == ("PGT", [25, 85], 2, "top1_acc")


def test_lengths_are_frames_of_the_config_or_numbers_of_clips(run_folder):
    folders = [run_folder(f"{n}_{s}", results={"top1_acc": n + s}, frames=n) for n in (8, 36) for s in (0, 2)]
    (line,), metric, along = read_lengths([("PGT", folders)])
    axes = draw_steps([line], metric, 3.25, along=along).axes[0]
    assert drawn(axes) == {"PGT": ([8, 36], [9, 37])} and axes.get_xlabel() == "frames of a clip"
    clips = run_folder("clips", results={"top1_acc": 4, "by_temporal_clips": {"10": {"map": 0.5}, "1": {"map": 0.25}}})
    (line,), metric, along = read_lengths([("clip", [clips])])
    assert (line.x.tolist(), line.mean.tolist(), metric, along) == ([1, 10], [0.25, 0.5], "map", "clips of a video")
    with pytest.raises(ValueError, match="as many results"):
        read_lengths([("PGT", folders[:3])])
    with pytest.raises(ValueError, match="draw them apart"):
        read_lengths([("PGT", folders), ("clip", [clips])])


def test_confusion_holds_the_counts(predictions, tmp_path):
    made = predictions()
    made.save(tmp_path / "p.npz")
    Report.from_predictions(made).write(str(tmp_path))
    for path in (tmp_path / "p.npz", tmp_path / "confusion.csv", tmp_path):
        names, counts = read_confusion(str(path))
        assert names == made.class_names and counts.tolist() == made.confusion().tolist()
    axes = panels(draw_confusion(names, counts, 3.25))[0]
    samples = counts.sum(axis=1, keepdims=True)
    assert np.array(axes.images[0].get_array()) == pytest.approx(100 * counts / samples)
    written = {(int(t.get_position()[1]), int(t.get_position()[0])): int(t.get_text()) for t in axes.texts}
    assert written == {place: count for place, count in np.ndenumerate(counts) if count}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")


def test_worst_pairs_and_groups():
    names = ["a", "b", "c", "d"]
    counts = np.array([[5, 4, 0, 1], [0, 9, 0, 1], [0, 0, 10, 0], [7, 0, 3, 0]])
    assert worst_pairs(counts, 3) == [(3, 0), (0, 1), (3, 2)]
    assert len(worst_pairs(counts, 9)) == 5
    pairs = panels(draw_confusion(names, counts, 3.25, pairs=2))[1]
    assert bars(pairs) == [[7, 4]]
    assert [label.get_text() for label in pairs.get_yticklabels()] == ["d → a", "a → b"]
    assert [text.get_text() for text in pairs.texts] == ["7 of 10", "4 of 10"]
    joined = join_groups(names, counts, {"first": ["a", "b"], "none": ["x"], "second": ["d", "c"]})
    assert (joined[0], joined[1].tolist()) == (["first", "second"], [[18, 2], [7, 13]])
    with pytest.raises(ValueError, match="'d'"):
        join_groups(names, counts, {"all": ["a", "b", "c"]})
    with pytest.raises(ValueError, match="two groups"):
        join_groups(names, counts, {"one": names, "two": ["a"]})


def test_bars_of_classes_and_their_difference(predictions, tmp_path):
    first, second = predictions(), predictions(seed=1)
    first.save(tmp_path / "first.npz")
    Report.from_predictions(second).write(str(tmp_path))
    methods = [read_classes("clip", str(tmp_path / "first.npz")), read_classes("PGT", str(tmp_path / "classes.csv"))]
    left, right = draw_classes(methods, 3.25).axes
    tables = [made.class_table().set_index("class")["value"] for made in (first, second)]
    order = sorted(first.class_names, key=lambda name: tables[0][name] - tables[1][name])
    assert bars(left) == [pytest.approx([table[name] for name in order]) for table in tables]
    assert bars(right) == [pytest.approx([tables[1][name] - tables[0][name] for name in order])]
    few = draw_classes(methods, 3.25, most=3).axes[1]
    assert bars(few) == [pytest.approx([tables[1][name] - tables[0][name] for name in [*order[:2], order[-1]]])]


def test_memory_and_time_by_length(tmp_path):
    points = [
        {"point": f"DATA.NUM_FRAMES {n} 'PGT.STEPS' {n // 7}", "seconds": n / 10, "peak_mib": 3.0 * n} for n in (64, 8)
    ]
    (tmp_path / "points.json").write_text(json.dumps(points))
    found = read_cost([("PGT", [str(tmp_path / "points.json")])])
    memory, seconds = draw_cost(found, 3.25).axes
    assert drawn(memory) == {"PGT": ([8, 64], [24, 192])} and memory.get_ylabel() == MEMORY
    assert drawn(seconds) == {"PGT": ([8, 64], [0.8, 6.4])} and seconds.get_ylabel() == SECONDS
    steps = [{"steps": 1, "frames": 8, "peak_mib": {"baseline": 9, "bf16": 5}}]
    steps.append({"steps": 5, "frames": 36, "peak_mib": {"baseline": None, "bf16": 6}})
    (tmp_path / "steps.json").write_text(json.dumps({"memory_by_steps": steps}))
    found = read_cost([("s", [str(tmp_path / "steps.json")])])
    assert list(found) == [MEMORY]
    assert {line.name: (line.x.tolist(), line.mean.tolist()) for line in found[MEMORY]} == {
        "baseline, end to end": ([8], [9]),
        "bf16": ([8, 36], [5, 6]),
    }
    (tmp_path / "results.json").write_text(json.dumps({"memory": [{"method": "PGT", "frames": 8, "peak_mib": 21}]}))
    assert read_cost([("demo", [str(tmp_path)])])[MEMORY][0].mean.tolist() == [21]


def test_precision_and_recall_have_the_average_precision_below_them(boxes, tmp_path, repo):
    boxes.save(tmp_path / "p.npz")
    found = Detections.read(str(tmp_path / "p.npz"))
    curves = found.curves()
    assert {name: area(curve) for name, curve in curves.items()} == {"stand": 1.0, "sit": 0.5}
    (line,) = curve_lines([("PGT", found)])
    assert line.name == "PGT (mAP 0.750)" and line.mean == pytest.approx(np.full(len(RECALLS), 0.75))
    assert list(drawn(draw_precision_recall([line], 3.25).axes[0]).values())[0][1] == line.mean.tolist()
    folder = repo / "tests/fixtures/ava_small"
    names = [str(folder / f"{name}.csv") for name in ("detections", "groundtruth", "excluded")]
    for evaluation in ("pyslowfast", "activitynet"):
        made = Detections.read(*names, evaluation=evaluation)
        report = Report.from_ava(made.groundtruth, made.detections, set(made.excluded), evaluation=evaluation)
        expected = {row["class"]: row["value"] for _, row in report.classes.iterrows() if row["samples"]}
        areas = {name: area(curve) for name, curve in made.curves().items()}
        assert areas == pytest.approx(expected)
        # The mean over classes is drawn on a grid of 1001 recalls.
        (line,) = curve_lines([("x", made)])
        assert np.trapezoid(line.mean, line.x) == pytest.approx(report.metrics["ava_map"], abs=2e-3)


def test_precision_of_a_class_that_is_not_reached_is_zero(boxes, tmp_path):
    boxes.scores = np.array([[0.9, 0.1], [0.8, 0.2]])
    boxes.groundtruth.classes[:] = 1
    boxes.groundtruth.boxes[1] = [0, 0, 0.2, 0.2]  # no box finds it
    boxes.save(tmp_path / "p.npz")
    (line,) = curve_lines([("PGT", Detections.read(str(tmp_path / "p.npz")))], ["stand"])
    assert line.name == "stand (AP 0.500)"
    assert set(line.mean[RECALLS <= 0.5]) == {1.0} and set(line.mean[RECALLS > 0.5]) == {0.0}
    with pytest.raises(ValueError, match="stand"):
        curve_lines([("PGT", Detections.read(str(tmp_path / "p.npz")))], ["sit"])


def test_the_report_shows_steps_and_ways_of_joining_them(predictions):
    report = Report.from_predictions(predictions())
    steps = panels(draw_report(report))[0]
    lines = drawn(steps)
    assert lines.pop("after each step") == ([1, 2, 3, 4], report.steps)
    assert sorted(y[0] for _, y in lines.values()) == pytest.approx(sorted(report.joined.values()))
    labels = predictions(classes=3, several=True, steps=1)
    shown = panels(draw_report(Report.from_predictions(labels)))[1]
    assert bars(shown)[0] == pytest.approx(sorted(labels.class_table()["value"], reverse=True))
