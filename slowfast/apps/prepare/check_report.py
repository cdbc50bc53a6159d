"""What a check of data sets has found, as values for a program and as lines for a reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# What can be wrong, and whether it makes the check fail.
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
EXAMPLES = 20


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        kind: one of `KINDS`.
        split: train, val or test; two of them with a plus between.
        count: how often.
        text: what it is, in the plural.
        examples: the first cases, a line each.
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
        dataset: its name.
        videos, samples: samples are videos times views, or key frames.
        classes_seen: classes that occur among the labels; None where the labels are not known.
        key_frames, boxes: of a data set with boxes.
        probed: videos that were looked at, now or in an earlier run.
        unreadable: of these.
        frames, seconds: of those that can be read.
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
    """All that was found.

    Attributes:
        num_classes: of the model.
        allowed: kinds that do not make the check fail.
        splits: counts by split.
        findings: in the order of the splits.
    """

    num_classes: int
    allowed: Sequence[str] = ()
    splits: dict[str, SplitFacts] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(self, kind: str, split: str, text: str, examples: Sequence[str], count: int | None = None) -> None:
        """Note a finding, if there is any case of it; `count` where the examples are not all cases."""
        count = len(examples) if count is None else count
        if count:
            self.findings.append(Finding(kind, split, count, text, list(examples[:EXAMPLES])))

    def fails(self, finding: Finding) -> bool:
        """Whether the finding makes the check fail."""
        return KINDS[finding.kind] and finding.kind not in self.allowed

    @property
    def passed(self) -> bool:
        """Whether nothing was found that must not be."""
        return not any(map(self.fails, self.findings))

    def values(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        return {
            "passed": self.passed,
            "num_classes": self.num_classes,
            "allowed": list(self.allowed),
            "splits": {split: asdict(facts) for split, facts in self.splits.items()},
            "findings": [{**asdict(finding), "fails": self.fails(finding)} for finding in self.findings],
        }

    def lines(self, examples: int = 5) -> list[str]:
        """The report for a reader, with so many examples of each finding."""
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
