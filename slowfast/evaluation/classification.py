"""Metrics of classification and the ensemble of a video's views.

Shapes: scores are (N, classes); labels are (N,) class numbers, or (N, classes) of 0 and 1 for several labels a video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from slowfast.evaluation.ensembles import JoinedScores

# The name of a view's own scores among the joined ones.
_MAIN = ""


def topk_hits(scores: torch.Tensor, labels: torch.Tensor, ks: Sequence[int] = (1, 5)) -> torch.Tensor:
    """(len(ks), N) booleans: is the label among the k best scores? k is clamped to the class count."""
    classes = scores.shape[1]
    best = scores.topk(min(max(ks), classes), dim=1).indices
    hits = best == labels.view(-1, 1)
    return torch.stack([hits[:, : min(k, classes)].any(dim=1) for k in ks])


def topk_errors(scores: torch.Tensor, labels: torch.Tensor, ks: Sequence[int] = (1, 5)) -> list[float]:
    """Share in percent of samples whose label is not among the k best scores, for each k (clamped to the class count).

    Raises:
        ValueError: no samples.
    """
    if len(scores) == 0:
        raise ValueError("no samples to measure errors on")
    return [100.0 * (1.0 - hits.double().mean().item()) for hits in topk_hits(scores, labels, ks)]


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under one class's precision-recall steps; samples of equal score enter together.

    Args:
        scores: (N,).
        positive: (N,) booleans, at least one True.
    """
    order = np.argsort(-scores, kind="stable")
    ranked_scores, ranked = scores[order], positive[order]
    last_of_tie = np.append(np.diff(ranked_scores) != 0, True)
    hits = np.cumsum(ranked)[last_of_tie]
    found = np.flatnonzero(last_of_tie) + 1
    recall_gain = np.diff(hits, prepend=0) / hits[-1]
    return float(np.sum(recall_gain * hits / found))


def multilabel_map(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean of the average precision over the classes that have a positive sample, between 0 and 1.

    Raises:
        ValueError: no class has a positive sample.
    """
    score_array = scores.float().cpu().numpy().astype(np.float64)
    positive = labels.cpu().numpy() > 0.5
    present = np.flatnonzero(positive.any(axis=0))
    if len(present) == 0:
        raise ValueError("no class has a positive sample, so there is no mean average precision")
    return float(np.mean([average_precision(score_array[:, c], positive[:, c]) for c in present]))


def classification_metrics(scores: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """`{"map": 0..1}` for (N, classes) labels; else top-1 and top-5 errors and accuracies in percent."""
    if labels.dim() == 2:
        return {"map": multilabel_map(scores, labels)}
    top1, top5 = topk_errors(scores, labels)
    return {"top1_err": top1, "top5_err": top5, "top1_acc": 100.0 - top1, "top5_acc": 100.0 - top5}


class ViewEnsemble:
    """Joins the scores of a video's views, by their sum or their maximum, and keeps account of what came.

    Args:
        num_videos: videos in the split.
        num_views: views of a video.
        method: "sum" or "max" (`DATA.ENSEMBLE_METHOD`).
        paths: a name for each video, for messages.

    Raises:
        ValueError: another method.
    """

    def __init__(self, num_videos: int, num_views: int, method: str, paths: Sequence[str]):
        self.joined = JoinedScores(num_videos, method)
        self.paths = list(paths)
        self.seen = torch.zeros(num_videos, num_views, dtype=torch.int32)
        self.skipped: set[int] = set()
        self.labels: torch.Tensor | None = None

    def add(
        self,
        scores: torch.Tensor,
        labels: torch.Tensor,
        video: torch.Tensor,
        view: torch.Tensor,
        others: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Take in B views: scores (B, classes), labels, and the numbers of their video and view (B,).

        `others` are further scores of the views, (B, ...) by name, the same names in every batch.
        """
        labels, video, view = labels.cpu(), video.cpu(), view.cpu()
        self.joined.add(video, {_MAIN: scores, **(others or {})})
        self._allocate(labels)
        self.labels[video] = labels
        self.seen.index_put_((video, view), torch.ones_like(video, dtype=torch.int32), accumulate=True)

    def skip(self, video: int) -> None:
        """Leave a video, which cannot be read, out of the result."""
        self.skipped.add(video)

    def merge(self, other: ViewEnsemble) -> None:
        """Take in what another process has gathered."""
        self.skipped |= other.skipped
        if other.labels is None:
            return
        self.joined.merge(other.joined)
        self._allocate(other.labels)
        came = other.seen.any(dim=1)
        self.labels[came] = other.labels[came]
        self.seen += other.seen

    def result(self) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """Scores (N, classes), labels and numbers of the N videos that were not skipped.

        Raises:
            ValueError: a view is missing or came twice, with the videos named; or no video is left.
        """
        kept = self._kept()
        if self.labels is None or not kept.any():
            raise ValueError(f"there are no scores for any of the {len(self.paths)} videos")
        for what, wrong in (("missing", self.seen == 0), ("seen more than once", self.seen > 1)):
            wrong &= kept.view(-1, 1)
            if wrong.any():
                raise ValueError(f"views {what}: {self._describe(wrong)}")
        return self.joined.values[_MAIN][kept], self.labels[kept], kept.nonzero().flatten().tolist()

    def result_others(self) -> dict[str, torch.Tensor]:
        """The joined `others` by name, (N, ...) of the N videos of `result`, which says if any view is missing."""
        return {name: scores[self._kept()] for name, scores in self.joined.values.items() if name != _MAIN}

    def _kept(self) -> torch.Tensor:
        """(num_videos,) whether a video is not skipped."""
        return torch.tensor([video not in self.skipped for video in range(len(self.paths))], dtype=torch.bool)

    def _allocate(self, labels: torch.Tensor) -> None:
        if self.labels is None:
            self.labels = torch.zeros((len(self.seen), *labels.shape[1:]), dtype=labels.dtype)

    def _describe(self, wrong: torch.Tensor, limit: int = 5) -> str:
        videos = wrong.any(dim=1).nonzero().flatten().tolist()
        named = [f"{self.paths[v]} (views {wrong[v].nonzero().flatten().tolist()})" for v in videos[:limit]]
        more = f" and {len(videos) - limit} more videos" if len(videos) > limit else ""
        return ", ".join(named) + more
