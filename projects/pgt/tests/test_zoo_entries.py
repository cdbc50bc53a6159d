"""The checkpoints that ship with the project: whole, small, without traces of a machine, as good as their card says."""

import json
import re
from pathlib import Path

import pytest
import torch

from pgt import StepPlan
from slowfast.apps.synthetic.cater.dataset import CaterSpec, make_cater
from slowfast.apps.synthetic.sweep import SweepSpec, make_sweep
from slowfast.checkpoint.io import load_checkpoint
from slowfast.checkpoint.zoo.entries import all_entries, local_path
from slowfast.config import load_config
from slowfast.engine.arguments import parse_arguments
from slowfast.engine.command import main
from slowfast.engine.resume import load_checkpoint_config

NAMES = ("sweep_pgt_36x1", "sweep_slow_8x1")
CATER = ("cater_pgt_37x8", "cater_slow_8x8")
STEPS = {"sweep_pgt_36x1": 5, "cater_pgt_37x8": 12}


def card_of(entry):
    """Return the lines of an entry's card."""
    return Path(entry.card).read_text().splitlines()


def own_figures(entry):
    """Return the top-1 of the two files themselves, in percent, as the card says."""
    (line,) = [line for line in card_of(entry) if line.startswith("| top-1 of this file")]
    return [float(figure) for figure in re.findall(r"([0-9.]+) %", line)]


@pytest.fixture(scope="module")
def entries():
    found = {entry.name: entry for entry in all_entries()}
    return {name: found[name] for name in (*NAMES, *CATER)}


def test_files_are_whole_and_small(entries):
    assert {name: entry.verify() for name, entry in entries.items()} == dict.fromkeys((*NAMES, *CATER))
    assert sum(entry.file.stat().st_size for entry in entries.values()) < 5e6
    for entry in entries.values():
        saved = load_checkpoint(str(entry.file))
        assert not re.search(r"(?<![\w.])/(tmp|work|home|root|data)\b", saved["cfg"])


@pytest.mark.parametrize("name", [*NAMES, *CATER])
def test_settings_are_those_of_the_file_that_the_entry_names(entries, repo, name):
    cfg = load_checkpoint_config(local_path(f"zoo://{name}"))
    named = load_config(repo / "configs" / f"{entries[name].config}.yaml")
    if name in CATER:  # the comparison sets the length of a training
        cfg, named = cfg.clone(), named.clone()
        for one in (cfg, named):
            one.defrost()
            one.SOLVER.MAX_EPOCH = one.SOLVER.WARMUP_EPOCHS = 0
    for section in ("RESNET", "SOLVER", *(["PGT"] if "PGT" in named else [])):
        assert cfg[section] == named[section]
    assert cfg.DATA.NUM_FRAMES == named.DATA.NUM_FRAMES
    assert "PGT" not in named or StepPlan.from_config(cfg).steps == STEPS[name]


def top1_of(name, data, videos):
    """Test an entry on the videos of a folder, of which there are so many; return the top-1 in percent."""
    torch.set_num_threads(1)
    out = data.parent / name
    places = ["DATA.PATH_TO_DATA_DIR", str(data), "OUTPUT_DIR", str(out)]
    assert main(parse_arguments(["TEST.CHECKPOINT_FILE_PATH", f"zoo://{name}", *places])) == 0
    results = json.loads((out / "test_results.json").read_text())
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
    (line,) = [line for line in card_of(entries[NAMES[0]]) if line.startswith("| accuracy of this recipe")]
    figures = re.findall(r"[0-9.]+ ± [0-9.]+", line)
    assert figures == [entries[name].metrics["top1"] for name in NAMES]
    measured = [f"{figure:.1f}" for figure in own_figures(entries[CATER[0]])]
    assert measured == [entries[name].metrics["top1"] for name in CATER]
