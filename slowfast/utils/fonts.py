"""Installed fonts for letters that matplotlib's own font lacks, such as Chinese, Japanese and Korean ones."""

from __future__ import annotations

import functools
import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

_BOXES = "Last Resort"  # begins the name of a font whose signs are all boxes
_SHOWN = 10  # letters in a message


def own_font_file() -> str:
    """Return the path of DejaVu Sans, which comes with matplotlib."""
    import matplotlib

    return os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


def fonts_beside(text: str) -> list[Any]:
    """Return installed fonts, as matplotlib's entries, for the letters of a text that its own font lacks.

    Letters that no font has are logged; pictures have a box for them.
    """
    if text.isascii():
        return []
    letters = frozenset(letter for letter in text if not letter.isspace() and ord(letter) not in _letters_of_own())
    return _fonts_of(letters) if letters else []


def add_fonts(figure: Figure) -> None:
    """Let the texts of a figure take what they lack from installed fonts; call it when all of it is drawn."""
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    names = [font.name for font in fonts_beside("".join(text.get_text() for text in texts))]
    for text in texts if names else ():
        text.set_fontfamily([*text.get_fontfamily(), *names])


def _letters_of_own() -> frozenset[int]:
    return _letters_of(own_font_file())


@functools.lru_cache(64)
def _fonts_of(letters: frozenset[str]) -> list[Any]:
    from matplotlib import get_cachedir
    from matplotlib.font_manager import fontManager

    wanted, found = {ord(letter) for letter in letters}, []
    # The regular font of a family first, among those that have as many of the letters.
    entries = [font for font in fontManager.ttflist if not font.name.startswith(_BOXES)]
    entries.sort(key=lambda font: (font.style != "normal", abs(int(font.weight) - 400), "Mono" in font.name, font.name))
    while wanted and entries:
        best = max(entries, key=lambda font: len(wanted & _letters_of(font.fname)))
        has = wanted & _letters_of(best.fname)
        if not has:
            break
        found.append(best)
        wanted -= has
    if wanted:
        logger.warning(
            "no installed font has the letters %s, so pictures have boxes for them: install one, such as Noto Sans CJK "
            "(Debian: apt install fonts-noto-cjk), and remove the list of fonts in %s",
            *("".join(sorted(map(chr, wanted))[:_SHOWN]), get_cachedir()),
        )
    return found


@functools.lru_cache(512)
def _letters_of(path: str) -> frozenset[int]:
    """Return the numbers of the letters of a font; none if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
