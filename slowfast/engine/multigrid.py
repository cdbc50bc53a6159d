"""Multigrid training: smaller clips in larger batches, in a long cycle over epochs and a short one over batches.

Source: Wu et al. 2020, "A Multigrid Method for Efficiently Training Video Models" (arXiv 1912.00998). The arithmetic is
that of PySlowFast, so that the settings of the section MULTIGRID have the same meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slowfast.runtime.distributed import get_local_world_size


@dataclass(frozen=True)
class _Stage:
    """Epochs from `start` up to, not including, `end` with clips of one shape; a stage may be empty.

    Attributes:
        step: number of learning rate drops before the stage.
        batch_factor: batch size relative to training without multigrid.
        num_frames, crop: frames and side in pixels of a clip.
        start, end: epochs, counted from 0.
    """

    step: int
    batch_factor: int
    num_frames: int
    crop: int
    start: int
    end: int


@dataclass(frozen=True)
class LongCycle:
    """Long cycle of a run: its stages, in order; none if it is off."""

    stages: tuple[_Stage, ...] = ()

    @classmethod
    def from_config(cls, cfg: Any) -> LongCycle:
        """Plan the long cycle of a run's config; without stages if it is off."""
        options, solver = cfg.MULTIGRID, cfg.SOLVER
        if not options.LONG_CYCLE:
            return cls()
        return cls.plan(
            cfg.DATA.NUM_FRAMES,
            cfg.DATA.TRAIN_CROP_SIZE,
            solver.STEPS,
            solver.MAX_EPOCH,
            options.LONG_CYCLE_FACTORS,
            options.EPOCH_FACTOR,
            options.SHORT_CYCLE_FACTORS if options.SHORT_CYCLE else (),
        )

    @classmethod
    def plan(
        cls,
        num_frames: int,
        crop: int,
        steps: Sequence[float],
        max_epoch: int,
        factors: Sequence[Sequence[float]],
        epoch_factor: float,
        short_factors: Sequence[float] = (),
    ) -> LongCycle:
        """Plan the stages.

        Between two drops of the learning rate each shape is used once. Its number of epochs is proportional to its
        batch size, so that all shapes take the same number of iterations. After the last drop the full shape alone is
        used. All stages are shortened by the same factor.

        Args:
            num_frames, crop: full shape of a clip.
            steps: epochs at which a learning rate begins without multigrid, 0 first (SOLVER.STEPS).
            max_epoch: epochs without multigrid.
            factors: (frames, crop) of each shape relative to the full one, smallest first.
            epoch_factor: epochs with multigrid relative to those without.
            short_factors: smaller crops of the short cycle, relative to `crop`; () if that is off.
        """
        shapes, average_batch = [], []
        for frames_factor, crop_factor in factors:
            frames, side = int(round(num_frames * frames_factor)), int(round(crop * crop_factor))
            sides = [*(crop * factor for factor in short_factors), side]
            batches = [int(round(float(num_frames * crop**2) / (frames * s * s))) for s in sides]
            shapes.append((batches[-1], frames, side))
            average_batch.append(sum(batches) / len(batches))

        planned: list[tuple[int, tuple[int, int, int], float]] = []
        iterations = 0.0
        for step in range(len(steps) - 1):
            interval = steps[step + 1] - steps[step]
            for shape, batch in zip(shapes, average_batch, strict=True):
                epochs = interval * batch / sum(average_batch)
                iterations += epochs / batch
                planned.append((step, shape, epochs))
        saving = steps[-1] / iterations
        planned.append((len(steps) - 1, shapes[-1], (max_epoch - steps[-1]) / saving * average_batch[-1]))

        stretch = max_epoch * epoch_factor / sum(epochs for _, _, epochs in planned)
        stages, start, total = [], 0, 0.0
        for step, shape, epochs in planned:
            total += epochs * stretch
            end = int(round(total))
            stages.append(_Stage(step, *shape, start, end))
            start = end
        return cls(tuple(stages))

    def learning_rate_steps(self, gamma: float) -> tuple[list[int], list[float]]:
        """Return the epochs at which a learning rate begins, and each rate relative to the base rate.

        The rate is proportional to the batch size (Goyal et al. 2017) and is multiplied by `gamma` at each step. The
        last drop, for fine-tuning, is in the middle of the last stage.
        """
        begins = [0, *(stage.end for stage in self.stages)]
        begins[-1] = (begins[-2] + begins[-1]) // 2
        rates = [gamma**stage.step * stage.batch_factor for stage in self.stages]
        return begins, [*rates[:-1], rates[-2], rates[-1]]

    def at(self, epoch: int) -> _Stage:
        """Return the stage of an epoch, counted from 0."""
        return next((stage for stage in self.stages if epoch < stage.end), self.stages[-1])

    def evaluation_due(self, done: int, evaluations: int) -> bool:
        """Return True if an evaluation follows epoch `done`.

        One follows at the end of a stage, and about `evaluations` in a stage.
        """
        stage = self.at(done - 1)
        period = max((stage.end - stage.start) // evaluations + 1, 1)
        return (stage.end - done) % period == 0


def norm_over(clips: int, base_size: int, processes: int) -> tuple[str, int]:
    """Choose the batch norm whose statistics are computed over about `base_size` clips.

    Args:
        clips: batch size of a process.
        processes: number of processes that can share statistics; 1 if they cannot.

    Returns:
        BN.NORM_TYPE, and the number of splits (sub_batchnorm) or of processes (sync_batchnorm).

    Raises:
        ValueError: the batch cannot be divided into equal splits.
    """
    splits = clips // base_size
    if splits > 1:
        if clips % splits:
            raise ValueError(
                f"the {clips} clips of a process's batch cannot be divided into {splits} equal splits, as "
                f"MULTIGRID.BN_BASE_SIZE {base_size} asks; set another BN_BASE_SIZE or TRAIN.BATCH_SIZE"
            )
        return "sub_batchnorm", splits
    wanted = min(base_size // clips, processes)
    group = next(size for size in range(max(wanted, 1), 0, -1) if processes % size == 0)
    return ("sync_batchnorm", group) if group > 1 else ("batchnorm", 1)


def epoch_config(cfg: Any, epoch: int) -> Any:
    """Return the config of an epoch, counted from 0: schedule, clip shape, batch size and norm set by multigrid.

    Frozen batch norm is kept.
    """
    if not (cfg.MULTIGRID.LONG_CYCLE or cfg.MULTIGRID.SHORT_CYCLE):
        return cfg
    cycle = LongCycle.from_config(cfg)
    cfg = cfg.clone()
    cfg.defrost()
    options, solver = cfg.MULTIGRID, cfg.SOLVER
    options.DEFAULT_B, options.DEFAULT_T = cfg.TRAIN.BATCH_SIZE, cfg.DATA.NUM_FRAMES
    options.DEFAULT_S = cfg.DATA.TRAIN_CROP_SIZE
    if cycle.stages:
        # Position embeddings keep their size when clips change.
        cfg.MODEL.POSITIONS_FOR = cfg.MODEL.POSITIONS_FOR or [options.DEFAULT_T, options.DEFAULT_S]
        solver.STEPS, solver.LRS = cycle.learning_rate_steps(solver.GAMMA)
        solver.MAX_EPOCH = cycle.stages[-1].end
        _set_stage(cfg, cycle.at(epoch))
    else:
        solver.STEPS = [int(step * options.EPOCH_FACTOR) for step in solver.STEPS]
        solver.MAX_EPOCH = int(solver.MAX_EPOCH * options.EPOCH_FACTOR)
    cfg.freeze()
    return cfg


def _set_stage(cfg: Any, stage: _Stage) -> None:
    options = cfg.MULTIGRID
    cfg.TRAIN.BATCH_SIZE = stage.batch_factor * options.DEFAULT_B
    cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE = stage.num_frames, stage.crop
    options.LONG_CYCLE_SAMPLING_RATE = cfg.DATA.SAMPLING_RATE * (options.DEFAULT_T // stage.num_frames)
    if cfg.BN.NORM_TYPE == "frozen_batchnorm":
        return
    processes = get_local_world_size()
    sharing = processes if cfg.NUM_GPUS > 0 else 1
    cfg.BN.NORM_TYPE, count = norm_over(cfg.TRAIN.BATCH_SIZE // processes, options.BN_BASE_SIZE, sharing)
    cfg.BN.NUM_SPLITS = count if cfg.BN.NORM_TYPE == "sub_batchnorm" else 1
    cfg.BN.NUM_SYNC_DEVICES = count if cfg.BN.NORM_TYPE == "sync_batchnorm" else 1


def describe(cfg: Any) -> str:
    """Describe the cycles of a run's config, one line a stage; "" if multigrid is off."""
    options = cfg.MULTIGRID
    lines = []
    for stage in LongCycle.from_config(cfg).stages:
        if stage.start < stage.end:
            shape, first = epoch_config(cfg, stage.start), stage.start + 1
            epochs = f"epoch {first}" if first == stage.end else f"epochs {first} to {stage.end}"
            lines.append(
                f"{epochs}: batches of {shape.TRAIN.BATCH_SIZE}, {stage.num_frames} frames, {stage.crop} pixels; "
                f"{shape.BN.NORM_TYPE}"
            )
    if options.SHORT_CYCLE:
        crops = ", ".join(str(int(round(factor * cfg.DATA.TRAIN_CROP_SIZE))) for factor in options.SHORT_CYCLE_FACTORS)
        lines.append(f"the first two of every three batches are larger, with crops of {crops} pixels")
    if not lines:
        return ""
    epochs = epoch_config(cfg, 0).SOLVER.MAX_EPOCH
    return "\n  ".join([f"multigrid: {epochs} epochs in place of {cfg.SOLVER.MAX_EPOCH}", *lines])
