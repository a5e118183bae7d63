"""Do the segments of a pipeline make up the model? Proven from the files, by tensor names.

Pure. A segment's inputs must be inputs of the model or outputs of earlier segments, its outputs
tensors of the model, all with the type, shape and quantization that they have there. What a segment
computes is then the part of the source between the two; the parts must not overlap, and together
must hold every operation. (A later segment than the next may take a tensor: libcoral's pipeline
runner counts a tensor's consumers and passes it on.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from edgeopt.errors import ToolError
from edgeopt.facts import ModelFacts, Operator, Subgraph, Tensor
from edgeopt.model.compiled import edge

__all__ = ["feeds", "parts_of"]

_HINT = "Do not use these files. Compile again, and keep the log if it repeats."


def parts_of(source: ModelFacts, segments: Sequence[ModelFacts]) -> tuple[ModelFacts, ...]:
    """For each segment the part of `source` that it computes, as facts of a model of its own.

    Raises ToolError when the segments do not follow each other or do not cover the source.
    """
    main = source.subgraphs[0]
    known = _by_name(main)
    maker = {t.index: op for op in main.operators for t in op.outputs}
    ready = {t.name for t in main.inputs}
    done: set[int] = set()
    parts = []
    for index, segment in enumerate(segments):
        for tensor in segment.inputs:
            if tensor.name not in ready:
                raise ToolError(
                    f"Segment {index} takes {tensor.name!r}, which is neither an input of the "
                    "model nor an output of an earlier segment.",
                    _HINT,
                )
        for tensor in (*segment.inputs, *segment.outputs):
            _same(tensor, known, index)
        inputs = [known[t.name] for t in segment.inputs]
        outputs = [known[t.name] for t in segment.outputs]
        taken = _between(inputs, outputs, maker, main, index)
        if again := sorted(done & taken):
            raise ToolError(
                f"Segment {index} computes {main.operators[again[0]].where} again.", _HINT
            )
        done |= taken
        ready |= {t.name for t in segment.outputs}
        parts.append(_part(source, inputs, outputs, taken))
    _whole(main, done, ready)
    return tuple(parts)


def feeds(source: ModelFacts, segments: Sequence[ModelFacts]) -> tuple[tuple[int | None, ...], ...]:
    """For each segment, which segment makes each of its inputs; None: it is the model's own."""
    maker: dict[str, int | None] = {t.name: None for t in source.inputs}
    found = []
    for index, segment in enumerate(segments):
        found.append(tuple(maker[t.name] for t in segment.inputs))
        maker |= {t.name: index for t in segment.outputs}
    return tuple(found)


def _by_name(main: Subgraph) -> dict[str, Tensor]:
    """The tensors that flow, by name."""
    found: dict[str, Tensor] = {}
    for tensor in (*main.inputs, *(t for op in main.operators for t in op.outputs)):
        if found.setdefault(tensor.name, tensor).index != tensor.index:
            raise ToolError(
                f"The model has several tensors named {tensor.name!r}: what its segments compute "
                "cannot be proven.",
                "Convert the model so that its tensors have names of their own.",
            )
    return found


def _same(tensor: Tensor, known: dict[str, Tensor], index: int) -> None:
    original = known.get(tensor.name)
    if original is None:
        raise ToolError(f"Segment {index} has {tensor.name!r}, which the model has not.", _HINT)
    if edge(original) != edge(tensor):
        raise ToolError(
            f"Segment {index} has {tensor.name!r} as {tensor.dtype}{list(tensor.shape or ())}, and "
            f"the model as {original.dtype}{list(original.shape or ())}, or with another scale.",
            _HINT,
        )


def _between(
    inputs: Iterable[Tensor],
    outputs: Iterable[Tensor],
    maker: dict[int, Operator],
    main: Subgraph,
    segment: int | None = None,
) -> set[int]:
    """Positions of the operations that lead from `inputs` (of a segment) to `outputs`."""
    given, needed = {t.index for t in inputs}, list(outputs)
    positions = {id(op): place for place, op in enumerate(main.operators)}
    own = {t.index for t in main.inputs}
    taken: set[int] = set()
    while needed:
        tensor = needed.pop()
        if tensor.index in given:
            continue
        op = maker.get(tensor.index)
        if op is None:
            if tensor.index in own and segment is not None:
                raise ToolError(
                    f"Segment {segment} needs the model's input {tensor.name!r} and does not take "
                    "it.",
                    _HINT,
                )
            continue  # a constant
        if positions[id(op)] not in taken:
            taken.add(positions[id(op)])
            needed += [t for t in op.inputs if t is not None]
    return taken


def _whole(main: Subgraph, done: set[int], ready: set[str]) -> None:
    for tensor in main.outputs:
        if tensor.name not in ready:
            raise ToolError(f"No segment gives the model's output {tensor.name!r}.", _HINT)
    leads = _between(
        [], main.outputs, {t.index: o for o in main.operators for t in o.outputs}, main
    )
    if left := sorted(leads - done):  # an operation that no output needs may be left out
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise ToolError(f"No segment computes {main.operators[left[0]].where}{more}.", _HINT)


def _part(
    source: ModelFacts, inputs: list[Tensor], outputs: list[Tensor], taken: set[int]
) -> ModelFacts:
    main = source.subgraphs[0]
    operators = tuple(main.operators[place] for place in sorted(taken))
    graph = replace(main, inputs=tuple(inputs), outputs=tuple(outputs), operators=operators)
    return replace(source, subgraphs=(graph,))
