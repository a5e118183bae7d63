"""Rules over tensors: types, quantization parameters, shapes, and the model's own boundary."""

from __future__ import annotations

from collections.abc import Iterator

from edgeopt.facts import ModelFacts, Operator, Subgraph, Tensor
from edgeopt.profile import FLOATS, HardwareProfile
from edgeopt.verify.collector import Collector
from edgeopt.verify.graph import Graph
from edgeopt.verify.tail import Relaxed

__all__ = ["check_boundary", "check_shapes", "check_tensors"]

# Which input of an operation is its bias (schema of TensorFlow Lite's kernels).
_BIAS_INPUT = {
    "CONV_2D": 2,
    "DEPTHWISE_CONV_2D": 2,
    "FULLY_CONNECTED": 2,
    "TRANSPOSE_CONV": 3,
    "CONV_3D": 2,
    "CONV_3D_TRANSPOSE": 3,
}


def _list(names: tuple[str, ...]) -> str:
    return " or ".join(names) or "none"


def _type_hint(dtype: str) -> str:
    if dtype in FLOATS:
        return "Convert the float model with edgeopt convert --calibration DATA."
    if dtype in ("int16", "int4", "int2", "uint4"):
        return "Convert the float model with edgeopt convert --scheme int8 --calibration DATA."
    return "Leave what needs this type to the application."


def check_boundary(facts: ModelFacts, to: Collector, relaxed: Relaxed, io: str | None) -> None:
    """Types of the model's inputs and outputs; `io` is the type that was asked for."""
    profile = to.profile
    allowed = profile.io_types
    if not profile.requires_quantization:
        allowed = tuple(
            {**dict.fromkeys((*allowed, *profile.activation_types, *profile.index_types))}
        )
    for tensor in facts.inputs:
        _boundary(tensor, "input", facts, allowed, to, io)
    for tensor in facts.outputs:
        if relaxed.allows(tensor) or (tensor.dtype in profile.index_types):
            to.checked += 1
            continue
        _boundary(tensor, "output", facts, allowed, to, io)


def _boundary_hint(tensor: Tensor, facts: ModelFacts, profile: HardwareProfile) -> str:
    """A quantized model lacks no calibration: only its edges are float."""
    touching = {
        op.op
        for op in facts.subgraphs[0].operators
        if any(t is not None and t.index == tensor.index for t in (*op.inputs, *op.outputs))
    }
    if (
        tensor.dtype in FLOATS
        and touching
        and touching <= {"QUANTIZE", "DEQUANTIZE"}
        and profile.io_types
    ):
        return f"Convert it again with --io {profile.io_types[0]}, or use edgeopt fix."
    return _type_hint(tensor.dtype)


def _boundary(
    tensor: Tensor,
    kind: str,
    facts: ModelFacts,
    allowed: tuple[str, ...],
    to: Collector,
    io: str | None,
) -> None:
    where = f"{kind} {tensor.name!r}"
    hint = _boundary_hint(tensor, facts, to.profile)
    shown = to.profile.io_types if to.profile.requires_quantization else allowed
    if not to.require(
        tensor.dtype in allowed, "io.types", where, f"{tensor.dtype} {kind}", _list(shown), hint
    ):
        return
    if io is not None and tensor.dtype in (*to.profile.io_types, "int16"):
        found = f"{tensor.dtype} {kind}"
        to.require(
            tensor.dtype == io,
            "io.types",
            where,
            found,
            f"{io}, as --io asks",
            f"Convert it again with --io {io}.",
        )


def check_shapes(facts: ModelFacts, to: Collector) -> None:
    """Open dimensions, the batch, and the rank that the accelerator can address."""
    profile = to.profile
    open_inputs = False
    for tensor in facts.inputs:
        open_inputs |= _check_open(tensor, f"input {tensor.name!r}", to)
        if profile.max_batch is not None and (tensor.rank or 0) >= 2 and not tensor.dynamic:
            batch = tensor.shape[0] if tensor.shape else 1
            to.require(
                batch <= profile.max_batch,
                "shapes.batch",
                f"input {tensor.name!r}",
                f"batch {batch}",
                f"batch {profile.max_batch}",
                f"Convert the source model with --batch {profile.max_batch}.",
            )
    for subgraph in facts.subgraphs:
        for tensor in _activations(subgraph):
            if not open_inputs:  # else every later shape is open for the same reason
                _check_open(tensor, f"tensor {tensor.name!r}", to)
            _check_rank(tensor, to)


def _check_open(tensor: Tensor, where: str, to: Collector) -> bool:
    if not to.profile.static_shapes:
        return False
    shape = list(tensor.shape) if tensor.shape is not None else None
    only_batch = shape is not None and shape[:1] == [-1] and -1 not in shape[1:]
    hint = "Export the model with fixed dimensions."
    if only_batch:
        hint = "Convert the source model with --batch 1; edgeopt fix closes that of a .tflite."
    return not to.require(
        not tensor.dynamic, "shapes.static", where, f"shape {shape}", "a fixed shape", hint
    )


def _check_rank(tensor: Tensor, to: Collector) -> None:
    most = to.profile.max_rank
    if most is None or tensor.rank is None:
        return
    to.require(
        tensor.rank <= most,
        "shapes.rank",
        f"tensor {tensor.name!r}",
        f"rank {tensor.rank}",
        f"rank {most} or less",
        "Reshape it to four dimensions or fewer.",
    )


