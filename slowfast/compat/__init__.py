"""PySlowFast's modules and names, for code that was written for it.

`import slowfast.utils.parser` and the like find no file here. A finder makes such a module of the names in `NAMES`.
Each warns once, with its name here, where it is first used. docs/migrating.md tells people.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_FUNCTIONS = "slowfast.compat.functions"
_DATA, _METERS = "slowfast.compat.data", "slowfast.compat.meters"
_DISTRIBUTED, _LAUNCH = "slowfast.runtime.distributed", "slowfast.runtime.launch.launch"
_SAMPLING = "slowfast.datasets.clips.temporal_sampling"

# PySlowFast's module -> its name -> the name here. A name with a second one is found there, in PySlowFast's form.
NAMES: dict[str, dict[str, str | tuple[str, str]]] = {
    "slowfast.config.defaults": {
        "assert_and_infer_cfg": ("slowfast.config.load_config", f"{_FUNCTIONS}.assert_and_infer_cfg"),
    },
    "slowfast.datasets.loader": {
        "construct_loader": ("slowfast.datasets.build_loader", f"{_DATA}.construct_loader"),
        "shuffle_dataset": ("loader.batch_sampler.set_epoch", f"{_DATA}.shuffle_dataset"),
    },
    "slowfast.datasets.utils": {
        "aggregate_labels": ("set.union", f"{_DATA}.aggregate_labels"),
        "as_binary_vector": ("slowfast.datasets.charades.Charades", f"{_DATA}.as_binary_vector"),
        "convert_to_video_level_labels": (
            "slowfast.datasets.charades.Charades",
            f"{_DATA}.convert_to_video_level_labels",
        ),
        "create_sampler": ("slowfast.datasets.build.train_sampler", f"{_DATA}.create_sampler"),
        "get_random_sampling_rate": (f"{_SAMPLING}.random_sampling_rate", f"{_DATA}.get_random_sampling_rate"),
        "get_sequence": ("slowfast.datasets.ava.key_frames.clip_frames", f"{_DATA}.get_sequence"),
        "pack_pathway_output": (f"{_SAMPLING}.slow_indices", f"{_DATA}.pack_pathway_output"),
        "retry_load_images": ("slowfast.datasets.video.frame_folder.FrameFolder", f"{_DATA}.retry_load_images"),
        "revert_tensor_normalize": ("slowfast.datasets.transforms.pixels", f"{_DATA}.revert_tensor_normalize"),
        "spatial_sampling": ("slowfast.datasets.transforms.crops.Crop", f"{_DATA}.spatial_sampling"),
        "tensor_normalize": ("slowfast.datasets.transforms.pixels", f"{_DATA}.tensor_normalize"),
    },
    "slowfast.models.batchnorm_helper": {"get_norm": "slowfast.models.build.model_norm"},
    "slowfast.models.losses": {
        "get_loss_func": ("slowfast.models.losses.build_loss", f"{_FUNCTIONS}.get_loss_func"),
    },
    "slowfast.models.optimizer": {
        "construct_optimizer": ("slowfast.engine.optim.build_optimizer", f"{_FUNCTIONS}.construct_optimizer"),
        "get_epoch_lr": ("slowfast.engine.optim.lr_at", f"{_FUNCTIONS}.get_epoch_lr"),
        "set_lr": "slowfast.engine.optim.set_lr",
    },
    "slowfast.utils.checkpoint": {
        "get_checkpoint_dir": "slowfast.checkpoint.io.checkpoint_dir",
        "get_last_checkpoint": ("slowfast.checkpoint.find_checkpoints", f"{_FUNCTIONS}.get_last_checkpoint"),
        "get_path_to_checkpoint": ("slowfast.checkpoint.io.checkpoint_path", f"{_FUNCTIONS}.get_path_to_checkpoint"),
        "has_checkpoint": ("slowfast.checkpoint.find_checkpoints", f"{_FUNCTIONS}.has_checkpoint"),
        "is_checkpoint_epoch": ("slowfast.engine.train.train", f"{_FUNCTIONS}.is_checkpoint_epoch"),
        "load_checkpoint": ("slowfast.checkpoint.load_weights", f"{_FUNCTIONS}.load_checkpoint"),
        "load_test_checkpoint": ("slowfast.engine.resume.load_test_weights", f"{_FUNCTIONS}.load_test_checkpoint"),
        "load_train_checkpoint": ("slowfast.engine.resume.start_training_from", f"{_FUNCTIONS}.load_train_checkpoint"),
        "make_checkpoint_dir": ("slowfast.checkpoint.save_checkpoint", f"{_FUNCTIONS}.make_checkpoint_dir"),
        "save_checkpoint": ("slowfast.checkpoint.save_checkpoint", f"{_FUNCTIONS}.save_checkpoint"),
    },
    "slowfast.utils.distributed": {
        "all_gather": (f"{_DISTRIBUTED}.all_gather_object", f"{_FUNCTIONS}.all_gather"),
        "all_gather_unaligned": (f"{_DISTRIBUTED}.all_gather_object", f"{_FUNCTIONS}.all_gather_unaligned"),
        "all_reduce": (f"{_DISTRIBUTED}.reduce_mean", f"{_FUNCTIONS}.all_reduce"),
        "get_local_rank": (f"{_DISTRIBUTED}.get_rank", f"{_FUNCTIONS}.get_local_rank"),
        "get_local_size": f"{_DISTRIBUTED}.get_local_world_size",
        "get_rank": f"{_DISTRIBUTED}.get_rank",
        "get_world_size": f"{_DISTRIBUTED}.get_world_size",
        "init_distributed_training": (_LAUNCH, f"{_FUNCTIONS}.init_distributed_training"),
        "is_master_proc": (f"{_DISTRIBUTED}.is_main_process", f"{_FUNCTIONS}.is_master_proc"),
        "is_root_proc": f"{_DISTRIBUTED}.is_main_process",
        "synchronize": f"{_DISTRIBUTED}.barrier",
    },
    "slowfast.utils.env": {
        "checkpoint_pathmgr": "iopath.common.file_io.g_pathmgr",
        "pathmgr": "iopath.common.file_io.g_pathmgr",
        "setup_environment": (_LAUNCH, f"{_FUNCTIONS}.setup_environment"),
    },
    "slowfast.utils.logging": {
        "get_logger": "slowfast.runtime.logging.get_logger",
        "log_json_stats": ("slowfast.runtime.logging.log_json_stats", f"{_FUNCTIONS}.log_json_stats"),
        "setup_logging": "slowfast.runtime.logging.setup_logging",
    },
    "slowfast.utils.lr_policy": {
        "get_lr_at_epoch": ("slowfast.engine.optim.lr_at", f"{_FUNCTIONS}.get_lr_at_epoch"),
    },
    "slowfast.utils.meters": {
        "EpochTimer": ("slowfast.engine.hooks.Hook", f"{_METERS}.EpochTimer"),
        "ScalarMeter": ("slowfast.engine.state.Averages", f"{_METERS}.ScalarMeter"),
        "TestMeter": ("slowfast.evaluation.evaluators.VideoEvaluator", f"{_METERS}.TestMeter"),
        "TrainMeter": ("slowfast.engine.hooks.Hook", f"{_METERS}.TrainMeter"),
        "ValMeter": ("slowfast.evaluation.evaluators.VideoEvaluator", f"{_METERS}.ValMeter"),
    },
    "slowfast.utils.metrics": {
        "topk_accuracies": ("slowfast.evaluation.classification", f"{_FUNCTIONS}.topk_accuracies"),
        "topk_errors": ("slowfast.evaluation.classification", f"{_FUNCTIONS}.topk_errors"),
        "topks_correct": ("slowfast.evaluation.classification", f"{_FUNCTIONS}.topks_correct"),
    },
    "slowfast.utils.misc": {
        "aggregate_sub_bn_stats": (
            "slowfast.engine.model_setup.average_bn_stats",
            f"{_FUNCTIONS}.aggregate_sub_bn_stats",
        ),
        "check_nan_losses": ("slowfast.engine.optim_step.OptimStep", f"{_FUNCTIONS}.check_nan_losses"),
        "cpu_mem_usage": "slowfast.runtime.device.host_memory",
        "frozen_bn_stats": "slowfast.layers.norm.freeze_bn_stats",
        "gpu_mem_usage": ("slowfast.runtime.device.peak_memory", f"{_FUNCTIONS}.gpu_mem_usage"),
        "is_eval_epoch": ("slowfast.engine.train.train", f"{_FUNCTIONS}.is_eval_epoch"),
        "launch_job": (_LAUNCH, f"{_FUNCTIONS}.launch_job"),
        "log_model_info": ("slowfast.engine.preflight.describe_model", f"{_FUNCTIONS}.log_model_info"),
        "params_count": ("slowfast.models.complexity.complexity", f"{_FUNCTIONS}.params_count"),
    },
    "slowfast.utils.parser": {
        "load_config": ("slowfast.config.load_config", f"{_FUNCTIONS}.load_config"),
        "parse_args": ("slowfast.engine.arguments.parse_arguments", f"{_FUNCTIONS}.parse_args"),
    },
    "slowfast.utils.weight_init_helper": {
        "init_weights": ("slowfast.models.build.init_weights", f"{_FUNCTIONS}.init_weights"),
    },
}

# PySlowFast's modules, and names in those above, that have no counterpart of their own -> what takes their place.
ABSENT = {
    "slowfast.config.custom_config": "a project with setup(cfg) adds keys (docs/architecture.md, Add a project)",
    "slowfast.datasets.ava_dataset": "slowfast.datasets.ava",
    "slowfast.datasets.cv2_transform": "slowfast.datasets.transforms",
    "slowfast.datasets.decoder": "slowfast.datasets.video.open, and slowfast.datasets.clips.temporal_sampling",
    "slowfast.datasets.loader.detection_collate": "slowfast.datasets.loading.batch.collate",
    "slowfast.datasets.loader.multiple_samples_collate": "slowfast.datasets.loading.batch.collate",
    "slowfast.datasets.mixup": "slowfast.engine.mixing.Mixing, which tools/run_net.py uses with MIXUP.ENABLE True",
    "slowfast.datasets.multigrid_helper": "slowfast.engine.multigrid",
    "slowfast.datasets.rand_augment": "slowfast.datasets.transforms.rand_augment",
    "slowfast.datasets.random_erasing": "slowfast.datasets.transforms.augmentation",
    "slowfast.datasets.transform": "slowfast.datasets.transforms, or spatial_sampling of slowfast.datasets.utils",
    "slowfast.datasets.utils.load_image_lists": "slowfast.datasets.annotations.frame_list",
    "slowfast.datasets.utils.loader_worker_init_fn": "nothing: PyTorch seeds each worker",
    "slowfast.datasets.video_container": "slowfast.datasets.video.open",
    "slowfast.models.batchnorm_helper.NaiveSyncBatchNorm3d": "slowfast.layers.norm.SyncBatchNorm",
    "slowfast.models.batchnorm_helper.SubBatchNorm3d": "slowfast.layers.norm.SubBatchNorm3d",
    "slowfast.models.head_helper": "slowfast.models.heads",
    "slowfast.models.nonlocal_helper": "slowfast.layers.nonlocal_",
    "slowfast.models.operators": "slowfast.layers",
    "slowfast.models.resnet_helper": "slowfast.models.blocks",
    "slowfast.models.stem_helper": "slowfast.models.resnet",
    "slowfast.models.video_model_builder": "slowfast.models.resnet, .slowfast, .x3d and .mvit",
    "slowfast.utils.ava_eval_helper": "slowfast.evaluation.ava",
    "slowfast.utils.benchmark": "tools/benchmark.py",
    "slowfast.utils.bn_helper": "slowfast.engine.precise_bn",
    "slowfast.utils.checkpoint.inflate_weight": "slowfast.checkpoint.load_weights, with inflate=True",
    "slowfast.utils.checkpoint.normal_to_sub_bn": "slowfast.checkpoint.load_weights, which converts norms",
    "slowfast.utils.checkpoint.sub_to_normal_bn": "slowfast.checkpoint.load_weights, which converts norms",
    "slowfast.utils.distributed.init_process_group": "launch_job of slowfast.utils.misc, which makes the group",
    "slowfast.utils.lr_policy.get_lr_func": "LR_POLICIES of slowfast.engine.optim, where policies are registered",
    "slowfast.utils.meters.AVAMeter": "slowfast.evaluation.evaluators.BoxEvaluator",
    "slowfast.utils.misc.plot_input": "tools/visualization.py",
    "slowfast.utils.misc.plot_input_normed": "tools/visualization.py",
    "slowfast.utils.multigrid": "slowfast.engine.multigrid",
    "slowfast.utils.multiprocessing": "launch_job of slowfast.utils.misc, which starts the processes",
    "slowfast.visualization": "slowfast.apps.visualize and slowfast.apps.demo; for scalars TENSORBOARD.ENABLE",
}


def absent(name: str) -> str:
    """Return the entry of `ABSENT` that a module, or a name in one, belongs to; "" for none."""
    return next((known for known in ABSENT if f"{name}.".startswith(f"{known}.")), "")


def new_name(module: str, name: str) -> str:
    """Return the name here of PySlowFast's `module.name`; "" if there is none."""
    found = NAMES.get(module, {}).get(name, "")
    return found if isinstance(found, str) else found[0]


