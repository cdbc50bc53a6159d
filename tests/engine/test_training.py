"""Training and testing in this process, on real videos, checked by what they leave behind."""

import csv
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from slowfast.checkpoint.io import checkpoint_path, find_checkpoints, load_checkpoint
from slowfast.config import cfg_from_yaml, load_config
from slowfast.datasets.build import build_loader
from slowfast.engine import preflight
from slowfast.engine.model_setup import move_model
from slowfast.engine.optim_step import NonFiniteError
from slowfast.engine.state import batch_means
from slowfast.engine.task import TASK_REGISTRY, ClipTask
from slowfast.engine.test import last_evaluation
from slowfast.engine.test import test as run_test
from slowfast.engine.train import train
from slowfast.evaluation.predictions import ClassificationPredictions, load
from slowfast.models import build_model


def of_type(stats, kind):
    return [entry for entry in stats if entry["_type"] == kind]


def test_a_whole_run(tiny_cfg, stats_of):
    cfg = tiny_cfg("LOG_PERIOD", 2, "TENSORBOARD.ENABLE", True)
    stats = stats_of(cfg)
    iterations = of_type(stats, "train_iter")
    assert [(entry["epoch"], entry["iter"]) for entry in iterations] == [("1/2", "2/3"), ("2/2", "2/3")]
    assert set(iterations[0]) >= {"loss", "lr", "top1_err", "dt_data", "dt_net", "ram_gib", "eta"}
    # The cosine from 0.01 to 0 over two epochs of three iterations, at the fifth.
    assert iterations[1]["lr"] == pytest.approx(0.005 * (1 + np.cos(np.pi * (1 + 1 / 3) / 2)), rel=1e-4)
    epochs = of_type(stats, "train_epoch")
    assert [(entry["epoch"], entry["unreadable_files"]) for entry in epochs] == [("1/2", 0), ("2/2", 0)]
    (validation,) = of_type(stats, "val_epoch")
    assert validation["videos"] == 4 and "top1_err" in validation and "top5_err" not in validation
    files = find_checkpoints(cfg.OUTPUT_DIR)
    assert [(file.epoch, file.iteration) for file in files] == [(1, 0), (2, 0)]
    assert cfg_from_yaml(load_checkpoint(files[-1].path)["cfg"]) == cfg
    assert list((Path(cfg.OUTPUT_DIR) / "runs-kinetics").glob("events.out.tfevents.*"))
    assert "json_stats: {" in (Path(cfg.OUTPUT_DIR) / "stdout.log").read_text()


def test_periods(tiny_cfg, stats_of):
    cfg = tiny_cfg("SOLVER.MAX_EPOCH", 5, "TRAIN.CHECKPOINT_PERIOD", 2, "TRAIN.EVAL_PERIOD", 3)
    stats = stats_of(cfg)
    assert [file.epoch for file in find_checkpoints(cfg.OUTPUT_DIR)] == [2, 4, 5]
    assert [entry["epoch"] for entry in of_type(stats, "val_epoch")] == ["3/5", "5/5"]


def test_it_learns(tiny_cfg):
    """Dark and bright videos are told apart after a few epochs."""
    metrics = train(tiny_cfg("SOLVER.MAX_EPOCH", 6, "SOLVER.BASE_LR", 0.01, "TRAIN.EVAL_PERIOD", 6))
    assert metrics["top1_acc"] == 100.0


def test_precise_statistics_are_in_the_checkpoint(tiny_cfg):
    """Check that with one batch of all videos and momentum 1 the running average equals the precise statistics."""
    cfg = tiny_cfg("BN.USE_PRECISE_STATS", True, "TRAIN.BATCH_SIZE", 12, "SOLVER.MAX_EPOCH", 1)
    train(cfg)
    saved = load_checkpoint(find_checkpoints(cfg.OUTPUT_DIR)[-1].path)["model_state"]
    model = build_model(tiny_cfg("BN.MOMENTUM", 1.0))
    model.load_state_dict(saved)
    loader = build_loader(cfg, "train")
    loader.batch_sampler.set_epoch(1)
    with torch.no_grad():
        model.train()(next(iter(loader)).inputs)
    for key, value in model.state_dict().items():
        if "running" in key:
            torch.testing.assert_close(saved[key], value, rtol=1e-4, atol=1e-5)


