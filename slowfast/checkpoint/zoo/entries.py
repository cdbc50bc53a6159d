"""The zoo: checkpoints by name, and detectors of persons, shipped with the code or downloaded once.

`zoo://NAME` works wherever the path of a checkpoint, or of a detector, does. Entries are read from JSON files; a
project registers its own by `register_entries`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import os
import re
from pathlib import Path
from typing import Any

from iopath.common.file_io import PathHandler, g_pathmgr

from slowfast.checkpoint.zoo.download import FileDigest, download
from slowfast.config import get_cfg
from slowfast.config.projects import call_project, import_project, section_owners
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

PREFIX = "zoo://"
PUBLISHED = Path(__file__).with_name("model_zoo.json")
DETECTORS = Path(__file__).with_name("detectors.json")
DETECTOR = "onnx"  # format of a detector of persons, which is no checkpoint
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclasses.dataclass(frozen=True)
class Entry:
    """Checkpoint of the zoo, or a detector of persons.

    Attributes:
        name: name after `zoo://`.
        dataset: data set of its training.
        format: its CHECKPOINT_TYPE: pytorch (also for safetensors), caffe2 or aia; or onnx, a detector.
        config: YAML file of its model, relative to the folder configs, without its ending; of a detector its kind.
        metrics: metric -> value, or text such as "99.7 ± 0.6" over seeds; top-1, top-5 and mAP in percent.
        path: the file, if it is shipped with the code; else "".
        url: address to download it from; "" if it is shipped.
        size, sha256: size and SHA-256 of the file; 0 and "" if unknown.
        measured: how the metrics were measured here; "" for metrics published by others.
        card: Markdown file that describes it; "" for none.
        license: of the file, as its publisher states it; "" if unknown.
    """

    name: str
    dataset: str
    format: str
    config: str = ""
    metrics: dict[str, float | str] = dataclasses.field(default_factory=dict)
    path: str = ""
    url: str = ""
    size: int = 0
    sha256: str = ""
    measured: str = ""
    card: str = ""
    license: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"zoo entry {self.name!r}: a name is letters, digits, '_', '-' and '.'")
        if bool(self.path) == bool(self.url):
            raise ValueError(f"zoo entry {self.name}: it needs a path or a url, and not both")
        if self.path and not (self.size and self.sha256):
            raise ValueError(f"zoo entry {self.name}: a file that ships needs its size and sha256")
        if self.format not in ("pytorch", "caffe2", "aia", DETECTOR):
            raise ValueError(f"zoo entry {self.name}: format {self.format!r} is none of pytorch, caffe2, aia, onnx")

    @property
    def digest(self) -> FileDigest:
        """Size and SHA-256, if known."""
        return FileDigest(self.size, self.sha256)

    @property
    def file(self) -> Path:
        """Path of the file, also before it is downloaded."""
        if self.path:
            return Path(self.path)
        return cache_folder() / (self.name + os.path.splitext(self.url)[1])

    def fetch(self) -> Path:
        """Return the verified file, downloading it if needed; several processes may call it at once.

        Raises:
            DownloadError: the download failed; the message says why, and where to put the file by hand.
            FileNotFoundError: a file that is shipped with the code is missing.
            ValueError: the file has another size or SHA-256 than it should.
        """
        if self.url:
            download(self.url, self.file, self.digest, PREFIX + self.name)
        elif not self.file.is_file():
            raise FileNotFoundError(f"{PREFIX}{self.name}: {self.file}, which is shipped with the code, is missing")
        elif problem := self.verify():
            raise ValueError(
                f"{PREFIX}{self.name}: {self.file} is not the file that is shipped with the code: {problem}"
            )
        return self.file

    def verify(self) -> str | None:
        """Describe how a file differs from the known or recorded size and SHA-256; None if it does not.

        Raises:
            FileNotFoundError: the file is not here.
        """
        found = (digest.difference(self.file) for digest in (self.digest, FileDigest.recorded(self.file)))
        return next((wrong for wrong in found if wrong), None)


_entries: dict[str, Entry] = {}


def register_entries(path: str | os.PathLike[str]) -> None:
    """Add the entries of a JSON file, `{"entries": [{"name": ...}, ...]}`; it may be added several times.

    Keys are the attributes of `Entry`; `path` and `card` are relative to the JSON file's folder.

    Raises:
        ValueError: an entry is incomplete, or its name is taken by another.
    """
    path = Path(path)
    folder = path.resolve().parent
    known = {field.name for field in dataclasses.fields(Entry)}
    for values in json.loads(path.read_text(encoding="utf-8"))["entries"]:
        if not {"name", "dataset", "format"} <= set(values) <= known:
            raise ValueError(
                f"{path}: a zoo entry has name, dataset and format, and of {', '.join(sorted(known))} what applies; "
                f"got {', '.join(values)}"
            )
        files = {key: str(folder / values[key]) for key in ("path", "card") if values.get(key)}
        entry = Entry(**{**values, **files})
        if _entries.setdefault(entry.name, entry) != entry:
            raise ValueError(f"{path}: there is another zoo entry {entry.name}")


def all_entries() -> list[Entry]:
    """Return all entries: the published ones and those of installed projects."""
    _collect()
    return list(_entries.values())


def find_entry(name: str) -> Entry:
    """Return the entry `name`, with or without `zoo://`.

    Raises:
        ValueError: there is none; the message names similar ones.
    """
    name = name.removeprefix(PREFIX)
    _collect()
    if name not in _entries:
        near = difflib.get_close_matches(name, _entries, n=3, cutoff=0.4)
        hint = f"; similar names: {', '.join(near)}" if near else ""
        raise ValueError(f"there is no {name!r} in the zoo{hint}. `python tools/zoo.py list` shows all")
    return _entries[name]


@functools.cache
def _collect() -> None:
    register_entries(PUBLISHED)
    register_entries(DETECTORS)
    for module in sorted(set(section_owners().values())):
        try:
            project = import_project(module, "an installed project, which may have zoo entries")
            call_project(project, "setup", get_cfg())
        except (ValueError, ImportError) as error:
            logger.warning("the zoo goes without the entries of %s: %s", module, error)


def detector_file(path: str) -> str:
    """Return the file of the detector `zoo://NAME`, downloading it if needed; other paths are returned unchanged.

    Raises:
        DownloadError, ValueError: see `find_entry` and `Entry.fetch`; ValueError also for a checkpoint.
    """
    if not path.startswith(PREFIX):
        return path
    entry = find_entry(path)
    if entry.format != DETECTOR:
        detectors = ", ".join(PREFIX + other.name for other in all_entries() if other.format == DETECTOR)
        raise ValueError(f"{path} is a checkpoint, and no detector of persons; these are {detectors}")
    return str(entry.fetch())


def cache_folder() -> Path:
    """Return the folder of downloads: SLOWFAST_CACHE/zoo, else slowfast/zoo in XDG_CACHE_HOME or ~/.cache."""
    if os.environ.get("SLOWFAST_CACHE"):
        return Path(os.environ["SLOWFAST_CACHE"]).expanduser() / "zoo"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slowfast" / "zoo"


def local_path(path: str) -> str:
    """Return the file of a `zoo://` path; other paths are returned unchanged.

    Raises:
        DownloadError, FileNotFoundError, ValueError: see `find_entry` and `Entry.fetch`.
    """
    return g_pathmgr.get_local_path(path) if "://" in path else path


class _ZooPathHandler(PathHandler):
    """Handler of `zoo://NAME` for iopath's path manager; read-only."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **_: Any) -> str:
        entry = find_entry(path)
        if entry.format == DETECTOR:
            raise ValueError(f"{path} is a detector of persons, and no checkpoint; it finds boxes: --boxes {path}")
        return str(entry.fetch())

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **_: Any) -> Any:
        if not set(mode) <= set("rbt"):
            raise ValueError(f"{path} can only be read, not opened with mode {mode!r}")
        return open(self._get_local_path(path), mode, buffering)

    def _exists(self, path: str, **_: Any) -> bool:
        _collect()
        return path.removeprefix(PREFIX) in _entries

    def _isfile(self, path: str, **_: Any) -> bool:
        return self._exists(path)


g_pathmgr.register_handler(_ZooPathHandler(), allow_override=True)
