"""The long-video benchmark: its parts as processes, its arithmetic, and its committed results."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from slowfast.apps.synthetic.cater.compositions import class_names
from slowfast.checkpoint.weights import load_weights
from slowfast.config import load_config
from slowfast.models import build_model

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "demo/long_video"
SHORT = ["--set", "sweep", "--quick", "--seconds", "0", "--seeds", "0"]
QUICK = [*SHORT, "--backbones", "slow", "--methods", "pgt_max", "lstm"]


def start(output, *arguments):
    """Run the benchmark into a folder; return the finished process."""
    command = [sys.executable, ROOT / "demo/long_video.py", "--output", output, "--results", output / "results"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=output)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return folder and output of a quick run of PGT and of an LSTM, which needs the clip model."""
    output = tmp_path_factory.mktemp("bench") / "out put"
    output.mkdir()
    done = start(output, *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    return output, done.stdout


@pytest.mark.slow
def test_every_part_of_a_run_leaves_its_result(finished):
    output, printed = finished
    runs = {path.stem: json.loads(path.read_text()) for path in (output / "results/sweep_0s").glob("*.json")}
    assert sorted(runs) == ["slow_clip_seed0", "slow_lstm_seed0", "slow_pgt_max_seed0"]
    for run in runs.values():
        assert {"date", "machine", "versions"} <= run.keys()
        assert run["train_cpu_seconds"] > 0 and run["peak_mib"] > 0
        for test in run["tests"].values():
            assert test["accuracy"] * 12 / 100 == pytest.approx(round(test["accuracy"] * 12 / 100), abs=1e-3)
    pgt = runs["slow_pgt_max_seed0"]
    assert (pgt["epochs"], pgt["updates"]) == (1, 3)  # 24 videos in batches of 8
    test = pgt["tests"]["whole video"]
    assert test["accuracy"] == test["all"][test["ensemble"]]
    views = runs["slow_clip_seed0"]["tests"]
    assert views["last clip"]["gflops_per_s"] * 10 == pytest.approx(views["10 views"]["gflops_per_s"])
    assert views["30 views"]["gflops_per_s"] == pytest.approx(3 * views["10 views"]["gflops_per_s"])
    # Five steps read 36 frames; ten clips read 80.
    share = test["gflops_per_s"] / views["10 views"]["gflops_per_s"]
    assert 0.35 < share < 0.65
    costs = json.loads((output / "results/sweep_0s/costs/slow_pgt_max.json").read_text())
    assert costs["peak_mib"] == pgt["peak_mib"] and costs["seconds"] * 3 == pytest.approx(pgt["train_cpu_seconds"])
    assert "| slow | PGT, max |" in printed and (output / "results/long_video_sweep_0s.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_complete_run_is_kept_and_a_missing_one_is_named(finished):
    output, _ = finished
    file = output / "results/sweep_0s/slow_pgt_max_seed0.json"
    before = file.stat().st_mtime_ns
    listed = start(output, *QUICK[:-1], "clip", "end_to_end", "--list")
    assert "2 of 3 runs are there" in listed.stdout and "end to end (seed 0)" in listed.stdout
    again = start(output, *QUICK)
    assert again.returncode == 0 and "2 of 2 runs are there" in again.stdout
    assert file.stat().st_mtime_ns == before


@pytest.mark.slow
def test_an_lstm_trains_the_clip_model_whose_weights_are_gone(finished):
    """After a clone the results are there, and the weights are not."""
    output, _ = finished
    shutil.rmtree(output / "sweep_0s/seed_0/slow_clip")
    file = output / "results/sweep_0s/slow_lstm_seed0.json"
    before = json.loads(file.read_text())
    file.unlink()
    done = start(output, *SHORT, "--backbones", "slow", "--methods", "lstm")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(file.read_text())["tests"] == before["tests"]


@pytest.mark.slow
def test_a_backbone_that_starts_from_masked_clips(finished):
    output, _ = finished
    done = start(output, *SHORT, "--backbones", "vit", "--methods", "pgt_max", "gradient_2")
    assert done.returncode == 0, done.stdout + done.stderr
    trained = output / "sweep_0s/seed_0/vit_start/checkpoints"
    (weights,) = trained.glob("ssl_checkpoint*")
    log = (output / "sweep_0s/seed_0/vit_pgt_max/train.log").read_text()
    assert str(weights) in log
    run = json.loads((output / "results/sweep_0s/vit_pgt_max_seed0.json").read_text())
    assert (run["epochs"], run["updates"]) == (1, 3)


@pytest.mark.slow
@pytest.mark.usefixtures("can_draw_scenes")
def test_a_set_with_several_labels_a_video_is_compared_by_map(tmp_path, demo_module):
    methods = ["--methods", "pgt_max", "clip"]
    done = start(tmp_path, "--set", "order", "--quick", "--seconds", "0", "--seeds", "0", *methods)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "results/order_0s").glob("*.json")}
    steps = runs["slow_pgt_max_seed0"]["tests"]["whole video"]
    views = runs["slow_clip_seed0"]["tests"]
    for folder, test in {f"pgt_max/test_1_{steps['ensemble']}": steps, "clip/test_30": views["30 views"]}.items():
        with np.load(tmp_path / f"order_0s/seed_0/slow_{folder}/test_predictions.npz") as predictions:
            scores, labels = predictions["scores"], predictions["labels"]
        assert len(labels) == 12
        assert test["accuracy"] == pytest.approx(100 * mean_average_precision(scores, labels), abs=1e-3)
        assert test["order"] == pytest.approx(pairs_in_order(scores, labels))
    assert list(views) == ["10 views", "30 views"]
    # Videos, start and costs are those of `small`.
    assert (tmp_path / "small_0s/seed_0/slow_start/trained.json").is_file()
    cost = json.loads((tmp_path / "results/small_0s/costs/slow_clip.json").read_text())
    assert cost["gflops"] * 1e9 == demo_module("long_video_cost").multiply_adds(load_config(str(CFGS["slow"][0])))
    assert "| backbone | method | mAP % |" in done.stdout


