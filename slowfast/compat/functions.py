"""Functions of PySlowFast whose arguments or results differ from ours, in its form and over our own."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from slowfast import config
from slowfast.checkpoint import io
from slowfast.checkpoint.weights import load_weights
from slowfast.config import cfg_to_yaml, get_cfg
from slowfast.config.merge import get_key, leaf_keys
from slowfast.engine import optim, resume
from slowfast.engine.model_setup import unwrap
from slowfast.engine.preflight import describe_model
from slowfast.engine.state import next_epoch
from slowfast.engine.task import task_class
from slowfast.evaluation.classification import topk_hits
from slowfast.layers.norm import SubBatchNorm3d
from slowfast.models import build
from slowfast.models.losses import LOSS_REGISTRY
from slowfast.runtime import logging
from slowfast.runtime.device import device_count, device_of, find_device, peak_memory
from slowfast.runtime.distributed import (
    all_gather_object,
    get_local_world_size,
    get_rank,
    get_world_size,
    is_distributed,
)
from slowfast.runtime.launch import launch

logger = logging.get_logger(__name__)


def parse_args() -> argparse.Namespace:
    """Parse PySlowFast's options: `--shard_id`, `--num_shards`, `--init_method`, `--cfg FILE ...`, `--opts ...`."""
    parser = argparse.ArgumentParser(description="Run with the settings of YAML files.")
    parser.add_argument("--shard_id", type=int, default=0, help="number of this host, from 0")
    parser.add_argument("--num_shards", type=int, default=1, help="number of hosts")
    parser.add_argument("--init_method", default="tcp://localhost:9999", help="where hosts meet")
    parser.add_argument("--cfg", dest="cfg_files", nargs="+", default=[], metavar="FILE", help="files of settings")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, help="KEY VALUE ...")
    return parser.parse_args(sys.argv[1:])


def load_config(args: argparse.Namespace, path_to_config: str | None = None) -> CfgNode:
    """Load a file and the overrides of PySlowFast's arguments, and make the folder of checkpoints.

    Returns:
        The checked configuration, which can be changed, as there.

    Raises:
        FileNotFoundError, ValueError: see `slowfast.config.load_config`.
    """
    given = vars(args)
    overrides = list(given.get("opts") or [])
    for name in ("num_shards", "shard_id", "rng_seed", "output_dir"):
        if given.get(name) is not None:
            overrides += [name.upper(), given[name]]
    cfg = config.load_config(path_to_config or given.get("cfg_file"), overrides)
    cfg.defrost()
    make_checkpoint_dir(cfg.OUTPUT_DIR)
    return cfg


def assert_and_infer_cfg(cfg: CfgNode) -> CfgNode:
    """Check a configuration that was changed in code, and derive settings from others.

    Returns:
        A configuration that can be changed.

    Raises:
        ValueError: see `slowfast.config.load_config`.
    """
    defaults = get_cfg()
    known = set(leaf_keys(defaults))
    changed = [key for key in leaf_keys(cfg) if key not in known or get_key(cfg, key) != get_key(defaults, key)]
    checked = config.load_config(None, [item for key in changed for item in (key, get_key(cfg, key))])
    checked.defrost()
    return checked


def launch_job(cfg: Any, init_method: str, func: Callable[[Any], Any], daemon: bool = False) -> None:
    """Call `func(cfg)` in each process of the run; `daemon` has no effect."""
    launch(func, cfg, init_method=init_method)


def get_loss_func(loss_name: str) -> Callable[..., nn.Module]:
    """Return the class of a loss, called with `reduction="mean"` or nothing; ValueError if there is none."""
    LOSS_REGISTRY.check(loss_name)

    def make(reduction: str = "mean") -> nn.Module:
        if reduction != "mean":
            raise ValueError(f"losses are means over the batch here, not reduction={reduction!r}")
        return LOSS_REGISTRY.get(loss_name)()

    return make


