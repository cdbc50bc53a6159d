"""Key tree with its defaults. The comment above a key says what it means; docs/config.md is made from them.

Names and defaults are those of PySlowFast, so that its users' files load. DATA.DECODING_BACKEND alone differs: pyav is
the default here. Values are read as the type of the default.
"""

from fvcore.common.config import CfgNode

from slowfast.config.defaults import architectures, data, model, run

MODULES = (run, data, model, architectures)


def get_cfg() -> CfgNode:
    """Return a new tree of all keys of the core at their defaults, not frozen."""
    cfg = CfgNode(run.TOP)
    for module in MODULES:
        for name, section in vars(module).items():
            if name.isupper() and name != "TOP" and isinstance(section, dict):
                cfg[name] = CfgNode(section)
    return cfg
