"""Share the statistics of a run between the tests of the engine."""

import json
from pathlib import Path

import pytest

from slowfast.checkpoint.io import save_checkpoint
from slowfast.engine.epoch_config import build_state
from slowfast.engine.resume import start_training_from
from slowfast.engine.train import train
from slowfast.runtime.logging import close_logging, setup_logging


@pytest.fixture
def stats_of():
    """`stats_of(cfg, work=train)`: train or test with logging on, and return the statistics that the run wrote."""

    def collect(cfg, work=train):
        setup_logging(cfg.OUTPUT_DIR)
        try:
            work(cfg)
        finally:
            close_logging()
        lines = (Path(cfg.OUTPUT_DIR) / "json_stats.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    return collect


@pytest.fixture
def started():
    """`started(cfg)`: build the training state of a run, and restore what it starts from."""

    def start(cfg):
        state = build_state(cfg)
        start_training_from(state)
        return state

    return start


@pytest.fixture
def run_of(tiny_cfg, tmp_path):
    """`run_of(*settings)`: save a checkpoint of a run after three epochs; return its path."""

    def save(*settings):
        state = build_state(tiny_cfg(*settings))
        state.epoch = 3
        path = str(tmp_path / "given.pyth")
        save_checkpoint(state.capture(), path)
        return path

    return save
