"""How far apart the two copies of each activation lie, so that they round as differently as can be.

The copies of a tensor are x + o and x - o. What a layer with weights makes may lie anywhere, by its
bias; a sum has the sum of its parts' offsets, pooling and the like the offset of what they read. So
the offsets that can be chosen are chosen together, by what rounding each tensor costs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from edgeopt.facts import Operator, Subgraph
from edgeopt.optimize.splitting_units import WEIGHING

__all__ = ["left_noise", "offsets"]

_SWEEPS = 6  # coordinate descent settles in two or three
_PLACES = 48  # trial offsets either side, up to a step
_FAR = 0.05  # share of the noise that a step's distance counts as: a RELU bends what lies nearer
# A mean over places where a RELU cut some to zero moves only by the share of the others.
_SHARES = {"MEAN": (0.5, 0.75, 1.0), "AVERAGE_POOL_2D": (0.5, 0.75, 1.0)}


def left_noise(offset: float, step: float, before: float | None = None) -> float:
    """The variance of the mean of two copies rounded at +- `offset`, as a share of one copy's; of
    four, at +- `before` +- `offset`, where copies that lay `before` apart are held twice again.

    Two roundings of one number that lie d steps apart have the covariance B2(d mod 1) / 2 in
    squared steps, with the Bernoulli polynomial B2(d) = d^2 - d + 1/6 (that of sawtooth waves).
    It is a quarter at best, where they lie half a step apart, and of four a sixteenth.
    """

    def alike(apart: float) -> float:  # correlation of two roundings
        d = (apart / step) % 1 if step > 0 else 0.0
        return 6 * (d * d - d + 1 / 6)

    two = (1 + alike(2 * offset)) / 2
    if before is None:
        return two
    across = alike(2 * before)
    crossed = (alike(2 * (before + offset)) + alike(2 * (before - offset))) / 2
    return two / 2 + (across + crossed) / 4


@dataclass(frozen=True)
class _Place:
    """A tensor's offset as a sum of free ones, by tensor and with their signs, for each share of it
    that may be left."""

    parts: Mapping[int, float]
    shares: tuple[float, ...] = (1.0,)


def offsets(
    graph: Subgraph,
    held: Collection[int],
    steps: Mapping[int, float],
    costs: Mapping[int, float],
    before: Mapping[int, float] | None = None,
) -> dict[int, float]:
    """The offset of each tensor of `held` (indices), in real units. `steps` are their int8 steps,
    `costs` what rounding each adds at the answers, in any unit; `before` has the offsets of copies
    that are to be held twice once more."""
    places, known = _places(graph, held), before or {}
    free = sorted({variable for place in places.values() for variable in place.parts})
    found = {variable: steps[variable] / (8 if variable in known else 4) for variable in free}
    reached = {v: [t for t, place in places.items() if v in place.parts] for v in free}

    def cost(variable: int) -> float:
        total = sum(
            costs.get(t, 0.0) * _left(places[t], found, steps[t], known.get(t))
            for t in reached[variable]
        )
        far = found[variable] / (steps[variable] or 1.0)
        return total + _FAR * costs.get(variable, 0.0) * far * far

    for _ in range(_SWEEPS):
        before = dict(found)
        for variable in free:
            _settle(found, variable, steps[variable], cost)
        if found == before:
            break
    return {t: _sum(place, found) for t, place in places.items()}


def _settle(
    found: dict[int, float], variable: int, step: float, cost: Callable[[int], float]
) -> None:
    """Move one offset to where its cost is least."""
    best = (cost(variable), found[variable])
    for number in range(-_PLACES, _PLACES + 1):
        found[variable] = step * number / _PLACES
        trial = cost(variable)
        if trial < best[0] * (1 - 1e-9):
            best = (trial, found[variable])
    found[variable] = best[1]


def _sum(place: _Place, found: Mapping[int, float]) -> float:
    return sum(sign * found[variable] for variable, sign in place.parts.items())


def _left(place: _Place, found: Mapping[int, float], step: float, before: float | None) -> float:
    whole = _sum(place, found)
    left = (
        left_noise(whole * share, step, None if before is None else before * share)
        for share in place.shares
    )
    return sum(left) / len(place.shares)


def _places(graph: Subgraph, held: Collection[int]) -> dict[int, _Place]:
    places: dict[int, _Place] = {}
    for op in graph.operators:
        if op.outputs and op.outputs[0].index in held:
            places[op.outputs[0].index] = _place(op, places)
    return places


def _place(op: Operator, places: Mapping[int, _Place]) -> _Place:
    if op.op in WEIGHING:
        return _Place({op.outputs[0].index: 1.0})
    read = [places[t.index] for t in op.inputs if t is not None and t.index in places]
    if op.op != "ADD":
        return _Place(read[0].parts, _SHARES.get(op.op, read[0].shares))
    parts: dict[int, float] = {}
    for place in read:
        for variable, sign in place.parts.items():
            parts[variable] = parts.get(variable, 0.0) + sign
    return _Place(parts)
