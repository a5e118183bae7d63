"""Operator versions as tools of the TensorFlow 2.5 era write and read them.

The quantizer leaves the float model's version on an operator that it makes int8; version 1 means
float and uint8 alone, and no int8 operator of version 1 was ever seen to pass edgetpu_compiler.

edgetpu_compiler 16 maps FULLY_CONNECTED up to version 4 (its logs say "Operation version not
supported" above). A version number says which kernel features a file may use; a file that uses none
of the newer ones can say less.
"""

from __future__ import annotations

from typing import Any

__all__ = ["lower_versions", "raise_versions"]

_INT8 = 9  # TensorType.INT8
_FULLY_CONNECTED, _CONV_2D = 9, 3  # BuiltinOperator
_LOWERED = {"FULLY_CONNECTED": 4, "CONV_2D": 3}

# The first version with an int8 kernel. Measured: one-operator models through TFLiteConverter 2.21;
# those of the model pairs of google-coral/test_data agree.
_SECOND = """
    ADD ARG_MAX AVERAGE_POOL_2D BATCH_MATMUL CONCATENATION DEPTH_TO_SPACE DEQUANTIZE GATHER
    L2_NORMALIZATION LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL PACK PAD
    REDUCE_MAX REDUCE_MIN RELU RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX
    SPACE_TO_DEPTH SPLIT SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV
    UNPACK
"""
_FIRST_INT8 = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    **dict.fromkeys(_SECOND.split(), 2),
}


def raise_versions(data: bytes) -> bytes:
    """Give each operator code with an int8 user the first version that means int8, or leave it."""
    from ai_edge_litert import schema_py_generated as schema

    from edgeopt.model.packing import pack, unpack

    model: Any = unpack(data)
    least = {getattr(schema.BuiltinOperator, name): v for name, v in _FIRST_INT8.items()}
    changed = False
    for graph in model.subgraphs:
        for op in graph.operators or []:
            code = model.operatorCodes[op.opcodeIndex]
            first = least.get(max(code.builtinCode, code.deprecatedBuiltinCode), 0)
            if code.version < first and _computes_int8(op, graph):
                code.version, changed = first, True
    return pack(model) if changed else data


def _computes_int8(op: Any, graph: Any) -> bool:
    """True for int8 activations; a float operator with int8 weights has versions of its own."""
    edges = [int(index) for index in (*op.inputs[:1], *op.outputs[:1])]
    return any(index >= 0 and graph.tensors[index].type == _INT8 for index in edges)


def lower_versions(data: bytes) -> tuple[bytes, list[str]]:
    """Int8 FULLY_CONNECTED as version 4 or less, ungrouped CONV_2D as 3 or less, and what changed.

    A dense layer keeps its version when it has several scales (version 12 means them); a
    convolution when it is grouped (6 says so). Those are for `verify` to report.
    Without a bias a dense layer of version 6 has two inputs; older ones have a third, left out.
    """
    from ai_edge_litert import schema_py_generated as schema

    from edgeopt.model.packing import pack, unpack

    model: Any = unpack(data)
    notes: list[str] = []
    names = {schema.BuiltinOperator.FULLY_CONNECTED: "FULLY_CONNECTED",
             schema.BuiltinOperator.CONV_2D: "CONV_2D"}  # fmt: skip
    for index, code in enumerate(model.operatorCodes):
        name = names.get(max(code.builtinCode, code.deprecatedBuiltinCode))
        if name is None or code.version <= _LOWERED[name]:
            continue
        users = [
            (op, graph) for graph in model.subgraphs for op in graph.operators or []
            if op.opcodeIndex == index
        ]  # fmt: skip
        if all(_plain(op, graph) for op, graph in users):
            notes.append(f"{name} version {code.version} is written as {_LOWERED[name]}.")
            code.version = _LOWERED[name]
            for op, _ in users:
                if len(op.inputs) == 2:
                    op.inputs = [*(int(i) for i in op.inputs), -1]
    return (pack(model), notes) if notes else (data, notes)


def _plain(op: Any, graph: Any) -> bool:
    """True when the operator uses nothing beyond int8, a bias and all of its channels."""
    inputs = [int(i) for i in op.inputs]
    source, weights = graph.tensors[inputs[0]], graph.tensors[inputs[1]]
    if source.type != _INT8 or weights.type != _INT8:
        return False
    if weights.shape is not None and len(weights.shape) == 4:
        full = int(weights.shape[3]) == int(source.shape[-1])
        return full and len(inputs) == 3 and inputs[2] >= 0
    scales = weights.quantization.scale if weights.quantization else None
    return scales is not None and len(scales) == 1
