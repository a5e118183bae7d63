"""What could be done about a slow model, with the estimate of each way to go."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeopt.estimate.cache import MIB, limits, split
from edgeopt.estimate.contract import Advice, Choice, Latency
from edgeopt.estimate.features import Features, Mapped, features_of, mapped_of, of_work
from edgeopt.estimate.segments import Segment, cut
from edgeopt.estimate.work import elements, work_of
from edgeopt.facts import ModelFacts, Operator
from edgeopt.findings import Placement

__all__ = ["advice_of"]

_MOST_SEGMENTS = 8
_DOMINATES = 0.25  # of the time
_PAYS = 0.9  # what is not faster than before by this factor is not worth a suggestion


def advice_of(
    mapped: Mapped,
    placement: Placement,
    beside: Sequence[tuple[ModelFacts, Placement]],
    latency: Latency,
    latency_of: Callable[[Features], Latency],
) -> tuple[Advice, ...]:
    """Streaming and segments, sharing the cache, mapping more: what applies to this model."""
    found = [
        _streaming(mapped, latency, latency_of),
        _segments(mapped, latency, latency_of),
        _together(mapped, beside, latency, latency_of),
        _mapping_more(mapped, placement, latency_of),
    ]
    return tuple(item for item in found if item is not None)


def _choice(name: str, latency: Latency, detail: str = "", rate: float | None = None) -> Choice:
    return Choice(
        name=name,
        latency_ms=latency.value_ms,
        low_ms=latency.low_ms,
        high_ms=latency.high_ms,
        per_second=1000 / latency.value_ms if rate is None else rate,
        detail=detail,
    )


def _streaming(
    mapped: Mapped, latency: Latency, latency_of: Callable[[Features], Latency]
) -> Advice | None:
    """How much a model small enough for the cache would take."""
    share = latency.terms_ms["streaming"] / latency.value_ms
    if share < _DOMINATES:
        return None
    sizes = [w.parameters for w in mapped.work]
    over = sum(sizes) - split(sizes, limits(len(sizes))[0])[0]
    cached = of_work(
        mapped.work, inputs=mapped.inputs, outputs=mapped.outputs, limit=sum(sizes),
        rest=[work_of(op) for op in mapped.rest],
    )  # fmt: skip
    return Advice(
        kind="streaming",
        text=f"{over / MIB:.2f} MiB of parameters cross the link with every inference, "
        f"{100 * share:.0f}% of the time. Fewer channels or a smaller architecture that fits the "
        "cache would save that.",
        choices=(
            _choice("as it is", latency),
            _choice("if all were cached", latency_of(cached)),
        ),
    )


def _segments(
    mapped: Mapped, latency: Latency, latency_of: Callable[[Features], Latency]
) -> Advice | None:
    """Pipelines that are each faster than the one before, up to one that is all cached."""
    if not latency.terms_ms["streaming"] or mapped.rest:
        return None
    choices = [_choice("1 device", latency)]
    for count in range(2, _MOST_SEGMENTS + 1):
        segments = cut(mapped, count)
        if segments is None:
            break
        found = _pipeline(segments, latency_of)
        if (found.per_second or 0) * _PAYS > (choices[-1].per_second or 0):
            choices.append(found)
        if not any(s.streamed for s in segments):
            break
    if len(choices) == 1:
        return None
    best = choices[-1]
    return Advice(
        kind="segments",
        text=f"{best.name.capitalize()} (--num-segments {best.name.split()[0]}) keep more of the "
        "parameters on the chips: one inference takes the sum of the segments, a stream of them "
        "the slowest segment each.",
        choices=tuple(choices),
    )


def _pipeline(segments: tuple[Segment, ...], latency_of: Callable[[Features], Latency]) -> Choice:
    times = [latency_of(s.features) for s in segments]
    kept = ", ".join(f"{s.cached / MIB:.2f}" for s in segments)
    streamed = sum(s.streamed for s in segments)
    detail = f"{kept} MiB on chip"
    return Choice(
        name=f"{len(segments)} devices",
        latency_ms=sum(t.value_ms for t in times),
        low_ms=sum(t.low_ms for t in times),
        high_ms=sum(t.high_ms for t in times),
        per_second=1000 / max(t.value_ms for t in times),
        detail=detail + (f", {streamed / MIB:.2f} MiB streamed" if streamed else ""),
    )


def _together(
    mapped: Mapped,
    beside: Sequence[tuple[ModelFacts, Placement]],
    latency: Latency,
    latency_of: Callable[[Features], Latency],
) -> Advice | None:
    """Compiled one by one, models push each other out of the cache; together they share it."""
    others = [(facts, mapped_of(facts, placement)) for facts, placement in beside]
    if not others:
        return None
    room, names = limits(len(mapped.work))[0], [facts.path.name for facts, _ in others]
    parts = [mapped, *(other for _, other in others)]
    alone, shared, left = 0.0, 0.0, room
    for part in parts:
        own = features_of(part)
        alone += latency_of(own).value_ms + _reload(part, latency_of)
        squeezed = of_work(
            part.work, inputs=part.inputs, outputs=part.outputs, limit=left,
            rest=[work_of(op) for op in part.rest],
        )  # fmt: skip
        shared += latency_of(squeezed).value_ms
        left -= squeezed.cached
    factors = latency.low_ms / latency.value_ms, latency.high_ms / latency.value_ms
    choices = tuple(
        Choice(
            name=name, latency_ms=time, low_ms=time * factors[0], high_ms=time * factors[1],
            detail=detail,
        )
        for name, time, detail in (
            ("compiled one by one", alone, "each inference after another model fills the cache"),
            ("compiled together", shared, f"{(room - left) / MIB:.2f} MiB shared"),
        )
    )  # fmt: skip
    better = "together" if shared < alone else "one by one"
    return Advice(
        kind="co-compile",
        text=f"Running in turn with {', '.join(names)}: compile {better}, by this estimate. The "
        "times are one inference of each.",
        choices=choices,
    )


def _reload(mapped: Mapped, latency_of: Callable[[Features], Latency]) -> float:
    """Milliseconds to fill the cache once."""
    own = features_of(mapped)
    nothing = Features(
        macs=0, reads=0, values=0, operations=0, streamed=own.cached, inputs=0, outputs=0
    )
    return latency_of(nothing).terms_ms["streaming"]


def _mapping_more(
    mapped: Mapped, placement: Placement, latency_of: Callable[[Features], Latency]
) -> Advice | None:
    """Supported operations beside the partition: would a second partition (-a) pay?"""
    outside = {op.index for op in placement.ops if op.cause == "outside_partition"}
    runs = _runs(mapped.rest, outside)
    if not runs:
        return None
    cpu = chip = 0.0
    for run in runs:
        work = [work_of(op) for op in run]
        made = {t.index for op in run for t in op.outputs}
        inputs = {
            t.index: elements(t.shape)
            for op in run
            for t in op.inputs
            if t is not None and not t.constant and t.index not in made
        }
        used = {t.index for op in run for t in op.inputs if t is not None}
        outputs = sum(elements(t.shape) for op in run for t in op.outputs if t.index not in used)
        own = of_work(work, inputs=sum(inputs.values()), outputs=outputs)
        left = of_work([], inputs=0, outputs=0, rest=work)
        cpu += latency_of(left).terms_ms["cpu"]
        chip += latency_of(own).value_ms
    count = sum(len(run) for run in runs)
    slower = chip > cpu
    more = f"{len(runs)} more partition{'s' * (len(runs) > 1)}"
    text = f"Mapping {count} more supported operation{'s' * (count > 1)} in {more} (-a) "
    text += "would be slower" if slower else "may be faster"
    text += f": about {chip:.2f} ms there for {cpu:.2f} ms on the CPU."
    if not slower:
        text += " Measure it: -a has made models ten times slower (google-coral/edgetpu issue 342)."
    return Advice(kind="mapping-more-is-slower" if slower else "map-more", text=text)


def _runs(rest: Sequence[Operator], wanted: set[int]) -> list[list[Operator]]:
    """Operations that follow each other in the file and are all wanted."""
    found: list[list[Operator]] = []
    previous = -2
    for op in rest:
        if op.index in wanted:
            if op.index == previous + 1 and found:
                found[-1].append(op)
            else:
                found.append([op])
            previous = op.index
    return found
