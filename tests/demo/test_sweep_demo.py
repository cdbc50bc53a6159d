"""The demo as a process of its own, at a size at which nothing is learned but every part runs."""

import json
from pathlib import Path

import av
import pytest
import torch

from slowfast.checkpoint.io import find_checkpoints

ROOT = Path(__file__).resolve().parents[2]
METHODS = ["clip", "pgt", "memory_off"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory, quick_demo) -> tuple[Path, str]:
    """Return folder and output of a quick demo."""
    output = tmp_path_factory.mktemp("demo") / "out put"
    done = quick_demo("sweep", output)
    assert done.returncode == 0, done.stdout + done.stderr
    return output, done.stdout


@pytest.mark.slow
def test_results_are_complete(demo):
    output, _ = demo
    results = json.loads((output / "results.json").read_text())
    assert {"date", "machine", "versions", "seconds"} <= results.keys()
    assert sorted(run["name"] for run in results["runs"]) == sorted(METHODS)
    for run in results["runs"]:
        assert run["updates"] == 3 and run["train_seconds"] > 0 and run["process_peak_mib"] > 100
        for name, value in run["accuracy"].items():
            for percent in value if name == "steps" else [value]:
                # 12 test videos
                assert percent * 12 / 100 == pytest.approx(round(percent * 12 / 100))
    off = next(run["accuracy"] for run in results["runs"] if run["name"] == "memory_off")
    assert off["last_wiped"] == off["last_swapped"] == off["last"]
    assert len(off["steps"]) == 5 and off["steps"][-1] == off["last"]


@pytest.mark.slow
def test_memory_is_measured(demo):
    output, _ = demo
    peaks = {
        (p["method"], p["frames"]): p["peak_mib"] for p in json.loads((output / "results.json").read_text())["memory"]
    }
    assert 0 < peaks["PGT", 36] < peaks["end to end", 36]


@pytest.mark.slow
def test_table_and_folder_are_shown(demo):
    output, printed = demo
    table = (output / "table.txt").read_text()
    assert table.strip() in printed
    for words in ("clip model, 10 views", "PGT, sum over steps", "memory wiped", "memory off", "peak MiB", "updates"):
        assert words in table
    assert printed.strip().splitlines()[-2].endswith(str(output))


@pytest.mark.slow
def test_plots_checkpoints_and_logs_are_left(demo):
    output, _ = demo
    for name in ("accuracy.png", "memory.png", "videos.png"):
        with av.open(str(output / name)) as image:
            pixels = next(image.decode(video=0)).to_ndarray(format="rgb24")
        assert min(pixels.shape[:2]) > 100 and pixels.std() > 5
    for method in METHODS:
        folder = output / "seed_0" / method
        assert find_checkpoints(str(folder))
        assert list(folder.rglob("events.out.tfevents.*"))
        assert (folder / "run.log").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize("name, options", [("sweep", []), ("data", ["--sets", "kinetics"])], ids=["sweep", "data"])
def test_a_part_that_fails_ends_either_demo_with_its_output(name, options, tmp_path, quick_demo):
    done = quick_demo(name, tmp_path, *options, "--", "NO.SUCH_KEY", "1")
    assert done.returncode == 1
    assert "NO.SUCH_KEY" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "results.json").exists()


def test_donors_have_another_label(demo_module):
    score = demo_module("sweep_score")
    for seed in range(50):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, 4, (17,), generator=generator)
        if labels.bincount().max() > 8:
            continue
        donors = score.draw_donors(labels, generator)
        assert sorted(donors.tolist()) == list(range(17))
        assert (labels[donors] != labels).all()
    with pytest.raises(ValueError, match="3 of 5 videos"):
        score.draw_donors(torch.tensor([1, 1, 1, 0, 2]), torch.Generator())


@pytest.mark.parametrize(
    ("low", "high", "value", "verdict"),
    [
        (95, None, 95, "met"),
        (95, None, 94.9, "missed"),
        (None, 40, 41, "missed"),
        (45, 65, 50, "met"),
        (45, 65, 44, "missed"),
    ],
)
def test_verdicts(low, high, value, verdict, demo_module):
    plan = demo_module("sweep_plan")
    assert plan.Row("pgt", "sum", "a row", low, high).verdict(value) == verdict
    assert plan.Row("pgt", "sum", "a row").verdict(value) == ""


def test_bars_are_the_accuracies_of_the_rows(demo_module):
    pytest.importorskip("matplotlib")
    rows = [
        {"title": "clip model", "experiment": "clip", "metric": "views", "accuracy": 58.1, "spread": 2.9},
        {"title": "PGT", "experiment": "pgt", "metric": "sum", "accuracy": 99.7, "spread": None},
    ]
    (axes,) = demo_module("sweep_report").draw_accuracy(rows).axes
    (bars,) = (box for box in axes.containers if hasattr(box, "patches"))
    assert [bar.get_width() for bar in bars] == [58.1, 99.7]
    assert {"58.1 ± 2.9", "99.7", "chance"} <= {text.get_text() for text in axes.texts}


@pytest.mark.slow
def test_its_last_step_is_a_montage(demo):
    image = pytest.importorskip("PIL.Image")
    output, printed = demo
    assert f"3. One video as both models see it: {output / 'montage.gif'}" in printed
    with image.open(output / "montage.gif") as picture:
        assert (picture.n_frames, picture.size) == (36 + 5 + 6, (800, 400))


def test_the_montage_of_the_same_models_is_the_same(demo_module, tmp_path):
    image = pytest.importorskip("PIL.Image")
    montage = demo_module("sweep_montage")
    models = ("zoo://sweep_pgt_36x1", "zoo://sweep_slow_8x1", {"pgt": 99.8, "clip": 60.2})
    for name in ("a", "b"):
        montage.write_montage(tmp_path / name, *models, candidates=1)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with image.open(tmp_path / "a") as picture:
        shown = []
        for number in range(picture.n_frames):
            picture.seek(number)
            shown.append(picture.info["duration"])
    assert shown == [180] * 36 + [80] * 5 + [600] * 5 + [3000]


def test_the_readme_opens_with_a_small_animation(repo):
    image = pytest.importorskip("PIL.Image")
    path = repo / "docs/montage.gif"
    assert "docs/montage.gif" in (repo / "README.md").read_text().split("##")[0]
    assert path.stat().st_size < 600_000
    with image.open(path) as picture:
        assert picture.is_animated
        assert picture.info["loop"] == 0
