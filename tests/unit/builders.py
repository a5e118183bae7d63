"""Small ModelFacts made by hand, for rules about things that are awkward to convert into being."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from edgeopt.facts import ModelFacts, Operator, Quantization, Subgraph, Tensor


class Net:
    """Builds one subgraph: `input`, `constant`, `op` in order, then `facts`."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.operators: list[Operator] = []
        self.inputs: list[Tensor] = []

    def tensor(self, dtype: str, shape: tuple[int, ...] | None, **more: Any) -> Tensor:
        index = len(self.tensors)
        if dtype in ("int8", "uint8") and "quantization" not in more:
            more["quantization"] = Quantization(scales=(0.1,), zero_points=(0,))
        made = Tensor(
            index=index, name=more.pop("name", f"t{index}"), dtype=dtype, shape=shape, **more
        )
        self.tensors.append(made)
        return made

    def input(self, dtype: str = "int8", shape: tuple[int, ...] | None = (1, 8, 8, 4)) -> Tensor:
        made = self.tensor(dtype, shape)
        self.inputs.append(made)
        return made

    def constant(
        self, dtype: str = "int8", shape: tuple[int, ...] = (4, 1, 1, 4), **more: Any
    ) -> Tensor:
        return self.tensor(dtype, shape, constant=True, **more)

    def integers(self, *values: int) -> Tensor:
        data = memoryview(struct.pack(f"<{len(values)}i", *values))
        return self.tensor("int32", (len(values),), constant=True, data=data)

    def op(
        self, name: str, *inputs: Tensor | None, out: Any = None, version: int = 1, **more: Any
    ) -> Tensor:
        """Add an operation; `out` is (dtype, shape), by default its first input's."""
        first = next(t for t in inputs if t is not None)
        dtype, shape = out or (first.dtype, first.shape)
        result = self.tensor(dtype, shape)
        self.operators.append(
            Operator(
                index=len(self.operators),
                subgraph=0,
                op=name,
                version=version,
                inputs=inputs,
                outputs=(result,),
                options=more.pop("options", {}),
                **more,
            )
        )
        return result

    def facts(self, *outputs: Tensor, **more: Any) -> ModelFacts:
        main = Subgraph(
            index=0,
            name="main",
            inputs=tuple(self.inputs),
            outputs=outputs,
            operators=tuple(self.operators),
            tensors=tuple(self.tensors),
        )
        content: dict[str, Any] = {
            "path": Path("made_by_hand.tflite"),
            "format": "tflite",
            "sha256": "0" * 64,
            "size_bytes": 1,
            "gzip_bytes": 1,
            "parameters": None,
            "subgraphs": (main,),
        }
        return ModelFacts(**{**content, **more})


CONV = {
    "dilation_w_factor": 1,
    "dilation_h_factor": 1,
    "fused_activation": "RELU6",
    "stride_w": 1,
    "stride_h": 1,
}


def conv(
    net: Net, data: Tensor, *, version: int = 3, dtype: str = "int8", **options: Any
) -> Tensor:
    """A 1x1 convolution of 4 channels, with weights and bias that suit `dtype`."""
    float_ = dtype == "float32"
    weights = net.constant(dtype, (4, 1, 1, 4))
    bias = net.constant("float32" if float_ else "int32", (4,))
    return net.op(
        "CONV_2D",
        data,
        weights,
        bias,
        out=(dtype, data.shape),
        version=version,
        options={**CONV, **options},
    )
