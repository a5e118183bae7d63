"""What a latency is estimated from: the sums over a partition, and what is left beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeopt.estimate.cache import limits, split
from edgeopt.estimate.work import Work, elements, work_of
from edgeopt.facts import ModelFacts, Operator
from edgeopt.findings import Placement

__all__ = ["Features", "Mapped", "features_of", "mapped_of", "of_work", "passes", "peak"]

_PASSES = ((1_000_000, 1.0), (2_620_000, 2.4), (2_950_000, 4.0))
_MOST_PASSES = 7.0


@dataclass(frozen=True, kw_only=True)
class Features:
    """Sums over one inference. Bytes count one for each 8-bit value; `streamed` counts a layer as
    often as it crosses the link and `cached` are the bytes that do not; `inputs` and `outputs` are
    those of the partition."""

    macs: int
    reads: int
    values: int
    operations: int
    streamed: int
    inputs: int
    outputs: int
    cached: int = 0
    cpu_macs: int = 0
    cpu_values: int = 0
    cpu_operations: int = 0


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """The operations of the partition with their work in file order, the others, and the bytes
    that enter and leave it."""

    operators: tuple[Operator, ...]
    work: tuple[Work, ...]
    rest: tuple[Operator, ...]
    inputs: int
    outputs: int


def mapped_of(facts: ModelFacts, placement: Placement) -> Mapped:
    """Divide the first subgraph as the placement says."""
    main = facts.subgraphs[0]
    at = {op.index for op in placement.ops if op.placement != "cpu"}
    inside = tuple(op for op in main.operators if op.index in at)
    rest = tuple(op for op in main.operators if op.index not in at)
    made = {t.index: t for op in inside for t in op.outputs}
    entering = {
        t.index: t
        for op in inside
        for t in op.inputs
        if t is not None and not t.constant and t.index not in made
    }
    used = {t.index for op in rest for t in op.inputs if t is not None}
    used |= {t.index for t in main.outputs}
    return Mapped(
        operators=inside,
        work=tuple(work_of(op) for op in inside),
        rest=rest,
        inputs=sum(elements(t.shape) for t in entering.values()),
        outputs=sum(elements(t.shape) for index, t in made.items() if index in used),
    )


def features_of(mapped: Mapped) -> Features:
    """The features of a whole model, with its streamed layers as `split` finds them."""
    return of_work(
        mapped.work,
        inputs=mapped.inputs,
        outputs=mapped.outputs,
        rest=[work_of(op) for op in mapped.rest],
    )


def peak(mapped: Mapped) -> int:
    """The most bytes of 8-bit intermediate results that are needed at once, in file order."""
    last: dict[int, int] = {}
    for number, op in enumerate(mapped.operators):
        for tensor in (*op.inputs, *op.outputs):
            if tensor is not None and not tensor.constant:
                last[tensor.index] = number
    most, alive = 0, dict[int, int]()
    for number, op in enumerate(mapped.operators):
        for tensor in (*op.inputs, *op.outputs):
            if tensor is not None and not tensor.constant:
                alive[tensor.index] = elements(tensor.shape)
        most = max(most, sum(alive.values()))
        alive = {index: size for index, size in alive.items() if last[index] > number}
    return most


def of_work(
    work: Sequence[Work],
    *,
    inputs: int,
    outputs: int,
    limit: int | None = None,
    rest: Sequence[Work] = (),
) -> Features:
    """Sum up. `limit` is the cache in bytes (None: what is expected for so many operations),
    `rest` the work that is left to the CPU."""
    room = limits(len(work))[0] if limit is None else limit
    cached, streamed = split([w.parameters for w in work], room)
    return Features(
        macs=sum(w.macs for w in work),
        reads=sum(w.reads for w in work),
        values=sum(w.values for w in work),
        operations=len(work),
        streamed=round(sum(work[i].parameters * passes(work[i].outputs) for i in streamed)),
        inputs=inputs,
        outputs=outputs,
        cached=cached,
        cpu_macs=sum(w.plain_macs for w in rest),
        cpu_values=sum(w.values for w in rest),
        cpu_operations=len(rest),
    )


def passes(outputs: int) -> float:
    """How often a streamed layer crosses the link: with a large output it is computed in parts.

    From the sweep of convolutions on 64x64: the time beyond computing, over the bytes streamed at
    the rate of dense layers, is about 2.4 up to outputs of 2.6 MB, 4 up to 2.9 MB, then 7.
    """
    return next((times for most, times in _PASSES if outputs <= most), _MOST_PASSES)
