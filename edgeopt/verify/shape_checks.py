"""Rules over axes, shapes and neighbours; registered beside those of `checks`."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from edgeopt.facts import Operator, Tensor
from edgeopt.verify.checks import _at, _joined, _out, _rule
from edgeopt.verify.graph import Graph, elements, integers, known_shape

__all__: list[str] = []


@_rule("constant_input_zero", "two inputs, the constant one all zeros", "Use PAD instead.")
def _constant_input_zero(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    constants = [t for t in op.inputs if t is not None and graph.constant(t)]
    if not constants:
        return ""
    if len(op.inputs) != 2:
        return f"a constant among {len(op.inputs)} inputs"
    zeros = [_all_zero(tensor) for tensor in constants]
    return None if None in zeros else "" if all(zeros) else "a constant input that is not zero"


def _all_zero(tensor: Tensor) -> bool | None:
    """Real zeros: the stored value is the zero point."""
    if tensor.data is None or tensor.dtype not in ("int8", "uint8"):
        return None
    zero = tensor.quantization.zero_points[0] if tensor.quantization else 0
    return set(bytes(tensor.data)) <= {zero % 256}


def _axis(op: Operator) -> int | None:
    """The axis, of the option or of SPLIT's first input, counted from the front."""
    value = op.options.get("axis")
    if value is None and (numbers := integers(_at(op, 0))):
        value = numbers[0]
    data = _out(op)
    if value is None or data is None or data.rank is None:
        return None
    return int(value) % data.rank if data.rank else None


