"""Small real 8-bit .tflite models of several operations, for tests of placement and repair."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from tflite_models import buffer, pack, signature

TYPES = {"int8": 9, "uint8": 3, "float32": 0, "int32": 2}
SCALE, ZERO = 0.05, 3


class Maker:
    """Tensors and operations in order; every 8-bit tensor has one scale unless told otherwise."""

    def __init__(self, dtype: str = "int8") -> None:
        self.dtype = dtype
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.codes: list[Any] = []
        self.buffers = [buffer()]
        self.random = np.random.default_rng(7)

    def tensor(
        self,
        name: str,
        shape: list[int],
        dtype: str = "",
        scale: float = SCALE,
        zero: int = ZERO,
        values: np.ndarray | None = None,
    ) -> int:
        made = schema.TensorT()
        dtype = dtype or self.dtype
        made.name, made.shape, made.type = name.encode(), list(shape), TYPES[dtype]
        made.buffer = 0
        if dtype in ("int8", "uint8") or (values is not None and scale != SCALE):
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [scale], [zero]
        if values is not None:
            self.buffers.append(buffer(values))
            made.buffer = len(self.buffers) - 1
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def integers(self, name: str, values: list[int]) -> int:
        array = np.array(values, np.int32)
        return self.tensor(name, list(array.shape), "int32", values=array)

    def scalar(self, name: str, value: int) -> int:
        return self.tensor(name, [], "int32", values=np.array(value, np.int32))

    def op(
        self,
        name: str,
        inputs: list[int],
        outputs: list[int],
        version: int = 1,
        kind: str = "",
        **options: Any,
    ) -> int:
        code = schema.OperatorCodeT()
        value = getattr(schema.BuiltinOperator, name)
        code.builtinCode, code.deprecatedBuiltinCode = value, min(value, 127)
        code.version = version
        self.codes.append(code)
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = len(self.codes) - 1, inputs, outputs
        if kind:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, f"{kind}Options")
            made.builtinOptions = getattr(schema, f"{kind}OptionsT")()
            for key, value in options.items():
                assert hasattr(made.builtinOptions, key), key
                setattr(made.builtinOptions, key, value)
        self.graph.operators.append(made)
        return outputs[0]

    def custom(self, name: str, inputs: list[int], outputs: list[int]) -> int:
        made = self.op("CUSTOM", inputs, outputs)
        self.codes[-1].customCode = name.encode()
        return made

    def weights(self, name: str, shape: list[int]) -> int:
        values = self.random.integers(-127, 128, shape).astype(np.int8)
        zero = 0
        if self.dtype == "uint8":
            values, zero = values.view(np.uint8), 128
        return self.tensor(name, shape, scale=0.01, zero=zero, values=values)

    def bias(self, name: str, count: int, source: int) -> int:
        """int32 values in steps of the data's scale times the weights'."""
        values = self.random.integers(-500, 500, count).astype(np.int32)
        scale = float(self.graph.tensors[source].quantization.scale[0]) * 0.01
        return self.tensor(name, [count], "int32", scale, 0, values)

    def conv(self, source: int, name: str, channels: int = 4, version: int = 0) -> int:
        """A 1 x 1 convolution that keeps the number of channels."""
        shape = list(self.graph.tensors[source].shape)
        inputs = [source, self.weights(f"{name}_w", [channels, 1, 1, shape[-1]])]
        inputs.append(self.bias(f"{name}_b", channels, source))
        out = self.tensor(name, [*shape[:-1], channels])
        version = version or (3 if self.dtype == "int8" else 1)
        return self.op("CONV_2D", inputs, [out], version, "Conv2D", padding=1, strideW=1, strideH=1)

    def dense(
        self, source: int, name: str, units: int, shape: list[int], *, version: int, **options: Any
    ) -> int:
        depth = self.graph.tensors[source].shape[-1]
        inputs = [source, self.weights(f"{name}_w", [units, depth])]
        if options.pop("bias", True):
            inputs.append(self.bias(f"{name}_b", units, source))
        out = self.tensor(name, shape)
        return self.op("FULLY_CONNECTED", inputs, [out], version, "FullyConnected", **options)

    def done(self, inputs: list[int], outputs: list[int], *, signed: bool = True) -> bytes:
        model = schema.ModelT()
        model.version, model.operatorCodes, model.subgraphs = 3, self.codes, [self.graph]
        model.buffers = self.buffers
        self.graph.inputs, self.graph.outputs = inputs, outputs
        if signed:
            named = [{f"{side}_{n}": i for n, i in enumerate(found)}
                     for side, found in (("in", inputs), ("out", outputs))]  # fmt: skip
            model.signatureDefs = [signature(*named, "serving_default")]
        return pack(model)


def leaky() -> bytes:
    """conv, LEAKY_RELU, conv."""
    made = Maker()
    first = made.tensor("x", [1, 8, 8, 4])
    before = made.conv(first, "before")
    act = made.tensor("act", [1, 8, 8, 4], scale=0.04, zero=-20)
    made.op("LEAKY_RELU", [before], [act], 1, "LeakyRelu", alpha=0.2)
    return made.done([first], [made.conv(act, "after")])


def dense_3d(positions: int = 5, *, dtype: str = "int8") -> bytes:
    """[1, positions, 8] through a dense layer that keeps its dimensions (version 5)."""
    made = Maker(dtype)
    first = made.tensor("x", [1, positions, 8])
    out = made.dense(first, "dense", 6, [1, positions, 6], version=5, keepNumDims=True)
    return made.done([first], [out])


def dense_by_channel(*shape: int) -> bytes:
    """`shape` (8 last) through two dense layers with a scale for each of their channels."""
    made = Maker()
    first = made.tensor("x", list(shape))
    keep = len(shape) > 2
    hidden = made.dense(first, "one", 6, [*shape[:-1], 6], version=5, keepNumDims=keep)
    out = made.dense(hidden, "two", 4, [*shape[:-1], 4], version=5, keepNumDims=keep)
    for made_op, units in zip(made.graph.operators, (6, 4), strict=True):
        steps = [SCALE / 10 * (1 + n / 4) for n in range(units)]
        for index, factor in ((made_op.inputs[1], 1.0), (made_op.inputs[2], SCALE)):
            scales = [step * factor for step in steps]
            quantization = made.graph.tensors[index].quantization
            quantization.scale, quantization.zeroPoint = scales, [0] * units
            quantization.quantizedDimension = 0
    return made.done([first], [out])


def dense_versions(version: int = 9, *, bias: bool = True) -> bytes:
    made = Maker()
    first = made.tensor("x", [1, 8])
    return made.done([first], [made.dense(first, "dense", 6, [1, 6], version=version, bias=bias)])


def float_edges(dtype: str = "int8") -> bytes:
    """QUANTIZE, conv, DEQUANTIZE: what converters make without an I/O type."""
    made = Maker(dtype)
    first = made.tensor("image", [1, 8, 8, 4], "float32")
    inner = made.tensor("image_q", [1, 8, 8, 4])
    made.op("QUANTIZE", [first], [inner], 1, "Quantize")
    last = made.conv(inner, "conv")
    out = made.tensor("scores", [1, 8, 8, 4], "float32")
    made.op("DEQUANTIZE", [last], [out], 2 if dtype == "int8" else 1, "Dequantize")
    return made.done([first], [out])


def open_batch() -> bytes:
    """An open batch, and the RESHAPE that Keras writes for it: SHAPE, STRIDED_SLICE, PACK."""
    made = Maker()
    first = made.tensor("x", [1, 4, 4, 4])
    made.graph.tensors[first].shapeSignature = [-1, 4, 4, 4]
    last = made.conv(first, "conv")
    made.graph.tensors[last].shapeSignature = [-1, 4, 4, 4]
    shape = made.tensor("shape", [4], "int32")
    made.op("SHAPE", [last], [shape], 1, "Shape", outType=2)
    batch = made.tensor("batch", [], "int32")
    limits = [made.integers(n, [v]) for n, v in (("begin", 0), ("end", 1), ("strides", 1))]
    made.op("STRIDED_SLICE", [shape, *limits], [batch], 1, "StridedSlice", shrinkAxisMask=1)
    wanted = made.tensor("wanted", [2], "int32")
    made.op("PACK", [batch, made.scalar("size", 64)], [wanted], 1, "Pack", valuesCount=2)
    flat = made.tensor("flat", [1, 64])
    made.graph.tensors[flat].shapeSignature = [-1, 64]
    made.op("RESHAPE", [last, wanted], [flat], 1, "Reshape")
    return made.done([first], [made.dense(flat, "dense", 6, [1, 6], version=4)])


def moved(name: str) -> bytes:
    """conv, an operation that only moves numbers, conv."""
    made = Maker()
    first = made.tensor("x", [1, 4, 4, 4])
    before = made.conv(first, "before")
    if name == "UNPACK":
        parts = [made.tensor(f"part{i}", [1, 4, 4]) for i in range(4)]
        made.op("UNPACK", [before], parts, 1, "Unpack", num=4, axis=1)
        out = made.tensor("sum", [1, 4, 4])
        last = made.op("ADD", parts[:2], [out], 2, "Add")
        return made.done([first], [last, *parts[2:]])
    if name == "UNPACK batch":
        part = made.tensor("part", [2, 8, 4])
        made.op("RESHAPE", [before, made.integers("s", [2, 8, 4])], [part], 1, "Reshape")
        parts = [made.tensor(f"part{i}", [8, 4]) for i in range(2)]
        made.op("UNPACK", [part], parts, 1, "Unpack", num=2, axis=0)
        return made.done([first], parts)
    if name == "SPLIT_V":
        sizes, axis = made.integers("sizes", [1, 3]), made.scalar("axis", 3)
        parts = [made.tensor("one", [1, 4, 4, 1]), made.tensor("three", [1, 4, 4, 3])]
        made.op("SPLIT_V", [before, sizes, axis], parts, 2, "SplitV", numSplits=2)
        return made.done([first], [made.conv(p, f"after{i}") for i, p in enumerate(parts)])
    if name == "SPLIT_V equal":
        sizes, axis = made.integers("sizes", [2, 2]), made.scalar("axis", 2)
        parts = [made.tensor("left", [1, 4, 2, 4]), made.tensor("right", [1, 4, 2, 4])]
        made.op("SPLIT_V", [before, sizes, axis], parts, 2, "SplitV", numSplits=2)
        return made.done([first], [made.conv(p, f"after{i}") for i, p in enumerate(parts)])
    if name == "GATHER":
        part = made.tensor("part", [1, 2, 4, 4])
        made.op("GATHER", [before, made.integers("rows", [1, 2])], [part], 2, "Gather", axis=1)
        return made.done([first], [made.conv(part, "after")])
    if name == "RESIZE_BILINEAR":
        small, large = made.tensor("small", [1, 1, 1, 4]), made.tensor("large", [1, 33, 33, 4])
        made.op("AVERAGE_POOL_2D", [before], [small], 2, "Pool2D", padding=1, strideW=4,
                strideH=4, filterWidth=4, filterHeight=4)  # fmt: skip
        made.op("RESIZE_BILINEAR", [small, made.integers("size", [33, 33])], [large], 2,
                "ResizeBilinear", alignCorners=True)  # fmt: skip
        return made.done([first], [made.conv(large, "after")])
    raise AssertionError(name)


def with_tail(custom: str = "") -> bytes:
    """conv, conv, then ARG_MAX (or a custom operation) and a CAST of its result."""
    made = Maker()
    first = made.tensor("x", [1, 4, 4, 4])
    features = made.conv(made.conv(first, "stem"), "features")
    if custom:
        out = made.tensor("decoded", [1, 4], "float32")
        made.custom(custom, [features], [out])
        return made.done([first], [out, features])
    best = made.tensor("best", [1, 4, 4], "int32")
    made.op("ARG_MAX", [features, made.scalar("axis", 3)], [best], 2, "ArgMax", outputType=2)
    out = made.tensor("class", [1, 4, 4], "float32")
    made.op("CAST", [best], [out], 1, "Cast", inDataType=2, outDataType=0)
    return made.done([first], [out])
