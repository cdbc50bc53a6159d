"""PGT: progressive training of video models on long videos (CVPR 2021, arXiv 2103.11313)."""

from pathlib import Path

from pgt import learned_rules  # noqa: F401  (registers its rules)
from pgt.config import add_config, resolve, validate
from pgt.plan import StepPlan

__all__ = ["StepPlan", "resolve", "setup", "validate"]


def setup(cfg) -> None:
    """Add the section PGT to a config; register the model adapter, the tasks, and checkpoints in the zoo."""
    from pgt import conversion, masked, task  # noqa: F401  (registers on import; late, so that a plan alone needs no models)
    from slowfast.checkpoint.zoo.entries import register_entries

    register_entries(Path(__file__).parent / "zoo" / "entries.json")
    add_config(cfg)
