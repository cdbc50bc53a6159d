"""The whole key tree with its defaults; the sections stand in `defaults_*.py`, a comment a key.

Names and defaults are those of PySlowFast, so that its users' files load. DATA.DECODING_BACKEND alone
differs, since pyav is the backend that is built here. Values are read as the type of the default.
"""

from fvcore.common.config import CfgNode

from slowfast.config import defaults_data, defaults_model, defaults_run, defaults_zoo

_MODULES = (defaults_run, defaults_data, defaults_model, defaults_zoo)


def get_cfg() -> CfgNode:
    """A fresh tree of all keys of the core at their defaults; the caller may change it."""
    cfg = CfgNode(defaults_run.TOP)
    for module in _MODULES:
        for name, section in vars(module).items():
            if name.isupper() and name != "TOP" and isinstance(section, dict):
                cfg[name] = CfgNode(section)
    return cfg
