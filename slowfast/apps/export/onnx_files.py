"""ONNX files: writing a traced graph, and running a file in onnxruntime."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from slowfast.engine.task import Graph
from slowfast.utils.errors import first_line

BATCH = "batch"
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # of an extra, so imported late


def check_packages() -> None:
    """Raise ValueError if a package that ONNX needs is missing."""
    missing = [name for name in _PACKAGES if not _is_installed(name)]
    if missing:
        raise ValueError(
            f"ONNX files need {', '.join(missing)}, not installed here: pip install {' '.join(missing)} (the extra "
            "`export`), or export pt2 alone"
        )


def _is_installed(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def write(
    program: torch.export.ExportedProgram, graph: Graph, path: str, opset: int | None, facts: dict[str, str]
) -> None:
    """Write a traced graph with the names in `graph`, and check the file by the rules of ONNX.

    Above 2 GB the weights go to a file of their own, `PATH.data`.

    Raises:
        ValueError: the graph cannot be expressed in ONNX.
    """
    import onnx

    try:
        with quiet("torch.onnx"):
            exported = torch.onnx.export(
                program,
                dynamo=True,
                input_names=graph.inputs,
                output_names=graph.outputs,
                opset_version=opset,
                verbose=False,
            )
        _name_batch(exported)
        exported.model.metadata_props.update(facts)
        exported.save(path)
        onnx.checker.check_model(path)
    except Exception as error:  # the exporter raises many types
        raise ValueError(
            f"{graph.name} cannot be written as ONNX: {type(error).__name__}: {first_line(error)}"
        ) from error


def run(path: str, graph: Graph) -> list[Tensor]:
    """Return the outputs of onnxruntime for the example arguments of `graph`, on the CPU."""
    leaves = pytree.tree_leaves(graph.args)
    feed = {name: tensor.contiguous().numpy() for name, tensor in zip(graph.inputs, leaves, strict=True)}
    return run_session(open_session(path), graph.outputs, feed)


def open_session(path: str) -> Any:
    """Open a file in onnxruntime, on the CPU."""
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run_session(session: Any, outputs: list[str], feed: Mapping[str, np.ndarray]) -> list[Tensor]:
    """Return some outputs; inputs in `feed` that the file does not read are left out."""
    taken = {value.name for value in session.get_inputs()}
    found = session.run(outputs, {name: array for name, array in feed.items() if name in taken})
    return [torch.from_numpy(array) for array in found]


def _name_batch(exported: Any) -> None:
    """Name the dynamic dimension, to which the exporter gives a number."""
    graph = exported.model.graph
    for value in [*graph.inputs, *graph.outputs]:
        if value.shape is not None and not isinstance(value.shape[0], int):
            value.shape[0] = BATCH


@contextlib.contextmanager
def quiet(logger_name: str = "") -> Iterator[None]:
    """Silence the remarks of a logger, of warnings and of what is printed, none of which is about the model."""
    noisy = logging.getLogger(logger_name or None)
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        noisy.setLevel(level)
