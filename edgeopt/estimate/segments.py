"""Cutting a partition into segments for several devices, each with a cache of its own."""

from __future__ import annotations

from dataclasses import dataclass

from edgeopt.estimate.features import Features, Mapped, of_work
from edgeopt.estimate.work import Work, elements
from edgeopt.facts import Tensor

__all__ = ["Segment", "cut"]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of operations for one device; `streamed` and `cached` are bytes of parameters."""

    features: Features
    cached: int
    streamed: int


def cut(mapped: Mapped, count: int) -> tuple[Segment, ...] | None:
    """`count` runs with about equal parameter bytes, as edgetpu_compiler --num_segments makes
    them; None where there are too few operations with parameters."""
    ends = _ends([w.parameters for w in mapped.work], count)
    if ends is None:
        return None
    crossing = [mapped.inputs, *(_alive(mapped, end) for end in ends[:-1]), mapped.outputs]
    begins = [0, *ends[:-1]]
    return tuple(
        _segment(mapped.work[a:b], crossing[i], crossing[i + 1])
        for i, (a, b) in enumerate(zip(begins, ends, strict=True))
    )


def _segment(work: tuple[Work, ...], inputs: int, outputs: int) -> Segment:
    features = of_work(work, inputs=inputs, outputs=outputs)
    total = sum(w.parameters for w in work)
    streamed = total - features.cached
    return Segment(features=features, cached=features.cached, streamed=streamed)


def _ends(sizes: list[int], count: int) -> list[int] | None:
    """Where each run ends: the first operation at which its share of the bytes is reached."""
    if sum(size > 0 for size in sizes) < count:
        return None
    ends: list[int] = []
    total, passed = sum(sizes), 0
    for index, size in enumerate(sizes):
        if (
            len(ends) + 1 < count
            and passed
            and (passed + size / 2) * count >= total * (len(ends) + 1)
        ):
            ends.append(index)
        passed += size
    return [*ends, len(sizes)] if len(ends) == count - 1 else None


def _alive(mapped: Mapped, end: int) -> int:
    """Bytes that are made before an operation and still needed from it on."""
    made: dict[int, Tensor] = {
        t.index: t for op in mapped.operators[:end] for t in op.outputs if not t.constant
    }
    needed = {t.index for op in mapped.operators[end:] for t in op.inputs if t is not None}
    return sum(elements(t.shape) for index, t in made.items() if index in needed)
