"""The Edge TPU's entry among the compiled formats (`edgeopt.model.compiled`)."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from edgeopt.facts import Operator, Tensor
from edgeopt.model.compiled import CompiledFormat, Part
from edgeopt.model.edgetpu_payload import CUSTOM_OP, Layer, Partition, parameters, read_partition

__all__ = ["FORMAT"]


def _inputs(op: Operator) -> tuple[Tensor, ...]:
    return tuple(t for t in op.inputs if t is not None and not t.constant)


def _unlike(op: Operator, part: Part) -> Iterator[str]:
    """The layers that a payload lists must be the tensors of its operator."""
    assert isinstance(part, Partition)
    for tensors, layers in ((_inputs(op), part.inputs), (op.outputs, part.outputs)):
        named = {layer.name: layer for layer in layers}
        for number, tensor in enumerate(tensors):
            layer = named.get(tensor.name) or (
                layers[number] if len(layers) == len(tensors) else None
            )
            if layer is None or not _same(layer, tensor):
                yield f"the payload of {op.where} does not list {tensor.name[:80]!r} as it is"


def _same(layer: Layer, tensor: Tensor) -> bool:
    q = tensor.quantization
    known = layer.shape is not None and tensor.shape is not None and not tensor.dynamic
    if known and prod(layer.shape or ()) != prod(tensor.shape or ()):
        return False
    if q is None or layer.scale is None:
        return True
    return (layer.scale, layer.zero_point) == (q.scales[0], q.zero_points[0])


FORMAT = CompiledFormat(
    operation=CUSTOM_OP,
    chip="an Edge TPU",
    target="edgetpu",
    place="edgetpu",
    read=read_partition,
    inputs=_inputs,
    unlike=_unlike,
    parameters=parameters,
)