def mean_average_precision(scores, labels):
    """Mean over the classes that occur of the mean precision at each positive."""
    found = []
    for column in np.flatnonzero(labels.sum(axis=0)):
        hits = labels[np.argsort(-scores[:, column], kind="stable"), column]
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        found.append(precision[hits > 0].mean())
    return np.mean(found)


def pairs_in_order(scores, labels):
    """Percent of pairs "A before B", "B before A", one of which is there, where it has the higher score."""
    names, right = class_names(), []
    for first, name in enumerate(names):
        one, relation, other = name.partition(" before ")
        if not relation or one == other:
            continue
        second = names.index(f"{other} before {one}")
        for score, label in zip(scores, labels, strict=True):
            if label[first] and not label[second]:
                right.append(score[first] > score[second])
    return 100 * np.mean(right)


def test_what_a_set_cannot_have_is_refused(demo_module, capsys):
    parse = demo_module("long_video").parse_args
    assert "lstm" in parse([]).methods and "lstm" not in parse(["--set", "order"]).methods
    for words in (["--set", "order", "--methods", "lstm"], ["--set", "moving", "--backbones", "vit"]):
        with pytest.raises(SystemExit):
            parse(words)
        assert words[1] in capsys.readouterr().err.splitlines()[-1]


def test_memory_has_to_help_every_backbone(made_runs, demo_module):
    main = demo_module("long_video")
    off = [made_run("memory_off", 0, value, 20) | {"backbone": name} for name, value in (("slow", 60.0), ("vit", 80.0))]
    runs = [*off, *(dict(run, backbone=name) for run in made_runs[:1] for name in ("slow", "vit"))]
    assert main.check_gain(runs) == 1
    assert main.check_gain([run for run in runs if run["backbone"] == "slow"]) == 0


