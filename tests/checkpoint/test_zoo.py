"""The zoo: its entries, `zoo://NAME` wherever a path may stand, and MODEL_ZOO.md."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from iopath.common.file_io import g_pathmgr

from slowfast.apps.zoo import fill_page, show_entry
from slowfast.checkpoint import find_checkpoints, load_checkpoint, local_path, save_checkpoint
from slowfast.checkpoint.zoo import entries as zoo
from slowfast.checkpoint.zoo.download import DownloadError
from slowfast.checkpoint.zoo.entries import Entry, all_entries, detector_file, find_entry, register_entries
from slowfast.config import load_config
from slowfast.engine.test import test as run_test
from slowfast.engine.train import train
from slowfast.models import build_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Use an empty cache folder, and restore the zoo afterwards."""
    monkeypatch.setenv("SLOWFAST_CACHE", str(tmp_path / "cache"))
    all_entries()
    monkeypatch.setattr(zoo, "_entries", dict(zoo._entries))
    return tmp_path / "cache" / "zoo"


@pytest.fixture
def registered(tmp_path):
    """Return a function that registers entries of a JSON file."""

    def register(*entries):
        path = tmp_path / "entries.json"
        path.write_text(json.dumps({"entries": entries}))
        register_entries(path)
        return path

    return register


@pytest.fixture
def served(file_server, tmp_path, registered, tiny_cfg):
    """Serve a tiny model's weights as the zoo entry `served`; return the weights."""
    torch.manual_seed(1)
    weights = build_model(tiny_cfg()).state_dict()
    save_checkpoint({"model_state": weights}, str(tmp_path / "made" / "file.pyth"))
    file_server.content = (tmp_path / "made" / "file.pyth").read_bytes()
    registered({"name": "served", "dataset": "tiny", "format": "pytorch", "url": file_server.url})
    return weights


def test_published_entries():
    entries = [entry for entry in all_entries() if entry.url and entry.format != "onnx"]
    assert len(entries) == len({entry.file for entry in entries}) == 71
    slow = find_entry("zoo://slow_8x8_r50")
    assert (slow.metrics, slow.format, slow.measured) == ({"top1": 74.8, "top5": 91.6}, "caffe2", "")
    assert slow.url.endswith("kinetics400/SLOWONLY_8x8_R50.pkl") and slow.file.name == "slow_8x8_r50.pkl"
    with pytest.raises(ValueError, match="no 'slow_8x8_r5'.*slow_8x8_r50"):
        find_entry("slow_8x8_r5")


def test_every_published_address_is_an_entry_with_its_figures(repo):
    """`published_checkpoints.json` holds the published tables: address, format, figures."""
    known = json.loads((repo / "tests/fixtures/published_checkpoints.json").read_text())
    published = [entry for entry in all_entries() if entry.url and entry.format != "onnx"]
    assert sorted(entry.url for entry in published) == sorted(row["url"] for row in known)
    by_url = {entry.url: entry for entry in published}
    for row in known:
        entry = by_url[row["url"]]
        assert (entry.format, sorted(entry.metrics.values())) == (row["format"], sorted(row["figures"])), entry.name


def test_detectors_are_no_checkpoints_and_state_their_license(capsys):
    detectors = [entry for entry in all_entries() if entry.format == "onnx"]
    assert {entry.name for entry in detectors} == {"person_nanodet", "person_yolox_tiny"}
    for entry in detectors:
        assert entry.url.startswith("https://github.com/") and entry.url.endswith(".onnx")
        show_entry(entry.name)
        assert re.search(r"^license +Apache-2.0", capsys.readouterr().out, re.MULTILINE)
        with pytest.raises(ValueError, match="no checkpoint"):
            local_path(f"zoo://{entry.name}")
    with pytest.raises(ValueError, match=r"slow_8x8_r50 is a checkpoint.*zoo://person_nanodet"):
        detector_file("zoo://slow_8x8_r50")
    assert detector_file("mine.onnx") == "mine.onnx"