def construct_optimizer(model: nn.Module, cfg: Any) -> torch.optim.Optimizer:
    """Build the optimizer of a model, which may have its parallel wrapper.

    PySlowFast's `build_model` puts the model on the GPU, and wraps it for several processes. Here that is done to the
    model itself, now: with NUM_GPUS it is moved, and of several processes each backward pass averages the gradients.
    """
    if unwrap(model) is model:
        _place(model, cfg)
        if is_distributed():
            _share_gradients(model)
    return optim.build_optimizer(unwrap(model), cfg)


def _place(model: nn.Module, cfg: Any) -> None:
    """Move a model to the device of this process, unless it is on a GPU."""
    if all(tensor.device.type == "cpu" for tensor in model.state_dict().values()):
        model.to(device_of(cfg))


def _share_gradients(model: nn.Module) -> None:
    """Take the weights of the main process, and average each gradient over the processes when it is complete."""

    def average(parameter: Tensor) -> None:
        all_reduce([parameter.grad])

    for tensor in model.state_dict().values():
        dist.broadcast(tensor, 0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(average)


def init_weights(
    model: nn.Module, fc_init_std: float = 0.01, zero_init_final_bn: bool = True, zero_init_final_conv: bool = False
) -> None:
    """Initialize a network in place; see `slowfast.models.build.init_weights`.

    Args:
        zero_init_final_bn: norms with the attribute `transform_final_bn` start at zero.
        zero_init_final_conv: convolutions with the attribute `final_conv` start at zero.
    """
    build.init_weights(model, fc_init_std)
    for module in model.modules():
        norm, conv = (vars(module).get(name, False) for name in ("transform_final_bn", "final_conv"))
        if (zero_init_final_bn and norm) or (zero_init_final_conv and conv):
            nn.init.zeros_(module.weight)


def get_epoch_lr(cur_epoch: float, cfg: Any) -> float:
    """Return the learning rate at an epoch, which may be a fraction."""
    return optim.lr_scale(cfg) * optim.lr_at(cfg.SOLVER, cur_epoch)


def get_lr_at_epoch(cfg: Any, cur_epoch: float) -> float:
    """Return the learning rate at an epoch, which may be a fraction."""
    return get_epoch_lr(cur_epoch, cfg)


def make_checkpoint_dir(path_to_job: str) -> str:
    """Make the folder of a run's checkpoints, and return it."""
    folder = io.checkpoint_dir(path_to_job)
    os.makedirs(folder, exist_ok=True)
    return folder


def get_path_to_checkpoint(path_to_job: str, epoch: int, task: str = "") -> str:
    """Return the path of the checkpoint after `epoch` epochs; of pretraining for `task` ssl."""
    return io.checkpoint_path(path_to_job, epoch, pretraining=task == "ssl")


def get_last_checkpoint(path_to_job: str, task: str = "") -> str | None:
    """Return the path of a run's newest checkpoint, of pretraining for `task` ssl; None without one."""
    found = io.find_checkpoints(path_to_job, pretraining=task == "ssl")
    return found[-1].path if found else None


def has_checkpoint(path_to_job: str) -> bool:
    """Return True if a run has a checkpoint."""
    return bool(io.find_checkpoints(path_to_job))


def is_checkpoint_epoch(cfg: Any, cur_epoch: int, multigrid_schedule: Any = None) -> bool:
    """Return True if a checkpoint is due after the epoch `cur_epoch`, from 0."""
    return _is_due(cfg, cur_epoch, cfg.TRAIN.CHECKPOINT_PERIOD)


def is_eval_epoch(cfg: Any, cur_epoch: int, multigrid_schedule: Any = None) -> bool:
    """Return True if a validation is due after the epoch `cur_epoch`, from 0."""
    return _is_due(cfg, cur_epoch, cfg.TRAIN.EVAL_PERIOD)


def _is_due(cfg: Any, cur_epoch: int, period: int) -> bool:
    return cur_epoch + 1 == cfg.SOLVER.MAX_EPOCH or (period > 0 and (cur_epoch + 1) % period == 0)


def save_checkpoint(
    path_to_job: str, model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int, cfg: Any, scaler: Any = None
) -> str | None:
    """Write the checkpoint after the epoch `epoch`, from 0, in the main process; return its path there."""
    if get_rank():
        return None
    path = io.checkpoint_path(path_to_job, epoch + 1, pretraining=task_class(cfg).pretrains)
    state = {"epoch": epoch, "model_state": unwrap(model).state_dict(), "optimizer_state": optimizer.state_dict()}
    state |= {} if scaler is None else {"scaler_state": scaler.state_dict()}
    io.save_checkpoint({**state, "cfg": cfg_to_yaml(cfg)}, path)
    return path


def load_checkpoint(
    path_to_checkpoint: str,
    model: nn.Module,
    data_parallel: bool = True,
    optimizer: torch.optim.Optimizer | None = None,
    scaler: Any = None,
    inflation: bool = False,
    convert_from_caffe2: bool = False,
    epoch_reset: bool = False,
    clear_name_pattern: Sequence[str] = (),
    image_init: bool = False,
) -> int:
    """Load the weights of a file into a model, and the state of the optimizer if the file has it.

    Weights of another shape, and missing ones, keep the model's initialization, as there.

    Returns:
        The epoch, from 0, of which the file is; -1 if it does not say, or with `epoch_reset`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or of another program.
    """
    saved = io.load_checkpoint(path_to_checkpoint, "caffe2" if convert_from_caffe2 else "")
    load_weights(
        unwrap(model),
        saved["model_state"],
        path_to_checkpoint,
        drop_mismatch=True,
        clear_patterns=clear_name_pattern,
        inflate=inflation or image_init,
    )
    if epoch_reset or "epoch" not in saved:
        return -1
    _restore(saved, optimizer, scaler)
    return saved["epoch"]


def _restore(saved: Mapping[str, Any], optimizer: torch.optim.Optimizer | None, scaler: Any) -> None:
    if optimizer is not None and "optimizer_state" in saved:
        optimizer.load_state_dict(saved["optimizer_state"])
    if scaler is not None and saved.get("scaler_state"):
        scaler.load_state_dict(saved["scaler_state"])


def load_train_checkpoint(cfg: Any, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: Any = None) -> int:
    """Resume from the run's last checkpoint, else start from TRAIN.CHECKPOINT_FILE_PATH; return the epoch, from 0."""
    pretrains = task_class(cfg).pretrains
    last = io.load_last_checkpoint(cfg.OUTPUT_DIR, pretraining=pretrains) if cfg.TRAIN.AUTO_RESUME else None
    if last is not None:
        saved, path = last
        load_weights(unwrap(model), saved["model_state"], path)
    elif cfg.TRAIN.CHECKPOINT_FILE_PATH:
        saved, _ = resume.take_weights(unwrap(model), cfg, cfg.TRAIN.CHECKPOINT_FILE_PATH)
        if cfg.TRAIN.CHECKPOINT_EPOCH_RESET:
            return 0
    else:
        return 0
    _restore(saved, optimizer, scaler)
    return next_epoch(saved)


def load_test_checkpoint(cfg: Any, model: nn.Module) -> None:
    """Load the weights that a test of this configuration takes, and move the model to the GPU of NUM_GPUS.

    See `slowfast.engine.resume.load_test_weights`.
    """
    _place(unwrap(model), cfg)
    resume.load_test_weights(unwrap(model), cfg)


def all_gather(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return each tensor of all processes, joined along the first dimension in the order of ranks; sizes may differ."""
    if not is_distributed():
        return list(tensors)
    gathered, counts = [], all_gather_object([len(tensor) for tensor in tensors])
    for tensor, *sizes in zip(tensors, *counts, strict=True):
        parts = [tensor.new_empty(max(sizes), *tensor.shape[1:]) for _ in sizes]
        dist.all_gather(parts, torch.cat([tensor, tensor.new_zeros(max(sizes) - len(tensor), *tensor.shape[1:])]))
        gathered.append(torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)]))
    return gathered


def all_gather_unaligned(data: Any, group: Any = None) -> list[Any]:
    """Return what each process gives, in the order of ranks; `group` has no effect."""
    return all_gather_object(data)


def all_reduce(tensors: Sequence[Tensor], average: bool = True) -> Sequence[Tensor]:
    """Replace each tensor by its mean over the processes, or with `average` False by its sum; return them."""
    for tensor in tensors if is_distributed() else ():
        dist.all_reduce(tensor)
        if average:
            tensor.mul_(1.0 / get_world_size())
    return tensors


def is_master_proc(num_gpus: int = 8) -> bool:
    """Return True in the first process of each host, of `num_gpus` processes each."""
    return get_rank() % num_gpus == 0


def get_local_rank() -> int:
    """Return the number of this process on its host."""
    return get_rank() % get_local_world_size()


def init_distributed_training(cfg: Any) -> None:
    """Do nothing: `launch_job` has made the group of processes."""


def setup_environment() -> None:
    """Do nothing: there is nothing to set up."""


def log_json_stats(stats: Mapping[str, Any], output_dir: str | None = None) -> None:
    """Log a row of statistics; it goes to the folder of `setup_logging`, whatever `output_dir` says."""
    logging.log_json_stats(stats, {})


def topks_correct(preds: Tensor, labels: Tensor, ks: Sequence[int]) -> list[Tensor]:
    """Return the number of clips whose label is among the best k classes, for each k; at most all classes.

    Args:
        preds: (B, classes) scores.
        labels: (B,) class numbers.

    Raises:
        ValueError: another number of labels.
    """
    if len(preds) != len(labels):
        raise ValueError(f"there are {len(labels)} labels for {len(preds)} predictions")
    return list(topk_hits(preds, labels, ks).sum(dim=1).float())


def topk_errors(preds: Tensor, labels: Tensor, ks: Sequence[int]) -> list[Tensor]:
    """Return the top-k errors in percent, for each k."""
    return [100.0 - accuracy for accuracy in topk_accuracies(preds, labels, ks)]


def topk_accuracies(preds: Tensor, labels: Tensor, ks: Sequence[int]) -> list[Tensor]:
    """Return the top-k accuracies in percent, for each k."""
    return [100.0 * count / len(preds) for count in topks_correct(preds, labels, ks)]


def check_nan_losses(loss: Tensor | float) -> None:
    """Raise RuntimeError if a loss is NaN."""
    if math.isnan(loss):
        raise RuntimeError("the loss is NaN")


def gpu_mem_usage() -> float:
    """Return the peak memory on the GPU in GiB; 0 without one."""
    return peak_memory(find_device(None)) if device_count() else 0.0


def aggregate_sub_bn_stats(module: nn.Module) -> int:
    """Join the statistics of the splits of each `SubBatchNorm3d`, in place; return how many there are."""
    norms = [norm for norm in module.modules() if isinstance(norm, SubBatchNorm3d)]
    for norm in norms:
        norm.aggregate()
    return len(norms)


def params_count(model: nn.Module, ignore_bn: bool = False) -> int:
    """Return the number of parameters of a model, with `ignore_bn` without those of batch norms."""
    norms = {p for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) for p in m.parameters()}
    return sum(p.numel() for p in model.parameters() if not (ignore_bn and p in norms))


def log_model_info(model: nn.Module, cfg: Any, use_train_input: bool = True) -> None:
    """Log the model, its parameters and its multiply-adds."""
    logger.info("%s", describe_model(unwrap(model), cfg))
