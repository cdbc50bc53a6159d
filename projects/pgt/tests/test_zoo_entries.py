"""The checkpoints that ship with the project: whole, small, without traces of a machine, as good as their card says."""

import json
import re
from pathlib import Path

import pytest
import torch

from pgt import StepPlan
from slowfast.apps.synthetic.cater.dataset import CaterSpec, make_cater
from slowfast.apps.synthetic.formats import SetSpec, make_set
from slowfast.apps.synthetic.sweep import SweepSpec, make_sweep
from slowfast.checkpoint.io import load_checkpoint
from slowfast.checkpoint.zoo.entries import all_entries, local_path
from slowfast.config import load_config
from slowfast.engine.arguments import parse_arguments
from slowfast.engine.command import main
from slowfast.engine.resume import load_checkpoint_config

NAMES = ("sweep_pgt_36x1", "sweep_slow_8x1")
CATER = ("cater_pgt_37x8", "cater_slow_8x8")
# Other backbones on sweep -> right answers to the first 48 of the 480 test videos.
BACKBONES = {
    "sweep_slowfast_pgt_36x1": 45,
    "sweep_slowfast_8x1": 27,
    "sweep_x3d_pgt_36x1": 43,
    "sweep_x3d_8x1": 27,
    "sweep_vit_pgt_36x1": 32,
    "sweep_vit_8x1": 15,
}
# Sets in a published format -> their entries, and where a test looks for their files.
FORMATS = {
    "ava": (
        ("synthetic_ava_pgt_36x4", "synthetic_ava_slow_8x4"),
        {"AVA.FRAME_DIR": "frames", "AVA.FRAME_LIST_DIR": "frame_lists", "AVA.ANNOTATION_DIR": "annotations"},
    ),
    "charades": (
        ("synthetic_charades_pgt_36x2", "synthetic_charades_slow_8x2"),
        {"DATA.PATH_TO_DATA_DIR": "", "DATA.PATH_PREFIX": "Charades_v1_rgb"},
    ),
}
ALL = (*NAMES, *CATER, *BACKBONES, *(name for names, _ in FORMATS.values() for name in names))
STEPS = {"cater_pgt_37x8": 12, "sweep_slowfast_pgt_36x1": 4, "sweep_vit_pgt_36x1": 4}  # others: 5


def card_of(entry):
    """Return the lines of an entry's card."""
    return Path(entry.card).read_text().splitlines()


def own_figures(entry):
    """Return the figures of the two files of a card themselves, in percent, as the card says."""
    (line,) = [line for line in card_of(entry) if re.match(r"\| [\w-]+ of this file", line)]
    return [float(figure) for figure in re.findall(r"([0-9.]+) %", line)]


@pytest.fixture(scope="module")
def entries():
    found = {entry.name: entry for entry in all_entries()}
    return {name: found[name] for name in ALL}


def test_files_are_whole_and_small(entries):
    assert {name: entry.verify() for name, entry in entries.items()} == dict.fromkeys(ALL)
    assert sum(entry.file.stat().st_size for entry in entries.values()) < 13.5e6
    for entry in entries.values():
        saved = load_checkpoint(str(entry.file))
        assert not re.search(r"(?<![\w.])/(tmp|work|home|root|data)\b", saved["cfg"])


@pytest.mark.parametrize("name", ALL)
def test_settings_are_those_of_the_file_that_the_entry_names(entries, repo, name):
    cfg = load_checkpoint_config(local_path(f"zoo://{name}"))
    named = load_config(repo / "configs" / f"{entries[name].config}.yaml")
    if name in (*CATER, "sweep_vit_pgt_36x1", "sweep_vit_8x1"):  # the comparison sets the length of a training
        cfg, named = cfg.clone(), named.clone()
        for one in (cfg, named):
            one.defrost()
            one.SOLVER.MAX_EPOCH = one.SOLVER.WARMUP_EPOCHS = 0
    sections = ("MODEL", "RESNET", "SLOWFAST", "X3D", "MVIT", "DETECTION", "SOLVER")
    for section in (*sections, *(["PGT"] if "PGT" in named else [])):
        assert cfg[section] == named[section]
    assert cfg.DATA.NUM_FRAMES == named.DATA.NUM_FRAMES
    assert cfg.TRAIN.BATCH_SIZE == named.TRAIN.BATCH_SIZE
    assert "PGT" not in named or StepPlan.from_config(cfg).steps == STEPS.get(name, 5)


