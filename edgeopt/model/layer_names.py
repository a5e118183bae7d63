"""Which layer of the source model an operation came from, by what converters make of names.

A converter names a tensor after the graph node that gave it, `model/block_1_expand/Conv2D`, and
joins the names of all nodes that it fused with ";". Constants that two layers share bring the
other layer's name along, so the parts are weighed and not merely the first or the last one taken.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import takewhile

from edgeopt.facts import ModelFacts, Operator, Subgraph

__all__ = ["layer_names", "layers_of"]

# Names that the converter or the exporter made up: they are in no source model.
_MADE_UP = re.compile(
    r"^$|^(tfl|arith|tf|stablehlo|vhlo)\.|^(Identity|(Stateful)?PartitionedCall|serving_default)"
)
_CALL = re.compile(r"^((Stateful)?PartitionedCall/)+")
_KERAS_MODEL = re.compile(r"^(model|functional|sequential)(_\d+)?$")
_COUNT = re.compile(r"_?\d+$|_fold$")
# The last part of a node's name where it is the operation and not the layer (lower case, no count).
_WORDS = """
    relu relu6 relu_n1_to_1 leakyrelu elu selu prelu softmax sigmoid tanh hardswish swish gelu
    conv conv2d conv2d_transpose convolution depthwise depthwiseconv2dnative biasadd matmul
    batchmatmul tensordot fusedbatchnorm fusedbatchnormv batchnorm add addv sub mul truediv
    realdiv div neg maximum minimum squareddifference square sqrt rsqrt exp log pow erf sum mean
    max min argmax argmin maxpool avgpool reshape flatten squeeze expanddims transpose concat
    concatv pad padv mirrorpad resizebilinear resizenearestneighbor spacetodepth depthtospace
    slice strided_slice stridedslice split splitv pack stack unpack unstack gather gathernd tile
    cast dropout identity einsum resize
"""
_NODES = frozenset(_WORDS.split())
_OWN_NODES = {
    "CONV_2D": ("BiasAdd", "Conv2D", "convolution"),
    "DEPTHWISE_CONV_2D": ("BiasAdd", "depthwise", "DepthwiseConv2dNative"),
    "TRANSPOSE_CONV": ("BiasAdd", "conv2d_transpose"),
    "FULLY_CONNECTED": ("BiasAdd", "MatMul", "Tensordot"),
    "ADD": ("add", "AddV2", "Add"),
    "SUB": ("sub", "Sub"),
    "MUL": ("mul", "Mul"),
    "CONCATENATION": ("concat",),
}


def layer_names(subgraph: Subgraph) -> tuple[str | None, ...]:
    """One name for each operation in file order; None where the file does not tell.

    A Keras model's own name in front ("model/", or one that all of its layers share) is left out.
    """
    scopes = [_scope(op) for op in subgraph.operators]
    named = [scope for scope in scopes if scope]
    firsts = Counter(scope[0] for scope in named if len(scope) > 1)
    model, shared = firsts.most_common(1)[0] if firsts else ("", 0)
    # Layers of a Keras model lie one deep in it; a TensorFlow 1 scope is deeper and kept whole.
    flat = sum(len(scope) == 2 and scope[0] == model for scope in named)
    drop = 1 < shared == sum(len(scope) > 1 for scope in named) and 2 * flat > len(named)
    names: list[str | None] = []
    for scope in scopes:
        whole = len(scope) < 2 or not (_KERAS_MODEL.match(scope[0]) or (drop and scope[0] == model))
        names.append("/".join(scope if whole else scope[1:]) or None)
    return tuple(op.layer or name for op, name in zip(subgraph.operators, names, strict=True))


def layers_of(facts: ModelFacts) -> dict[int, str | None]:
    """The layer of every operator, by the identity of the object: indices repeat in subgraphs."""
    return {
        id(op): name
        for graph in facts.subgraphs
        for op, name in zip(graph.operators, layer_names(graph), strict=True)
    }


def _scope(op: Operator) -> tuple[str, ...]:
    """The path of the layer that it came from: by its result's name, else by its constants'."""
    for name in _told(op):
        parts = [part for part in map(_clean, name.split(";")) if not _MADE_UP.match(part)]
        if parts:
            return _layer(_pick(parts, _OWN_NODES.get(op.op, ())))
    return ()


def _told(op: Operator) -> Iterator[str]:
    yield from (tensor.name for tensor in op.outputs[:1])
    yield from (t.name for t in op.inputs[1:] if t is not None and t.constant)


def _clean(part: str) -> str:
    return re.sub(r":\d+$", "", _CALL.sub("", part.strip()))


def _pick(parts: list[str], nodes: tuple[str, ...]) -> str:
    """The node of the operation's own kind, nearest in name to the node that gave the result."""
    for node in nodes:
        own = [part for part in parts if part.rpartition("/")[2] == node]
        if own:
            return max(own, key=lambda part: _alike(part, parts[0]))
    return parts[0]


def _alike(one: str, other: str) -> int:
    """How many characters they begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _layer(node: str) -> tuple[str, ...]:
    """Its path without the operation at the end."""
    path = tuple(part for part in node.split("/") if part)
    bare = _COUNT.sub("", _COUNT.sub("", path[-1].lower())) if path else ""
    return path[:-1] if len(path) > 1 and bare in _NODES else path
