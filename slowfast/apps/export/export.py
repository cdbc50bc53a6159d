"""Export of models to ONNX and `torch.export` (.pt2).

A model is one graph. A model that reads in steps is several graphs, with its memory among inputs and outputs. Every
file is loaded again and compared with the model before it is renamed. All dimensions but the batch are fixed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from slowfast.apps.export import onnx_files
from slowfast.apps.export.quantize import calibration_feeds, quantize
from slowfast.checkpoint.io import list_class_names, load_checkpoint
from slowfast.config import cfg_to_yaml
from slowfast.datasets.build import clip_class
from slowfast.engine.model_setup import ModelSetup, setup_model
from slowfast.engine.resume import load_test_weights
from slowfast.engine.task import Graph, build_task, check_classes, dummy_inputs
from slowfast.models import build_model
from slowfast.runtime.logging import get_logger
from slowfast.runtime.seed import seed_all
from slowfast.utils.errors import first_line
from slowfast.utils.files import atomic_write_local, no_room_explained

logger = get_logger(__name__)

ABOUT_NAME = "export.json"
# Largest difference between outputs of a file and of the model, relative to the largest number of the output.
_TOLERANCE = 1e-4
_TRACED_BATCH, _OTHER_BATCH = 2, 3  # the tracer would specialize on a batch of 1


def example_inputs(cfg: Any, batch: int) -> list[Tensor]:
    """Return clips of noise (batch, 3, T, H, W), one per pathway, of `DATA.NUM_FRAMES` and `DATA.TEST_CROP_SIZE`."""
    return dummy_inputs(cfg, batch, cfg.DATA.TEST_CROP_SIZE, torch.Generator().manual_seed(0))


def export(
    cfg: Any,
    output: str,
    formats: Sequence[str],
    batch: int | None = None,
    opset: int | None = None,
    int8_clips: int | None = None,
) -> dict:
    """Export the config's model in eval mode, with the weights that `TEST` names.

    Args:
        output: folder of `GRAPH.onnx`, `GRAPH.pt2` and their description `export.json`; former files are replaced.
        formats: of "onnx" and "pt2".
        batch: fixed batch size; None for any, where the model allows it.
        opset: ONNX opset version; None for the exporter's default.
        int8_clips: also write `GRAPH.int8.onnx`, calibrated on that many validation clips; see `quantize`.

    Returns:
        The content of `export.json`.

    Raises:
        FileNotFoundError, ValueError: the checkpoint is missing or does not fit, a package is missing, the model cannot
            be exported, or a file computes something else than the model.
        OSError: a file cannot be written; former files are unchanged.
    """
    writers = [_writer(name) for name in formats]
    _check(cfg, formats, int8_clips)
    seed_all(cfg.RNG_SEED)
    model = build_model(cfg).eval()
    checkpoint = load_test_weights(model, cfg)
    # Our memory formats and planar convolutions are of no use to other programs.
    how = ModelSetup(memory_format="contiguous", fold_norms=cfg.TEST.FOLD_NORMS)
    model = setup_model(model, torch.device("cpu"), how, training=False).requires_grad_(False)
    # For programs without this one: `export.json` has them, and every file.
    facts = {
        "preprocessing": clip_class(cfg.TEST.DATASET).clip_settings(cfg, "test").facts(),
        "class_names": list_class_names(load_checkpoint(checkpoint) if checkpoint else {}, cfg.MODEL.NUM_CLASSES),
    }
    make_graphs = build_task(cfg).export_graphs
    graphs = make_graphs(model, example_inputs(cfg, batch or _TRACED_BATCH))
    others = make_graphs(model, example_inputs(cfg, batch or _OTHER_BATCH))
    os.makedirs(output, exist_ok=True)
    with no_room_explained(output), _scratch(output) as folder:
        described = [
            _write_graph(model, graph, other, batch is None, writers, folder, opset, facts)
            for graph, other in zip(graphs, others, strict=True)
        ]
        if int8_clips is not None:
            for entry, feeds in zip(described, calibration_feeds(cfg, model, graphs, int8_clips), strict=True):
                _write_int8(entry, feeds, folder)
        about = {
            "graphs": described,
            "order": "each graph in turn, one a step; the last one again for every further step",
            "checkpoint": checkpoint,
            "torch": torch.__version__,
            "mean": list(cfg.DATA.MEAN),
            "std": list(cfg.DATA.STD),
            **facts,
            "config": cfg_to_yaml(cfg),
        }
        atomic_write_local(os.path.join(folder, ABOUT_NAME), json.dumps(about, indent=2))
        for name in sorted(os.listdir(folder), key=ABOUT_NAME.__eq__):  # the description comes last
            os.replace(os.path.join(folder, name), os.path.join(output, name))
    return about


def _check(cfg: Any, formats: Sequence[str], int8_clips: int | None) -> None:
    """Raise ValueError for what cannot be exported."""
    if int8_clips is not None and ("onnx" not in formats or int8_clips < 1):
        raise ValueError(f"--int8 takes at least one clip and the format onnx, got {int8_clips} clips and {formats}")
    if cfg.DETECTION.ENABLE:
        raise ValueError(
            "DETECTION.ENABLE is True; models that score boxes cannot be exported, only those of whole clips"
        )
    check_classes(cfg)


def _write_graph(
    model: nn.Module,
    graph: Graph,
    other: Graph,
    any_batch: bool,
    writers: Sequence[_Writer],
    folder: str,
    opset: int | None,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Write and check the files of a graph; return its entry of `export.json`.

    Args:
        other: the same graph with arguments of another batch size.
        facts: values that go into every file, as JSON.
    """
    texts = {name: json.dumps(value) for name, value in facts.items()}
    program, dynamic = trace(model, graph, any_batch)
    checked = other if dynamic else graph
    wanted = outputs_of(model, checked)
    errors = {}
    for writer in writers:
        path = os.path.join(folder, f"{graph.name}.{writer.ending}")
        writer.write(program, graph, path, opset, texts)
        errors[writer.ending] = compare(wanted, checked, writer.run(path, checked))
        logger.info("%s.%s: differs by %.1e from the model", graph.name, writer.ending, errors[writer.ending])
    return _describe(wanted, graph, dynamic, errors)


