"""Which source operations are in a part that hands results to other parts through memory.

Such results are no tensors of the compiled file, so the file does not say where they are made. What
was not kept is in some part all the same: an operation is counted to the first part, in the order
in which they run, that needs it or that reads what it reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from edgeopt.facts import Operator, Subgraph
from edgeopt.model.compiled import compiled_format, holds_code
from edgeopt.verify.mapping_match import Pairs

__all__ = ["inside_shared", "kept_by_name"]


def inside_shared(
    pairs: Pairs, op: Operator, parts: Sequence[Operator], taken: Collection[int]
) -> set[int]:
    """The source operations of the part `op`, one of `parts`; `taken` are kept or counted."""
    graph = pairs.source
    found: set[int] = set()
    waiting = [pairs.tensors[t.index] for t in op.outputs if t.index in pairs.tensors]
    while waiting:
        maker = graph.producer.get(waiting.pop())
        if maker is not None and maker.index not in taken and maker.index not in found:
            found.add(maker.index)
            waiting += [t.index for t in graph.inputs(maker)]
    given = (t.index for t in compiled_format(op).inputs(op))
    read = {pairs.tensors[index] for index in given if index in pairs.tensors}
    for other in graph.subgraph.operators:  # in the order in which they run
        if other.index in taken or other.index in found:
            continue
        made = (graph.producer.get(t.index) for t in graph.inputs(other))
        near = any(t.index in read for t in graph.inputs(other))
        if near or any(m is not None and m.index in found for m in made) or op is parts[-1]:
            found.add(other.index)
    return found


def kept_by_name(source: Subgraph, compiled: Subgraph) -> set[int] | None:
    """The source operations that are kept, by kind and names of outputs; None where one of those
    kept has no equal or several."""
    known = Counter(_name(op) for op in source.operators)
    kept = {_name(op) for op in compiled.operators if not holds_code(op)}
    if any(known[name] != 1 for name in kept):
        return None
    return {op.index for op in source.operators if _name(op) in kept}


def _name(op: Operator) -> tuple[str, tuple[str, ...]]:
    return op.op, tuple(tensor.name for tensor in op.outputs)
