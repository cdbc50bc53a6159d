"""Results are matched with rows by their settings, and stand beside the published figures."""

import io
import json
import os
import statistics
from pathlib import Path

import pandas as pd
import pytest

from slowfast.apps.paper.measured import find_results
from slowfast.apps.paper.rows import read_paper
from slowfast.apps.paper.table import describe_others, number_frame, pair, render
from slowfast.config import load_config
from slowfast.config.load import cfg_to_yaml

ROOT = Path(__file__).parents[3]
PAPER = read_paper(ROOT)
# Some rows, so that few files are loaded: the paper's, its variants, and one that has the same settings.
SOME = {
    name: PAPER.rows[name]
    for name in (
        *("kinetics_slow_prog_36x8_r50", "kinetics_slow_prog_36x8_r50_cache_max", "mapro_kinetics_slow"),
        *("charades_slowfast_prog_76x8_r101_k400", "charades_slowfast_prog_76x8_r101_k600"),
    )
}
MAIN = "kinetics_slow_prog_36x8_r50"


@pytest.fixture
def tested(tmp_path):
    """Function: write the files of a test of a row's settings, with overrides, into a folder."""

    def write(folder, row, metrics, *overrides, seconds=0):
        path = tmp_path / folder
        path.mkdir(parents=True)
        own = ["OUTPUT_DIR", str(path), "DATA_LOADER.NUM_WORKERS", 1, *overrides]
        (path / "config.yaml").write_text(cfg_to_yaml(load_config(PAPER.rows[row].config, own)))
        (path / "test_results.json").write_text(json.dumps(metrics))
        os.utime(path / "test_results.json", (seconds, seconds))

    return write


def lines_of(tmp_path, rows=SOME):
    lines, others = pair(rows, find_results([tmp_path]))
    return [line for line in lines if line.results], others


def test_seeds_are_one_line_with_mean_and_deviation(tested, tmp_path):
    top1 = [75.0, 76.5, 75.3]
    for seed, value in enumerate(top1):
        # The names of the folders say another row.
        tested(f"cache_max/{seed}", MAIN, {"top1_acc": value, "top5_acc": 92.0}, "RNG_SEED", seed)
    lines, others = lines_of(tmp_path)
    assert [line.row.name for line in lines] == [MAIN, "mapro_kinetics_slow"] and others == []
    frame = number_frame(lines, PAPER)
    first = frame[(frame["row"] == MAIN) & (frame["metric"] == "top-1")].iloc[0]
    assert first["measured"] == pytest.approx(statistics.mean(top1))
    assert first["deviation"] == pytest.approx(statistics.stdev(top1))
    assert first["difference"] == pytest.approx(statistics.mean(top1) - 75.6)
    assert first["seeds"] == "0 1 2"
    assert pd.read_csv(io.StringIO(render(lines, PAPER, "csv")))["published"].tolist()[:2] == [75.6, 92.3]
    assert "| 75.6 / 92.3 | " in (text := render(lines, PAPER, "markdown")) and "| 75.6 ± 0.8 / 92.0 ± 0.0 |" in text
    assert r"75.6 $\pm$ 0.8" in render(lines, PAPER, "latex")


def test_a_near_match_says_what_differs(tested, tmp_path):
    changed = ["NUM_GPUS", 1, "TRAIN.BATCH_SIZE", 8, "TEST.BATCH_SIZE", 4, "DATA.TRAIN_CROP_SIZE", 160]
    tested("a", "kinetics_slow_prog_36x8_r50_cache_max", {"top1_acc": 70.0}, *changed)
    (line,), _ = lines_of(tmp_path)
    assert line.row.name == "kinetics_slow_prog_36x8_r50_cache_max"
    keys = [text.split()[0] for text in line.differs]
    assert keys == ["DATA.TRAIN_CROP_SIZE", "NUM_GPUS", "TRAIN.BATCH_SIZE"]
    assert line.differs[0].startswith("DATA.TRAIN_CROP_SIZE 160 (row: 224")


def test_groups_of_other_settings_are_lines_of_their_own(tested, tmp_path):
    tested("a", MAIN, {"top1_acc": 70.0})
    tested("b", MAIN, {"top1_acc": 71.0}, "TRAIN.BATCH_SIZE", 32)
    lines, _ = lines_of(tmp_path)
    assert [len(line.differs) for line in lines if line.row.name == MAIN] == [0, 1]


def test_of_two_tests_of_one_seed_the_newer_counts(tested, tmp_path, caplog):
    tested("new", MAIN, {"top1_acc": 71.0}, seconds=2000)
    tested("old", MAIN, {"top1_acc": 70.0}, seconds=1000)
    lines, _ = lines_of(tmp_path)
    assert [result.metrics["top1_acc"] for result in lines[0].results] == [71.0]
    assert "in place of" in caplog.text


def test_initial_weights_are_known_by_their_name(tested, tmp_path):
    k600 = Path(load_config(PAPER.rows["charades_slowfast_prog_76x8_r101_k600"].config).TRAIN.CHECKPOINT_FILE_PATH)
    k400 = Path(load_config(PAPER.rows["charades_slowfast_prog_76x8_r101_k400"].config).TRAIN.CHECKPOINT_FILE_PATH)
    key = "TRAIN.CHECKPOINT_FILE_PATH"
    tested("a", "charades_slowfast_prog_76x8_r101_k400", {"map": 0.431}, key, f"/elsewhere/{k400.name}")
    tested("b", "charades_slowfast_prog_76x8_r101_k400", {"map": 0.431}, key, "/elsewhere/mine.pyth")
    lines, _ = lines_of(tmp_path)
    exact = [line.row.name for line in lines if not line.differs]
    near = [line.row.name for line in lines if line.differs]
    assert k400.name != k600.name and exact == ["charades_slowfast_prog_76x8_r101_k400"]
    assert near == ["charades_slowfast_prog_76x8_r101_k400"]
    assert number_frame(lines, PAPER)["measured"].tolist() == pytest.approx([43.1] * 2)


def test_results_without_a_row_name_the_nearest(tested, tmp_path, caplog):
    tested("a", MAIN, {"top1_acc": 70.0}, "PGT.CACHE", "avg", "TRAIN.BATCH_SIZE", 32)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/test_results.json").write_text("{}")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/test_results.json").write_text("{}")
    (tmp_path / "c/config.yaml").write_text("PGT: {CACHE: 3")
    lines, others = lines_of(tmp_path)
    assert lines == [] and len(others) == 1
    text = describe_others(others)
    assert "PGT.CACHE avg (row: last)" in text and "TRAIN.BATCH_SIZE 32" in text and text.count("\n") == 1
    assert caplog.text.count("is left out") == 2
    with pytest.raises(FileNotFoundError):
        find_results([tmp_path / "missing"])
