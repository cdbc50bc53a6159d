import errno
import json
import os
import sys

import pytest

from slowfast.runtime.logging import get_logger, log_json_stats, setup_logging
from slowfast.runtime.stats_line import stats_line


def test_statistics_are_json_everywhere(tmp_path, capsys):
    setup_logging(str(tmp_path / "new"))
    log_json_stats({"loss": float("nan"), "lr": 1.23456789e-7, "epoch": "1/2", "count": 3})
    expected = {"loss": None, "lr": 1.23457e-7, "epoch": "1/2", "count": 3}
    assert json.loads((tmp_path / "new" / "json_stats.jsonl").read_text()) == expected
    for text in (capsys.readouterr().out, (tmp_path / "new" / "stdout.log").read_text()):
        assert json.loads(text.split("json_stats: ")[1]) == expected
        assert text.splitlines()[0].endswith("slowfast.runtime.logging: epoch 1/2: loss nan, count 3, lr 1.235e-07")


def test_a_terminal_shows_the_lines_for_people_alone(tmp_path, capsys, monkeypatch):
    setup_logging(str(tmp_path))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    log_json_stats({"_type": "val_epoch", "epoch": "1/2", "loss": 0.5})
    assert capsys.readouterr().out.splitlines()[0].endswith("epoch 1/2, validation: loss 0.5")
    monkeypatch.undo()
    log_json_stats({"loss": 0.25})
    assert capsys.readouterr().out.count("json_stats: {") == 1
    assert (tmp_path / "stdout.log").read_text().count("json_stats: {") == 2


@pytest.mark.parametrize(
    ("stats", "line"),
    [
        (
            {"_type": "train_iter", "dt": 0.5234, "dt_data": 0.0156291, "dt_net": 0.5, "epoch": "3/20",
             "eta": "0:12:01", "grad_norm": 6.95999, "iter": "40/120", "lr": 0.00992404,
             "gpu_mem_gib": 10.391, "loss": 1.23429, "top1_err": 64.7826},
            "epoch 3/20, iter 40/120: grad_norm 6.96, loss 1.234, top1_err 64.8 %, lr 0.009924, 0.523 s/iter, "
            "0.0156 s of it for data, eta 0:12:01, gpu_mem 10.39 GiB",
        ),
        (
            {"_type": "train_epoch", "epoch": "3/20", "epoch_seconds": 61.05, "loss": 2.0, "replaced_samples": 0,
             "unreadable_files": 2},
            "epoch 3/20, trained: loss 2, 61.0 s, 2 unreadable files",
        ),
        (
            {"_type": "val_epoch", "epoch": "3/20", "videos": 40, "loss": 0.25, "top1_err": 25.0, "top1_acc": 75.0,
             "top5_err": 3.0, "map": 0.12345},
            "epoch 3/20, validation: loss 0.25, top1_acc 75.0 %, top5_err 3.0 %, map 0.1235, 40 videos",
        ),
        (
            {"_type": "test_final", "top1_acc": 50.0, "step1/top1_acc": 25.0, "checkpoint": "a.pyth", "views": 30},
            "test: top1_acc 50.0 %, checkpoint a.pyth, 30 views",
        ),
        ({"_type": "own", "ratio": 0.5}, "own: ratio 0.5"),
    ],
    ids=lambda part: part.get("_type") if isinstance(part, dict) else "",
)  # fmt: skip
def test_lines_for_people(stats, line):
    assert stats_line(stats) == line


def test_setting_up_again_replaces_the_former_folder(tmp_path, capsys):
    setup_logging(str(tmp_path / "one"))
    setup_logging(str(tmp_path / "two"))
    get_logger("some_project.part").info("hello")
    assert capsys.readouterr().out.count("hello") == 1
    assert not (tmp_path / "one" / "stdout.log").exists()
    assert "hello" in (tmp_path / "two" / "stdout.log").read_text()


def test_names_of_files_cannot_act_nor_forge_records(tmp_path, capsys):
    """Neither escape sequences nor bytes that are no text; a line that begins with "[" is the start of a record."""
    setup_logging(str(tmp_path))
    name = os.fsdecode(b"a\x1b[2J\r\xff\n[01/01 00:00:00][ERROR] forged.mp4")
    get_logger("slowfast.part").warning("unreadable video %s: %s", name, "\u202eabc")
    get_logger("slowfast.part").warning("next")
    for text in (capsys.readouterr().out, (tmp_path / "stdout.log").read_text(encoding="utf-8")):
        first, second, last = text.splitlines()
        assert first.endswith(r"unreadable video a\x1b[2J\r\udcff")
        assert second == r"  [01/01 00:00:00][ERROR] forged.mp4: \u202eabc"
        assert last.endswith("next")


@pytest.mark.parametrize("name", ["json_stats.jsonl", "stdout.log"])
def test_half_a_line_of_a_run_that_was_cut_off_is_ended(tmp_path, name):
    (tmp_path / name).write_text('{"_type": "train_iter", "lo')
    setup_logging(str(tmp_path))
    log_json_stats({"loss": 0.5})
    log_json_stats({"loss": 0.25})
    lines = (tmp_path / name).read_text().splitlines()
    assert lines[0] == '{"_type": "train_iter", "lo'
    found = [json.loads(line.split("json_stats: ")[-1])["loss"] for line in lines[1:] if line.endswith("}")]
    assert found == [0.5, 0.25]


@pytest.mark.parametrize("name", ["json_stats.jsonl", "stdout.log"])
@pytest.mark.parametrize(
    "put", [lambda path: path.symlink_to("/nowhere/x"), os.mkfifo, os.mkdir], ids=["link", "pipe", "folder"]
)
def test_what_is_no_file_of_ours_is_refused_at_the_start(tmp_path, name, put):
    put(tmp_path / name)
    with pytest.raises(OSError, match=f"move it away.*{name}"):
        setup_logging(str(tmp_path))


def test_a_log_that_cannot_be_written_is_told_once_and_lost_statistics_are_an_error(tmp_path, capsys, monkeypatch):
    setup_logging(str(tmp_path))
    get_logger("slowfast").info("first")
    before = (tmp_path / "stdout.log").read_text()

    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    get_logger("slowfast").info("second")
    with pytest.raises(OSError, match=r"it needs \d+ bytes, and [\d,]+ bytes are free.*json_stats.jsonl"):
        log_json_stats({"loss": 0.5})
    monkeypatch.undo()
    written = capsys.readouterr()
    assert written.err.count("\n") == 1 and "stdout.log (No space left" in written.err
    assert "second" in written.out and "loss" in written.out
    assert (tmp_path / "stdout.log").read_text() == before
    assert (tmp_path / "json_stats.jsonl").read_text() == ""
