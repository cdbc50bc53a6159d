"""8-bit ONNX files for onnxruntime on CPUs: convolutions and matrix products of an exported graph in int8."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from slowfast.apps.export.onnx_files import open_session, quiet, run_session
from slowfast.datasets.build import build_loader
from slowfast.engine.task import Graph, build_task

# A dense convolution with fewer channels, in or out, is faster in float32 (docs/performance.md).
_MIN_CHANNELS = 16

Feed = dict[str, np.ndarray]  # name of an input -> its value


@torch.no_grad()
def calibration_feeds(cfg: Any, model: nn.Module, graphs: Sequence[Graph], clips: int) -> list[list[Feed]]:
    """Return what the model reads of validation clips: for every graph the inputs of its calls.

    A model that reads in steps is called once a step. The last graph has the inputs of all further steps.

    Args:
        graphs: with example arguments, whose batch size the clips have too.
        clips: number of validation clips, of `DATA.TEST_CROP_SIZE`.

    Raises:
        FileNotFoundError, ValueError: the validation clips cannot be read, there are too few, or the task does not call
            the model as the graphs do.
    """
    task, calls = build_task(cfg), []
    handle = model.register_forward_pre_hook(lambda _, args: calls.append(args))
    feeds: list[list[Feed]] = [[] for _ in graphs]
    size, found = len(pytree.tree_leaves(graphs[0].args)[0]), 0
    try:
        for batch in build_loader(_at_test_size(cfg, size), "val"):
            if len(batch.labels) < size:
                break
            calls.clear()
            task.predict(model, batch.to("cpu"))
            if len(calls) < len(graphs):
                raise ValueError(
                    f"a test calls the model {len(calls)} times a clip, and the export has {len(graphs)} graphs; a "
                    "model in steps needs PGT.PG_EVAL True and clips of several steps"
                )
            for number, args in enumerate(calls):
                own = min(number, len(graphs) - 1)
                feeds[own].append(_feed(graphs[own], args))
            found += size
            if found >= clips:
                return feeds
    finally:
        handle.remove()
    raise ValueError(
        f"--int8 {clips} takes that many validation clips in batches of {size}, and there are {found}; ask for fewer"
    )


def _at_test_size(cfg: Any, batch: int) -> Any:
    """Return a config whose validation clips have the crop and the batch size of the exported graphs."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATA.TRAIN_CROP_SIZE = cfg.DATA.TEST_CROP_SIZE
    cfg.TRAIN.BATCH_SIZE = batch
    cfg.freeze()
    return cfg


def _feed(graph: Graph, args: tuple[Any, ...]) -> Feed:
    # The first step of several is called with None for its memory.
    given, example = ([leaf for leaf in pytree.tree_leaves(tree) if leaf is not None] for tree in (args, graph.args))
    shapes, wanted = ([tuple(tensor.shape[1:]) for tensor in tensors] for tensors in (given, example))
    if shapes != wanted:
        raise ValueError(f"graph {graph.name} reads {wanted}, but a test reads validation clips as {shapes}")
    return {name: tensor.contiguous().numpy() for name, tensor in zip(graph.inputs, given, strict=True)}


def quantize(source: str, target: str, feeds: Sequence[Feed]) -> dict[str, float]:
    """Write an ONNX file whose convolutions and matrix products are int8.

    Weights have a scale for each output channel, activations one for each tensor, from their least and largest value in
    `feeds`. Dense convolutions of few channels stay float32.

    Returns:
        `same_class`, the share of clips in `feeds` to which both files give the same class, and `difference`, the
        largest of a score, relative to the largest score.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = f"{target}.prepared"
    with quiet():
        quant_pre_process(source, prepared)
        quantize_static(
            prepared,
            target,
            _Feeds(feeds),
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            nodes_to_exclude=_narrow_convolutions(onnx.load(prepared)),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    os.remove(prepared)
    _copy_metadata(source, target)
    return _agreement(source, target, feeds)


class _Feeds:
    """Feeds as onnxruntime's calibration reads them."""

    def __init__(self, feeds: Sequence[Feed]):
        self._left: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._left, None)


def _narrow_convolutions(model: Any) -> list[str]:
    """Return the names of the dense convolutions with few channels; depthwise ones gain by int8."""
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    sizes = {node.name: weights[node.input[1]] for node in model.graph.node if node.op_type == "Conv"}
    return [name for name, (out, channels, *_) in sizes.items() if channels > 1 and min(out, channels) < _MIN_CHANNELS]


def _copy_metadata(source: str, target: str) -> None:
    """Give a file the metadata of another, which quantization drops."""
    import onnx

    model, facts = onnx.load(target), onnx.load(source, load_external_data=False).metadata_props
    onnx.helper.set_model_props(model, {fact.key: fact.value for fact in facts})
    onnx.save(model, target)


def _agreement(source: str, target: str, feeds: Sequence[Feed]) -> dict[str, float]:
    plain, int8 = (
        torch.cat([run_session(session, ["scores"], feed)[0] for feed in feeds])
        for session in map(open_session, (source, target))
    )
    same = (plain.argmax(dim=1) == int8.argmax(dim=1)).float().mean()
    return {"same_class": float(same), "difference": float((plain - int8).abs().max() / plain.abs().max())}
