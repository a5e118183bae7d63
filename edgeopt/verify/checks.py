"""One small pure function for each rule that a profile may name (`edgeopt.profile.rules.RULES`).

Each takes the operation, its graph and the rule's parameters. It gives what it found where the rule
is broken, "" where it is obeyed, and None where the file does not say enough: not known is not
broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgeopt.facts import Operator, Tensor
from edgeopt.profile.rules import Check
from edgeopt.verify.graph import Graph, elements, known_shape

__all__ = ["CHECKS", "Meaning", "uncertain"]

Function = Callable[[Operator, Graph, Mapping[str, Any]], "str | None"]


@dataclass(frozen=True)
class Meaning:
    """`required` and `hint` are for people; {name} stands for a parameter."""

    function: Function
    required: str
    hint: str


CHECKS: dict[str, Meaning] = {}


def _rule(name: str, required: str, hint: str = "") -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        CHECKS[name] = Meaning(function, required, hint)
        return function

    return register


def uncertain(check: Check, op: Operator, graph: Graph) -> str:
    """What lies between the largest size seen to work and the smallest seen refused; or ""."""
    if check.parameters.get("refused_from") is None:
        return ""
    strict = {k: v for k, v in check.parameters.items() if k != "refused_from"}
    return CHECKS[check.rule].function(op, graph, strict) or ""


def _at(op: Operator, index: int) -> Tensor | None:
    return op.inputs[index] if index < len(op.inputs) else None


def _out(op: Operator, index: int = 0) -> Tensor | None:
    return op.outputs[index] if index < len(op.outputs) else None


def _named(op: Operator, p: Mapping[str, Any]) -> Iterator[tuple[str, Tensor | None]]:
    """The tensors that `inputs` and `outputs` number, with a word for each."""
    for index in p.get("inputs", ()):
        yield f"input {index}", _at(op, index)
    for index in p.get("outputs", ()):
        yield f"output {index}", _out(op, index)


def _joined(found: Iterator[str | None]) -> str | None:
    """All that is broken; None when nothing is broken and something is not known."""
    parts = list(found)
    broken = [part for part in parts if part]
    return ", ".join(broken) if broken else None if None in parts or not parts else ""


@_rule("inputs", "the documented number of run-time and constant inputs", "Rebuild that layer.")
def _inputs(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    there = [t for t in op.inputs if t is not None]
    constant = sum(graph.constant(t) for t in there)
    counts = {
        "runtime": len(there) - constant,
        "constant": constant,
        "total": len(there),
        "outputs": len(op.outputs),
    }
    words = {"runtime": "run-time inputs", "constant": "constant inputs", "total": "inputs"}
    wrong = (k for k, allowed in p.items() if counts[k] not in allowed)
    return ", ".join(
        f"{counts[k]} {words.get(k, k)} (not {' or '.join(map(str, p[k]))})" for k in wrong
    )


@_rule("constant_inputs", "constant parameters", "Make that value a constant of the model.")
def _constant_inputs(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    there = [(i, _at(op, i)) for i in p["inputs"]]
    return ", ".join(
        f"input {i} computed at run time"
        for i, t in there
        if t is not None and not graph.constant(t)
    )


@_rule("runtime_inputs", "data computed at run time", "Fold the constant into the layer before it.")
def _runtime_inputs(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    there = [(i, _at(op, i)) for i in p["inputs"]]
    return ", ".join(f"input {i} constant" for i, t in there if t is not None and graph.constant(t))


@_rule("distinct_inputs", "two different inputs", "Use SQUARE, MUL or ADD instead.")
def _distinct(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    there = [t.index for t in op.inputs if t is not None]
    return "the same tensor twice" if len(set(there)) < len(there) else ""


@_rule("input_types", "{types}", "Cast that input.")
def _input_types(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    tensor = _at(op, p["input"])
    if tensor is None:
        return None
    return "" if tensor.dtype in p["types"] else f"{tensor.dtype} in input {p['input']}"


@_rule("cast_pairs", "one of {pairs}", "Leave the cast to the application.")
def _cast_pairs(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    source, result = _at(op, 0), _out(op)
    if source is None or result is None:
        return None
    pair = f"{source.dtype}>{result.dtype}"
    return "" if pair in p["pairs"] else pair


@_rule("fused_activation", "the fused activation {allowed}", "Use a separate activation layer.")
def _fused_activation(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    found = op.options.get("fused_activation")
    return None if found is None else "" if found in p["allowed"] else f"fused {found}"


@_rule("option_equals", "{options} = {value}")
def _option_equals(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    return _options(op, p, lambda found: found == p["value"])


@_rule("option_at_least", "{options} of {limit} or more")
def _option_at_least(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    return _options(op, p, lambda found: found >= p["limit"])


def _options(op: Operator, p: Mapping[str, Any], good: Callable[[Any], bool]) -> str | None:
    there = {name: op.options.get(name) for name in p["options"]}
    return _joined(
        None if found is None else "" if good(found) else f"{name} = {found}"
        for name, found in there.items()
    )


@_rule("not_both", "at most one of {options}", "Switch one of the two off.")
def _not_both(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    there = [op.options.get(name) for name in p["options"]]
    return None if None in there else "both are set" if all(there) else ""


@_rule("same_dilation", "the same dilation in x and y", "Use one dilation rate for both.")
def _same_dilation(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    wide, high = op.options.get("dilation_w_factor"), op.options.get("dilation_h_factor")
    if wide is None or high is None:
        return None
    return "" if wide == high else f"dilation {high} by {wide}"


@_rule("rank", "rank {least} to {most}", "Reshape it first.")
def _rank(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    def one(name: str, tensor: Tensor | None) -> str | None:
        if tensor is None or tensor.rank is None:
            return None
        return "" if p["least"] <= tensor.rank <= p["most"] else f"{name} of rank {tensor.rank}"

    return _joined(one(name, tensor) for name, tensor in _named(op, p))


@_rule("equal_rank", "input and output of one rank, with keep_num_dims")
def _equal_rank(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    source, result = _at(op, 0), _out(op)
    if not op.options.get("keep_num_dims"):
        return ""
    if source is None or result is None or source.rank is None or result.rank is None:
        return None
    return "" if source.rank == result.rank else f"ranks {source.rank} and {result.rank}"


@_rule("constant_rank", "constants of rank {ranks}", "Reshape that constant.")
def _constant_rank(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    def one(index: int, tensor: Tensor | None) -> str | None:
        if tensor is None or not graph.constant(tensor):
            return ""
        if tensor.rank is None or (p.get("scalars") and elements(tensor) == 1):
            return None if tensor.rank is None else ""
        return "" if tensor.rank in p["ranks"] else f"constant input {index} of rank {tensor.rank}"

    return _joined(one(i, _at(op, i)) for i in p.get("inputs", range(len(op.inputs))))


@_rule("constant_shape", "input {input} of shape {shapes}", "Use 3-D or 4-D data.")
def _constant_shape(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    shape = known_shape(_at(op, p["input"]))
    return None if shape is None else "" if shape in p["shapes"] else f"shape {list(shape)}"


@_rule("max_elements", "at most {limit} elements", "Make the tensor smaller.")
def _max_elements(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    sizes = []
    for tensor in (*op.outputs, *(t for t in op.inputs if t is not None and not t.constant)):
        if p.get("flat") and any(d != 1 for d in (tensor.shape or ())[:-2]):
            continue  # the bracket was seen on [1, C, N]; spatial tensors go far beyond it
        sizes.append(elements(tensor))
    known = [size for size in sizes if size is not None]
    if not known:
        return None if sizes else ""
    most = max(known)
    return f"{most:,} elements" if most >= p.get("refused_from", p["limit"] + 1) else ""


@_rule("max_scale", "a scale of at most {limit}", "Scale in several steps, or in the application.")
def _max_scale(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    source, result = known_shape(_at(op, 0)), known_shape(_out(op))
    if source is None or result is None or len(source) != 4 or len(result) != 4:
        return None
    scale = max(b / max(a, 1) for a, b in zip(source[1:3], result[1:3], strict=True))
    return f"a scale of {scale:.4g}" if scale >= p.get("refused_from", p["limit"] + 1e-6) else ""


@_rule("documented_runtime", "device runtime {runtime}", "Ask for a newer device runtime.")
def _documented_runtime(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    """The profile says with `until_runtime` for which ones it asks."""
    return f"documented for device runtimes from {p['runtime']} on"


@_rule("min_scale", "a scale of {limit} or more", "Use a pooling layer to make it smaller.")
def _min_scale(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    source, result = known_shape(_at(op, 0)), known_shape(_out(op))
    if source is None or result is None or len(source) != 4 or len(result) != 4:
        return None
    scale = min(b / max(a, 1) for a, b in zip(source[1:3], result[1:3], strict=True))
    return "" if scale >= p["limit"] else f"a scale of {scale:.4g}"


@_rule("per_tensor", "one scale for the whole tensor", "Quantize it per tensor.")
def _per_tensor(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    def one(name: str, tensor: Tensor | None) -> str | None:
        if tensor is None or (p.get("runtime_only") and graph.constant(tensor)):
            return ""
        scales = len(tensor.quantization.scales) if tensor.quantization else 1
        return f"{name} with {scales} scales" if scales > 1 else ""

    return _joined(one(name, tensor) for name, tensor in _named(op, p))
