"""Make editable installs by plain path entries; pyproject.toml has everything else.

With two source folders setuptools installs an import hook, which editors and type checkers do not follow and which any
folder on the path that happens to bear a package's name goes before. Two lines in a .pth file have neither trouble.
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