def _activations(subgraph: Subgraph) -> Iterator[Tensor]:
    """What the operations compute, each tensor once."""
    seen: set[int] = {t.index for t in subgraph.inputs}
    for op in subgraph.operators:
        for tensor in op.outputs:
            if tensor.index not in seen:
                seen.add(tensor.index)
                yield tensor


def check_tensors(graph: Graph, to: Collector, relaxed: Relaxed) -> None:
    """Every constant and activation that an operation touches, each once."""
    boundary = {t.index for t in (*graph.subgraph.inputs, *graph.subgraph.outputs)}
    seen: set[int] = set()
    for op in graph.subgraph.operators:
        for position, tensor in enumerate(op.inputs):
            if tensor is not None and tensor.index not in seen:
                seen.add(tensor.index)
                if tensor.constant:
                    _check_constant(op, position, tensor, graph, to, relaxed)
                else:
                    _check_activation(tensor, op, tensor.index in boundary, graph, to, relaxed)
        for tensor in op.outputs:
            if tensor.index not in seen:
                seen.add(tensor.index)
                _check_activation(tensor, op, tensor.index in boundary, graph, to, relaxed)


def _check_constant(
    op: Operator, position: int, tensor: Tensor, graph: Graph, to: Collector, relaxed: Relaxed
) -> None:
    profile = to.profile
    _check_sparse(op, tensor, to)
    if _BIAS_INPUT.get(op.op) == position:
        to.require(
            tensor.dtype in profile.bias_types or _listed(tensor, graph, profile),
            "bias.types",
            op.where,
            f"{tensor.dtype} bias",
            f"{_list(profile.bias_types)} bias",
            _type_hint(tensor.dtype),
        )
        return
    allowed = {*profile.weight_types, *profile.bias_types, *profile.index_types}
    if not profile.requires_quantization:
        allowed |= {*profile.activation_types} - {"int16"}
    good = tensor.dtype in allowed or relaxed.allows(tensor) or _listed(tensor, graph, profile)
    found = f"{tensor.dtype} weights" + (f" ({tensor.name})" if tensor.name else "")
    if not to.require(
        good,
        "weights.types",
        op.where,
        found,
        f"{_list(profile.weight_types)} weights",
        _type_hint(tensor.dtype),
    ):
        return
    if tensor.quantization is not None and tensor.dtype in profile.weight_types:
        kind = "per_channel" if tensor.quantization.per_channel else "per_tensor"
        to.require(
            kind in profile.granularity,
            "weights.granularity",
            op.where,
            f"{kind} weights ({tensor.name})",
            _list(profile.granularity),
            "Quantize it again with one scale for each tensor.",
        )


def _check_sparse(op: Operator, tensor: Tensor, to: Collector) -> None:
    if not to.profile.sparse_tensors:
        to.require(
            not tensor.sparse,
            "weights.sparse",
            op.where,
            f"sparse weights ({tensor.name})",
            "dense weights",
            "Strip the pruning and store the weights densely.",
        )


def _check_activation(
    tensor: Tensor, op: Operator, boundary: bool, graph: Graph, to: Collector, relaxed: Relaxed
) -> None:
    profile = to.profile
    where = f"tensor {tensor.name!r} of {op.where}"
    free = relaxed.allows(tensor)
    if not boundary:  # the model's own inputs and outputs have a rule of their own
        allowed = (*profile.activation_types, *profile.index_types)
        state = tensor.variable and profile.float_fallback  # its operation runs on the CPU
        good = tensor.dtype in allowed or free or state or _listed(tensor, graph, profile)
        to.require(
            good,
            "activations.types",
            where,
            f"{tensor.dtype} activation",
            _list(profile.activation_types),
            _activation_hint(tensor, graph, profile),
        )
    if not profile.requires_quantization or tensor.dtype not in profile.activation_types or free:
        return
    to.require(
        tensor.quantization is not None,
        "activations.quantization",
        where,
        f"{tensor.dtype} without scale and zero point",
        "quantization parameters",
        "Convert it again: full integer quantization stores them.",
    )
    to.require(
        tensor.quantization is None or not tensor.quantization.per_channel,
        "activations.granularity",
        where,
        "several scales",
        "one scale for each activation",
        "Convert it again: activations are quantized per tensor.",
    )


def _activation_hint(tensor: Tensor, graph: Graph, profile: HardwareProfile) -> str:
    """Calibration does not help where an operation has no integer form, or was left in float."""
    left_in_float = any(op.op in ("QUANTIZE", "DEQUANTIZE") for op in graph.subgraph.operators)
    touching = [*graph.consumers.get(tensor.index, ())]
    if maker := graph.producer.get(tensor.index):
        touching.insert(0, maker)
    for op in touching:
        if tensor.dtype not in FLOATS or op.op in ("QUANTIZE", "DEQUANTIZE"):
            continue
        without = op.op not in profile.operations and left_in_float
        if op.custom or op.op in profile.float_only or without:
            return profile.remedies.get(op.op, f"Cut {op.op} off into post-processing.")
    return _type_hint(tensor.dtype)


def _listed(tensor: Tensor, graph: Graph, profile: HardwareProfile) -> bool:
    """True when every operation that touches it lists the type as its own (an LSTM's int16)."""
    touching = list(graph.consumers.get(tensor.index, ()))
    if maker := graph.producer.get(tensor.index):
        touching.append(maker)
    rules = [profile.operations.get(op.op) for op in touching]
    return bool(rules) and all(
        rule is not None and tensor.dtype in (*rule.types, *rule.output_types) for rule in rules
    )
