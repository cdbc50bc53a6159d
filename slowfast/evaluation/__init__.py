"""Evaluation: evaluators, metrics, predictions as files, reports."""

from slowfast.evaluation.ava import evaluate_ava
from slowfast.evaluation.ava_files import evaluate_ava_files

__all__ = ["evaluate_ava", "evaluate_ava_files"]
