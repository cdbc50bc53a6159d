"""Plan of the steps of a clip; pure arithmetic on numbers of frames.

S steps, and for every pathway L frames in the first step, O frames of memory: step 0 reads frames [0, L), step s >= 1
the L - O frames [L + (s-1)(L-O), L + s(L-O)), so a clip has L + (S-1)(L-O) frames. ("PGT", section 3.)

In SlowFast with ALPHA a, a lateral connection of stride a makes ceil(n / a) outputs of n new fast frames. Overlaps need
not fit a. In the published Charades settings (STEP_LEN [16, 64], OVERLAP [1, 1]) a later step has more outputs than new
slow frames: 63 fast frames give 16 for 15. The first outputs are dropped, at most as many as the slow pathway has
frames of memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from fvcore.common.config import CfgNode

from slowfast.config.resolve import num_pathways
from slowfast.utils.errors import check_choice

_SLOW_SAMPLINGS = ("published", "even")


def per_pathway(values: Sequence[int], pathways: int, key: str) -> list[int]:
    """Return `values` with one entry per pathway; a single entry stands for all.

    Raises:
        ValueError: another number of entries.
    """
    values = [int(value) for value in values]
    if len(values) == 1:
        values = values * pathways
    if len(values) != pathways:
        raise ValueError(f"{key} is {values}; the model has {pathways} pathway(s), so it takes that many entries")
    return values


@dataclass(frozen=True)
class StepPlan:
    """Division of a clip into steps.

    Args:
        step_len: frames of the first step, per pathway (slow first).
        overlap: frames of memory, per pathway.
        steps: number of steps S.
        alpha: fast frames per slow frame; 1 for one pathway.
        slow_sampling: choice of the slow frames of later steps, see `slow_indices`.

    Raises:
        ValueError: lengths out of range, or pathways that disagree, with the sums and what would fit.
    """

    step_len: tuple[int, ...]
    overlap: tuple[int, ...]
    steps: int
    alpha: int = 1
    slow_sampling: str = "published"

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"PGT.STEPS is {self.steps}; it must be at least 1")
        if len(self.step_len) != len(self.overlap) or len(self.step_len) not in (1, 2):
            raise ValueError(
                f"PGT.STEP_LEN {list(self.step_len)} and PGT.OVERLAP {list(self.overlap)} take one entry per pathway"
            )
        for length, overlap in zip(self.step_len, self.overlap, strict=True):
            if not 1 <= overlap < length:
                raise ValueError(
                    f"PGT.OVERLAP {list(self.overlap)} with PGT.STEP_LEN {list(self.step_len)}: a pathway needs 1 <= "
                    "overlap < step length (for steps without memory set PGT.MEMORY False)"
                )
        check_choice("PGT.SLOW_SAMPLING", self.slow_sampling, _SLOW_SAMPLINGS)
        if self.num_pathways == 2:
            self._check_pathways()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "StepPlan":
        """Build the plan of PGT.STEP_LEN, OVERLAP, STEPS, SLOW_SAMPLING and, for two pathways, SLOWFAST.ALPHA.

        DATA.NUM_FRAMES is the plan's number of frames. Where overlaps do not fit ALPHA it may be ALPHA x the slow
        frames too, as in the published settings, whose code counts the frames itself.

        Raises:
            ValueError: DATA.NUM_FRAMES is neither; the message has the sum and the nearest fit.
        """
        options = cfg.PGT
        pathways = num_pathways(cfg)
        plan = cls(
            tuple(per_pathway(options.STEP_LEN, pathways, "PGT.STEP_LEN")),
            tuple(per_pathway(options.OVERLAP, pathways, "PGT.OVERLAP")),
            options.STEPS,
            cfg.SLOWFAST.ALPHA if pathways == 2 else 1,
            options.SLOW_SAMPLING,
        )
        if cfg.DATA.NUM_FRAMES not in (plan.num_frames, plan.alpha * plan.pathway_frames(0)):
            raise ValueError(plan._misfit(cfg.DATA.NUM_FRAMES))
        return plan

    def applied_to(self, cfg: CfgNode) -> CfgNode:
        """Return a frozen copy of the config with the clips and steps of this plan."""
        cfg = cfg.clone()
        cfg.defrost()
        cfg.PGT.STEPS, cfg.PGT.STEP_LEN = self.steps, list(self.step_len)
        cfg.DATA.NUM_FRAMES = self.num_frames
        cfg.SLOWFAST.SLOW_INDICES = self.slow_indices() if self.num_pathways == 2 else []
        if cfg.DETECTION.ENABLE:
            cfg.AVA.FRAMES_AFTER_KEY, cfg.AVA.BOX_FRAMES = self.frames_after_key, self.centers()
        cfg.freeze()
        return cfg

    @property
    def num_pathways(self) -> int:
        """Number of pathways: 1, or 2 for slow and fast."""
        return len(self.step_len)

    @property
    def num_frames(self) -> int:
        """Number of frames of a clip (of its fast pathway)."""
        return self.pathway_frames(self.num_pathways - 1)

    @property
    def fits_alpha(self) -> bool:
        """True if the clip has `alpha` fast frames for each slow one, as a forward over the whole clip needs."""
        return self.num_frames == self.alpha * self.pathway_frames(0)

    def pathway_frames(self, pathway: int) -> int:
        """Return the frames of a clip in a pathway: L + (S-1)(L-O)."""
        length, overlap = self.step_len[pathway], self.overlap[pathway]
        return length + (self.steps - 1) * (length - overlap)

    def frame_ranges(self, pathway: int = -1) -> list[range]:
        """Return the new frames of every step, counted in a pathway (by default the last one, the fast)."""
        length, new = self.step_len[pathway], self.step_len[pathway] - self.overlap[pathway]
        later = [range(length + s * new, length + (s + 1) * new) for s in range(self.steps - 1)]
        return [range(length), *later]

    def span(self, step: int) -> range:
        """Return the frames of a step and of the memory that it starts with, in the last pathway (the fast one)."""
        first = step * (self.step_len[-1] - self.overlap[-1])
        return range(first, first + self.step_len[-1])

    @property
    def frames_after_key(self) -> int:
        """Number of frames of a clip from its key frame on; the key frame is the center of the last step."""
        return self.step_len[-1] // 2

    def centers(self) -> list[int]:
        """Return the frame at the center of every step; that of the last step is the clip's key frame."""
        return [self.span(step).stop - self.frames_after_key for step in range(self.steps)]

    def slow_indices(self) -> list[int]:
        """Return the frames of the fast clip that form the slow pathway's clip.

        Step 0 takes linspace(0, L-1, L_slow), truncated to integers. A later step has new fast frames F to E and takes
        L_slow - O_slow of them: "even" linspace(F, E), or "published" linspace(F + L_slow, E), which skips the first
        L_slow new frames as the published code does.

        Raises:
            ValueError: the plan has one pathway.
        """
        if self.num_pathways != 2:
            raise ValueError("a plan with one pathway has no slow frames")
        first, *later = self.frame_ranges()
        slow_len, slow_new = self.step_len[0], self.step_len[0] - self.overlap[0]
        indices = _linspace(first[0], first[-1], slow_len)
        skip = slow_len if self.slow_sampling == "published" else 0
        for frames in later:
            indices += _linspace(frames[0] + skip, frames[-1], slow_new)
        return indices

    def covering(self, num_frames: int) -> "StepPlan":
        """Return the plan with as many steps as cover `num_frames` frames; the last may reach past them."""
        length, overlap = self.step_len[-1], self.overlap[-1]
        later = -(-(num_frames - length) // (length - overlap))
        return replace(self, steps=1 + max(0, later))

    def positions(self) -> list[list[list[int]]]:
        """Return the frames of the clip that each step reads, per pathway (slow first)."""
        fast = [list(frames) for frames in self.frame_ranges()]
        if self.num_pathways == 1:
            return [[frames] for frames in fast]
        slow = self.slow_indices()
        return [[slow[r.start : r.stop], frames] for r, frames in zip(self.frame_ranges(0), fast, strict=True)]

    def for_clips(self, inputs: Sequence[torch.Tensor]) -> "StepPlan":
        """Return the plan for clips of another number of steps; this plan if their frames do not make whole steps.

        Args:
            inputs: one clip (B, C, T, H, W) per pathway.
        """
        return self.for_frames(inputs[-1].shape[2])

    def for_frames(self, num_frames: int) -> "StepPlan":
        """Return the plan for clips of `num_frames` frames, see `for_clips`."""
        length, overlap = self.step_len[-1], self.overlap[-1]
        later, rest = divmod(num_frames - length, length - overlap)
        return self if rest or later < 0 else replace(self, steps=later + 1)

    def split(self, inputs: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
        """Return the inputs of every step: a list of views (B, C, T_s, H, W), one per pathway.

        Args:
            inputs: one clip (B, C, T, H, W) per pathway; T is `pathway_frames`.

        Raises:
            ValueError: another number of pathways or frames.
        """
        wanted = [self.pathway_frames(p) for p in range(self.num_pathways)]
        got = [clip.shape[2] for clip in inputs]
        if got != wanted:
            new = [length - overlap for length, overlap in zip(self.step_len, self.overlap, strict=True)]
            raise ValueError(
                f"the clip has {got} frames per pathway; {self.steps} steps of {list(self.step_len)} frames, of which "
                f"later ones bring {new} new ones, take {wanted}"
            )
        ranges = [self.frame_ranges(p) for p in range(self.num_pathways)]
        return [
            [clip[:, :, r[s].start : r[s].stop] for clip, r in zip(inputs, ranges, strict=True)]
            for s in range(self.steps)
        ]

    def check_fusion(self) -> None:
        """Check that every step has `alpha` fast frames for each slow one, as PGT.FUSION_MEMORY needs.

        Raises:
            ValueError: it has not, or there is one pathway.
        """
        if self.num_pathways != 2:
            raise ValueError(
                "PGT.FUSION_MEMORY True is for lateral connections, and a model of one pathway has none; set it False"
            )
        lengths, overlaps = list(self.step_len), list(self.overlap)
        if any(fast != self.alpha * slow for slow, fast in (lengths, overlaps)):
            raise ValueError(
                f"PGT.FUSION_MEMORY True with PGT.STEP_LEN {lengths} and PGT.OVERLAP {overlaps}: every slow frame of a "
                "step takes the lateral output of its own time, so a step needs SLOWFAST.ALPHA "
                f"{self.alpha} fast frames for each slow one. {self.fitting()} fits, or set FUSION_MEMORY False"
            )

    def pathway_sums(self) -> str:
        """Return the settings of both pathways and the frames that they make, for messages."""
        return (
            f"PGT.STEP_LEN {list(self.step_len)}, PGT.OVERLAP {list(self.overlap)}: slow {self._sum(0)} frames, fast "
            f"{self._sum(1)} frames"
        )

    def fitting(self) -> str:
        """Return the settings of a plan with the same slow pathway whose fast one fits `alpha`, for messages."""
        (length, _), (overlap, _) = self.step_len, self.overlap
        lengths, overlaps = [length, self.alpha * length], [overlap, self.alpha * overlap]
        return f"PGT.STEP_LEN {lengths} with PGT.OVERLAP {overlaps}"

    def _sum(self, pathway: int) -> str:
        length, overlap = self.step_len[pathway], self.overlap[pathway]
        return f"{length} + ({self.steps}-1) x ({length}-{overlap}) = {self.pathway_frames(pathway)}"

    def _check_pathways(self) -> None:
        slow, fast = self.step_len
        new_slow, new_fast = slow - self.overlap[0], fast - self.overlap[1]
        surplus = -(-new_fast // self.alpha) - new_slow  # outputs of a lateral connection in a later step
        if not self.fits_alpha and not (fast == self.alpha * slow and 0 <= surplus <= self.overlap[0]):
            raise ValueError(
                f"{self.pathway_sums()}, but it must be SLOWFAST.ALPHA {self.alpha} x slow = "
                f"{self.alpha * self.pathway_frames(0)}, or have {self.alpha * slow} fast frames in the first step and "
                f"{self.alpha * (new_slow - 1) + 1} to {self.alpha * slow - 1} new ones in a later step. "
                f"{self.fitting()} fits"
            )
        if self.steps > 1 and self.slow_sampling == "published":
            new = self.step_len[1] - self.overlap[1]
            if new <= self.step_len[0]:
                raise ValueError(
                    f"PGT.SLOW_SAMPLING published skips the first {self.step_len[0]} of a step's {new} new fast "
                    "frames, so none are left; set PGT.SLOW_SAMPLING even"
                )

    def _misfit(self, num_frames: int) -> str:
        pathway = self.num_pathways - 1
        length, new = self.step_len[pathway], self.step_len[pathway] - self.overlap[pathway]
        steps = max(1, round((num_frames - length) / new) + 1)
        nearest = length + (steps - 1) * new
        other = f"; or, nearest to yours, PGT.STEPS {steps} with DATA.NUM_FRAMES {nearest}"
        return (
            f"DATA.NUM_FRAMES is {num_frames}, but the steps of PGT take {self._sum(pathway)} frames. Set "
            f"DATA.NUM_FRAMES {self.num_frames}{other if steps != self.steps else ''}"
        )


def _linspace(first: int, last: int, count: int) -> list[int]:
    return torch.linspace(first, last, count, device="cpu").long().tolist()