@_rule("axis_excludes_batch", "another axis than the batch", "Do it along another axis.")
def _axis_excludes_batch(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    axis, result = _axis(op), known_shape(_out(op))
    if axis is None or result is None:
        return None
    return "the batch axis" if axis == 0 and len(result) > 1 else ""


def _axes(op: Operator) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The reduced axes counted from the front, and the shape they are of."""
    shape, axes = known_shape(_at(op, 0)), integers(_at(op, 1))
    if shape is None or axes is None or not shape:
        return None
    return tuple(axis % len(shape) for axis in axes), shape


@_rule("axes_exclude_batch", "other axes than the batch", "Keep the batch axis.")
def _axes_exclude_batch(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    found = _axes(op)
    return (
        None if found is None else "the batch axis" if 0 in found[0] and len(found[1]) > 1 else ""
    )


@_rule("axes_multiple_of", "a reduced channel count that is a multiple of {multiple}")
def _axes_multiple_of(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    found = _axes(op)
    if found is None:
        return None
    axes, shape = found
    if len(shape) - 1 not in axes or shape[-1] % p["multiple"] == 0:
        return ""
    return f"{shape[-1]} channels reduced"


@_rule(
    "max_reduced",
    "at most {limit} values for each result",
    "Split the tensor, reduce the parts, and reduce their results; or use a pooling layer.",
)
def _max_reduced(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    found = _axes(op)
    if found is None:
        return None
    axes, shape = found
    count = prod(shape[axis] for axis in set(axes))
    broken = count >= p.get("refused_from", p["limit"] + 1)
    return f"{count:,} values for each result" if broken else ""


@_rule("spatial_axes", "a reduction over y and x alone", "Ask for a newer device runtime.")
def _spatial_axes(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    found = _axes(op)
    if found is None:
        return None
    axes, shape = found
    outside = sorted(axis for axis in set(axes) if len(shape) != 4 or axis not in (1, 2))
    return f"axes {outside} of {list(shape)}" if outside else ""


@_rule("spatial_padding", "padding of y and x alone", "Ask for a newer device runtime.")
def _spatial_padding(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    paddings, shape = integers(_at(op, 1)), known_shape(_at(op, 0))
    if paddings is None or shape is None:
        return None
    padded = {axis // 2 for axis, amount in enumerate(paddings) if amount}
    outside = sorted(axis for axis in padded if len(shape) != 4 or axis not in (1, 2))
    return f"padding of axes {outside} of {list(shape)}" if outside else ""


@_rule("padding_excludes_batch", "no padding of the batch", "Pad the other dimensions only.")
def _padding_excludes_batch(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    paddings, shape = integers(_at(op, 1)), known_shape(_at(op, 0))
    if paddings is None or shape is None:
        return None
    return "padding of the batch" if len(shape) > 1 and any(paddings[:2]) else ""


@_rule(
    "constant_strides", "strides from {least} up to the limit", "Use RESHAPE or a pooling layer."
)
def _constant_strides(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    strides = integers(_at(op, 3))
    if strides is None:
        return None
    good = all(p["least"] <= stride <= p.get("most", stride) for stride in strides)
    return "" if good else f"strides {list(strides)}"


@_rule(
    "one_dimensional_output",
    "an output of one dimension",
    "edgeopt fix writes a Dense over positions as a 1 x 1 CONV_2D.",
)
def _one_dimensional_output(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    shape = known_shape(_out(op))
    return (
        None if shape is None else f"shape {list(shape)}" if any(d > 1 for d in shape[:-1]) else ""
    )


@_rule("one_dimensional_alpha", "one alpha a channel", "Use shared_axes=[1, 2] in Keras.")
def _one_dimensional_alpha(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    shape = known_shape(_at(op, 1))
    return (
        None if shape is None else f"alpha {list(shape)}" if any(d > 1 for d in shape[:-1]) else ""
    )


@_rule("alpha_per_channel_or_full", "one alpha a channel, or one an element")
def _alpha(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    data, alpha = known_shape(_at(op, 0)), known_shape(_at(op, 1))
    if data is None or alpha is None or not data:
        return None
    good = elements(_at(op, 1)) == data[-1] or alpha in (data, data[1:])
    return "" if good else f"alpha {list(alpha)} for {list(data)}"


@_rule("same_batch", "one batch in every tensor")
def _same_batch(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    there = [t for t in (_at(op, 0), _out(op)) if t is not None]
    shapes = [known_shape(t) for t in there]
    if len(shapes) < 2 or not all(shapes):
        return None
    batches = {shape[0] for shape in shapes if shape}
    return "" if len(batches) == 1 else f"batches {sorted(batches)}"


@_rule(
    "broadcast_ranks", "inputs of one rank, or a broadcast that is known", "Reshape the smaller."
)
def _broadcast_ranks(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    left, right = known_shape(_at(op, 0)), known_shape(_at(op, 1))
    if left is None or right is None:
        return None
    wide, small = (left, right) if len(left) >= len(right) else (right, left)
    if len(wide) == len(small) or len(small) <= 1:
        return ""
    single = len(wide) == 4 and wide[0] == 1 and (len(small) == 3 or small == (1, 1))
    matched = len(wide) == 4 and len(small) == 2 and small == (wide[0], wide[3])
    return "" if single or matched else f"{list(left)} with {list(right)}"


@_rule("depthwise_channels", "filter and bias as wide as the output, a whole multiple of the input")
def _depthwise_channels(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    data, kernel, result = (known_shape(t) for t in (_at(op, 0), _at(op, 1), _out(op)))
    if not data or not kernel or not result:
        return None
    bias, factor = elements(_at(op, 2)), op.options.get("depth_multiplier")
    good = kernel[-1] == result[-1] and bias in (None, result[-1])
    good = good and (factor is None or result[-1] == data[-1] * factor)
    return "" if good else f"{data[-1]} channels in, filter {kernel[-1]}, {result[-1]} out"


@_rule(
    "dense_inner_dimension",
    "2-D weights as deep as the input's last dimension",
    "Put a RESHAPE before it.",
)
def _dense_inner_dimension(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    data, weights = known_shape(_at(op, 0)), known_shape(_at(op, 1))
    tensor = _at(op, 1)
    if not data or weights is None or tensor is None or not graph.constant(tensor):
        return None if tensor is None or graph.constant(tensor) else ""
    good = len(weights) == 2 and weights[1] == data[-1]
    return "" if good else f"weights {list(weights)} for {list(data)}"


@_rule("ungrouped_unless_constant", "constant weights in a grouped convolution")
def _ungrouped(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    tensor, data, kernel = _at(op, 1), known_shape(_at(op, 0)), known_shape(_at(op, 1))
    if tensor is None or not data or not kernel:
        return None
    grouped = data[-1] != kernel[-1]
    return (
        "grouped, with weights computed at run time"
        if grouped and not graph.constant(tensor)
        else ""
    )


@_rule("unit_multiplier_unless_constant", "a depth multiplier of 1 with computed weights")
def _unit_multiplier(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    tensor, factor = _at(op, 1), op.options.get("depth_multiplier")
    if tensor is None or factor is None:
        return None
    return "" if factor == 1 or graph.constant(tensor) else f"depth_multiplier = {factor}"


@_rule("bool_consumer", "one reader, of {operations}, that gives float", "Cast the result at once.")
def _bool_consumer(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    result = _out(op)
    if result is None:
        return None
    readers = graph.consumers.get(result.index, [])
    if result.index in graph.outputs:
        return "a boolean output of the model"
    if len(readers) != 1:
        return f"{len(readers)} readers"
    given = _out(readers[0])
    if readers[0].op not in p["operations"] or given is None:
        return f"read by {readers[0].op}"
    return "" if given.dtype in ("float32", "float16") else f"read to {given.dtype}"


@_rule("consumers", "readers of {operations}")
def _consumers(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    result = _out(op)
    readers = graph.consumers.get(result.index, []) if result else []
    wrong = sorted({reader.op for reader in readers if reader.op not in p["operations"]})
    return f"read by {', '.join(wrong)}" if wrong else "" if readers else "read by nothing"


@_rule("bool_source", "a boolean read once, and its float result read once")
def _bool_source(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    source, result = _at(op, 0), _out(op)
    if source is None or result is None or source.dtype != "bool":
        return ""
    if source.index not in graph.producer:
        return "a boolean that nothing computes"
    readers = [len(graph.consumers.get(t.index, [])) for t in (source, result)]
    return "" if readers == [1, 1] else f"read {readers[0]} and {readers[1]} times"


@_rule("condition_shape", "a condition as large as the output, or 1, in each dimension")
def _condition_shape(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    condition, result = known_shape(_at(op, 0)), known_shape(_out(op))
    if condition is None or result is None:
        return None
    pairs = zip(reversed(condition), reversed(result), strict=False)
    good = len(condition) <= len(result) and all(a in (1, b) for a, b in pairs)
    return "" if good else f"condition {list(condition)} for {list(result)}"


@_rule("branch_shapes", "values as large as the output, or single ones")
def _branch_shapes(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    result = known_shape(_out(op))

    def one(tensor: Tensor | None) -> str | None:
        shape = known_shape(tensor)
        if shape is None or result is None or tensor is None:
            return None
        if len(shape) == 2 and not graph.constant(tensor):
            return "a computed 2-D value"
        return "" if shape == result or shape in ((), (1,)) else f"a value of {list(shape)}"

    return _joined(one(_at(op, i)) for i in (1, 2))


@_rule("single_hot_shape", "indices with one dimension above 1, the last")
def _single_hot_shape(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    shape = known_shape(_at(op, 0))
    if shape is None:
        return None
    outer = shape[1:-1] if len(shape) == 4 else shape[:-1]
    return f"indices {list(shape)}" if any(d > 1 for d in outer) else ""


@_rule("lstm_kernel", "a full kernel of {full_inputs} inputs, or a basic one of five")
def _lstm_kernel(op: Operator, graph: Graph, p: Mapping[str, Any]) -> str | None:
    activation = op.options.get("fused_activation")
    if op.options.get("kernel_type") != "BASIC":
        good = len(op.inputs) in p["full_inputs"] and len(op.outputs) == 1
        return (
            "" if good and activation in (None, "TANH", "SIGMOID") else f"{len(op.inputs)} inputs"
        )
    runtime = sum(t is not None and not graph.constant(t) for t in op.inputs)
    clips = any(op.options.get(name) for name in ("cell_clip", "proj_clip"))
    shape = known_shape(_out(op))
    deep = shape is not None and bool(shape) and shape[-1] % 4 != 0
    good = (runtime, len(op.inputs), len(op.outputs)) == (3, 5, 4) and activation in (None, "TANH")
    return "" if good and not clips and not deep else "a basic kernel that does not fit"
