"""ONNX files: writing with PyTorch's exporter, checking, and running in onnxruntime."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from slowfast.utils.errors import first_line

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


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


def write(program: torch.export.ExportedProgram, graph: Any, path: str, opset: int | None) -> None:
    """Write a traced graph with the names in `graph` (a `Graph`), and check the file by the rules of ONNX.

    Above 2 GB the weights go to a file of their own, `PATH.data`.

    Raises:
        ValueError: the graph cannot be expressed in ONNX.
    """
    import onnx

    try:
        with _quiet():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                input_names=graph.inputs,
                output_names=graph.outputs,
                opset_version=opset,
                verbose=False,
            )
        _name_batch(exported)
        exported.save(path)
        onnx.checker.check_model(path)
    except Exception as error:  # the exporter raises many types
        raise ValueError(
            f"{graph.name} cannot be written as ONNX: {type(error).__name__}: {first_line(error)}"
        ) from error


def run(path: str, graph: Any) -> list[Tensor]:
    """Return the outputs of onnxruntime for the example arguments of `graph`, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    taken = {value.name for value in session.get_inputs()}
    given = dict(zip(graph.inputs, pytree.tree_leaves(graph.args), strict=True))
    feed = {name: tensor.contiguous().numpy() for name, tensor in given.items() if name in taken}
    return [torch.from_numpy(array) for array in session.run(graph.outputs, feed)]


def _name_batch(exported: Any) -> None:
    """Name the dynamic dimension, to which the exporter gives a number."""
    graph = exported.model.graph
    for value in [*graph.inputs, *graph.outputs]:
        if value.shape is not None and not isinstance(value.shape[0], int):
            value.shape[0] = "batch"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's remarks, none of which is about the model."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
