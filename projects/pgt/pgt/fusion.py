"""SlowFast's lateral connections with memory (PGT.FUSION_MEMORY). Shapes: x is (B, C, T, H, W).

In a clip, slow frame j gets what the lateral convolution, of kernel k and stride a, makes of the fast frames around
frame j * a. A step whose slow frames begin with number J has new fast frames from J * a on, a for every slow one
(`StepPlan.check_fusion`). So its output i is the convolution around its new fast frame i * a. In front of the first new
frame lie those of the memory, of the fast pathway's rule: the last k // 2 count, and 0 where it has fewer. Behind
the step's last frame lies 0, which no output meets where k // 2 < a. In that case, and with a memory of the last k // 2
frames or more, the steps' outputs are those of one convolution over the whole clip. Which raw frames the slow pathway
was given (PGT.SLOW_SAMPLING) changes none of this, as it changes nothing in a clip.
"""

import torch

from slowfast.models.slowfast import FuseFastToSlow


class MarkovFusion(FuseFastToSlow):
    """A lateral connection whose convolution is a `MarkovConv3d`: an output for every slow frame, none dropped."""

    def forward(self, x: list[torch.Tensor]) -> list[torch.Tensor]:
        slow, fast = x
        lateral = self.lateral(fast)
        if lateral.shape[2] != slow.shape[2]:
            raise ValueError(
                f"a step's {fast.shape[2]} fast frames give {lateral.shape[2]} lateral frames for {slow.shape[2]} slow "
                f"ones; with PGT.FUSION_MEMORY a step has {self.conv_f2s.stride[0]} fast frames (SLOWFAST.ALPHA) for "
                "each slow one"
            )
        return [torch.cat([slow, lateral], dim=1), fast]
