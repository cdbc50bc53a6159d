"""The whole key tree with its defaults; the sections stand in `defaults_*.py`, a comment a key.

Names and defaults are those of PySlowFast, so that its users' files load. DATA.DECODING_BACKEND alone
differs, since pyav is the backend that is built here. Values are read as the type of the default.
"""

from fvcore.common.config import CfgNode

from slowfast.config.defaults import architectures, data, model, run

_MODULES = (run, data, model, architectures)


def get_cfg() -> CfgNode:
    """A fresh tree of all keys of the core at their defaults; the caller may change it."""
    cfg = CfgNode(run.TOP)
    for module in _MODULES:
        for name, section in vars(module).items():
            if name.isupper() and name != "TOP" and isinstance(section, dict):
                cfg[name] = CfgNode(section)
    return cfg