def test_epochs_are_the_nearest_to_the_seconds_and_at_least_one(demo_module):
    epochs_for = demo_module("long_video_plan").epochs_for
    assert [epochs_for(seconds, 30) for seconds in (0, 30, 44, 46, 90, 100)] == [1, 1, 1, 2, 3, 3]


def test_the_front_holds_what_nothing_beats(demo_module):
    front = demo_module("long_video_report").front
    generator = torch.Generator().manual_seed(0)
    points = [tuple(row) for row in torch.randint(0, 8, (25, 2), generator=generator).tolist()]

    def beaten(point):
        return any(o != point and o[0] <= point[0] and o[1] >= point[1] for o in points)

    assert front(points) == sorted({point for point in points if not beaten(point)})


@pytest.mark.parametrize("pgt, status", [(80.0, 0), (55.0, 1)])
def test_a_memory_that_does_not_help_fails_the_check(pgt, status, demo_module):
    runs = [made_run(name, 0, value, 20) for name, value in {"pgt_max": pgt, "memory_off": 50.0}.items()]
    assert demo_module("long_video").check_gain(runs) == status


def test_the_check_compares_means_over_seeds(demo_module):
    """40 and 0 points: 20 are enough."""
    values = {"pgt_max": (90.0, 50.0), "memory_off": (50.0, 50.0)}
    runs = [made_run(name, seed, value, 20) for name, found in values.items() for seed, value in enumerate(found)]
    assert demo_module("long_video").check_gain(runs) == 0
    assert demo_module("long_video").check_gain([*runs, made_run("memory_off", 2, 51.0, 20)]) == 1


@pytest.mark.parametrize("words", [["--quick"], ["--seeds", "0", "--", "SOLVER.BASE_LR", "1"]])
def test_runs_of_other_settings_do_not_go_into_the_committed_results(words, demo_module, tmp_path):
    with pytest.raises(SystemExit):
        demo_module("long_video").parse_args(words)
    assert demo_module("long_video").parse_args(["--results", str(tmp_path), *words]).results == tmp_path


