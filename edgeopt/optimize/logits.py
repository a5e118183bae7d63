"""Logits less what all classes have in common: a softmax gives the same, and int8 gets finer steps.

softmax(z) = softmax(z - c) for any number c of a sample. Where z = W x + b, taking the mean over
the classes off the rows of W and off b takes the mean off every z, so that logits that rise and
fall together no longer need a wide range. Their largest is then at least 0, so that all classes far
below have no probability that an int8 softmax could show, whatever the sample: their logits may be
clipped, and the steps of the others are finer still.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeopt.facts import Operator, Subgraph, Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["centred_logits", "floored", "logit_floors"]

_MADE_BY = ("FULLY_CONNECTED", "CONV_2D")
_SAME_ROWS = ("RESHAPE", "SQUEEZE")
_FAINT = 1e-5  # of the weights' size: what float32 leaves of a mean that was taken off
_SHOWN = 1024  # a quarter of the step of int8 probabilities, 1/256


def centred_logits(data: bytes) -> tuple[bytes, int]:
    """The float .tflite with centred logits wherever nothing but a softmax over classes reads them,
    and how many layers changed. Operations, names and shapes stay."""
    import numpy as np

    from edgeopt.model.packing import pack, unpack
    from edgeopt.model.tflite import parse
    from edgeopt.optimize.constants import replace_constant

    contents = parse(data)
    if len(contents.subgraphs) != 1:
        return data, 0
    graph, model, changed = contents.subgraphs[0], unpack(data), 0
    for op in graph.operators:
        layer = _layer(graph, op) if op.op == "SOFTMAX" else None
        if layer is None or layer.inputs[1] is None:
            continue
        weights = layer.inputs[1]
        values = _values(weights)
        common = values.mean(axis=0)
        if np.abs(common).max() <= _FAINT * np.abs(values).max():
            continue
        replace_constant(model, layer.index, weights.index, values - common)
        bias = layer.inputs[2] if len(layer.inputs) > 2 else None
        if bias is not None:
            raised = _values(bias)
            replace_constant(model, layer.index, bias.index, raised - raised.mean())
        changed += 1
    return (pack(model), changed) if changed else (data, 0)


def logit_floors(data: bytes) -> dict[str, float]:
    """By tensor name, the value from which down logits of a float .tflite say nothing that int8
    probabilities could show: of centred logits that nothing but a softmax over C classes reads.

    The largest is at least their mean, 0, so a logit below -ln(1024 C) has a probability below
    1 / (1024 C), and all such classes together less than a quarter of a step.
    """
    import numpy as np

    from edgeopt.model.tflite import parse

    contents = parse(data)
    found: dict[str, float] = {}
    if len(contents.subgraphs) != 1:
        return found
    graph = contents.subgraphs[0]
    for op in graph.operators:
        layer = _layer(graph, op) if op.op == "SOFTMAX" else None
        beta = op.options.get("beta", 0.0) or 0.0
        if layer is None or layer.inputs[1] is None or beta <= 0:
            continue
        values = [_values(t) for t in layer.inputs[1:3] if t is not None]
        if any(np.abs(v.mean(axis=0)).max() > _FAINT * np.abs(v).max() for v in values):
            continue
        floor = -math.log(_SHOWN * len(values[0])) / beta
        found |= {tensor.name: floor for tensor in _between(graph, layer, op)}
    return found


def floored(
    ranges: Mapping[str, tuple[list[float], list[float]]], data: bytes
) -> dict[str, tuple[list[float], list[float]]]:
    """The ranges of the float .tflite without what its `logit_floors` cut off."""
    made = dict(ranges)
    for name, floor in logit_floors(data).items():
        if name in made:
            low, high = made[name]
            made[name] = ([max(each, floor) for each in low], [max(each, 0.0) for each in high])
    return made


def _between(graph: Subgraph, layer: Operator, softmax: Operator) -> list[Tensor]:
    """What `softmax` reads, and what `layer` made of it."""
    makers = {t.index: op for op in graph.operators for t in op.outputs}
    read = softmax.inputs[0]
    found = []
    while read is not None:
        found.append(read)
        op = makers[read.index]
        read = None if op is layer else op.inputs[0]
    return found


def _layer(graph: Subgraph, softmax: Operator) -> Operator | None:
    """The layer that makes the logits of `softmax`, where it alone reads them."""
    makers = {t.index: op for op in graph.operators for t in op.outputs}
    read = softmax.inputs[0]
    classes = (read.shape or (0,))[-1] if read is not None else 0
    while read is not None and classes and _read_once(graph, read):
        op = makers.get(read.index)
        if op is None or (read.shape or (0,))[-1] != classes:
            return None
        if op.op not in _SAME_ROWS:
            return op if _is_linear(op, classes) else None
        read = op.inputs[0]
    return None


def _read_once(graph: Subgraph, tensor: Tensor) -> bool:
    readers = [op for op in graph.operators for t in op.inputs if t and t.index == tensor.index]
    return len(readers) == 1 and tensor.index not in {t.index for t in graph.outputs}


def _is_linear(op: Operator, classes: int) -> bool:
    """Whether its result is W x + b with constant float W of a row a class."""
    if op.op not in _MADE_BY or op.options.get("fused_activation") not in (None, "NONE"):
        return False
    weights = op.inputs[1]
    bias = op.inputs[2] if len(op.inputs) > 2 else None
    return (
        weights is not None
        and not weights.sparse
        and (weights.shape or (0,))[0] == classes > 1
        and all(t.data is not None and t.dtype == "float32" for t in (weights, bias) if t)
    )


def _values(tensor: Tensor) -> NDArray[np.float64]:
    import numpy as np

    from edgeopt.optimize.equalize_graph import floats

    return floats(tensor).astype(np.float64)
