"""PySlowFast's meters: their numbers, and the rows that scripts read."""

import json

import pytest
import torch

from slowfast.compat.meters import EpochTimer, ScalarMeter, TestMeter, TrainMeter, ValMeter


@pytest.fixture
def rows(caplog):
    """Function: the rows that were logged since its last call."""
    caplog.set_level("INFO")

    def read():
        texts = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return [json.loads(text.removeprefix("json_stats: ")) for text in texts if text.startswith("json_stats: ")]

    return read


def run(meter, *values):
    meter.iter_tic()
    meter.data_toc()
    meter.iter_toc()
    meter.update_stats(*values)


def test_training(tiny_cfg, rows):
    """Rows of iterations hold medians of the last LOG_PERIOD values; that of the epoch means over clips."""
    meter = TrainMeter(5, tiny_cfg("LOG_PERIOD", 3, "SOLVER.MAX_EPOCH", 7))
    for number, loss in enumerate([9.0, 1.0, 5.0]):
        run(meter, 50.0, None, loss, 0.1, 2.0, 4 if number else 8)
        meter.log_iter_stats(1, number)
    (row,) = rows()
    assert (row["_type"], row["epoch"], row["iter"]) == ("train_iter", "2/7", "3/5")
    assert (row["loss"], row["top1_err"], row["lr"], row["grad_norm"]) == (5.0, 50.0, 0.1, 2.0)
    assert {"dt", "dt_data", "dt_net", "eta", "gpu_mem"} <= set(row) and "top5_err" not in row
    meter.log_epoch_stats(1)
    (row,) = rows()
    assert (row["_type"], row["loss"]) == ("train_epoch", (9 * 8 + 1 * 4 + 5 * 4) / 16) and "RAM" in row
    meter.reset()
    run(meter, 0.0, 0.0, 3.0, 0.1, 4)  # as in the first versions, without the norm of the gradient
    meter.log_epoch_stats(2)
    assert rows()[0]["loss"] == 3.0 and (meter.num_samples, meter.grad_norm) == (4, None)


def test_rows_of_ssl(tiny_cfg, rows):
    cfg = tiny_cfg("LOG_PERIOD", 1).clone()
    cfg.defrost()
    cfg.TASK = "ssl"
    meter = ValMeter(2, cfg)
    run(meter, 10, 0, 4)
    meter.log_iter_stats(0, 0)
    meter.log_epoch_stats(0)
    assert [row["_type"] for row in rows()] == ["val_iter_ssl", "val_epoch_ssl"]


def test_validation(tiny_cfg, rows):
    meter = ValMeter(2, tiny_cfg("LOG_PERIOD", 1))
    for epoch, errors in enumerate([(40.0, 20.0), (60.0, 50.0)]):
        meter.reset()
        for number, error in enumerate(errors):
            run(meter, torch.tensor(error), 0.0, 3 if number else 1)
            meter.log_iter_stats(epoch, number)
        meter.log_epoch_stats(epoch)
    found = rows()
    assert [row["_type"] for row in found] == ["val_iter", "val_iter", "val_epoch"] * 2
    assert [row["top1_err"] for row in found[:2]] == [40.0, 20.0] and found[1]["eta"] == "0:00:00"
    assert [(row["top1_err"], row["min_top1_err"]) for row in found[2::3]] == [(25.0, 25.0), (52.5, 25.0)]
    assert (meter.min_top1_err, meter.min_top5_err) == (25.0, 0.0)


def test_validation_of_several_labels(tiny_cfg, rows):
    """One class: the positive is second of two, a precision of 1/2."""
    meter = ValMeter(1, tiny_cfg("DATA.MULTI_LABEL", True, "MODEL.LOSS_FUNC", "bce_logit", "MODEL.HEAD_ACT", "sigmoid"))
    meter.update_predictions(torch.tensor([[0.9], [0.1]]), torch.tensor([[0], [1]]))
    meter.iter_tic()
    meter.log_epoch_stats(0)
    assert rows()[0]["map"] == 0.5


@pytest.mark.parametrize(("method", "best"), [("sum", [0, 1]), ("max", [1, 1])])
def test_clips_of_a_test_are_joined(method, best, rows, caplog):
    meter = TestMeter(2, 2, 3, 2, ensemble_method=method)
    preds = torch.tensor([[0.5, 0.0, 0.0], [0.3, 0.6, 0.0], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1]])
    run(meter, preds[[0, 3]], torch.tensor([0, 1]), torch.tensor([0, 3]))
    meter.log_iter_stats(0)
    meter.finalize_metrics()
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "2 videos have other than 2 clips: 0 (1), 1 (1)"
    ]
    run(meter, preds[[2, 1]], torch.tensor([1, 0]), torch.tensor([2, 1]))
    meter.finalize_metrics(ks=(1, 2))
    assert meter.video_preds.argmax(1).tolist() == best and meter.video_labels.tolist() == [0, 1]
    share = "100.00" if best == [0, 1] else "50.00"
    assert meter.stats == rows()[-1] == {"split": "test_final", "top1_acc": share, "top2_acc": "100.00"}
    meter.reset()
    assert not meter.clip_count.any()


def test_several_labels_of_a_test_have_one_number():
    meter = TestMeter(2, 1, 1, 1, multi_label=True)
    run(meter, torch.tensor([[0.9], [0.1]]), torch.tensor([[0], [1]]), torch.tensor([0, 1]))
    meter.finalize_metrics()
    assert meter.stats == {"split": "test_final", "map": "50.00", "top1_acc": "50.00", "top5_acc": "50.00"}
    with pytest.raises(ValueError, match="'mean'"):
        TestMeter(1, 1, 1, 1, ensemble_method="mean")


def test_scalars_and_epochs():
    meter = ScalarMeter(3)
    for value in (1.0, 2.0, 6.0, 10.0):
        meter.add_value(value)
    found = [meter.get_win_median(), meter.get_win_avg(), meter.get_global_avg(), meter.get_current_value()]
    assert found == [6.0, 6.0, 4.75, 10.0]
    timer = EpochTimer()
    for _ in range(2):
        timer.epoch_tic()
        timer.epoch_toc()
    assert timer.last_epoch_time() == timer.epoch_times[1]
    assert timer.avg_epoch_time() == pytest.approx(sum(timer.epoch_times) / 2) == timer.median_epoch_time()
    timer.reset()
    assert timer.epoch_times == []
