"""Logs and files as PySlowFast's scripts read them, beside ours."""

import json
import os
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from slowfast.engine.pyslowfast_rows import PassRows, log_test, name_as_published, validation
from slowfast.engine.test import test as run_test

CPU = torch.device("cpu")


def read(cfg, name="json_stats.log"):
    """The rows as their scripts read them."""
    lines = (Path(cfg.OUTPUT_DIR) / name).read_text().splitlines()
    return [json.loads(line.split("json_stats: ")[1]) for line in lines if "json_stats: {" in line]


def of_type(rows, kind):
    return [row for row in rows if kind in (row.get("_type"), row.get("split"))]


@pytest.fixture
def written(caplog):
    """Function: the rows that `work` logs."""

    def rows(work):
        caplog.clear()
        with caplog.at_level("INFO"):
            work()
        texts = [record.getMessage() for record in caplog.records]
        return [json.loads(text.split("json_stats: ")[1]) for text in texts if text.startswith("json_stats: ")]

    return rows


def test_a_run_is_logged_as_there(tiny_cfg, stats_of):
    cfg = tiny_cfg("LOG_PERIOD", 1, "TRAIN.EVAL_PERIOD", 1, "TENSORBOARD.ENABLE", True)
    stats_of(cfg)
    rows = read(cfg)
    first = of_type(rows, "train_iter")[0]
    assert set(first) >= {"epoch", "iter", "dt", "dt_data", "dt_net", "eta", "loss", "lr", "grad_norm", "top1_err"}
    assert first["gpu_mem"] == "0.00G" and (first["epoch"], first["iter"]) == ("1/2", "1/3")
    epoch = of_type(rows, "train_epoch")[1]
    assert set(epoch) >= {"epoch", "dt", "dt_data", "dt_net", "eta", "lr", "gpu_mem", "loss", "top1_err"}
    assert epoch["eta"] == "0:00:00"
    used, whole = epoch["RAM"].removesuffix("G").split("/")
    assert 0 < float(used) < float(whole)
    one, other = of_type(rows, "val_epoch")
    assert other["min_top1_err"] == min(one["top1_err"], other["top1_err"]) and other["time_diff"] > 0
    assert {"gpu_mem", "RAM"} <= set(one)
    batches = of_type(rows, "val_iter")
    assert [row["epoch"] for row in batches[:1] + batches[-1:]] == ["1/2", "2/2"]
    assert batches[-1]["iter"] == "{0}/{0}".format(len(batches) // 2)
    # Batches are of one size, so the mean of their errors is that of the epoch.
    assert sum(row["top1_err"] for row in batches[len(batches) // 2 :]) == other["top1_err"] * len(batches) / 2
    # Each row of ours is in the log once, with what was added to it, and without that in our file.
    assert len(of_type(read(cfg, "stdout.log"), "val_epoch")) == 2
    ours = (Path(cfg.OUTPUT_DIR) / "json_stats.jsonl").read_text()
    assert "min_top1_err" not in ours and "val_iter" not in ours
    board = EventAccumulator(str(Path(cfg.OUTPUT_DIR) / "runs-kinetics")).Reload()
    values = [event.value for event in board.Scalars("Val/Top1_err")]
    assert values == pytest.approx([one["top1_err"], other["top1_err"]])
    assert len(board.Scalars("Train/Top1_err")) == 6 and "TrainEpoch/Top1_err" not in board.Tags()["scalars"]


def test_a_test_is_logged_as_there(tiny_cfg, stats_of):
    cfg = tiny_cfg("LOG_PERIOD", 1, "TEST.ALLOW_RANDOM_WEIGHTS", True, "TEST.BATCH_SIZE", 2)
    (ours,) = stats_of(cfg, run_test)
    *batches, final = read(cfg)
    assert [row["cur_iter"] for row in batches] == ["1", "2", "3", "4"]
    assert all(set(row) == {"split", "cur_iter", "eta", "time_diff"} for row in batches)
    assert batches[-1]["eta"] == "0:00:00"
    assert final == {"split": "test_final", "top1_acc": f"{ours['top1_acc']:.2f}"}


def test_plain_logs_have_ours_alone(tiny_cfg, stats_of):
    cfg = tiny_cfg("LOG_PERIOD", 1, "LOG_STYLE", "plain", "SOLVER.MAX_EPOCH", 1, "TENSORBOARD.ENABLE", True)
    ours = stats_of(cfg)
    assert not (Path(cfg.OUTPUT_DIR) / "json_stats.log").exists()
    assert read(cfg, "stdout.log") == ours
    board = EventAccumulator(str(Path(cfg.OUTPUT_DIR) / "runs-kinetics")).Reload()
    assert "Val/top1_err" in board.Tags()["scalars"] and "Val/Top1_err" not in board.Tags()["scalars"]


def test_several_labels_are_one_number_in_percent_under_all_names(tiny_cfg, written):
    (row,) = written(lambda: log_test(tiny_cfg(), {"map": 0.123456, "step1/map": 0.1}))
    assert row == {"split": "test_final", "map": "12.35", "top1_acc": "12.35", "top5_acc": "12.35"}
    assert written(lambda: log_test(tiny_cfg("LOG_STYLE", "plain"), {"map": 0.5})) == []


def test_rows_of_boxes(tiny_cfg, written):
    cfg = tiny_cfg("DETECTION.ENABLE", True, "LOG_PERIOD", 1, "DATA.MULTI_LABEL", True, "MODEL.LOSS_FUNC", "bce",
                   "MODEL.HEAD_ACT", "sigmoid", "TRAIN.DATASET", "ava", "TEST.DATASET", "ava")  # fmt: skip
    (row,) = written(lambda: PassRows(cfg, 9, CPU, "3/20").add(None, None))
    assert set(row) == {"_type", "dt", "eta", "mode", "cur_epoch", "cur_iter"}
    assert (row["_type"], row["mode"], row["cur_epoch"], row["cur_iter"]) == ("val_iter", "val", "3", "1")
    (row,) = written(lambda: PassRows(cfg, 9, CPU).add(None, None))
    assert (row["_type"], row["mode"]) == ("test_iter", "test") and "cur_epoch" not in row
    added = validation(cfg, {"epoch": "3/20", "ava_map": 0.25}, {}, 0.5, CPU)
    assert (added["map"], added["mode"], added["cur_epoch"]) == (0.25, "val", "3")
    assert written(lambda: log_test(cfg, {"ava_map": 0.25, "ava_classes": 60})) == [{"mode": "test", "map": 0.25}]


@pytest.mark.parametrize("links", [True, False])
def test_files_of_boxes_have_their_names_too(tiny_cfg, tmp_path, monkeypatch, links):
    def refuse(*names):
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "detections.csv").write_text("a,0902,0,0,1,1,3,0.5\n")
    (tmp_path / "detections_latest.csv").write_text("former\n")
    written = [str(tmp_path / name) for name in ("x.npz", "detections.csv")]
    name_as_published(tiny_cfg("LOG_STYLE", "plain"), written)
    assert (tmp_path / "detections_latest.csv").read_text() == "former\n"
    name_as_published(tiny_cfg(), written)
    assert (tmp_path / "detections_latest.csv").read_text() == "a,0902,0,0,1,1,3,0.5\n"
    assert sorted(path.name for path in tmp_path.glob("*.csv*")) == ["detections.csv", "detections_latest.csv"]
    assert (os.stat(written[1]).st_nlink == 2) == links


def test_another_style_is_an_error(tiny_cfg):
    with pytest.raises(ValueError, match="LOG_STYLE is 'detectron'.*plain, pyslowfast"):
        tiny_cfg("LOG_STYLE", "detectron")


def test_rows_of_runs_without_labels_have_types_of_their_own(tiny_cfg, stats_of):
    cfg = tiny_cfg("TASK", "ssl", "MODEL.MODEL_NAME", "ContrastiveModel", "MODEL.LOSS_FUNC", "contrastive_loss",
                   "MODEL.HEAD_ACT", "none", "MODEL.DROPOUT_RATE", 0.0, "DATA.TRAIN_CROP_NUM_TEMPORAL", 2,
                   "CONTRASTIVE.TYPE", "simclr", "CONTRASTIVE.DIM", 8, "CONTRASTIVE.MLP_DIM", 16, "LOG_PERIOD", 1,
                   "CONTRASTIVE.NUM_CLASSES_DOWNSTREAM", 2, "SOLVER.MAX_EPOCH", 1,
                   "BN.USE_PRECISE_STATS", False)  # fmt: skip
    ours = stats_of(cfg)
    assert {row["_type"] for row in ours} == {"train_iter", "train_epoch", "val_epoch"}
    rows = read(cfg)
    kinds = {row["_type"] for row in rows}
    assert kinds == {"train_iter_ssl", "train_epoch_ssl", "val_iter_ssl", "val_epoch_ssl"}
    (measured,) = of_type(rows, "val_epoch_ssl")
    assert measured["min_top1_err"] == measured["top1_err"] == of_type(ours, "val_epoch")[0]["top1_err"]
    assert all({"loss", "lr", "eta", "gpu_mem"} <= set(row) for row in of_type(rows, "train_iter_ssl"))
