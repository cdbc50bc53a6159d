"""Report of a data check: findings and counts, as JSON values and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# Kinds of findings; True makes the check fail.
KINDS = {
    "list": True,
    "wrong-line": True,
    "label-range": True,
    "box-outside": True,
    "unreadable": True,
    "frame-count": True,
    "same-path": True,
    "overlap": True,
    "same-content": False,
    "short": False,
    "duplicate-view": False,
    "class-without-samples": False,
}
_EXAMPLES = 20


@dataclass(frozen=True)
class Finding:
    """A problem or remark.

    Attributes:
        kind: one of `KINDS`.
        split: train, val or test, or two of them joined by +.
        count: number of cases.
        text: description, in the plural.
        examples: first cases, one line each.
    """

    kind: str
    split: str
    count: int
    text: str
    examples: list[str] = field(default_factory=list)


@dataclass
class SplitFacts:
    """Counts of a split.

    Attributes:
        dataset: name of the data set.
        videos, samples: a sample is a view of a video, or a key frame.
        classes_seen: number of classes among the labels; None if the labels are unknown.
        key_frames, boxes: of a data set with boxes.
        probed: number of videos probed, now or in an earlier check.
        unreadable: number of probed videos that cannot be read.
        frames, seconds: totals of the readable videos.
    """

    dataset: str
    videos: int = 0
    samples: int = 0
    classes_seen: int | None = None
    key_frames: int | None = None
    boxes: int | None = None
    probed: int = 0
    unreadable: int = 0
    frames: int = 0
    seconds: float = 0.0


@dataclass
class Report:
    """Report of a check.

    Attributes:
        num_classes: classes of the model.
        allowed: kinds of findings with which the check still passes.
        splits: counts of each split.
        findings: findings in the order of the splits.
    """

    num_classes: int
    allowed: Sequence[str] = ()
    splits: dict[str, SplitFacts] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(self, kind: str, split: str, text: str, examples: Sequence[str], count: int | None = None) -> None:
        """Add a finding if it has cases; `count` is their number if the examples are not all."""
        count = len(examples) if count is None else count
        if count:
            self.findings.append(Finding(kind, split, count, text, list(examples[:_EXAMPLES])))

    def fails(self, finding: Finding) -> bool:
        """Return True if the finding makes the check fail."""
        return KINDS[finding.kind] and finding.kind not in self.allowed

    @property
    def passed(self) -> bool:
        """Return True if no finding makes the check fail."""
        return not any(map(self.fails, self.findings))

    def values(self) -> dict[str, Any]:
        """Return the report as values for JSON."""
        return {
            "passed": self.passed,
            "num_classes": self.num_classes,
            "allowed": list(self.allowed),
            "splits": {split: asdict(facts) for split, facts in self.splits.items()},
            "findings": [{**asdict(finding), "fails": self.fails(finding)} for finding in self.findings],
        }

    def lines(self, examples: int = 5) -> list[str]:
        """Format the report as lines of text, with up to `examples` cases of each finding."""
        lines = [f"{split}: {_describe(facts, self.num_classes)}" for split, facts in self.splits.items()]
        for finding in self.findings:
            verdict = "FAIL" if self.fails(finding) else "note"
            lines.append(f"{verdict} {finding.kind} ({finding.split}): {finding.text}: {finding.count}")
            lines += [f"    {example}" for example in finding.examples[:examples]]
            if finding.count > examples and finding.examples:
                lines.append("    ...")
        return [*lines, "passed" if self.passed else "failed"]


def _describe(facts: SplitFacts, num_classes: int) -> str:
    parts = [f"{facts.dataset}, {facts.videos} videos", f"{facts.samples} samples"]
    if facts.key_frames is not None:
        parts.append(f"{facts.key_frames} key frames with {facts.boxes} boxes")
    if facts.classes_seen is not None:
        parts.append(f"{facts.classes_seen} of {num_classes} classes")
    found = f"{facts.unreadable} unreadable or incomplete, {facts.frames} frames, {facts.seconds:.0f} s"
    parts.append(f"{facts.probed} probed: {found}")
    return ", ".join(parts)