def results_of(name, places, out):
    """Test an entry on the files at `places`, setting -> folder; return what the test writes."""
    torch.set_num_threads(1)
    words = [str(word) for setting in places.items() for word in setting]
    assert main(parse_arguments(["TEST.CHECKPOINT_FILE_PATH", f"zoo://{name}", *words, "OUTPUT_DIR", str(out)])) == 0
    return json.loads((out / "test_results.json").read_text())


def top1_of(name, data, videos):
    """Test an entry on the videos of a folder, of which there are so many; return the top-1 in percent."""
    results = results_of(name, {"DATA.PATH_TO_DATA_DIR": data}, data.parent / name)
    assert results["videos"] == videos
    return results["top1_acc"]


@pytest.mark.slow
def test_they_are_as_good_as_their_card_says(entries, tmp_path):
    # What a test video shows depends on seed and number alone, so training videos need not be made.
    make_sweep(tmp_path / "data", SweepSpec(train=1, val=1, test=480), workers=2)
    for name, figure in zip(NAMES, own_figures(entries[NAMES[0]]), strict=True):
        # Other machines round otherwise, which may turn a video or two.
        assert top1_of(name, tmp_path / "data", 480) == pytest.approx(figure, abs=0.5)


@pytest.mark.slow
def test_those_of_other_backbones_are_as_good_on_the_first_test_videos(tmp_path):
    make_sweep(tmp_path / "data", SweepSpec(train=1, val=1, test=48), workers=2)
    for name, right in BACKBONES.items():
        assert top1_of(name, tmp_path / "data", 48) * 48 / 100 == pytest.approx(right, abs=1.1)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_those_of_published_formats_are_as_good_as_their_card_says(form, entries, tmp_path):
    """On all videos, of which the cards say the mAP."""
    make_set(tmp_path / "data", SetSpec(form, train=1), workers=2)
    names, folders = FORMATS[form]
    places = {key: tmp_path / "data" / folder for key, folder in folders.items()}
    for name, figure in zip(names, own_figures(entries[names[0]]), strict=True):
        results = results_of(name, places, tmp_path / name)
        assert 100 * results.get("ava_map", results.get("map")) == pytest.approx(figure, abs=0.5)


@pytest.mark.slow
def test_those_of_cater_are_as_good_on_the_first_test_videos(tmp_path):
    """With the right answers to 24 of the 360 videos, which depend on seed and number alone."""
    pytest.importorskip("mujoco")
    try:
        make_cater(tmp_path / "data", CaterSpec("small", train=1, val=1, test=24), workers=2)
    except ValueError as error:
        pytest.skip(str(error))
    for name, right in zip(CATER, (10, 3), strict=True):
        assert top1_of(name, tmp_path / "data", 24) * 24 / 100 == pytest.approx(right, abs=1.1)


def test_the_card_has_the_figures_of_the_entries(entries):
    for names, metric in ((NAMES, "top1"), (CATER, "top1"), *((names, "mAP") for names, _ in FORMATS.values())):
        (line,) = [line for line in card_of(entries[names[0]]) if line.startswith("| accuracy of this recipe")]
        figures = re.findall(r"[0-9.]+ ± [0-9.]+", line)
        assert figures == [entries[name].metrics[metric] for name in names]
    lines = {line.split(" |")[0].removeprefix("| "): line for line in card_of(entries[next(iter(BACKBONES))])}
    for name in BACKBONES:
        (figure,) = re.findall(r"[0-9.]+ ± [0-9.]+", lines[name])
        assert figure == entries[name].metrics["top1"]
        (own,) = re.findall(r"([0-9.]+) %", lines[name])
        assert f"{100 * round(4.8 * float(own)) / 480:.2f}" == own  # a whole number of the 480 videos
