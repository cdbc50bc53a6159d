"""Configuration: the key tree with its defaults, and the loader of users' YAML files."""

from slowfast.config.defaults import get_cfg
from slowfast.config.load import cfg_from_yaml, cfg_to_yaml, load_config
from slowfast.config.projects import activate_projects, add_adapter, remove_adapter, set_task
from slowfast.config.resolve import num_pathways
from slowfast.utils.errors import nearest_keys

__all__ = [
    "activate_projects",
    "add_adapter",
    "cfg_from_yaml",
    "cfg_to_yaml",
    "get_cfg",
    "load_config",
    "nearest_keys",
    "num_pathways",
    "remove_adapter",
    "set_task",
]
