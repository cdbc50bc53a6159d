"""What the loss of each step is taken on. ("PGT", section 3, training on Kinetics, Charades and AVA.)"""

import torch

from pgt.plan import StepPlan
from slowfast.datasets.loading.batch import Batch, Boxes


def step_boxes(batch: Batch, plan: StepPlan) -> list[Boxes] | None:
    """The boxes of every step, those of the second nearest its center; None for a batch without boxes.

    Raises:
        ValueError: another number of annotated moments than of steps.
    """
    if not batch.key_frames:
        return None
    if len(batch.key_frames) != plan.steps:
        raise ValueError(
            f"the data set gives the boxes of {len(batch.key_frames)} key frames of a clip, but {plan.steps} steps "
            "need one each; it has to follow AVA.BOX_FRAMES"
        )
    return batch.key_frames


def step_target(batch: Batch, plan: StepPlan, step: int) -> torch.Tensor:
    """Target of the clips in one step.

    Where labels change on the way, (B, classes): the union over all frames of the video from the step's first, its
    memory included, to its last. Otherwise the target of the clip at every step.
    """
    if batch.frame_labels is None:
        return batch.targets
    frames = plan.span(step)
    return batch.frame_labels[:, 2 * frames[0] : 2 * frames[-1] + 1].amax(dim=1).to(torch.float32)