def test_settings_are_in_the_folder_and_in_the_log(tiny_cfg, caplog):
    """The file loads as the config of the run that came last."""
    path = Path(tiny_cfg().OUTPUT_DIR, "config.yaml")
    first = tiny_cfg("SOLVER.MAX_EPOCH", 1, "SOLVER.BASE_LR", 0.0625)
    train(first)
    assert load_config(path) == first
    assert "SOLVER.BASE_LR 0.0625\n" in caplog.text
    tested = tiny_cfg("TRAIN.ENABLE", False, "TEST.BATCH_SIZE", 3, "MODEL.DROPOUT_RATE", 0.4375)
    run_test(tested)
    assert load_config(path) == tested
    assert "MODEL.DROPOUT_RATE 0.4375\n" in caplog.text


def test_settings_of_a_refused_run_replace_nothing(tiny_cfg):
    train(tiny_cfg("SOLVER.MAX_EPOCH", 1))
    path = Path(tiny_cfg().OUTPUT_DIR, "config.yaml")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="cannot be resumed"):
        train(tiny_cfg("MODEL.NUM_CLASSES", 3))
    assert path.read_bytes() == before


def test_nothing_left_to_train_is_said(tiny_cfg, caplog):
    train(tiny_cfg("SOLVER.MAX_EPOCH", 1))
    assert train(tiny_cfg("SOLVER.MAX_EPOCH", 1)) == {}
    assert "nothing to train: 1 epochs are done" in caplog.text


def test_a_finished_run_elsewhere_is_nothing_to_train(tiny_cfg, tmp_path):
    """Unlike the run's own, which the same command may meet again."""
    first = tiny_cfg("SOLVER.MAX_EPOCH", 1)
    train(first)
    follow = ("TRAIN.CHECKPOINT_FILE_PATH", checkpoint_path(first.OUTPUT_DIR, 1), "OUTPUT_DIR", str(tmp_path / "next"))
    with pytest.raises(ValueError, match="has done 1 epochs and SOLVER.MAX_EPOCH is 1.*CHECKPOINT_EPOCH_RESET"):
        train(tiny_cfg("SOLVER.MAX_EPOCH", 1, *follow))
    train(tiny_cfg("SOLVER.MAX_EPOCH", 1, "TRAIN.CHECKPOINT_EPOCH_RESET", True, *follow))
    assert Path(checkpoint_path(str(tmp_path / "next"), 1)).is_file()


def test_a_second_run_in_one_folder_is_warned_of(tiny_cfg, caplog):
    train(tiny_cfg("SOLVER.MAX_EPOCH", 1, "TRAIN.AUTO_RESUME", False))
    assert "earlier run" not in caplog.text
    train(tiny_cfg("SOLVER.MAX_EPOCH", 1, "TRAIN.AUTO_RESUME", False))
    assert "holds checkpoints of an earlier run" in caplog.text


def test_loss_that_does_not_fit_the_labels(tiny_cfg):
    with pytest.raises(ValueError, match=r"MODEL\.LOSS_FUNC .bce_logit.: .*take cross_entropy"):
        train(tiny_cfg("MODEL.LOSS_FUNC", "bce_logit"))


def test_clips_that_do_not_fit_the_model_are_answered_with_the_keys(tiny_cfg):
    groups = ("NONLOCAL.LOCATION", [[[]], [[0]], [[]], [[]]], "NONLOCAL.GROUP", [[1], [3], [1], [1]])
    with pytest.raises(ValueError, match=r"NONLOCAL\.GROUP .*: 3 groups do not divide the 4 frames"):
        train(tiny_cfg(*groups))
    larger = ("DATA.TRAIN_CROP_SIZE", 64, "DATA.TRAIN_JITTER_SCALES", [64, 64], "TEST.ALLOW_RANDOM_WEIGHTS", True)
    with pytest.raises(ValueError, match=r"TRAIN_CROP_SIZE 64, DATA\.TEST_CROP_SIZE 32: the head pools 2x2"):
        run_test(tiny_cfg(*larger))


