"""Settings of the documentation site: `make docs` writes it to build/docs.

The sources are the Markdown files of the whole repository, so that links between them hold on a code host and on the
site alike. The API reference is made from docstrings, into docs/api, which git ignores.
"""

import os
import re
from pathlib import Path

from sphinx.errors import SphinxError

project = "SlowFast with PGT"
copyright = "its contributors"

extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
include_patterns = ["*.md", "docs/**", "projects/*/README.md", "projects/*/*/zoo/*.md", "examples/*/README.md"]
exclude_patterns = [".*", "build", "runs", "logs", "data", "docs/api/*/modules.rst"]
root_doc = "docs/index"

myst_heading_anchors = 4  # as code hosts make them
# Of a name that several classes have, such as `fps`, any is linked. Docstrings are plain text: what docutils finds odd
# in their indentation is no error. The pages are Markdown, and their warnings are MyST's.
suppress_warnings = ["ref.python", "docutils"]

apidoc_modules = [
    {
        "path": f"../{path}",
        "destination": f"docs/api/{Path(path).name}",
        "module_first": True,
        "max_depth": 1,
    }
    for path in ("slowfast", "projects/pgt/pgt")
]
# By the environment, since `apidoc_automodule_options` does not reach the pages of packages (Sphinx 9.0).
os.environ["SPHINX_APIDOC_OPTIONS"] = "members,ignore-module-all,show-inheritance"
autosummary_generate = False
napoleon_use_ivar = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
add_module_names = False

html_theme = "furo"
html_title = project
html_show_sphinx = False
html_copy_source = False
html_static_path = []
# A page that is opened from a file may read no other file, so results have no excerpts.
html_show_search_summary = False
html_additional_pages = {"index": "to_start.html"}
templates_path = ["templates"]


def escape_markup(app, kind, name, obj, options, lines) -> None:
    """Escape what docstrings, which are plain text with code in single backticks, do not mean as markup."""
    if any("``" in line or ":math:" in line for line in lines):  # inherited from PyTorch, and written in markup
        lines[:] = ["As in PyTorch.", ""]
        return
    parts = re.split(r"(`[^`]*`)", "\n".join(lines))
    parts[::2] = [re.sub(r"([*|]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
    parts[2::2] = [re.sub(r"^(?=\w)", r"\\ ", part) for part in parts[2::2]]
    parts[1::2] = [f"`{part}`" for part in parts[1::2]]
    lines[:] = "".join(parts).split("\n")


def refuse_foreign_assets(app, exception) -> None:
    """End the build with an error if a page needs a script, style, font or picture from another host."""
    foreign = r"""(?:\bsrc=["']?|<link[^>]*\bhref=["']?|url\(["']?|@import ["']?)((?:https?:)?//[^"' >)]+)"""
    for path in [] if exception else [*Path(app.outdir).rglob("*.html"), *Path(app.outdir).rglob("*.css")]:
        if found := re.findall(foreign, path.read_text(encoding="utf-8")):
            raise SphinxError(f"{path} needs {found[0]}; the site has to work without a network")


def setup(app) -> None:
    """Connect the functions above: the first before napoleon makes markup of the sections."""
    app.connect("autodoc-process-docstring", escape_markup, priority=400)
    app.connect("build-finished", refuse_foreign_assets)
