"""What a row costs: GPU hours from counted multiply-adds and a stated throughput, and disk space."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from fvcore.common.config import CfgNode

from slowfast.apps.paper.rows import DataSet
from slowfast.models.complexity import complexity

# Peak of dense matrix products by the makers' data sheets, TFLOP/s: of float32 inputs (V100: float32, the others: TF32,
# which PyTorch's convolutions take by default) and of 16 bits (TRAIN.MIXED_PRECISION).
GPUS = {"V100": (15.7, 125.0), "A100": (156.0, 312.0), "H100": (494.5, 989.0), "H200": (494.5, 989.0)}
# Assumed fraction of the peak that a training reaches; ours, not measured.
UTILIZATION = 0.2
_FLOPS_OF_A_MULTIPLY_ADD = 2
_PASSES_OF_TRAINING = 3  # forward, gradients of the inputs, gradients of the weights
# Copies of the parameters in a checkpoint: the weights and the optimizer's averages.
_COPIES = {"sgd": 2}
_COPIES_OF_ADAM = 3


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Sustained TFLOP/s of one GPU, and where the number comes from."""

    tflops: float
    source: str

    @staticmethod
    def of(cfg: CfgNode, gpu: str, utilization: float = UTILIZATION, tflops: float = 0.0) -> Throughput:
        """Return `tflops` if it is given, else a fraction of a GPU's peak.

        Raises:
            ValueError: an unknown GPU, a fraction outside (0, 1], or a negative throughput.
        """
        if tflops < 0 or not 0 < utilization <= 1:
            raise ValueError(f"--tflops {tflops:g} must be above 0, and --utilization {utilization:g} in (0, 1]")
        if tflops:
            return Throughput(tflops, "as given")
        if gpu not in GPUS:
            raise ValueError(f"there is no peak of a GPU {gpu!r} here; take {', '.join(GPUS)}, or give --tflops")
        peak = GPUS[gpu][cfg.TRAIN.MIXED_PRECISION is True]
        return Throughput(peak * utilization, f"assumed: {utilization:.0%} of the {peak:g} of one {gpu}")


@dataclasses.dataclass(frozen=True)
class Cost:
    """Cost of one seed of a row.

    Attributes:
        train_gflops: multiply-adds of one training clip, forward, in billions.
        test_gflops: the same of one view of a test.
        train_flop, val_flop, test_flop: floating point operations of training, its validations, and the test.
        checkpoint_gib: disk space of one checkpoint.
        checkpoints: number of checkpoints that a training leaves.
    """

    train_gflops: float
    test_gflops: float
    train_flop: float
    val_flop: float
    test_flop: float
    checkpoint_gib: float
    checkpoints: int

    @staticmethod
    def of(cfg: CfgNode, samples: Mapping[str, int], trains: bool = True) -> Cost:
        """Count the cost of a config.

        A clip of steps is counted as read at once: for convolutions its steps take 1 to 2 % more, and attention takes
        less.

        Args:
            samples: clips of each split.
            trains: False for a row that tests another row's weights.
        """
        train = complexity(cfg)
        test = complexity(cfg, cfg.DATA.TEST_CROP_SIZE)
        flop = _FLOPS_OF_A_MULTIPLY_ADD
        epochs = cfg.SOLVER.MAX_EPOCH if trains else 0
        # Boxes are tested in one view of each key frame.
        views = 1 if cfg.DETECTION.ENABLE else cfg.TEST.NUM_ENSEMBLE_VIEWS * cfg.TEST.NUM_SPATIAL_CROPS
        copies = _COPIES.get(cfg.SOLVER.OPTIMIZING_METHOD, _COPIES_OF_ADAM)
        return Cost(
            train.multiply_adds / 1e9,
            test.multiply_adds / 1e9,
            flop * _PASSES_OF_TRAINING * train.multiply_adds * samples["train"] * epochs,
            flop * train.multiply_adds * samples["val"] * (epochs // cfg.TRAIN.EVAL_PERIOD),
            flop * test.multiply_adds * samples["test"] * views,
            4 * copies * train.parameters / 2**30,
            epochs // cfg.TRAIN.CHECKPOINT_PERIOD,
        )

    @property
    def flop(self) -> float:
        """Floating point operations of everything."""
        return self.train_flop + self.val_flop + self.test_flop

    def hours(self, throughput: Throughput) -> float:
        """Return the GPU hours of everything."""
        return self.flop / (throughput.tflops * 1e12) / 3600


def describe_cost(cost: Cost, cfg: CfgNode, data_set: DataSet, seeds: int, throughput: Throughput) -> list[str]:
    """Describe disk space and GPU hours in lines, each number with its source."""
    lines = ["disk:"]
    lines += [f"  {storage.gib:g} GiB  {storage.what} ({storage.source})" for storage in data_set.disk]
    kept = seeds * cost.checkpoints * cost.checkpoint_gib
    lines.append(
        f"  {kept:.3g} GiB  {seeds * cost.checkpoints} checkpoints of {1024 * cost.checkpoint_gib:.3g} MiB "
        "(counted from the parameters)"
    )
    hours = seeds * cost.hours(throughput)
    gpus = max(1, cfg.NUM_GPUS * cfg.NUM_SHARDS)
    samples = ", ".join(f"{count:,} {split}" for split, count in data_set.samples.items())
    parts = {"training": cost.train_flop, "validation": cost.val_flop, "test": cost.test_flop}
    shares = ", ".join(f"{seeds * flop:.3g} {name}" for name, flop in parts.items())
    return [
        *lines,
        f"compute: {hours:.3g} GPU hours at {throughput.tflops:.4g} TFLOP/s a GPU ({throughput.source}); "
        f"{hours / gpus:.3g} hours on {gpus} GPU(s), without loading",
        f"  {cost.train_gflops:.4g} GFLOPs (multiply-adds) a training clip, {cost.test_gflops:.4g} a test view "
        "(counted, read at once)",
        f"  clips: {samples} ({data_set.samples_source})",
        f"  FLOP: {shares} (2 a multiply-add; training is 3 passes)",
    ]
