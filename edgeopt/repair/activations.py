"""Activations that the accelerator lacks, as ones that it has and that compute the very same."""

from __future__ import annotations

from edgeopt.facts import Operator
from edgeopt.model.edit_graph import GraphEdit
from edgeopt.repair.repair import Need, Repaired

__all__ = ["leaky_to_prelu", "suits_prelu"]


def leaky_to_prelu(data: bytes, need: Need) -> Repaired | None:
    """Write each refused 8-bit LEAKY_RELU as PRELU with one alpha for every channel.

    The kernels rescale a negative x by s_in * alpha / s_out and by s_in * s_alpha / s_out times
    the integer alpha (tensorflow/lite/kernels/activations.cc, LeakyReluPrepare and PreluPrepare):
    the integer 1 at the scale s_alpha = alpha gives the same multiplier to the last bit.
    """
    if not need.takes("PRELU"):
        return None
    edit = GraphEdit(data)
    changes, touched = [], []
    for op in edit.facts.operators:
        alpha = suits_prelu(op) if need.wants(op) else None
        if alpha is None:
            continue
        first, result = op.inputs[0], op.outputs[0]
        assert first is not None and first.shape is not None
        shape = (*(1 for _ in first.shape[1:-1]), first.shape[-1])
        constant = edit.tensor(
            f"{result.name}_alpha",
            shape,
            dtype=first.dtype,
            data=bytes([1]) * shape[-1],
            quantization=((alpha,), (0,), 0),
        )
        made = edit.operator("PRELU", 1, [first.index, constant], [result.index])
        edit.replace(op, [made])
        changes.append(f"{edit.named(op)}: a PRELU with alpha {alpha:.6g} for each channel.")
        touched.append(op.index)
    if not changes:
        return None
    return Repaired(data=edit.finish(), changes=tuple(changes), operators=tuple(touched))


def suits_prelu(op: Operator) -> float | None:
    """The slope of an 8-bit LEAKY_RELU; None where it is none, or not above 0."""
    first = op.inputs[0] if op.inputs else None
    if op.op != "LEAKY_RELU" or first is None or first.dtype not in ("int8", "uint8"):
        return None
    if not first.shape or len(first.shape) < 2 or first.shape[-1] < 1:
        return None
    alpha = float(op.options.get("alpha", 0.0))
    return alpha if alpha > 0 else None
