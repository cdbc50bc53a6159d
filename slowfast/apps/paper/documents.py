"""The tables of documents that are made from the rows."""

from __future__ import annotations

from pathlib import Path

from slowfast.apps.paper.rows import Paper, read_paper
from slowfast.apps.paper.table import ablation_table, document_table
from slowfast.utils.files import atomic_write_local
from slowfast.utils.tables import replace_marked

_MARK = "<!-- {0}: written by tools/paper_table.py page -->\n"
# Document -> title of a block -> tables in it; () for that of ablations.
_BLOCKS = {
    "MODEL_ZOO.md": {
        "rows of the paper": ("paper", "clip models"),
        "rows of the follow-up": ("follow-up",),
    },
    "docs/reproduce.md": {
        "other rows": ("published settings",),
        "ablations": (),
    },
}


def fill_documents(root: Path) -> dict[Path, str]:
    """Return the text of each document in the checkout `root` with its tables made anew.

    Raises:
        ValueError: a marker line is missing, or the file of rows is damaged.
    """
    paper = read_paper(root)
    filled = {}
    for name, blocks in _BLOCKS.items():
        page = root / name
        text = page.read_text(encoding="utf-8")
        for title, tables in blocks.items():
            text = replace_marked(text, _MARK.format(title), _table(paper, tables, page), name)
        filled[page] = text
    return filled


def write_documents(root: Path) -> None:
    """Write the tables of the documents in the checkout `root` anew."""
    for page, text in fill_documents(root).items():
        atomic_write_local(page, text)


def _table(paper: Paper, tables: tuple[str, ...], page: Path) -> str:
    return document_table(paper, tables, page) if tables else ablation_table(paper, page)