class _Finder(importlib.abc.MetaPathFinder):
    """Finder of PySlowFast's modules. To modules that are here too it adds the names that they lack."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in NAMES and not absent(fullname):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None:
            if fullname in NAMES:
                spec.loader.exec_module = functools.partial(_add_names, spec.loader.exec_module)
            return spec
        if fullname not in NAMES:
            told = f"No module named {fullname!r}: it is PySlowFast's. Here: {ABSENT[absent(fullname)]}"
            raise ModuleNotFoundError(told, name=fullname)
        return importlib.machinery.ModuleSpec(fullname, _Loader())


class _Loader(importlib.abc.Loader):
    """Loader of a module that holds nothing but PySlowFast's names."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        _add_names(lambda module: None, module)


def _add_names(execute: Any, module: ModuleType) -> None:
    """Execute a module, and have it look up PySlowFast's names where it has none."""
    execute(module)
    module.__getattr__ = functools.partial(_old_name, module)


def _old_name(module: ModuleType, name: str) -> Any:
    """Return what PySlowFast's `module.name` is, and say once what it is called here."""
    found = NAMES[module.__name__].get(name)
    if found is None:
        known = absent(f"{module.__name__}.{name}")
        told = f": it is PySlowFast's. Here: {ABSENT[known]}" if known else ""
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}{told}", name=name, obj=module)
    here, place = (found, found) if isinstance(found, str) else found
    warnings.warn(f"{module.__name__}.{name} is PySlowFast's name; here it is {here}", FutureWarning, stacklevel=2)
    owner, _, attribute = place.rpartition(".")
    value = getattr(importlib.import_module(owner), attribute)
    setattr(module, name, value)
    return value


def install() -> None:
    """Let Python find PySlowFast's modules."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
