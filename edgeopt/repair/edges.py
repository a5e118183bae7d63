"""The model's inputs and outputs as the 8-bit numbers that are inside anyway."""

from __future__ import annotations

from edgeopt.facts import Operator, Quantization, Subgraph, Tensor
from edgeopt.model.edit_graph import GraphEdit
from edgeopt.model.edit_io import with_io
from edgeopt.repair.repair import Need, Repaired

__all__ = ["integer_edges"]

_EIGHT_BITS = ("int8", "uint8")


def integer_edges(data: bytes, need: Need) -> Repaired | None:
    """Take off QUANTIZE and DEQUANTIZE at the edges; the caller quantizes and dequantizes.

    Without `need.io` only types that the profile forbids are changed. With one, every quantized
    input and output becomes of that type, by an operation more where that is the only way.
    Raises ModelError where an edge cannot have the type asked for.
    """
    if need.io in ("keep", "float32"):
        return None
    edit = GraphEdit(data)
    changes: list[str] = []
    touched: list[int] = []
    graph = edit.facts
    for tensor in graph.inputs:
        if _unwanted(tensor, need):
            changes += _take_off_input(edit, graph, tensor, need, touched)
    for tensor in graph.outputs:
        if _unwanted(tensor, need):
            changes += _take_off_output(edit, graph, tensor, need, touched)
    made = edit.finish() if changes else data
    if need.io:
        adapted = with_io(made, need.io)
        if adapted is not made:
            changes.append(f"Inputs and outputs are {need.io}, by an operation at each edge.")
            made = adapted
    if not changes:
        return None
    return Repaired(data=made, changes=tuple(changes), operators=tuple(touched))


def _unwanted(tensor: Tensor, need: Need) -> bool:
    if need.io:
        return tensor.dtype != need.io and (
            tensor.dtype == "float32" or tensor.dtype in _EIGHT_BITS
        )
    forbidden = need.float_io_forbidden and tensor.dtype not in need.profile.io_types
    return tensor.dtype == "float32" and forbidden


def _take_off_input(
    edit: GraphEdit, graph: Subgraph, tensor: Tensor, need: Need, touched: list[int]
) -> list[str]:
    readers = [op for op in graph.operators if any(t is tensor for t in op.inputs)]
    inner = [_only_output(op, "QUANTIZE") for op in readers]
    if not inner or tensor in graph.outputs or any(t is None for t in inner):
        return []
    kinds = {(t.dtype, t.quantization) for t in inner if t is not None}
    first = inner[0]
    assert first is not None
    if len(kinds) != 1 or not _fits(first, tensor, need) or first in graph.outputs:
        return []
    edit.rewire({t.index: first.index for t in inner if t is not None})
    for op in readers:
        edit.replace(op, [])
        touched.append(op.index)
    _put(edit, tensor, first, "inputs")
    return [_said("input", tensor, first)]


def _take_off_output(
    edit: GraphEdit, graph: Subgraph, tensor: Tensor, need: Need, touched: list[int]
) -> list[str]:
    makers = [op for op in graph.operators if any(t is tensor for t in op.outputs)]
    readers = [op for op in graph.operators if any(t is tensor for t in op.inputs)]
    if len(makers) != 1 or readers or makers[0].op not in ("DEQUANTIZE", "QUANTIZE"):
        return []
    inner = makers[0].inputs[0]
    taken = {t.index for t in graph.inputs} | {t.index for t in graph.outputs}
    if inner is None or inner.constant or inner.index in taken or not _fits(inner, tensor, need):
        return []
    edit.replace(makers[0], [])
    touched.append(makers[0].index)
    _put(edit, tensor, inner, "outputs")
    return [_said("output", tensor, inner)]


def _only_output(op: Operator, name: str) -> Tensor | None:
    return op.outputs[0] if op.op == name and len(op.outputs) == 1 else None


def _fits(inner: Tensor, outer: Tensor, need: Need) -> bool:
    """Whether the inner tensor holds the same numbers in a type that may stand at the edge."""
    one = inner.quantization is not None and not inner.quantization.per_channel
    if inner.dtype not in _EIGHT_BITS or not one:
        return False
    if outer.dtype == "float32":  # another 8-bit type is put on afterwards
        return bool(need.io) or inner.dtype in need.profile.io_types
    return inner.dtype == need.io and _shifted(inner, outer)


def _shifted(inner: Tensor, outer: Tensor) -> bool:
    """int8 and uint8 with one scale, zero points 128 apart: the same 256 steps."""
    a, b = inner.quantization, outer.quantization
    if a is None or b is None or a.scales != b.scales or inner.dtype == outer.dtype:
        return False
    return a.zero_points[0] - b.zero_points[0] == (-128 if inner.dtype == "int8" else 128)


def _put(edit: GraphEdit, outer: Tensor, inner: Tensor, side: str) -> None:
    """Let the inner tensor be the edge, under the name that the model's users know."""
    graph = edit.graph
    edges = [int(i) for i in getattr(graph, side)]
    setattr(graph, side, [inner.index if i == outer.index else i for i in edges])
    graph.tensors[inner.index].name = outer.name.encode()
    for signature in edit.model.signatureDefs or []:
        if signature.subgraphIndex == 0:
            for entry in getattr(signature, side) or []:
                if entry.tensorIndex == outer.index:
                    entry.tensorIndex = inner.index


def _said(side: str, outer: Tensor, inner: Tensor) -> str:
    assert inner.quantization is not None
    return (
        f'{side} "{outer.name}": {outer.dtype} becomes {inner.dtype}, '
        f"{_formula(inner.quantization)}; the application converts."
    )


def _formula(quantization: Quantization) -> str:
    scale, zero = quantization.scales[0], quantization.zero_points[0]
    return f"real = {scale:.9g} * (q - {zero})"
