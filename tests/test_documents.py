"""Check that documents name existing files, commands and figures."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from slowfast.apps.synthetic.sweep import SweepSpec, make_sweep

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(
        path
        for pattern in ("*.md", "docs/*.md", "docs/tutorials/*.md", "projects/*/*.md", "examples/*/*.md")
        for path in ROOT.glob(pattern)
    ),
    *ROOT.glob("projects/*/*/zoo/*.md"),
]
SETTINGS = [
    path
    for folder in ("configs", "projects/pgt/configs")
    for path in sorted((ROOT / folder).rglob("*.yaml"))
    if "Synthetic" not in path.parts
]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_links_and_paths_exist(document):
    text = document.read_text()
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []
    paths = re.findall(r"(?:--cfg|python) ((?:\w+/)[\w/.]+\.(?:yaml|py))", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_pictures_exist_and_addresses_are_well_formed(document):
    text = document.read_text()
    pictures = re.findall(r"<(?:img|source|video)[^>]*\bsrc=[\"']([^\"']+)", text)
    assert [picture for picture in pictures if not (document.parent / picture).exists()] == []
    addresses = [
        urlsplit(address)
        for address in re.findall(r"\]\((\w+:[^)]*)\)|<(\w+://[^>]*)>", text)
        for address in address
        if address
    ]
    assert [url.geturl() for url in addresses if url.scheme not in ("http", "https") or not url.netloc] == []


def test_every_page_has_its_place_on_the_site():
    index = ROOT / "docs/index.md"
    listed = re.findall(
        r"^(?:.*<)?([\w./]+?)>?$",
        "\n".join(re.findall(r"```{toctree}(.*?)```", index.read_text(), re.DOTALL)),
        re.MULTILINE,
    )
    pages = {(index.parent / name).resolve().with_suffix(".md") for name in listed}
    assert {named(path) for path in DOCUMENTS if path != index} == {named(path) for path in pages}


def anchors(path: Path) -> set[str]:
    """Anchors of a document's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_anchors_exist(document):
    links = re.findall(r"\]\(([^)#\s]*\.md)?#([^)\s]+)\)", document.read_text())
    missing = [
        f"{page}#{anchor}"
        for page, anchor in links
        if anchor not in anchors((document.parent / page) if page else document)
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_make_targets_exist(document):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`|&& )make ([a-z-]+)", document.read_text(), re.MULTILINE)) <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_tests_that_documents_name_exist(document):
    files = [*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("projects/*/tests/**/test_*.py")]
    defined = set(re.findall(r"^def (test_\w+)\(", "\n".join(path.read_text() for path in files), re.MULTILINE))
    assert set(re.findall(r"`(test_\w+)`", document.read_text())) <= defined


@pytest.mark.parametrize("path", SETTINGS, ids=named)
def test_model_zoo_lists_every_file_with_the_figure_of_its_header(path):
    rows = [line for line in (ROOT / "MODEL_ZOO.md").read_text().splitlines() if f"{path.stem}]({named(path)})" in line]
    figure = re.search(r"Published (.+)\.$", path.read_text().splitlines()[0])
    cells = [cell.strip() for cell in rows[-1].split("|")]
    assert cells[4] == (figure.group(1) if figure else "")


def test_python_of_the_readme_runs(tmp_path):
    predict, code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    make_sweep(tmp_path, SweepSpec(train=1, val=1, test=1))
    videos = "runs/demo/data_1200"
    assert f"{videos}/videos/test/test_000000.mp4" in predict
    predict = predict.replace(videos, str(tmp_path))
    done = subprocess.run([sys.executable, "-c", predict], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 + 5  # the whole video, then 5 steps
    small = '"NUM_GPUS", 0, "DATA.TRAIN_CROP_SIZE", 64, "DATA.TEST_CROP_SIZE", 64'
    assert '"NUM_GPUS", 0' in code
    assert "224, 224" in code
    code = code.replace('"NUM_GPUS", 0', small).replace("224, 224", "64, 64")
    code += "assert scores.shape == (1, 400) and memory\nprint('ran')\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("ran\n")
