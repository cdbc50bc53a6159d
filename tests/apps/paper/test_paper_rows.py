"""The rows of the paper's tables: their names, figures and files, and that each file is the difference it claims."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from slowfast.apps.paper.documents import fill_documents
from slowfast.apps.paper.rows import read_paper
from slowfast.config import load_config
from slowfast.models import build_model
from tests.config.published import ABLATIONS, FOLDERS, flatten, yaml_chain

ROOT = Path(__file__).parents[3]
PAPER = read_paper(ROOT)
VARIED = [row for row in PAPER.rows.values() if row.table == "ablations"]
# Settings that loading works out from those that a row changes.
WORKED_OUT = {
    *("AVA.FRAMES_AFTER_KEY", "AVA.BOX_FRAMES", "DATA.TRAIN_NUM_FRAMES", "OUTPUT_DIR"),
    "DATA.ENSEMBLE_METHOD",  # with PGT.ALL_STEP_TEST
}
SMALL = ["NUM_GPUS", 0, "DATA.TRAIN_CROP_SIZE", 32, "RESNET.WIDTH_PER_GROUP", 8]


def by_name(row):
    return row.name


def test_names_follow_one_scheme():
    """Folder and file in lower case; rows of other papers than PGT have a name of their own."""
    for row in PAPER.rows.values():
        stem = row.config.relative_to(ROOT).as_posix().partition("configs/")[2].removesuffix(".yaml")
        scheme = re.sub(r"ablations/|Synthetic/", "", stem).replace("/", "_").lower()
        assert row.name == scheme or row.table == "follow-up"


def test_published_figures_are_those_in_the_headers_of_the_files():
    for row in PAPER.rows.values():
        header = "".join(line for line in row.config.read_text().splitlines()[:2] if line.startswith("#"))
        figures = [float(figure) for figure in re.findall(r"(\d\d\.\d) (?:top-1|top-5|mAP)", header)]
        if row.table in ("paper", "clip models"):
            assert figures == list(row.published.values()), row.name
        else:
            assert not row.published, row.name


def test_every_ablation_has_a_row():
    files = {row.config for row in VARIED}
    assert files == {(FOLDERS["pgt"] / file.removeprefix("pgt/")) for file in ABLATIONS} and len(files) == 40


@pytest.mark.parametrize("row", VARIED, ids=by_name)
def test_a_row_differs_from_its_base_in_what_it_claims(row):
    base = PAPER.rows[row.base]
    own = yaml.safe_load(row.config.read_text())
    assert (row.config.parent / own.pop("_BASE_")).resolve() == base.config
    output = own.pop("OUTPUT_DIR")
    assert output == "logs/" + row.config.relative_to(FOLDERS["pgt"]).with_suffix("").as_posix()
    assert flatten(own) == row.changes

    cfg = load_config(row.config, SMALL)
    ours, theirs = flatten(cfg), flatten(load_config(base.config, SMALL))
    differs = {key for key in ours if ours[key] != theirs[key]}
    assert set(row.changes) <= differs <= set(row.changes) | WORKED_OUT
    assert ("DATA.ENSEMBLE_METHOD" in differs) <= ("PGT.ALL_STEP_TEST" in row.changes)
    trains = {key for key in differs if key not in ("PGT.PG_EVAL", "PGT.ENSEMBLE_METHOD", "PGT.ALL_STEP_TEST")}
    assert row.weights_of_base == (trains <= {"OUTPUT_DIR", "DATA.ENSEMBLE_METHOD"})

    settings = {"PGT.OVERLAP": [1], **yaml_chain(row.config)}
    steps, (length,), (overlap,) = settings["PGT.STEPS"], settings["PGT.STEP_LEN"], settings["PGT.OVERLAP"]
    assert length + (steps - 1) * (length - overlap) == settings["DATA.NUM_FRAMES"]


@pytest.mark.parametrize("row", VARIED, ids=by_name)
def test_the_model_of_a_row_builds(row):
    # The weights do not matter, so none are drawn.
    with torch.device("meta"):
        model = build_model(load_config(row.config, SMALL))
    assert sum(parameter.numel() for parameter in model.parameters()) > 1e5


def test_tables_of_the_documents_are_current():
    for page, text in fill_documents(ROOT).items():
        assert page.read_text(encoding="utf-8") == text, f"run tools/paper_table.py page: {page.name} is not current"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"published": {"top9_acc": 1.0}}, "no metric top9_acc"),
        ({"published": {"top1_acc": 1.0}}, "none of the sources"),
        ({"base": "nothing"}, "no row"),
        ({"changes": {"PGT.CACHE": "max"}}, "base"),
        ({"data_set": "nothing"}, "no data set 'nothing'"),
        ({"config": "missing.yaml"}, "no file"),
        ({"figure": 1}, "figure"),
    ],
)
def test_a_wrong_row_is_refused(change, message, tmp_path):
    folder = tmp_path / "projects/mine"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# mine\n")
    data_set = {"title": "d", "metrics": {"top1_acc": {"title": "top-1", "unit": 1}}, "samples": {}}
    data_set |= {"samples_source": "", "disk": [], "needs": [], "prepare": [], "settings": []}
    row = {"name": "a", "table": "t", "data_set": "d", "model": "m", "frames": "8x8", "config": "mine.yaml"}
    content = {"sources": {"s": "S"}, "data_sets": {"d": data_set}, "rows": [row]}
    (folder / "paper_rows.json").write_text(json.dumps(content))
    assert set(read_paper(tmp_path).rows) == {"a"}
    row |= change
    (folder / "paper_rows.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_paper(tmp_path)
