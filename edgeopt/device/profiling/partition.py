"""Which operators of the file lie in which delegate partition, and which of its kernels is whose.

XNNPACK's profiler names its own kernels, in the order in which they run, and not the operators
that they came from. What can be told is told: the partitions follow from the graph and from which
operators ran by themselves, and are held against the order of what ran; inside of one, a kernel is
an operator's only where every best alignment of the two lists by type says so. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from edgeopt.facts import Operator, Subgraph

__all__ = ["aligned", "partitions", "suits"]

_MOST_CELLS = 4_000_000  # of the alignment's table

# XNNPACK's kernel names up to the bracket, and the operators they can stand for.
_KERNELS = {
    "Abs": ("ABS",),
    "Add": ("ADD",),
    "ArgMax Pooling": ("ARG_MAX",),
    "Average Pooling": ("AVERAGE_POOL_2D", "MEAN"),
    "Bankers Rounding": ("ROUND",),
    "Batch Matrix Multiply": ("BATCH_MATMUL", "FULLY_CONNECTED"),
    "Ceiling": ("CEIL",),
    "Clamp": ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"),
    "Concatenate": ("CONCATENATION",),
    "Constant Pad": ("PAD", "PADV2"),
    "Convert": ("QUANTIZE", "DEQUANTIZE", "CAST"),
    "Convolution": ("CONV_2D", "DEPTHWISE_CONV_2D"),
    "Copy": ("RESHAPE", "SQUEEZE", "EXPAND_DIMS"),
    "Cosine": ("COS",),
    "Deconvolution": ("TRANSPOSE_CONV",),
    "Depth To Space": ("DEPTH_TO_SPACE",),
    "Divide": ("DIV",),
    "ELU": ("ELU",),
    "Even Split": ("SPLIT", "SPLIT_V"),
    "Exp": ("EXP",),
    "Floor": ("FLOOR",),
    "Fully Connected": ("FULLY_CONNECTED", "CONV_2D", "BATCH_MATMUL"),
    "GELU": ("GELU",),
    "Global Average Pooling": ("MEAN", "AVERAGE_POOL_2D"),
    "HardSwish": ("HARD_SWISH",),
    "Hardswish": ("HARD_SWISH",),
    "Leaky ReLU": ("LEAKY_RELU",),
    "Log": ("LOG",),
    "Max Pooling": ("MAX_POOL_2D",),
    "Maximum": ("MAXIMUM",),
    "Mean": ("MEAN", "AVERAGE_POOL_2D"),
    "Minimum": ("MINIMUM",),
    "Multiply": ("MUL",),
    "Negate": ("NEG",),
    "PReLU": ("PRELU",),
    "Prelu": ("PRELU",),
    "Reciprocal Square Root": ("RSQRT",),
    "Resize Bilinear": ("RESIZE_BILINEAR",),
    "Sigmoid": ("LOGISTIC",),
    "Sine": ("SIN",),
    "Slice": ("SLICE", "STRIDED_SLICE"),
    "Softmax": ("SOFTMAX",),
    "Space To Depth": ("SPACE_TO_DEPTH",),
    "Square": ("SQUARE",),
    "Square Root": ("SQRT",),
    "Squared Difference": ("SQUARED_DIFFERENCE",),
    "Static Reshape": ("RESHAPE", "SQUEEZE", "EXPAND_DIMS"),
    "Static Transpose": ("TRANSPOSE",),
    "Subtract": ("SUB",),
    "Sum": ("SUM",),
    "Tanh": ("TANH",),
    "Transpose": ("TRANSPOSE",),
    "Truncation": ("CAST",),
}


def suits(kernel: str, op: str) -> bool:
    """Whether a kernel of that name can have computed an operator of that type."""
    if kernel.startswith("Convolution") and "DWConv" in kernel:
        return op == "DEPTHWISE_CONV_2D"
    return op in _KERNELS.get(kernel.partition(" (")[0].strip(), ())


def partitions(
    graph: Subgraph, alone: Set[int], order: Sequence[int | None]
) -> list[tuple[int, ...]] | None:
    """The operators of each delegated partition, in the order in which partitions run.

    `alone` are the operators that ran by themselves, `order` what ran: an operator's index, or None
    for a partition. None when the graph does not give that order, so that nothing can be told.

    The rule is TensorFlow Lite's graph partitioner: the first operator that can run decides the
    side of a subset, which then takes all others of that side that can run
    (tensorflow/lite/graph_info.cc).
    """
    subsets = _subsets(graph, alone)
    expected: list[int | None] = []
    for mine, members in subsets:
        expected += [None] if mine else list(members)
    if expected != list(order):
        return None
    return [tuple(members) for mine, members in subsets if mine]


def _subsets(graph: Subgraph, alone: Set[int]) -> list[tuple[bool, list[int]]]:
    """(is delegated, its operators) of every subset in the order of execution."""
    made = {tensor.index for op in graph.operators for tensor in op.outputs}
    ready = {t.index for t in graph.tensors if t.index not in made}
    left, found = list(graph.operators), []
    while left:
        side: bool | None = None
        members: list[int] = []
        moved = True
        while moved:
            moved, rest = False, []
            for op in left:
                delegated = op.index not in alone
                if _can_run(op, ready) and side in (None, delegated):
                    side, moved = delegated, True
                    members.append(op.index)
                    ready |= {tensor.index for tensor in op.outputs}
                else:
                    rest.append(op)
            left = rest
        if side is None:  # a cycle: no file that runs has one
            return []
        found.append((side, members))
    return found


def _can_run(op: Operator, ready: Set[int]) -> bool:
    return all(t is None or t.constant or t.index in ready for t in op.inputs)


def aligned(ops: Sequence[str], kernels: Sequence[str]) -> dict[int, int]:
    """Position of an operator to that of its kernel, where there is no other way.

    Both lists are in the order of execution. An alignment pairs suitable entries without crossing;
    a pair counts when it is in every alignment with the most pairs.
    """
    rows, columns = len(ops), len(kernels)
    if not rows or not columns or rows * columns > _MOST_CELLS:
        return {}
    fit = [[suits(kernel, op) for kernel in kernels] for op in ops]
    before = _lengths(fit)
    turned = _lengths([row[::-1] for row in fit[::-1]])
    best = before[rows][columns]

    def behind(row: int, column: int) -> int:
        return turned[rows - row][columns - column]

    pairs: dict[int, int] = {}
    for row in range(rows):
        skippable = any(before[row][c] + behind(row + 1, c) == best for c in range(columns + 1))
        at = [
            c
            for c in range(columns)
            if fit[row][c] and before[row][c] + 1 + behind(row + 1, c + 1) == best
        ]
        if len(at) == 1 and not skippable:
            pairs[row] = at[0]
    return pairs


def _lengths(fit: Sequence[Sequence[bool]]) -> list[list[int]]:
    """Most pairs among the first r rows and the first c columns, as in a longest common
    subsequence."""
    table = [[0] * (len(fit[0]) + 1)]
    for row in fit:
        last, line = table[-1], [0]
        for column, fits in enumerate(row):
            line.append(last[column] + 1 if fits else max(last[column + 1], line[-1]))
        table.append(line)
    return table
