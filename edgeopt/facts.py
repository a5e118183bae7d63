"""ModelFacts: what a model file says about itself, read without running it.

One vocabulary for every format: types are numpy names ("float32", "int8", "float16", "int64",
"bool", "string", "int4" ...), operations are TensorFlow Lite builtin names ("CONV_2D") where one is
known, else the format's own name (a custom operator's code, a Keras layer class, a TF op).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["ModelFacts", "Operator", "Quantization", "Subgraph", "Tensor"]


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """Affine parameters, real = scale * (q - zero_point); `axis` counts for several scales only."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0

    @property
    def per_channel(self) -> bool:
        return len(self.scales) > 1


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """`shape` is None when the file does not say; -1 in it is a dimension left open.

    `signature` is TensorFlow Lite's shape_signature (None when absent). `data` is the constant's
    raw little-endian bytes, None for activations and wherever the file does not hold them.
    """

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...] | None
    signature: tuple[int, ...] | None = None
    quantization: Quantization | None = None
    constant: bool = False
    variable: bool = False
    sparse: bool = False
    size_bytes: int | None = None
    data: memoryview | None = field(default=None, repr=False, compare=False)

    @property
    def dynamic(self) -> bool:
        """True when a dimension is open in the shape itself (a -1 only in `signature` is not)."""
        return self.shape is not None and any(d < 0 for d in self.shape)

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operation. `inputs` holds None for an optional input that is left out.

    `options` has the builtin options by their schema name (`fused_activation`="RELU6",
    `stride_w`=2, `padding`="SAME", `axis`=0 ...); enums by name. `layer` is the source layer.
    """

    index: int
    subgraph: int
    op: str
    version: int | None
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    custom: bool = False
    custom_options: memoryview | None = field(default=None, repr=False, compare=False)
    layer: str = ""

    @property
    def where(self) -> str:
        """How messages name it: `CONV_2D #3 (block_1/conv)`."""
        name = self.layer or (self.outputs[0].name if self.outputs else "")
        return f"{self.op} #{self.index}" + (f" ({name})" if name else "")


@dataclass(frozen=True, kw_only=True)
class Subgraph:
    index: int
    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    tensors: tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A whole model. `parameters` counts trained values, None when it cannot be known.

    `extensions` are (where, what) of the parts that readers of TensorFlow 2.5 skip in a .tflite.
    """

    path: Path
    format: str  # "tflite", "keras", "h5" or "savedmodel"
    sha256: str
    size_bytes: int
    gzip_bytes: int
    parameters: int | None
    subgraphs: tuple[Subgraph, ...]
    description: str = ""
    out_of_line_buffers: int = 0
    signatures: tuple[str, ...] = ()
    extensions: tuple[tuple[str, str], ...] = ()

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.subgraphs[0].inputs

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return self.subgraphs[0].outputs

    def operators(self) -> Iterator[Operator]:
        for subgraph in self.subgraphs:
            yield from subgraph.operators

    def tensors(self) -> Iterator[Tensor]:
        for subgraph in self.subgraphs:
            yield from subgraph.tensors

    @property
    def quantized(self) -> bool:
        """True when operations compute on quantized activations: post-training quantization has
        been done, whatever floats are left at the edges. (Weights alone do not count.)"""

        def integer(tensors: Iterable[Tensor | None]) -> bool:
            return any(
                t is not None
                and not t.constant
                and t.quantization is not None
                and t.dtype in ("int8", "uint8", "int16")
                for t in tensors
            )

        return self.format == "tflite" and any(
            integer(op.inputs) and integer(op.outputs) for op in self.operators()
        )

    @property
    def weights_reduced(self) -> bool:
        """True when weights or activations of a .tflite are float16 or quantized already (dynamic
        range, float16, int8): what was lost cannot be had back, and no scheme applies on top."""
        return self.format == "tflite" and any(
            t.dtype == "float16"
            or (t.dtype in ("int8", "uint8", "int16", "int4") and t.quantization is not None)
            for t in self.tensors()
        )