def test_starting_from_a_file(tiny_cfg, tmp_path, caplog):
    first = tiny_cfg("SOLVER.MAX_EPOCH", 1)
    train(first)
    path = find_checkpoints(first.OUTPUT_DIR)[-1].path
    start = ["TRAIN.CHECKPOINT_FILE_PATH", path, "OUTPUT_DIR", str(tmp_path / "second")]
    train(tiny_cfg(*start))
    assert [file.epoch for file in find_checkpoints(str(tmp_path / "second"))] == [2]
    start[-1] = str(tmp_path / "third")
    train(tiny_cfg(*start, "TRAIN.CHECKPOINT_EPOCH_RESET", True))
    assert [file.epoch for file in find_checkpoints(str(tmp_path / "third"))] == [1, 2]
    start[-1] = str(tmp_path / "fourth")
    with pytest.raises(ValueError, match="set MODEL.NUM_CLASSES 2"):
        train(tiny_cfg(*start, "MODEL.NUM_CLASSES", 3))
    train(tiny_cfg(*start, "MODEL.NUM_CLASSES", 3, "TRAIN.CHECKPOINT_DROP_MISMATCH", True))
    assert [file.epoch for file in find_checkpoints(str(tmp_path / "fourth"))] == [1, 2]
    with pytest.raises(ValueError, match="CHECKPOINT_EPOCH_RESET"):
        train(
            tiny_cfg(
                *start[:3],
                str(tmp_path / "fifth"),
                "SOLVER.OPTIMIZING_METHOD",
                "adamw",
                "SOLVER.ZERO_WD_1D_PARAM",
                True,
            )
        )


def test_bad_loss_names_the_batch_and_leaves_the_checkpoint(tiny_cfg, monkeypatch):
    cfg = tiny_cfg()
    seen = []

    def poisoned(scores, labels):
        seen.append(0)
        return scores.sum() * (float("nan") if len(seen) == 5 else 0.0)

    monkeypatch.setattr("slowfast.engine.task.build_loss", lambda cfg: poisoned)
    with pytest.raises(NonFiniteError) as caught:
        train(cfg)
    loader = build_loader(cfg, "train")
    loader.batch_sampler.set_epoch(1, 1)
    videos = [index for index, _, _ in next(iter(loader.batch_sampler))]
    place = f"epoch 2/2, iteration 2/3, lr 0.0025, videos (numbers in the list, the first is 0) {videos}"
    assert place in str(caught.value)
    assert [file.epoch for file in find_checkpoints(cfg.OUTPUT_DIR)] == [1]


def test_unreadable_files_are_counted(tiny_cfg, tiny_data, tmp_path, stats_of):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    for split in ("train", "val", "test"):
        text = (tiny_data / f"{split}.csv").read_text()
        (tmp_path / f"{split}.csv").write_text(text + f"{broken} 0\n")
    # A seed with which a video is drawn in place of the broken one that is not this one again.
    settings = ("DATA.PATH_TO_DATA_DIR", str(tmp_path), "TRAIN.BATCH_SIZE", 13, "SOLVER.MAX_EPOCH", 1, "RNG_SEED", 2)
    with pytest.raises(RuntimeError, match="1 of 13.*\n.*broken.mp4"):
        train(tiny_cfg(*settings))
    stats = stats_of(tiny_cfg(*settings, "DATA.MAX_UNREADABLE_FRACTION", 0.5))
    (epoch,) = of_type(stats, "train_epoch")
    assert (epoch["unreadable_files"], epoch["replaced_samples"]) == (1, 1)
    (validation,) = of_type(stats, "val_epoch")
    assert (validation["videos"], validation["unreadable_files"]) == (4, 1)
    results = run_test(tiny_cfg(*settings, "DATA.MAX_UNREADABLE_FRACTION", 0.5))
    assert (results["videos"], results["unreadable_files"]) == (4, 1)