def test_an_epoch_that_was_done_twice_counts_once(demo_module, tmp_path):
    rows = [{"_type": "train_iter", "iter": "1/2"}]
    rows += [{"_type": "train_epoch", "epoch": f"{epoch}/3", "epoch_seconds": 1.0} for epoch in (1, 2, 2, 3)]
    (tmp_path / "json_stats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = demo_module("sweep_jobs").read_training(tmp_path)
    assert found == {"updates": 6, "train_seconds": 3.0}


def test_energy_is_read_where_there_is_a_counter(tmp_path, demo_module):
    read_joules = demo_module("long_video_cost").read_joules
    assert read_joules(tmp_path) is None
    for number, value in enumerate((2_000_000, 3_500_000)):
        (tmp_path / f"intel-rapl:{number}").mkdir()
        (tmp_path / f"intel-rapl:{number}/energy_uj").write_text(f"{value}\n")
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of the first one
    (tmp_path / "intel-rapl:0:0/energy_uj").write_text("9000000\n")
    assert read_joules(tmp_path) == pytest.approx(5.5)


def test_the_lstm_remembers_the_first_clip(demo_module):
    """The label is in the first of five clips; a model of single clips that averages their scores reads it too, but a
    model of the last clip does not.
    """
    generator = torch.Generator().manual_seed(0)

    def split(count):
        x, labels = torch.randn(count, 5, 8, generator=generator), torch.arange(count) % 4
        x[:, 0, :4] += 4 * torch.nn.functional.one_hot(labels, 4)
        return x, labels

    splits = {"train": split(256), "val": split(64), "test": split(256)}
    result = demo_module("long_video_lstm").train(splits, classes=4, epochs=20, seed=0)
    assert result["test"] > 80 and result["clips"] == 5


CFGS = {
    "slow": (
        ROOT / "configs/Synthetic/CATER_SLOW_8x8.yaml",
        ROOT / "projects/pgt/configs/Synthetic/CATER_PGT_37x8.yaml",
    ),
    "order": (
        ROOT / "configs/Synthetic/CATER_ORDER_SLOW_8x8.yaml",
        ROOT / "projects/pgt/configs/Synthetic/CATER_ORDER_PGT_37x8.yaml",
    ),
    "vit": (
        ROOT / "configs/Synthetic/CATER_VIT_8x8.yaml",
        ROOT / "projects/pgt/configs/Synthetic/CATER_VIT_PGT_36x8.yaml",
    ),
    "vit, sweep": (
        ROOT / "configs/Synthetic/SWEEP_VIT_8x1.yaml",
        ROOT / "projects/pgt/configs/Synthetic/SWEEP_VIT_PGT_36x1.yaml",
    ),
}
# Positions: 4 of a clip and 6 of a step in time, of 64 channels. Those of the set after CATER are apart from space.
POSITIONS = {"slow": 0, "order": 0, "vit": (6 - 4) * 64, "vit, sweep": (6 - 4) * 4 * 4 * 64}


@pytest.mark.parametrize("backbone", CFGS)
def test_clip_and_steps_are_of_one_model_and_one_recipe(backbone):
    clip, steps = (load_config(str(path)) for path in CFGS[backbone])
    sizes = [sum(parameter.numel() for parameter in build_model(cfg).parameters()) for cfg in (clip, steps)]
    assert sizes[1] - sizes[0] == POSITIONS[backbone]
    clip_data, steps_data = dict(clip.DATA), dict(steps.DATA)
    assert (clip_data.pop("NUM_FRAMES"), steps_data.pop("NUM_FRAMES")) == (8, 36 if "vit" in backbone else 37)
    assert clip_data == steps_data
    assert (clip.SOLVER, clip.TRAIN.BATCH_SIZE) == (steps.SOLVER, steps.TRAIN.BATCH_SIZE)


HEAD = {"head.projection.weight", "head.projection.bias"}
CHANGED = {"slow": set(), "vit": {"pos_embed_temporal"}, "order": HEAD}


@pytest.mark.parametrize("backbone", CHANGED)
def test_all_methods_can_start_from_clips_of_two_frames(backbone, demo_module):
    """All weights are taken; positions in time are interpolated, and the order of actions has a head of its own."""
    starts = demo_module("long_video_plan").SETS["order" if backbone == "order" else "small"].starts
    start_cfg = load_config(str(starts["vit" if backbone == "vit" else "slow"]))
    weights = build_model(start_cfg).state_dict()
    assert start_cfg.DATA.NUM_FRAMES == 2
    for path in CFGS[backbone]:
        model = build_model(load_config(str(path)))
        report = load_weights(model, dict(weights), "start", drop_classifier=backbone == "order")
        taken = model.state_dict()
        changed = {name for name in weights if not torch.equal(weights[name], taken[name])}
        assert report.is_exact == (backbone != "order")
        assert changed == CHANGED[backbone]


def test_the_documents_show_the_committed_results(demo_module):
    report = demo_module("long_video_report")
    page = (ROOT / "docs/long_video.md").read_text()
    for name, mine in report.read_results(RESULTS).items():
        assert report.format_set(name, mine) in page
        assert not mine.runs or (ROOT / f"docs/long_video_{name}.png").is_file()


def test_groups_by_slides_make_up_the_accuracy(demo_module):
    """Both are of the same scores, whatever ensemble of the steps is chosen."""
    results = demo_module("long_video_report").read_results(RESULTS)
    tests = [test for mine in results.values() for run in mine.runs for test in run["tests"].values()]
    grouped = [test for test in tests if "by_slides" in test]
    assert grouped
    for test in grouped:
        groups = test["by_slides"].values()
        right = sum(count * accuracy for count, accuracy in groups) / sum(count for count, _ in groups)
        assert right == pytest.approx(test["accuracy"])


def made_run(method, seed, accuracy, peak_mib):
    """A complete run, as the benchmark writes it."""
    test = {"accuracy": accuracy, "val_accuracy": accuracy, "gflops_per_s": 0.5}
    last = {"accuracy": accuracy + 5, "gflops_per_s": 0.05}
    tests = {"10 views": test, "30 views": test, "last clip": last} if method == "clip" else {"whole video": test}
    cost = {"epochs": 3, "updates": 225, "train_cpu_seconds": 100.0, "peak_mib": peak_mib, "joules": None}
    where = {"date": "2026-11-29T12:00:00+00:00", "machine": {"processor": "a", "cores": 2}, "versions": {"torch": "2"}}
    run = {"set": "sweep", "backbone": "slow", "method": method, "seed": seed, "budget": 100.0, "tests": tests}
    return {**run, **cost, **where}


@pytest.fixture
def made_runs():
    """Runs of which PGT beats the clip model by 40 points and takes a quarter of the memory of end to end."""
    values = [("pgt_max", 90.0, 25), ("clip", 50.0, 20), ("end_to_end", 89.0, 100)]
    return [made_run(name, seed, value + seed, mib) for name, value, mib in values for seed in (0, 2)]


def test_the_table_has_means_deviations_and_goals(made_runs, demo_module):
    report = demo_module("long_video_report")
    elsewhere = report.format_set("sweep_100s", report.Results(made_runs, []))
    assert "+40.0 points" in elsewhere and "goal" not in elsewhere  # that of `small`
    made_runs = [run | {"set": "small"} for run in made_runs]
    costs = [{**run, "seconds": 0.5} for run in made_runs if run["seed"] == 0]
    text = report.format_set("sweep_100s", report.Results(made_runs, costs))
    assert "| slow | PGT, max | 0.50 | 25 | 0.25 |" in text
    costs[0]["joules"] = 12.34
    text_with_energy = report.format_set("sweep_100s", report.Results(made_runs, costs))
    assert "| slow | PGT, max | 0.50 | 25 | 0.25 | 12.3 |" in text_with_energy
    assert "| slow | PGT, max | 91.0 ± 1.4 | 2 | 3 | 100 | 25 | 0.500 |" in text  # of 90 and 92
    assert "+40.0 points" in text and "+35.0 points from the clip model's last clip" in text
    assert text.count(": met.") == 2
    full = made_run("full_gradient", 0, 99.0, 200)
    assert "(PGT, max) is +40.0 points" in report.format_set("sweep_100s", report.Results([*made_runs, full], []))
    # Chosen on the validation videos: there the other memory is better.
    others = [made_run("pgt_last", seed, 80.0, 25) for seed in (0, 2)]
    for other in others:
        other["tests"]["whole video"]["val_accuracy"] = 99.0
    assert "(PGT, last) is +29.0 points" in report.format_set("sweep_100s", report.Results([*made_runs, *others], []))
    # One seed is not compared with the mean of two.
    assert "(PGT, max) is +40.0 points" in report.format_set("sweep_100s", report.Results([*made_runs, others[0]], []))
    worse = [dict(run, peak_mib=50) if run["method"] == "pgt_max" else run for run in made_runs]
    assert report.format_set("sweep_100s", report.Results(worse, [])).count(": missed.") == 1


def test_accuracies_are_grouped_by_slides(tmp_path, made_runs, demo_module):
    """Of seven videos with 0, 0, 1, 2, 3, 4 and 6 slides."""
    main, report = demo_module("long_video"), demo_module("long_video_report")
    benchmark = main.Benchmark(main.parse_args(["--data", str(tmp_path)]), main.SETS["small"])
    assert benchmark.by_slides([1] * 7) == {}
    (tmp_path / "small").mkdir()
    (tmp_path / "small/test_facts.csv").write_text("slides_after\n0\n0\n1\n2\n3\n4\n6\n")
    groups = benchmark.by_slides([1, 0, 1, 0, 1, 1, 0])
    assert groups == {"by_slides": {"0": (2, 50), "1": (1, 100), "2": (1, 0), "3": (3, pytest.approx(200 / 3))}}
    for run in made_runs:
        run["tests"] = {name: test | groups for name, test in run["tests"].items()}
    lines = report.format_slides(made_runs)
    assert lines[2] == "| backbone | method | 0 (2 videos) | 1 (1 videos) | 2 (1 videos) | 3+ (3 videos) |"
    assert lines.count("| slow | PGT, max | 50 | 100 | 0 | 67 |") == 1


@pytest.mark.parametrize(("name", "metric", "unit"), [("sweep", "top1_acc", 1.0), ("order", "map", 0.01)])
def test_steps_are_tested_with_the_ensemble_of_the_validation_videos(
    name, metric, unit, tmp_path, monkeypatch, demo_module
):
    """Here `max`, which is neither the first nor that of the file."""
    main, runs = demo_module("long_video"), demo_module("long_video_runs")
    words = ["--data", str(tmp_path), "--output", str(tmp_path), "--results", str(tmp_path), "--set", name]
    run = runs.Run(main.Benchmark(main.parse_args(words), main.SETS[name]), "slow", main.METHOD_OF["pgt_max"], 0)
    percents = {"sum": 50.0, "max": 75.0, "last": 25.0}
    before = class_names().index("slide snitch before slide cube")

    def test(self, views, data, name, settings=()):
        folder = self._folder / name
        folder.mkdir(parents=True)
        (folder / "test_predictions.csv").write_text("correct\n1\n0\n")
        labels = np.zeros((1, 301))
        labels[0, before] = 1
        np.savez(folder / "test_predictions.npz", scores=labels, labels=labels)
        chosen = dict(zip(settings[::2], settings[1::2], strict=True)).get("PGT.ENSEMBLE_METHOD", "sum")
        scores = {f"{ensemble}/{metric}": unit * percent for ensemble, percent in percents.items()}
        return scores | {metric: unit * percents[chosen]}

    monkeypatch.setattr(runs.Run, "_train", lambda self: {})
    monkeypatch.setattr(runs.Run, "cost", lambda self: {"gflops": 9.0, "peak_mib": 1.0, "joules": None})
    monkeypatch.setattr(runs.Run, "_test", test)
    tested = run._measure()["tests"]["whole video"]
    assert (tested["ensemble"], tested["accuracy"], tested["val_accuracy"]) == ("max", 75.0, 75.0)
    assert tested["all"] == percents
    assert tested.get("order") == (100.0 if name == "order" else None)


def test_a_backbone_has_a_row_of_panels(made_runs, demo_module):
    report = demo_module("long_video_report")
    others = [made_run("pgt_max", 0, 70.0, 30) | {"backbone": "vit"}]
    axes = report.draw("sweep_100s", report.rows_of([*made_runs, *others])).axes
    assert len(axes) == 6
    numbers = [[text.get_text() for text in panel.texts] for panel in axes]
    assert numbers == [["1", "2", "3", "4", "5"]] * 3 + [["6"]] * 3


def test_a_page_gets_its_tables(tmp_path, made_runs, demo_module):
    report = demo_module("long_video_report")
    found, page = {"sweep_100s": report.Results(made_runs, [])}, tmp_path / "page.md"
    page.write_text("first\n<!-- results -->\nold\n<!-- end of results -->\nlast\n")
    for _ in range(2):  # twice is the same
        text = report.write_report(found, tmp_path, page)
        assert page.read_text() == f"first\n<!-- results -->\n\n{text}\n<!-- end of results -->\nlast\n"
    assert (tmp_path / "long_video_sweep_100s.png").is_file()
    page.write_text("no marks")
    with pytest.raises(ValueError, match="no lines"):
        report.write_report(found, tmp_path, page)


def test_seeds_of_a_set_were_trained_alike(demo_module):
    for results in demo_module("long_video_report").read_results(RESULTS).values():
        runs = results.runs
        assert len({run["budget"] for run in runs}) <= 1
        for one, other in itertools.combinations(runs, 2):
            if (one["backbone"], one["method"]) == (other["backbone"], other["method"]):
                assert one["seed"] != other["seed"]
