"""A float .tflite in which copies of activations meet all that passes them on."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from tflite_models import buffer, pack, signature, tensor

from edgeopt.optimize.bias import rounded

_OP, _OPTIONS = schema.BuiltinOperator, schema.BuiltinOptions
_KIND = schema.ActivationFunctionType
RELU, RELU6, NONE = _KIND.RELU, _KIND.RELU6, _KIND.NONE


class _Net:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph, self.codes = schema.SubGraphT(), []
        self.graph.tensors, self.graph.operators = [], []
        self.buffers = [buffer()]

    def tensor(self, name: str, shape: list[int], values: Any = None) -> int:
        kind = schema.TensorType.FLOAT32
        if values is not None and values.dtype == np.int32:
            kind = schema.TensorType.INT32
        made = tensor(name, shape, kind)
        if values is not None:
            self.buffers.append(buffer(values))
            made.buffer = len(self.buffers) - 1
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def op(self, code: str, inputs: list[int], result: int, **options: Any) -> int:
        kinds = {"DEPTHWISE_CONV_2D": "DepthwiseConv2D", "CONV_2D": "Conv2D", "ADD": "Add",
                 "MAX_POOL_2D": "Pool2D", "CONCATENATION": "Concatenation", "RESHAPE": "Reshape",
                 "FULLY_CONNECTED": "FullyConnected", "ABS": "Abs"}  # fmt: skip
        operator, builtin = schema.OperatorT(), getattr(_OP, code)
        operator.opcodeIndex = len(self.codes)
        self.codes.append(schema.OperatorCodeT())
        self.codes[-1].builtinCode = self.codes[-1].deprecatedBuiltinCode = builtin
        self.codes[-1].version = 1
        operator.inputs, operator.outputs = inputs, [result]
        operator.builtinOptionsType = getattr(_OPTIONS, f"{kinds[code]}Options")
        operator.builtinOptions = getattr(schema, f"{kinds[code]}OptionsT")()
        for name, value in options.items():
            setattr(operator.builtinOptions, name, value)
        self.graph.operators.append(operator)
        return result

    def weighed(self, code: str, source: int, name: str, shape: list[int], kernel: list[int],
                activation: int = NONE, bias: Any = True, drawn: Any = None) -> int:  # fmt: skip
        if drawn is None:
            drawn = self.rng.normal(0, 1 / np.sqrt(np.prod(kernel[1:])), kernel)
        drawn = rounded(drawn, 3 if code == "DEPTHWISE_CONV_2D" else 0).astype(np.float32)
        inputs = [source, self.tensor(f"{name}/w", kernel, drawn)]
        if bias is not False:
            values = self.rng.normal(0, 0.2, shape[-1]) if bias is True else np.asarray(bias)
            values = values.astype(np.float32)
            inputs.append(self.tensor(f"{name}/b", [shape[-1]], values))
        options: dict[str, Any] = {"fusedActivationFunction": activation}
        if code != "FULLY_CONNECTED":
            options |= {"strideW": 1, "strideH": 1, "padding": schema.Padding.SAME}
        if code == "DEPTHWISE_CONV_2D":
            options["depthMultiplier"] = 1
        return self.op(code, inputs, self.tensor(name, shape), **options)

    def packed(self, x: int, y: int) -> bytes:
        self.graph.inputs, self.graph.outputs = [x], [y]
        model = schema.ModelT()
        model.version, model.operatorCodes, model.subgraphs = 3, self.codes, [self.graph]
        model.buffers = self.buffers
        model.signatureDefs = [signature({"x": x}, {"y": y}, "serving_default")]
        return pack(model)


def branched(*, unknown: bool = False, reshaped: bool = False, seed: int = 0) -> bytes:
    """x[1, 8, 8, 3] to y[1, 5]: a convolution, a residual ADD over a depthwise and a 1 x 1 one,
    pooling, two branches that are concatenated, flattened, and read by a dense layer.

    All weights are on their int8 grid already, so that activations alone err. `unknown`: the second
    branch goes through an ABS. `reshaped`: a RESHAPE, its shape said twice, flattens.
    """
    net = _Net(seed)
    x = net.tensor("x", [1, 8, 8, 3])
    stem = net.weighed("CONV_2D", x, "stem", [1, 8, 8, 6], [6, 3, 3, 3], RELU)
    deep = net.weighed("DEPTHWISE_CONV_2D", stem, "deep", [1, 8, 8, 6], [1, 3, 3, 6], RELU)
    branch = net.weighed("CONV_2D", deep, "branch", [1, 8, 8, 6], [6, 1, 1, 6])
    total = net.op("ADD", [stem, branch], net.tensor("total", [1, 8, 8, 6]),
                   fusedActivationFunction=RELU)  # fmt: skip
    pool = net.op("MAX_POOL_2D", [total], net.tensor("pool", [1, 4, 4, 6]), filterWidth=2,
                  filterHeight=2, strideW=2, strideH=2, padding=schema.Padding.VALID,
                  fusedActivationFunction=NONE)  # fmt: skip
    left = net.weighed("CONV_2D", pool, "left", [1, 4, 4, 3], [3, 1, 1, 6])
    right = net.weighed("CONV_2D", pool, "right", [1, 4, 4, 4], [4, 1, 1, 6], RELU)
    if unknown:
        right = net.op("ABS", [right], net.tensor("abs", [1, 4, 4, 4]))
    both = net.op("CONCATENATION", [left, right], net.tensor("both", [1, 4, 4, 7]), axis=3,
                  fusedActivationFunction=NONE)  # fmt: skip
    flat = both
    if reshaped:
        shape = net.tensor("shape", [2], np.array([1, 112], np.int32))
        flat = net.op("RESHAPE", [both, shape], net.tensor("flat", [1, 112]), newShape=[1, 112])
    y = net.weighed("FULLY_CONNECTED", flat, "y", [1, 5], [5, 112], bias=False)
    return net.packed(x, y)


def clamped() -> bytes:
    """x[1, 8, 8, 3] to y[1, 8, 8, 5]: a convolution whose RELU leaves hardly anything of three of
    its six channels, a depthwise layer that adds nine of each, and a convolution that reads it."""
    net = _Net(0)
    x, dead = net.tensor("x", [1, 8, 8, 3]), np.array([-3.0, 3.0] * 3)
    stem = net.weighed("CONV_2D", x, "stem", [1, 8, 8, 6], [6, 3, 3, 3], RELU, bias=dead)
    deep = net.weighed("DEPTHWISE_CONV_2D", stem, "deep", [1, 8, 8, 6], [1, 3, 3, 6], RELU6,
                       bias=np.zeros(6), drawn=np.ones([1, 3, 3, 6]))  # fmt: skip
    y = net.weighed("CONV_2D", deep, "y", [1, 8, 8, 5], [5, 1, 1, 6])
    return net.packed(x, y)
