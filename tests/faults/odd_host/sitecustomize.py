"""Put faults of a machine under every Python process whose PYTHONPATH names this folder; ODD_HOST lists them.

They replace functions of Python, so what C code calls is as it was. The fixture `odd_host` puts them under a test.
"""

import errno
import fcntl
import multiprocessing.synchronize
import os
import resource
import signal
import stat
import time

_real = {"time": time.time, "fsync": os.fsync, "replace": os.replace}
_start = _real["time"]()
_failed = set()


def _fail(number):
    raise OSError(number, os.strerror(number))


def _jump():
    """Be ten years early in one second, and ten years late in the next."""
    now = _real["time"]()
    return now + (1 if int(now) % 2 else -1) * 315e6


def _fsync_no_folder(descriptor):
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        _fail(errno.EINVAL)
    _real["fsync"](descriptor)


def _replace_stale(source, target):
    """Fail the first time for each file, as NFS does after its server moved."""
    if target not in _failed:
        _failed.add(target)
        _fail(errno.ESTALE)
    _real["replace"](source, target)


def _replace_answer_lost(source, target):
    """Rename, and fail as NFS does when the answer was lost and it asked once more."""
    _real["replace"](source, target)
    _fail(errno.ENOENT)


FAULTS = {
    "clock zero": (time, "time", lambda: 0.0),
    "clock backward": (time, "time", lambda: _start - 3600 * (_real["time"]() - _start)),
    "clock jumps": (time, "time", _jump),
    "no fsync of folders": (os, "fsync", _fsync_no_folder),
    "no locks": (fcntl, "lockf", lambda *_: _fail(errno.ENOLCK)),
    "locks not supported": (fcntl, "lockf", lambda *_: _fail(errno.EOPNOTSUPP)),
    "stale rename": (os, "replace", _replace_stale),
    "rename answer lost": (os, "replace", _replace_answer_lost),
    "rename across devices": (os, "replace", lambda *_: _fail(errno.EXDEV)),
    "no shared memory": (multiprocessing.synchronize.SemLock, "__init__", lambda *_, **__: _fail(errno.ENOSYS)),
}
# RANK:BYTES, the process whose host has a full disk, and the bytes of the longest file there.
_full_rank, _, _room = os.environ.get("FULL_HOST", "").partition(":")
for _name in filter(None, os.environ.get("ODD_HOST", "").split(",")):
    _module, _function, _instead = FAULTS[_name]
    setattr(_module, _function, _instead)
if _full_rank and _full_rank == os.environ.get("RANK"):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(_room), int(_room)))
