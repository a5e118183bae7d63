"""Why an operation is left to the CPU before any rule of its own is looked at."""

from __future__ import annotations

from collections.abc import Iterator

from edgeopt.facts import Operator, Tensor
from edgeopt.profile import HardwareProfile
from edgeopt.profile.rules import OperationRule
from edgeopt.verify.graph import Graph, known_shape

__all__ = ["computed_shape", "empty_tensors", "phrase", "refusals"]

# The tool stops at these with an error of its own: no operation gets a phrase.
_ERRORS = frozenset({"dynamic", "unparsed_operation", "unparsed_version"})


def phrase(causes: set[str], profile: HardwareProfile, op: str = "") -> str | None:
    """What the tool prints, None where it prints none: of several causes the one it looks at first.

    Operations whose phrase does not follow from their causes stand in the profile by name.
    """
    if causes & _ERRORS:
        return None
    named = [text for cause, text in profile.phrases.items() if cause in causes or cause == op]
    return named[0] if named else profile.phrases.get("limitation")


def refusals(
    op: Operator, graph: Graph, rule: OperationRule | None, profile: HardwareProfile
) -> Iterator[tuple[str, str]]:
    """Each cause with the reason in words, the one that decides first.

    Without a rule the operation is not supported; its types and shapes are then held against what
    the accelerator takes in general, since the tool may speak of those first.
    """
    yield from _not_parsed(op, profile)
    if rule is None:
        yield (
            ("custom", "custom operation")
            if op.custom
            else (
                "operation_unsupported",
                "operation not supported",
            )
        )
        taken = profile.activation_types
        rule = OperationRule(name=op.op, types=taken, output_types=taken)
    yield from _types(op, graph, rule, profile)
    if rule.max_version is not None and (op.version or 0) > rule.max_version:
        yield "version", f"version {op.version} is newer than {rule.max_version}"
    yield from _runtime(op, graph, rule, profile)
    yield from _shapes(op, graph, profile)


def computed_shape(op: Operator, graph: Graph, profile: HardwareProfile) -> str:
    """The input that leaves the size of the result open until the model runs; or ""."""
    for index in profile.computed_shapes.get(op.op, ()) if not op.custom else ():
        tensor = op.inputs[index] if index < len(op.inputs) else None
        if tensor is not None and not graph.constant(tensor):
            return f"input {index} is computed at run time, and the result's shape follows from it"
    return ""


def empty_tensors(op: Operator, graph: Graph) -> str:
    """What the compiler makes of data without elements has not been seen."""
    data = (t for t in (*graph.inputs(op), *op.outputs) if not graph.constant(t))
    found = next((t for t in data if 0 in (known_shape(t) or ())), None)
    return "" if found is None else f"a tensor of shape {list(found.shape or ())} holds nothing"


def _not_parsed(op: Operator, profile: HardwareProfile) -> Iterator[tuple[str, str]]:
    """What the interpreter inside the tool does not know makes it refuse the whole file."""
    if op.custom:
        return
    runtime = f"{profile.runtime.name} {profile.runtime.version}"
    span = profile.runtime.operations.get(op.op)
    if span is None:
        yield "unparsed_operation", f"not an operation of {runtime}, which reads the file"
    elif op.version is not None and not span[0] <= op.version <= span[1]:
        versions = f"{span[0]} to {span[1]}"
        yield "unparsed_version", f"version {op.version}, and {runtime} reads {versions}"


def _types(
    op: Operator, graph: Graph, rule: OperationRule, profile: HardwareProfile
) -> Iterator[tuple[str, str]]:
    types = sorted(set(_wrong_types(op, graph, rule, profile)))
    if types:
        causes = {rule.type_causes.get(dtype, "data_type") for dtype in types}
        cause = causes.pop() if len(causes) == 1 else "data_type"
        yield cause, f"unsupported data type {', '.join(types)}"


def _wrong_types(
    op: Operator, graph: Graph, rule: OperationRule, profile: HardwareProfile
) -> Iterator[str]:
    for tensor in graph.inputs(op):
        if not graph.constant(tensor):
            if tensor.dtype not in rule.types:
                yield tensor.dtype
        elif profile.requires_quantization:
            stored = (*profile.weight_types, *profile.bias_types, *profile.index_types)
            if tensor.dtype not in (*stored, *rule.types):
                yield tensor.dtype
    yield from (t.dtype for t in op.outputs if t.dtype not in rule.output_types)


def _runtime(
    op: Operator, graph: Graph, rule: OperationRule, profile: HardwareProfile
) -> Iterator[tuple[str, str]]:
    offered = profile.partition.runtime_version
    if offered is None:
        return
    if rule.min_runtime is not None and rule.min_runtime > offered:
        yield "runtime", f"needs runtime {rule.min_runtime}, and {offered} is asked for"
    data = {t.dtype for t in (*graph.inputs(op), *op.outputs) if not graph.constant(t)}
    for dtype, least in profile.partition.type_runtime.items():
        if dtype in data and least > offered:
            yield "runtime", f"{dtype} needs runtime {least}, and {offered} is asked for"


def _shapes(op: Operator, graph: Graph, profile: HardwareProfile) -> Iterator[tuple[str, str]]:
    free = profile.free_inner_dims
    for tensor in (*graph.inputs(op), *op.outputs):
        shape = list(tensor.shape or ())
        if profile.requires_quantization and tensor.dynamic:
            yield "dynamic", f"shape {shape} is open"
        if profile.max_rank is not None and (tensor.rank or 0) > profile.max_rank:
            yield "rank", f"rank {tensor.rank} is above {profile.max_rank}"
        # Weights behind a DEQUANTIZE are data to this tool, and it says so of their rank.
        if free is not None and not tensor.constant and _outer_dimensions(tensor, free):
            yield "outer_dimension", f"shape {shape} exceeds 1 outside its {free} inner dimensions"


def _outer_dimensions(tensor: Tensor, free: int) -> bool:
    return any(d > 1 for d in (known_shape(tensor) or ())[:-free])