def test_several_labels_a_video_have_no_top_errors():
    result = {"loss": torch.tensor(0.5), "scores": torch.zeros(4, 2)}
    assert set(batch_means(result, torch.zeros(4, 2))) == {"loss"}
    assert set(batch_means(result, torch.zeros(4, dtype=torch.int64))) == {"loss", "top1_err"}
    result["scores"] = torch.zeros(4, 6)
    assert set(batch_means(result, torch.zeros(4, dtype=torch.int64))) == {"loss", "top1_err", "top5_err"}


def test_accumulation_needs_whole_updates(tiny_cfg, stats_of):
    stats = stats_of(tiny_cfg("TRAIN.ACCUM_STEPS", 2, "SOLVER.MAX_EPOCH", 1))
    assert [entry["iter"] for entry in of_type(stats, "train_iter")] == ["1/2", "2/2"]
    with pytest.raises(ValueError, match="3 batches of 4, fewer than TRAIN.ACCUM_STEPS 4"):
        train(tiny_cfg("TRAIN.ACCUM_STEPS", 4))


def test_small_norm_batches_are_warned_of(tiny_cfg, caplog):
    preflight.warn_small_norm_batch(build_model(tiny_cfg()), tiny_cfg())
    assert not caplog.text
    preflight.warn_small_norm_batch(build_model(tiny_cfg()), tiny_cfg("TRAIN.BATCH_SIZE", 3))
    assert "over 3 clips" in caplog.text and "frozen_batchnorm" in caplog.text
    caplog.clear()
    frozen = tiny_cfg("TRAIN.BATCH_SIZE", 3, "BN.NORM_TYPE", "frozen_batchnorm")
    preflight.warn_small_norm_batch(build_model(frozen), frozen)
    assert not caplog.text


def test_no_room_for_a_checkpoint(tiny_cfg, monkeypatch, caplog):
    size = sum(p.numel() * 4 for p in build_model(tiny_cfg()).parameters()) * 2
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10 * size, 9 * size, size // 2))
    with pytest.raises(OSError, match="MiB free.*OUTPUT_DIR"):
        train(tiny_cfg())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10 * size, 9 * size, int(1.5 * size)))
    train(tiny_cfg())
    assert "2 checkpoints of about" in caplog.text


@pytest.mark.parametrize("name", ["checkpoints", "config.yaml", "val_results.json", "test_results.json"])
def test_what_would_stop_the_run_later_stops_it_before_the_first_batch(tiny_cfg, monkeypatch, name):
    """A link to a disk that is not there, and a folder in the place of a file."""
    cfg = tiny_cfg()
    path = Path(cfg.OUTPUT_DIR, name)
    path.parent.mkdir()
    if name == "checkpoints":
        path.symlink_to("/nowhere/disk")
    else:
        path.mkdir()
    monkeypatch.setattr(ClipTask, "train_step", None)
    with pytest.raises(OSError, match=f"move it away.*{name}"):
        train(cfg)


@pytest.mark.parametrize("put", [os.mkfifo, lambda path: os.symlink("/nowhere/x", path)], ids=["pipe", "dangling"])
def test_things_under_the_names_of_a_run_do_not_stop_it(tiny_cfg, put):
    """Results and temporary files are replaced; what has the name of the newest checkpoint is skipped."""
    cfg = tiny_cfg("SOLVER.MAX_EPOCH", 1, "TRAIN.EVAL_PERIOD", 1)
    out = Path(cfg.OUTPUT_DIR)
    (out / "checkpoints").mkdir(parents=True)
    for name in ("checkpoint_epoch_00001.pyth", "checkpoint_epoch_00001.pyth.tmp", "checkpoint_epoch_00009.pyth"):
        put(out / "checkpoints" / name)
    for name in ("val_results.json", "val_results.json.tmp"):
        put(out / name)
    train(cfg)
    assert [Path(file.path).name for file in find_checkpoints(cfg.OUTPUT_DIR)] == ["checkpoint_epoch_00001.pyth"]
    assert json.loads((out / "val_results.json").read_text())["epoch"] == 1


def test_output_folder_that_cannot_be(tiny_cfg, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="OUTPUT_DIR cannot be written"):
        train(tiny_cfg("OUTPUT_DIR", str(tmp_path / "file" / "out")))