def _write_int8(entry: dict[str, Any], feeds: Sequence[Mapping[str, Any]], folder: str) -> None:
    """Write the int8 file of a graph, and add it to the graph's entry of `export.json`."""
    name = f"{entry['name']}.int8.onnx"
    source = os.path.join(folder, f"{entry['name']}.onnx")
    entry["int8"] = quantize(source, os.path.join(folder, name), feeds)
    entry["files"].append(name)
    logger.info("%s: the same class as %s.onnx in %.1f %%", name, entry["name"], 100 * entry["int8"]["same_class"])


@contextlib.contextmanager
def _scratch(output: str) -> Iterator[str]:
    """Yield a folder on the same disk as the results, for files that are not checked yet."""
    folder = tempfile.mkdtemp(prefix=".export-", dir=output)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def trace(model: nn.Module, graph: Graph, any_batch: bool) -> tuple[torch.export.ExportedProgram, bool]:
    """Trace `model(*graph.args)`; also return True if the graph takes any batch size.

    If tracing fails for any batch size, a warning is logged, and the graph takes that of the example.

    Raises:
        ValueError: the model cannot be traced.
    """
    if any_batch:
        size = torch.export.Dim(onnx_files.BATCH)
        try:
            return _trace(model, graph, pytree.tree_map(lambda _: {0: size}, graph.args)), True
        except Exception as error:  # the tracer raises many types
            logger.warning(
                "%s is exported for batches of %d only (--batch N for others): %s",
                graph.name,
                _TRACED_BATCH,
                first_line(error),
            )
    try:
        return _trace(model, graph, None), False
    except Exception as error:
        raise ValueError(
            f"{type(model).__name__} cannot be exported: PyTorch fails to trace {graph.name} ({first_line(error)})"
        ) from error


def _trace(model: nn.Module, graph: Graph, shapes: Any) -> torch.export.ExportedProgram:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about PyTorch's own modules
        return torch.export.export(model, graph.args, dynamic_shapes=shapes, strict=False)


@torch.no_grad()
def outputs_of(model: nn.Module, graph: Graph) -> list[Tensor]:
    """Return the model's outputs for the graph's example arguments."""
    return pytree.tree_leaves(model(*graph.args))


def compare(wanted: Sequence[Tensor], graph: Graph, found: Sequence[Tensor]) -> float:
    """Return the largest difference between outputs, relative to the largest number of each output.

    Args:
        wanted, found: outputs of the model and of a file.

    Raises:
        ValueError: the difference is over `_TOLERANCE`, shapes differ, or the model gives NaN or infinity.
    """
    worst = 0.0
    for name, a, b in zip(graph.outputs, found, wanted, strict=True):
        if a.shape != b.shape:
            raise ValueError(f"{graph.name}: the file gives {name} as {tuple(a.shape)}, the model {tuple(b.shape)}")
        if not b.isfinite().all():
            raise ValueError(
                f"{graph.name}: the model gives NaN or infinity for clips of noise ({name}), so its files cannot be "
                "compared with it; check the weights"
            )
        error = float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))
        if not error <= _TOLERANCE:
            raise ValueError(f"{graph.name}: {name} of the file differs by {error:.1e} of the model's largest number")
        worst = max(worst, error)
    return worst


def _describe(results: Sequence[Tensor], graph: Graph, dynamic: bool, errors: dict[str, float]) -> dict[str, Any]:
    def tensors(names: Sequence[str], values: Sequence[Tensor]) -> list[dict[str, Any]]:
        pairs = zip(names, values, strict=True)
        return [{"name": name, "shape": [onnx_files.BATCH if dynamic else len(v), *v.shape[1:]]} for name, v in pairs]

    return {
        "name": graph.name,
        "files": [f"{graph.name}.{ending}" for ending in errors],
        "inputs": tensors(graph.inputs, pytree.tree_leaves(graph.args)),
        "outputs": tensors(graph.outputs, results),
        "difference": errors,
    }


@dataclasses.dataclass(frozen=True)
class _Writer:
    """File format of an export: ending, writing a file, and running it."""

    ending: str
    write: Callable[[torch.export.ExportedProgram, Graph, str, int | None, dict[str, str]], None]
    run: Callable[[str, Graph], list[Tensor]]


def _writer(name: str) -> _Writer:
    if name == "pt2":
        return _Writer("pt2", _write_pt2, _run_pt2)
    if name == "onnx":
        onnx_files.check_packages()
        return _Writer("onnx", onnx_files.write, onnx_files.run)
    raise ValueError(f"the format of an export is {name!r}; it must be onnx or pt2")


def _write_pt2(
    program: torch.export.ExportedProgram, graph: Graph, path: str, opset: int | None, facts: dict[str, str]
) -> None:
    # In memory first: a file that cannot be written would end the process, in the destructor of PyTorch's writer.
    content = io.BytesIO()
    torch.export.save(program, content, extra_files=facts)
    atomic_write_local(path, content.getvalue())


def _run_pt2(path: str, graph: Graph) -> list[Tensor]:
    with torch.no_grad():
        return pytree.tree_leaves(torch.export.load(path).module()(*graph.args))
