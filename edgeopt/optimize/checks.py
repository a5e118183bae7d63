"""What must be true of a converted file, read back from the file itself. Pure."""

from __future__ import annotations

from pathlib import Path

from edgeopt.errors import ModelError
from edgeopt.facts import ModelFacts, Operator

__all__ = [
    "check_finite",
    "check_float",
    "float_left",
    "heavy_floats",
    "open_inputs",
    "state_notes",
]

_VARIABLES = {"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"}
_FLOATS = ("float32", "float16", "float64")
_WEIGHED = frozenset(
    {"CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
)
_HEAVY = 1024  # elements: smaller constants cost nothing


def check_float(facts: ModelFacts, source_parameters: int | None, source: Path) -> None:
    """Raise ModelError when weights were lost in conversion: it runs, and answers nonsense."""
    held = [op.where for op in facts.operators() if op.op in _VARIABLES]
    if held:
        raise ModelError(
            f"{source.name} keeps its weights or state in resource variables after conversion "
            f"({held[0]}, {len(held)} in all).",
            "Export it as a SavedModel with frozen weights (model.export), and give that.",
        )
    # Folding batch normalization removes some; losing half means that weights were lost.
    if source_parameters and (facts.parameters or 0) < source_parameters / 2:
        raise ModelError(
            f"The conversion of {source.name} lost weights: {facts.parameters or 0} parameters of "
            f"{source_parameters} are left.",
            "Export it as a SavedModel (model.export), and give that.",
        )


def check_finite(facts: ModelFacts, source: Path) -> None:
    """Raise ModelError naming a constant that holds NaN, or a weight that is infinite: a training
    that diverged. (An infinite constant elsewhere may be a mask or a bound.)"""
    import numpy as np

    for op in facts.operators():
        for tensor in op.inputs:
            if tensor is None or tensor.data is None or tensor.dtype != "float32":
                continue
            values = np.frombuffer(tensor.data, "<f4", len(tensor.data) // 4)
            broken = not np.isfinite(values).all() if op.op in _WEIGHED else np.isnan(values).any()
            if broken:
                count = int((~np.isfinite(values)).sum())
                raise ModelError(
                    f"{source.name} holds NaN or infinity: {count} of {values.size} values of "
                    f"{tensor.name or 'a constant'}, used by {op.where}.",
                    "The training diverged: give an earlier checkpoint, or train it again.",
                )


def open_inputs(facts: ModelFacts) -> list[str]:
    """Inputs with an open dimension, as `name [-1, 224, 224, 3]`."""
    return [
        f"{t.name} {list(t.signature or t.shape or ())}"
        for t in facts.inputs
        if t.dynamic or any(side < 0 for side in t.signature or ())
    ]


def float_left(facts: ModelFacts) -> list[Operator]:
    """Operations that still compute in float, apart from QUANTIZE and DEQUANTIZE themselves."""
    adapters = ("QUANTIZE", "DEQUANTIZE")
    return [
        op
        for op in facts.operators()
        if op.op not in adapters
        and any(t is not None and t.dtype in _FLOATS for t in (*op.inputs, *op.outputs))
    ]


def heavy_floats(facts: ModelFacts) -> list[Operator]:
    """Operations whose weights of over 1024 elements are float32 still (biases always stay)."""
    return [
        op
        for op in facts.operators()
        if any(
            t is not None
            and t.constant
            and t.dtype == "float32"
            and (t.rank or 0) > 1
            and (t.size_bytes or 0) > 4 * _HEAVY
            for t in op.inputs
        )
    ]


def state_notes(facts: ModelFacts) -> list[str]:
    """What to know of operations that remember: an application that does not reset them between
    sequences gets answers that depend on the call before."""
    kept = [op.where for op in facts.operators() if any(t and t.variable for t in op.inputs)]
    if not kept:
        return []
    more = f" and {len(kept) - 1} more keep their" if len(kept) > 1 else " keeps its"
    return [
        f"{kept[0]}{more} state from one call to the next: call the interpreter's "
        "reset_all_variables() (C++: ResetVariableTensors) before each new sequence."
    ]