def test_a_detector_of_the_zoo_is_downloaded_once(registered, file_server):
    file_server.content = b"a detector"
    registered({"name": "mine", "dataset": "COCO", "format": "onnx", "url": file_server.url})
    paths = {detector_file("zoo://mine") for _ in range(2)}
    (path,) = paths
    assert Path(path).read_bytes() == b"a detector"
    assert Path(path).name == f"mine{Path(file_server.url).suffix}"


# Classes of the data sets. A pre-trained file of AVA is listed with the setting that it starts.
CLASSES = {
    "Kinetics-400": 400, "Kinetics-600": 600, "Something-Something V2": 174, "ImageNet": 1000, "Charades": 157,
    "AVA 2.1": 80, "AVA 2.2": 80, "Kinetics": 80,
}  # fmt: skip
PUBLISHED = [Entry(**values) for values in json.loads(zoo.PUBLISHED.read_text())["entries"]]
SETTINGS = {(entry.config, entry.dataset) for entry in PUBLISHED}


@pytest.mark.parametrize(("config", "dataset"), sorted(SETTINGS))
def test_settings_of_published_entries_load_and_build(repo, config, dataset):
    cfg = load_config(repo / "configs" / f"{config}.yaml", ["NUM_GPUS", 0])
    with torch.device("meta"):
        model = build_model(cfg)
    assert model.state_dict()["head.projection.weight"].shape[0] == cfg.MODEL.NUM_CLASSES == CLASSES[dataset]


def test_files_that_ship_are_what_they_say():
    for entry in all_entries():
        if entry.path:
            assert entry.verify() is None, entry.name
            assert load_checkpoint(f"zoo://{entry.name}")["cfg"]
            assert entry.measured and (not entry.card or Path(entry.card).is_file())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "../x"}, "a name is letters"),
        ({"url": ""}, "a path or a url"),
        ({"path": "x.pyth"}, "a path or a url"),
        ({"url": "", "path": "x.pyth"}, "size and sha256"),
        ({"format": "keras"}, "none of pytorch"),
        ({"color": "red"}, "color"),
        ({"name": "slow_8x8_r50"}, "another zoo entry slow_8x8_r50"),
    ],
)
def test_entries_with_mistakes(registered, change, words):
    all_entries()
    with pytest.raises(ValueError, match=words):
        registered({"name": "mine", "dataset": "x", "format": "pytorch", "url": "http://x/y.pyth", **change})


def test_registering_twice_does_no_harm(registered):
    path = registered({"name": "mine", "dataset": "x", "format": "pytorch", "url": "http://x/y.pyth"})
    register_entries(path)
    assert [entry.name for entry in all_entries()].count("mine") == 1


def test_a_file_beside_its_entry(tmp_path, registered):
    content = b"weights"
    (tmp_path / "w.pyth").write_bytes(content)
    known = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "measured": "by hand"}
    registered({"name": "mine", "dataset": "x", "format": "pytorch", "path": "w.pyth", **known})
    assert local_path("zoo://mine") == str(tmp_path / "w.pyth")
    (tmp_path / "w.pyth").write_bytes(b"weight?")
    with pytest.raises(ValueError, match="mine.*SHA-256"):
        local_path("zoo://mine")
    (tmp_path / "w.pyth").unlink()
    with pytest.raises(FileNotFoundError, match="shipped with the code"):
        local_path("zoo://mine")


def test_paths_without_a_scheme_are_left_alone(tmp_path):
    assert local_path("models/x.pyth") == "models/x.pyth"


def test_the_path_manager_knows_the_zoo(served, file_server, cache):
    assert g_pathmgr.exists("zoo://served") and not g_pathmgr.exists("zoo://nothing")
    with g_pathmgr.open("zoo://served", "rb") as stream:
        assert stream.read() == file_server.content
    assert g_pathmgr.get_local_path("zoo://served") == str(cache / "served.pyth")
    with pytest.raises(ValueError, match="only be read"):
        g_pathmgr.open("zoo://served", "wb")


