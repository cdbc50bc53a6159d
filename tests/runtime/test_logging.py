import json
import os

import pytest

from slowfast.runtime.logging import get_logger, log_json_stats, setup_logging

pytestmark = pytest.mark.usefixtures("clean_logging")


def test_statistics_are_json_everywhere(tmp_path, capsys):
    setup_logging(str(tmp_path / "new"))
    log_json_stats({"loss": float("nan"), "lr": 1.23456789e-7, "epoch": "1/2", "count": 3})
    expected = {"loss": None, "lr": 1.23457e-7, "epoch": "1/2", "count": 3}
    assert json.loads((tmp_path / "new" / "json_stats.jsonl").read_text()) == expected
    for text in (capsys.readouterr().out, (tmp_path / "new" / "stdout.log").read_text()):
        assert json.loads(text.split("json_stats: ")[1]) == expected


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