def test_test_joins_views_and_writes_results(tiny_cfg, stats_of):
    cfg = tiny_cfg("SOLVER.MAX_EPOCH", 1, "TEST.SAVE_RESULTS_PATH", "scores.npz", "TEST.BATCH_SIZE", 3)
    train(cfg)
    stats = stats_of(cfg, run_test)
    (final,) = of_type(stats, "test_final")
    results = json.loads((Path(cfg.OUTPUT_DIR) / "test_results.json").read_text())
    assert results["top1_acc"] == pytest.approx(final["top1_acc"])
    assert results["checkpoint"].endswith("checkpoint_epoch_00001.pyth")
    assert (results["videos"], results["views"]) == (4, 2)
    model = build_model(cfg)
    model.load_state_dict(load_checkpoint(results["checkpoint"])["model_state"])
    model.eval()
    dataset = build_loader(cfg, "test").dataset
    expected = torch.zeros(4, 2)
    with torch.no_grad():
        for index in range(8):
            sample = dataset[index, 0]
            expected[sample.video] += model([x[None] for x in sample.inputs])[0]
    written = np.load(Path(cfg.OUTPUT_DIR) / "scores.npz")
    torch.testing.assert_close(torch.from_numpy(written["scores"]), expected)
    assert written["paths"].tolist() == dataset.paths
    assert written["labels"].tolist() == [0, 1, 0, 1]
    with open(Path(cfg.OUTPUT_DIR) / "scores.csv", newline="") as stream:
        assert [row["video"] for row in csv.DictReader(stream)] == dataset.paths


def test_the_pickle_of_pyslowfast_is_written_besides(tiny_cfg):
    """As their scripts read it: `preds, labels = pickle.load(f)`, tensors with a row for each video of the list."""
    cfg = tiny_cfg("TEST.SAVE_RESULTS_PATH", "x.pkl", "TEST.ALLOW_RANDOM_WEIGHTS", True)
    results, out = run_test(cfg), Path(cfg.OUTPUT_DIR)
    with open(out / "x.pkl", "rb") as stream:
        preds, labels = pickle.load(stream)  # noqa: S301
    assert labels.tolist() == [0, 1, 0, 1] and labels.dtype == torch.int64
    assert preds.dtype == torch.float32
    saved = load(out / "test_predictions.npz")
    np.testing.assert_array_equal(preds.numpy(), saved.scores)
    assert load(out / "x.pkl").metrics()["top1_acc"] == results["top1_acc"]


def test_scores_are_saved_before_metrics_are_computed(tiny_cfg, monkeypatch):
    def fail(predictions):
        raise RuntimeError("metrics failed")

    monkeypatch.setattr(ClassificationPredictions, "metrics", fail)
    cfg = tiny_cfg("TEST.SAVE_RESULTS_PATH", "scores.npz", "TEST.ALLOW_RANDOM_WEIGHTS", True)
    with pytest.raises(RuntimeError, match="metrics failed"):
        run_test(cfg)
    assert np.load(Path(cfg.OUTPUT_DIR) / "scores.npz")["scores"].shape == (4, 2)


@pytest.mark.parametrize("method", ["sum", "max"])
def test_one_video_that_overflows_is_named_and_nothing_is_measured(tiny_cfg, one_overflows, method):
    cfg = tiny_cfg(*one_overflows, "DATA.ENSEMBLE_METHOD", method)
    with pytest.raises(ValueError, match="scores of 1 of 4 videos are NaN or infinite") as error:
        run_test(cfg)
    assert "test 1.mp4" in str(error.value) and "test 0.mp4" not in str(error.value)
    out = Path(cfg.OUTPUT_DIR)
    saved = np.load(out / "test_predictions.npz")
    assert np.isfinite(saved["scores"]).all(axis=1).tolist() == [True, False, True, True]
    assert not (out / "test_results.json").exists()


