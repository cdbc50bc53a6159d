"""Make editable installs by plain path entries; pyproject.toml has everything else.

For two source folders setuptools installs an import hook. Editors and type checkers do not follow it, and a folder on
the path with the name of a package is imported in its place. Two lines in a .pth file avoid both.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command import editable_wheel

ROOT = Path(__file__).resolve().parent


class EditableWheel(editable_wheel.editable_wheel):
    def _select_strategy(self, name, tag, build_lib):
        # Not a public name of setuptools: where it is gone, its own choice still works.
        paths = getattr(editable_wheel, "_StaticPth", None)
        if paths is None:
            return super()._select_strategy(name, tag, build_lib)
        return paths(self.distribution, name, [ROOT, ROOT / "projects/pgt"])


setup(cmdclass={"editable_wheel": EditableWheel})
