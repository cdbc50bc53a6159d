"""A data set brings a metric of its own: training and testing report it."""

import json
from pathlib import Path

import pytest
import torch

from slowfast.datasets.build import DATASET_REGISTRY
from slowfast.datasets.kinetics import Kinetics
from slowfast.engine.task import ClipTask
from slowfast.engine.test import test as run_test
from slowfast.engine.train import train
from slowfast.evaluation.evaluators import Evaluator, VideoEvaluator
from slowfast.runtime.distributed import all_gather_object


class LabelScore(Evaluator):
    """Mean score of the label over all views."""

    def __init__(self, num_videos):
        super().__init__(num_videos)
        self.values = []

    def process(self, batch, prediction):
        self.values += prediction.scores.gather(1, batch.labels[:, None]).flatten().tolist()

    def gather(self):
        super().gather()
        self.values = sum(all_gather_object(self.values), [])

    def evaluate(self):
        return {"label_score": sum(self.values) / len(self.values), "first/label_score": self.values[0]}


class Macro(VideoEvaluator):
    """Usual metrics and one more, from the same predictions."""

    def evaluate(self):
        predictions = self.predictions()
        return {**predictions.metrics(), "videos_seen": len(predictions.videos)}


class OwnMetric(Kinetics):
    def make_evaluator(self, cfg):
        return LabelScore(self.num_videos)


class OneMoreMetric(Kinetics):
    def make_evaluator(self, cfg):
        return Macro(self.names, self.num_views)


def results_of(cfg, name):
    return json.loads((Path(cfg.OUTPUT_DIR) / name).read_text())


@pytest.fixture
def cfg_with(tiny_cfg, monkeypatch):
    """`cfg_with(dataset)`: load the config of a short run on a data set of this class."""

    def load(dataset):
        for table in ("_objects", "_facts"):
            monkeypatch.setattr(DATASET_REGISTRY, table, dict(vars(DATASET_REGISTRY)[table]))
        DATASET_REGISTRY.register("own")(dataset)
        return tiny_cfg("SOLVER.MAX_EPOCH", 1, "TRAIN.DATASET", "own", "TEST.DATASET", "own")

    return load


def test_an_evaluator_of_its_own(cfg_with):
    cfg = cfg_with(OwnMetric)
    metrics = train(cfg)
    assert 0 < metrics["label_score"] < 1
    assert results_of(cfg, "val_results.json") == {"epoch": 1, **metrics}  # what has a "/" is for a test
    results = run_test(cfg)
    assert results_of(cfg, "test_results.json") == results
    assert set(results) == {"label_score", "first/label_score", "checkpoint", "videos", "views", "unreadable_files"}
    assert not list(Path(cfg.OUTPUT_DIR).glob("test_predictions*"))


def test_one_more_metric_of_the_usual_predictions(cfg_with):
    cfg = cfg_with(OneMoreMetric)
    assert train(cfg)["videos_seen"] == 4
    assert run_test(cfg)["videos_seen"] == 4 and results_of(cfg, "test_results.json")["top1_acc"] >= 0
    assert (Path(cfg.OUTPUT_DIR) / "test_predictions.npz").is_file()


def test_scores_that_are_no_numbers_reach_no_metric(cfg_with, monkeypatch):
    """Not one that would leave them out, either; the run stops with the videos named."""

    class Tolerant(Evaluator):
        def process(self, batch, prediction):
            pass

        def gather(self):
            super().gather()

        def evaluate(self):
            return {"own": 1.0}

    class Data(Kinetics):
        def make_evaluator(self, cfg):
            return Tolerant(self.num_videos)

    predict = ClipTask.predict

    def poisoned(task, model, batch):
        prediction = predict(task, model, batch)
        prediction.scores[(batch.video == 1) & (batch.view == 1)] = torch.nan
        return prediction

    cfg = cfg_with(Data)
    train(cfg)
    monkeypatch.setattr(ClipTask, "predict", poisoned)
    with pytest.raises(ValueError, match=r"scores of 1 of 4 videos are NaN or infinite.*test 1\.mp4"):
        run_test(cfg)
