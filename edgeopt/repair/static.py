"""Every shape fixed: the batch closed, and shapes that the model computes from shapes as constants.

Keras models with an open batch keep SHAPE, STRIDED_SLICE and PACK in front of a RESHAPE. With the
batch fixed their results are constants; the runtime says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeopt.errors import ModelError
from edgeopt.facts import Operator, Subgraph, Tensor
from edgeopt.model.edit_batch import set_batch
from edgeopt.model.edit_graph import GraphEdit
from edgeopt.model.tflite import parse
from edgeopt.repair.repair import Need, Repaired

__all__ = ["Seen", "computed_shapes", "fix_batch", "fold_shapes"]

_INTEGERS = ("int32", "int64", "bool")
_LARGEST = 4096  # bytes of a folded constant: shapes and axes, never weights
# Their results depend on the data, or on something outside the graph.
_NOT_CONSTANT = """
    CALL CALL_ONCE CUSTOM IF MULTINOMIAL NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5
    RANDOM_STANDARD_NORMAL RANDOM_UNIFORM READ_VARIABLE STABLEHLO_RNG_BIT_GENERATOR UNIQUE WHERE
    WHILE
"""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the runtime made of one tensor: its shape, and its bytes where they were asked for."""

    shape: tuple[int, ...]
    data: bytes | None = None


def fix_batch(data: bytes, need: Need) -> Repaired | None:
    """Close an open first dimension at the profile's batch (1). None when nothing is open.

    Raises ModelError when another dimension is open, or when an operation may mix samples.
    """
    if not need.profile.static_shapes:
        return None
    made = set_batch(data, need.profile.max_batch or 1)
    if made is data:
        return None
    inputs = parse(made).subgraphs[0].inputs
    shapes = ", ".join(f"{t.name} {list(t.shape or ())}" for t in inputs)
    return Repaired(data=made, changes=(f"The open batch is fixed: {shapes}.",))


def computed_shapes(graph: Subgraph) -> list[Operator]:
    """The operations whose results the fixed shapes decide, in order: SHAPE and what follows."""
    known = {t.index for t in graph.tensors if t.constant}
    fixed = {t.index for t in graph.inputs if not t.dynamic and t.shape is not None}
    found: list[Operator] = []
    for op in graph.operators:
        inputs = [t for t in op.inputs if t is not None]
        if op.custom or op.op in _NOT_CONSTANT.split() or any(t.variable for t in inputs):
            continue
        steers = [t for t in inputs if t.dtype in _INTEGERS and t.quantization is None]
        sized = all(t.index in fixed | known for t in inputs)
        if sized and all(t.index in known for t in steers):
            fixed.update(t.index for t in op.outputs)
        all_known = bool(inputs) and all(t.index in known for t in inputs)
        if not (all_known or (op.op == "SHAPE" and inputs and inputs[0].index in fixed)):
            continue
        if all(t.dtype in _INTEGERS for t in op.outputs):
            known.update(t.index for t in op.outputs)
            found.append(op)
    return found if any(op.op == "SHAPE" for op in found) else []


def fold_shapes(data: bytes, need: Need, seen: Mapping[int, Seen]) -> Repaired | None:
    """Put what the runtime saw in the place of computed shapes, by tensor index. None if none is.

    Raises ModelError where the runtime saw no fixed shape.
    """
    edit = GraphEdit(data)
    folded = computed_shapes(edit.facts)
    if not folded or not need.profile.static_shapes:
        return None
    for op in folded:
        for tensor in op.outputs:
            found = seen.get(tensor.index)
            if found is None or found.data is None or len(found.data) > _LARGEST:
                raise ModelError(f"{op.where} gave no small constant.", "Fix the input's shape.")
            _make_constant(edit, tensor, found)
        edit.replace(op, [])
    for op in edit.facts.operators:
        for tensor in op.outputs:
            if tensor.index in seen:
                edit.graph.tensors[tensor.index].shape = list(seen[tensor.index].shape)
                edit.graph.tensors[tensor.index].shapeSignature = None
    changes = tuple(f"{edit.named(op)}: a constant, since every shape is fixed." for op in folded)
    return Repaired(data=edit.finish(), changes=changes, operators=tuple(op.index for op in folded))


def _make_constant(edit: GraphEdit, tensor: Tensor, found: Seen) -> None:
    made = edit.tensor(tensor.name, found.shape, like=tensor.index, data=found.data)
    constant = edit.graph.tensors.pop(made)
    edit.graph.tensors[tensor.index] = constant
