"""One model of many operations that have nothing to do with each other, for a compiler to judge."""

from __future__ import annotations

from typing import Any

import numpy as np
from repair_models import Maker

SIDE, DEPTH = 16, 8


class _Probes:
    """Each operation reads an input of the model and makes an output of it."""

    def __init__(self) -> None:
        self.maker = Maker()
        self.outputs: list[int] = []
        self.data = self.maker.tensor("data", [1, SIDE, SIDE, DEPTH])

    def add(self, op: str, shape: list[int], *more: int, kind: str = "", **options: Any) -> None:
        """`shape` is the output's; "out", "scale", "zero" and "first" are about tensors."""
        made = self.maker.tensor(
            f"{op}_{len(self.outputs)}",
            shape,
            options.pop("out", ""),
            options.pop("scale", 0.05),
            options.pop("zero", 3),
        )
        first = options.pop("first", [self.data])
        self.maker.op(op, [*first, *more], [made], kind=kind, **options)
        self.outputs.append(made)

    def integers(self, *values: int) -> int:
        return self.maker.integers(f"constant_{len(self.maker.graph.tensors)}", list(values))

    def weights(self, *shape: int) -> int:
        return self.maker.weights(f"weights_{len(self.maker.graph.tensors)}", list(shape))


def many_operations() -> bytes:
    """About fifty operations, of which Ethos-U takes some and leaves others, each by one rule."""
    p = _Probes()
    _elementwise(p)
    _resizes(p)
    _windows(p)
    _shapes(p)
    return p.maker.done([p.data], p.outputs)


def _elementwise(p: _Probes) -> None:
    same = [1, SIDE, SIDE, DEPTH]
    other = p.maker.tensor("other", same, scale=0.07, values=np.ones(same, np.int8))
    alike = p.maker.tensor("alike", same, values=np.ones(same, np.int8))
    for op in ("ABS", "NEG", "LOGISTIC", "TANH", "HARD_SWISH", "RELU", "RELU6", "ELU", "EXP"):
        scale = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}.get(op, (0.05, 3))
        p.add(op, same, scale=scale[0], zero=scale[1])
    for op in ("SQRT", "SQUARE", "FLOOR", "COS"):
        p.add(op, same)
    p.add("LEAKY_RELU", same, kind="LeakyRelu", alpha=0.1)
    p.add("SOFTMAX", same, kind="Softmax", beta=1.0, scale=1 / 256, zero=-128)
    p.add("ADD", same, other, kind="Add")
    p.add("SUB", same, other, kind="Sub")
    p.add("MUL", same, other, kind="Mul")
    p.add("DIV", same, other, kind="Div")
    p.add("SQUARED_DIFFERENCE", same, other)
    p.add("MAXIMUM", same, alike)
    p.add("MAXIMUM", same, other)
    p.add("MINIMUM", same, alike)
    p.add("DEQUANTIZE", same, out="float32")
    p.add("L2_NORMALIZATION", same, scale=1 / 128, zero=0)
    p.add("QUANTIZE", same, scale=0.1)


def _resizes(p: _Probes) -> None:
    for factor in (2, 3, 4, 8, 16):
        for op, kind in (
            ("RESIZE_BILINEAR", "ResizeBilinear"),
            ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighbor"),
        ):
            size = SIDE * factor
            p.add(op, [1, size, size, DEPTH], p.integers(size, size), kind=kind)
    for factor in (2, 4):
        size = SIDE * factor
        more = {"kind": "ResizeBilinear", "halfPixelCenters": True}
        p.add("RESIZE_BILINEAR", [1, size, size, DEPTH], p.integers(size, size), **more)
    p.add("RESIZE_BILINEAR", [1, 31, 31, DEPTH], p.integers(31, 31), kind="ResizeBilinear",
          alignCorners=True)  # fmt: skip
    p.add("RESIZE_BILINEAR", [1, 32, 64, DEPTH], p.integers(32, 64), kind="ResizeBilinear")


def _windows(p: _Probes) -> None:
    for stride in (1, 3, 4):
        for padding in (0, 1):  # SAME, VALID
            size = -(-SIDE // stride) if padding == 0 else (SIDE - 4) // stride + 1
            options = {"strideH": stride, "strideW": stride, "padding": padding}
            p.add("CONV_2D", [1, size, size, 4], p.weights(4, 4, 4, DEPTH), kind="Conv2D",
                  dilationHFactor=1, dilationWFactor=1, **options)  # fmt: skip
            p.add("DEPTHWISE_CONV_2D", [1, size, size, DEPTH], p.weights(1, 4, 4, DEPTH),
                  kind="DepthwiseConv2D", depthMultiplier=1, dilationHFactor=1, dilationWFactor=1,
                  **options)  # fmt: skip
            for op in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
                p.add(op, [1, size, size, DEPTH], kind="Pool2D", filterHeight=4, filterWidth=4,
                      **options)  # fmt: skip
    for padding, size in ((0, 4), (1, 3)):  # here SAME does add something
        p.add("CONV_2D", [1, size, size, 4], p.weights(4, 5, 5, DEPTH), kind="Conv2D",
              strideH=4, strideW=4, padding=padding, dilationHFactor=1,
              dilationWFactor=1)  # fmt: skip
        p.add("MAX_POOL_2D", [1, size, size, DEPTH], kind="Pool2D", filterHeight=5, filterWidth=5,
              strideH=4, strideW=4, padding=padding)  # fmt: skip
    for side in (8, 9):
        for op in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
            p.add(op, [1, SIDE, SIDE, DEPTH], kind="Pool2D", filterHeight=side, filterWidth=side,
                  strideH=1, strideW=1, padding=0)  # fmt: skip


def _shapes(p: _Probes) -> None:
    flat = SIDE * SIDE * DEPTH
    p.add("RESHAPE", [1, flat], p.integers(1, flat))
    p.add("TRANSPOSE", [1, DEPTH, SIDE, SIDE], p.integers(0, 3, 1, 2))
    p.add("ARG_MAX", [1, SIDE, SIDE], p.integers(3), out="int32", kind="ArgMax", outputType=2)
    p.add("ARG_MAX", [1, SIDE, DEPTH], p.integers(1), out="int32", kind="ArgMax", outputType=2)
    p.add("MEAN", [1, DEPTH], p.integers(1, 2), kind="Reducer")
    p.add("MEAN", [1, SIDE, SIDE], p.integers(3), kind="Reducer")
    p.add("SUM", [1, SIDE, SIDE], p.integers(3), kind="Reducer")
    p.add("REDUCE_MAX", [1, SIDE, SIDE], p.integers(3), kind="Reducer")
    p.add("REDUCE_PROD", [1, SIDE, SIDE], p.integers(3), kind="Reducer")
    p.add("GATHER", [1, SIDE, SIDE, 2], p.integers(0, 1), kind="Gather", axis=3)
    p.add("SPACE_TO_DEPTH", [1, 8, 8, 4 * DEPTH], kind="SpaceToDepth", blockSize=2)
    p.add("EXPAND_DIMS", [1, 1, SIDE, SIDE, DEPTH], p.integers(1))
    p.add("TILE", [1, SIDE, SIDE, 2 * DEPTH], p.integers(1, 1, 1, 2))
    p.add("SLICE", [1, 4, 4, DEPTH], p.integers(0, 0, 0, 0), p.integers(1, 4, 4, DEPTH))
