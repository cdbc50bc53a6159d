"""Share the statistics of a run between the tests of the engine."""

import json
from pathlib import Path

import pytest

from slowfast.engine.train import train
from slowfast.runtime.logging import setup_logging


@pytest.fixture
def stats_of(clean_logging):
    """`stats_of(cfg, work=train)`: train or test with logging on, and return the statistics that the run wrote."""

    def collect(cfg, work=train):
        setup_logging(cfg.OUTPUT_DIR)
        try:
            work(cfg)
        finally:
            setup_logging()
        lines = (Path(cfg.OUTPUT_DIR) / "json_stats.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    return collect