def test_training_and_testing_from_the_zoo(served, file_server, tiny_cfg, tmp_path, caplog):
    """Its format need not be set; that of other files has to be."""
    train(tiny_cfg("TRAIN.CHECKPOINT_FILE_PATH", "zoo://served", "SOLVER.MAX_EPOCH", 1, "SOLVER.BASE_LR", 0.0,
                   "SOLVER.WARMUP_EPOCHS", 0.0))  # fmt: skip
    saved = load_checkpoint(find_checkpoints(tiny_cfg().OUTPUT_DIR)[-1].path)["model_state"]
    assert all(torch.equal(saved[key], value) for key, value in served.items() if key.endswith("weight"))
    cfg = tiny_cfg("TEST.CHECKPOINT_FILE_PATH", "zoo://served", "TEST.CHECKPOINT_TYPE", "caffe2")
    assert run_test(cfg)["checkpoint"] == "zoo://served"
    assert file_server.seen == [""]


def test_offline_says_where_to_put_the_file(registered, cache):
    registered({"name": "far", "dataset": "x", "format": "pytorch", "url": "http://nowhere.invalid/x.pyth"})
    with pytest.raises(DownloadError, match=f"zoo://far.*{re.escape(str(cache / 'far.pyth'))} by hand"):
        load_checkpoint("zoo://far")
    torch.save({"a": torch.ones(1)}, cache / "far.pyth")
    assert load_checkpoint("zoo://far")["model_state"].keys() == {"a"}


def test_known_facts_of_a_download_are_checked(served, file_server):
    wrong = dataclasses.replace(find_entry("served"), sha256="0" * 64)
    with pytest.raises(ValueError, match="SHA-256"):
        wrong.fetch()


def test_the_cache_folder(monkeypatch, tmp_path):
    entry = Entry("some", "x", "pytorch", url="http://x/y.tar.pyth")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert entry.file == tmp_path / "cache" / "zoo" / "some.pyth"
    monkeypatch.delenv("SLOWFAST_CACHE")
    assert entry.file == tmp_path / "slowfast" / "zoo" / "some.pyth"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert entry.file == Path.home() / ".cache/slowfast/zoo/some.pyth"


def test_model_zoo_is_written_from_the_entries():
    text = (ROOT / "MODEL_ZOO.md").read_text()
    assert fill_page(text, ROOT) == text, "run python tools/zoo.py page"
    for entry in all_entries():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{entry.name}` |")]
        assert all(f"{value} " in row for value in entry.metrics.values())
    published = text[text.index("### Published") : text.index("## All settings")]
    assert "*published*" in published and "measured" not in published
    with pytest.raises(ValueError, match="needs the line"):
        fill_page(text.replace("<!-- settings", "<!-- "), ROOT)


PROJECT = """
from pathlib import Path
from slowfast.checkpoint import register_entries

def setup(cfg):
    register_entries(Path(__file__).with_name("entries.json"))
"""


@pytest.mark.slow
def test_of_several_processes_one_downloads(tool, finish, file_server, tmp_path, tiny_file, tiny_cfg, monkeypatch):
    weights = build_model(tiny_cfg()).state_dict()
    save_checkpoint({"model_state": weights}, str(tmp_path / "made.pyth"))
    file_server.content = (tmp_path / "made.pyth").read_bytes()
    (tmp_path / "own_zoo.py").write_text(PROJECT)
    entry = {"name": "served", "dataset": "tiny", "format": "pytorch", "url": file_server.url}
    (tmp_path / "entries.json").write_text(json.dumps({"entries": [entry]}))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("SLOWFAST_CACHE", str(tmp_path / "cache"))
    settings = ["PROJECTS", "['own_zoo']", "SOLVER.BASE_LR", 0, "SOLVER.WARMUP_EPOCHS", 0, "SOLVER.MAX_EPOCH", 1]
    process = tool(
        "train_net", "--cfg", tiny_file, "--num_procs", 2, "TRAIN.CHECKPOINT_FILE_PATH", "zoo://served", *settings
    )
    status, output = finish(process)
    assert status == 0, output
    assert file_server.seen == [""]
    saved = load_checkpoint(find_checkpoints(tiny_cfg().OUTPUT_DIR)[-1].path)["model_state"]
    assert torch.equal(saved["head.projection.weight"], weights["head.projection.weight"])