def test_validation_with_scores_that_are_no_numbers_ends_the_run(tiny_cfg, monkeypatch):
    """The epoch's checkpoint is saved before."""
    predict = ClipTask.predict

    def poisoned(task, model, batch):
        prediction = predict(task, model, batch)
        prediction.scores[batch.video == 2] = torch.inf
        return prediction

    monkeypatch.setattr(ClipTask, "predict", poisoned)
    cfg = tiny_cfg("SOLVER.MAX_EPOCH", 1)
    with pytest.raises(ValueError, match=r"scores of 1 of 4 videos .*val 2\.mp4"):
        train(cfg)
    assert [path.name for path in Path(cfg.OUTPUT_DIR).rglob("*.pyth")] == ["checkpoint_epoch_00001.pyth"]
    assert not (Path(cfg.OUTPUT_DIR) / "val_results.json").exists()


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        ('{"epoch": 3, "top1_acc": 50.0}', 3),
        ('{"epoch": 1e400}', 0),
        ('{"epoch": NaN}', 0),
        ('{"epoch": null}', 0),
        ('{"epoch": ' + "9" * 5000 + "}", 0),
        ('{"epoch": ' + "[" * 10_000, 0),
        ("[3]", 0),
        ("\udcff", 0),
        (None, 0),
    ],
)
def test_results_of_another_program_say_nothing(tmp_path, text, epoch):
    if text is not None:
        (tmp_path / "val_results.json").write_bytes(text.encode(errors="surrogateescape"))
    assert last_evaluation(str(tmp_path)) == epoch


def test_a_name_that_predictions_cannot_have_stops_before_training(tiny_cfg):
    for run in (train, run_test):
        with pytest.raises(ValueError, match="TEST.SAVE_RESULTS_PATH scores.txt: .* end in .npz or .parquet"):
            run(cfg := tiny_cfg("SOLVER.MAX_EPOCH", 1, "TEST.ENABLE", True, "TEST.SAVE_RESULTS_PATH", "scores.txt"))
    assert not list(Path(cfg.OUTPUT_DIR).rglob("checkpoint_epoch*"))


def test_random_weights_are_tested_if_asked_for_only(tiny_cfg, caplog):
    with pytest.raises(ValueError, match="TEST.ALLOW_RANDOM_WEIGHTS True"):
        run_test(cfg := tiny_cfg())
    assert not (Path(cfg.OUTPUT_DIR) / "test_results.json").exists()
    assert run_test(tiny_cfg("TEST.ALLOW_RANDOM_WEIGHTS", True))["checkpoint"] == ""
    assert "testing random weights" in caplog.text


def test_which_weights_are_tested(tiny_cfg, tmp_path):
    cfg = tiny_cfg("SOLVER.MAX_EPOCH", 1)
    train(cfg)
    own = find_checkpoints(cfg.OUTPUT_DIR)[-1].path
    given, start = str(tmp_path / "given.pyth"), str(tmp_path / "start.pyth")
    shutil.copy(own, given)
    shutil.copy(own, start)
    both = ("TRAIN.CHECKPOINT_FILE_PATH", start)
    assert run_test(tiny_cfg(*both, "TEST.CHECKPOINT_FILE_PATH", given))["checkpoint"] == given
    assert run_test(tiny_cfg(*both))["checkpoint"] == own
    assert run_test(tiny_cfg(*both, "OUTPUT_DIR", str(tmp_path / "empty")))["checkpoint"] == start
    with pytest.raises(FileNotFoundError, match="gone.pyth"):
        run_test(tiny_cfg("TEST.CHECKPOINT_FILE_PATH", str(tmp_path / "gone.pyth")))


def test_workers_change_nothing_where_batches_are_left_over(tiny_cfg, tmp_path):
    """Three batches and two an update: workers have read ahead when an epoch, or the measuring of norms, ends early."""
    settings = ["TRAIN.ACCUM_STEPS", 2, "BN.USE_PRECISE_STATS", True, "BN.NUM_BATCHES_PRECISE", 1]
    saved = []
    for workers in (0, 2):
        cfg = tiny_cfg(*settings, "DATA_LOADER.NUM_WORKERS", workers, "OUTPUT_DIR", str(tmp_path / str(workers)))
        train(cfg)
        saved.append(load_checkpoint(find_checkpoints(cfg.OUTPUT_DIR)[-1].path)["model_state"])
    assert all(torch.equal(value, saved[1][key]) for key, value in saved[0].items())


