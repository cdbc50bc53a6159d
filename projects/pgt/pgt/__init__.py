"""PGT: progressive training of video models on long videos (CVPR 2021, arXiv 2103.11313)."""

from pgt.config import add_config, resolve, validate
from pgt.plan import StepPlan

__all__ = ["StepPlan", "resolve", "setup", "validate"]


def setup(cfg) -> None:
    """Adds the section PGT to a configuration and registers the model adapter and the task."""
    from pgt import convert, task  # noqa: F401  (registers on import; late, so that a plan alone needs no models)

    add_config(cfg)
