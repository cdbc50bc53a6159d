"""How a run is spread over processes, and what changes for one that goes on in another number of them."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch.utils.data import DataLoader

from slowfast.engine.schedule import lr_scale
from slowfast.utils.distributed import get_world_size


@dataclasses.dataclass(frozen=True)
class Layout:
    """What decides which clips make a batch, and who computes on which of them; a checkpoint keeps it.

    Batch number i of an epoch is the same set of clips whatever the number of processes that share it
    (`EpochBatchSampler`), so a run can go on in the middle of an epoch in more or fewer of them.

    Attributes:
        processes: of all hosts.
        batch: clips of a batch, over all processes.
        accum_steps: batches of an update.
        samples: of the training set.
        seed: of their order.
        lr_scale: factor on every learning rate.
    """

    processes: int
    hosts: int
    batch: int
    accum_steps: int
    samples: int
    seed: int
    lr_scale: float

    @classmethod
    def of(cls, cfg: Any, loader: DataLoader) -> Layout:
        """The layout of a run with these settings in the processes there are."""
        train = cfg.TRAIN
        batch, samples = train.BATCH_SIZE * cfg.NUM_SHARDS, len(loader.dataset)
        return cls(
            get_world_size(), cfg.NUM_SHARDS, batch, train.ACCUM_STEPS, samples, cfg.RNG_SEED, float(lr_scale(cfg))
        )

    @property
    def share(self) -> int:
        """Clips of a batch for each process."""
        return self.batch // self.processes

    def same_batches(self, other: Layout) -> bool:
        """Whether batches and updates are of the same clips."""
        keys = ("batch", "accum_steps", "samples", "seed")
        return all(getattr(self, key) == getattr(other, key) for key in keys)

    def describe_change(self, now: Layout) -> str:
        """What becomes other for a run of this layout that goes on with layout `now`; "" for nothing."""
        changes = []
        if (self.processes, self.hosts) != (now.processes, now.hosts):
            changes.append(f"{now._place()} instead of {self._place()}, whose random draws (dropout) are others")
        if self.share != now.share:
            changes.append(f"each process, and with it each batch norm layer, sees {now.share} clips, not {self.share}")
        update, former = now.batch * now.accum_steps, self.batch * self.accum_steps
        if update != former:
            changes.append(f"an update is made of {update} clips, not {former}")
        if now.lr_scale != self.lr_scale:
            changes.append(f"learning rates are multiplied by {now.lr_scale / self.lr_scale:g}")
        elif update != former:
            changes.append("learning rates stay as they are")
        if now.samples != self.samples:
            changes.append(f"an epoch draws from {now.samples} videos, not {self.samples}")
        if now.seed != self.seed:
            changes.append(f"the order is that of RNG_SEED {now.seed}, not {self.seed}")
        return "; ".join(changes)

    def _place(self) -> str:
        return f"{self.processes} process(es) on {self.hosts} host(s)"