def test_a_run_of_another_task_is_continued_loudly(tiny_cfg, monkeypatch, caplog):
    train(tiny_cfg("SOLVER.MAX_EPOCH", 1))
    monkeypatch.setitem(TASK_REGISTRY._objects, "other", ClipTask)
    train(tiny_cfg("TASK", "other"))
    assert "is of a run with TASK '', and is resumed with TASK 'other'" in caplog.text


def test_memory_format_changes_the_layout_and_no_result(tiny_cfg):
    batch = None
    scores = {}
    for layout in ("contiguous", "channels_last"):
        cfg = tiny_cfg("MODEL.MEMORY_FORMAT", layout)
        torch.manual_seed(0)
        model = move_model(build_model(cfg), torch.device("cpu"), cfg.MODEL.MEMORY_FORMAT)
        weight = model.s1.pathway0_stem.conv.weight
        assert weight.is_contiguous(memory_format=torch.channels_last_3d) == (layout == "channels_last")
        batch = batch or next(iter(build_loader(cfg, "train")))
        scores[layout] = model(batch.inputs)
    torch.testing.assert_close(scores["contiguous"], scores["channels_last"], rtol=1e-4, atol=1e-5)


def test_several_numbers_of_views_are_tested(tiny_cfg, stats_of, caplog):
    """Each number gives what a test with it alone gives; another number that is set is said to have no effect."""
    random = ("TEST.ALLOW_RANDOM_WEIGHTS", True)
    alone, scores = {}, {}
    for count in (1, 3):
        cfg = tiny_cfg(*random, "TEST.NUM_ENSEMBLE_VIEWS", count)
        alone[str(count)] = run_test(cfg)
        scores[count] = np.load(Path(cfg.OUTPUT_DIR) / "test_predictions.npz")["scores"]
    assert not np.allclose(3 * scores[1], scores[3], rtol=1e-4)
    assert "no effect" not in caplog.text
    cfg = tiny_cfg(*random, "TEST.NUM_TEMPORAL_CLIPS", [1, 3], "TEST.NUM_ENSEMBLE_VIEWS", 2)
    stats = of_type(stats_of(cfg, run_test), "test_final")
    assert "TEST.NUM_ENSEMBLE_VIEWS 2 has no effect" in caplog.text
    results = json.loads((Path(cfg.OUTPUT_DIR) / "test_results.json").read_text())
    assert results == {**alone["3"], "by_temporal_clips": alone}
    assert [entry["views"] for entry in stats] == [1, 3]
    for count in (1, 3):
        saved = np.load(Path(cfg.OUTPUT_DIR) / f"test_predictions_{count}.npz")["scores"]
        np.testing.assert_array_equal(saved, scores[count])


def test_validation_on_the_whole_video(tiny_cfg, tiny_data, tmp_path):
    """Equals a test of the same videos with the same crop, in samples and in metrics."""
    shutil.copy(tiny_data / "val.csv", tmp_path / "test.csv")
    for split in ("train", "val"):
        shutil.copy(tiny_data / f"{split}.csv", tmp_path)
    cfg = tiny_cfg(
        *("TRAIN.FULL_TIME_EVAL", True, "TEST.NUM_ENSEMBLE_VIEWS", 3, "DATA.PATH_TO_DATA_DIR", str(tmp_path)),
        *("TEST.FOLD_NORMS", False, "SOLVER.MAX_EPOCH", 1),
    )
    val, test = (build_loader(cfg, split).dataset for split in ("val", "test"))
    assert len(val) == len(test) == 4 * 3
    for index in range(12):
        torch.testing.assert_close(val[index].inputs, test[index].inputs, rtol=0, atol=0)
    middle = build_loader(tiny_cfg("DATA.PATH_TO_DATA_DIR", str(tmp_path)), "val").dataset
    assert len(middle) == 4 and not any(torch.equal(middle[0].inputs[0], val[view].inputs[0]) for view in (0, 2))
    metrics = train(cfg)
    metrics.pop("loss")  # a test has none
    assert metrics == {name: value for name, value in run_test(cfg).items() if name in metrics} != {}
