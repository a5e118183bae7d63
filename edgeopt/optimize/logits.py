"""Logits less what all classes have in common: a softmax gives the same, and int8 gets finer steps.

softmax(z) = softmax(z - c) for any number c of a sample. Where z = W x + b, taking the mean over
the classes off the rows of W and off b takes the mean off every z, so that logits that rise and
fall together no longer need a wide range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeopt.facts import Operator, Subgraph, Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["centred_logits"]

_MADE_BY = ("FULLY_CONNECTED", "CONV_2D")
_SAME_ROWS = ("RESHAPE", "SQUEEZE")
_FAINT = 1e-3  # of the weights' size: less is not worth a change


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
