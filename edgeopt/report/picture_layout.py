"""Where the boxes of a graph go: layers from top to bottom, branches side by side.

The usual three steps of a layered drawing: a layer for each node by its longest path from the
inputs; an order within each layer by the mean place of its neighbours; and places that come closest
to those means without overlapping, which is an isotonic regression (pool adjacent violators).
Lines over several layers run through invisible nodes, so that they go around the boxes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Layout", "lay_out"]

_SWEEPS = 6
_LINE_WIDTH = 0.14  # of a box: the room of a line that passes by
_MOST_BENDS = 60_000  # beyond, long lines are drawn straight


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Places in units of one box: `nodes[i]` is (x, layer) of node i, `lines[e]` the points that
    edge e passes between its ends. `width` and `layers` bound them."""

    nodes: tuple[tuple[float, int], ...]
    lines: tuple[tuple[tuple[float, int], ...], ...]
    width: float
    layers: int


def lay_out(count: int, edges: Sequence[tuple[int, int]]) -> Layout:
    """Place `count` nodes; an edge that is on a cycle is drawn from end to end."""
    rank = _ranks(count, edges)
    chains, ranks, links = _with_bends(rank, edges)
    rows = _ordered(ranks, links)
    x = _placed(rows, ranks, links, count)
    least = min(x, default=0.0)
    x = [value - least for value in x]
    return Layout(
        nodes=tuple((x[i], ranks[i]) for i in range(count)),
        lines=tuple(tuple((x[i], ranks[i]) for i in chain) for chain in chains),
        width=max(x, default=0.0) + 1,
        layers=max(ranks, default=-1) + 1,
    )


def _ranks(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The longest path to each node; nodes of a cycle come last, one below the other."""
    after: list[list[int]] = [[] for _ in range(count)]
    waits = [0] * count
    for start, end in edges:
        after[start].append(end)
        waits[end] += 1
    rank = [0] * count
    ready = deque(i for i in range(count) if not waits[i])
    done = 0
    while ready:
        node = ready.popleft()
        done += 1
        for follower in after[node]:
            rank[follower] = max(rank[follower], rank[node] + 1)
            waits[follower] -= 1
            if not waits[follower]:
                ready.append(follower)
    if done < count:
        bottom = max(rank) + 1
        for place, node in enumerate(i for i in range(count) if waits[i]):
            rank[node] = bottom + place
    return rank


def _with_bends(
    rank: list[int], edges: Sequence[tuple[int, int]]
) -> tuple[list[list[int]], list[int], list[tuple[int, int]]]:
    """For each edge the nodes it passes (new ones, one a layer); all ranks; edges of one layer."""
    ranks, chains = list(rank), []
    links: list[tuple[int, int]] = []
    for start, end in edges:
        chain: list[int] = []
        span = rank[end] - rank[start]
        if span > 1 and len(ranks) + span < len(rank) + _MOST_BENDS:
            for layer in range(rank[start] + 1, rank[end]):
                chain.append(len(ranks))
                ranks.append(layer)
        if span >= 1:
            path = [start, *chain, end]
            links += pairwise(path)
        chains.append(chain)
    return chains, ranks, links


def _neighbours(ranks: list[int], links: list[tuple[int, int]]) -> tuple[list[list[int]], ...]:
    above: list[list[int]] = [[] for _ in ranks]
    below: list[list[int]] = [[] for _ in ranks]
    for start, end in links:
        above[end].append(start)
        below[start].append(end)
    return above, below


def _ordered(ranks: list[int], links: list[tuple[int, int]]) -> list[list[int]]:
    """The nodes of each layer from left to right, with few crossings."""
    rows: list[list[int]] = [[] for _ in range(max(ranks, default=-1) + 1)]
    for node, layer in enumerate(ranks):
        rows[layer].append(node)
    above, below = _neighbours(ranks, links)
    place = {node: float(i) for row in rows for i, node in enumerate(row)}
    best, fewest = [list(row) for row in rows], None
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        near = above if down else below
        for row in rows if down else reversed(rows):
            mean = {
                n: sum(place[m] for m in near[n]) / len(near[n]) if near[n] else place[n]
                for n in row
            }
            row.sort(key=mean.__getitem__)
            place.update({node: float(i) for i, node in enumerate(row)})
        bends = sum(abs(place[a] - place[b]) for a, b in links)
        if fewest is None or bends < fewest:
            best, fewest = [list(row) for row in rows], bends
    return best


def _placed(
    rows: list[list[int]], ranks: list[int], links: list[tuple[int, int]], count: int
) -> list[float]:
    above, below = _neighbours(ranks, links)
    x = [0.0] * len(ranks)
    for row in rows:
        for i, node in enumerate(row):
            x[node] = float(i)
    for sweep in range(_SWEEPS):
        near = above if sweep % 2 == 0 else below
        other = below if sweep % 2 == 0 else above
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = []
            for node in row:
                around = near[node] or other[node]
                wanted.append(sum(x[m] for m in around) / len(around) if around else x[node])
            for node, value in zip(row, _apart(row, wanted, count), strict=True):
                x[node] = value
    return x


def _apart(row: list[int], wanted: list[float], count: int) -> list[float]:
    """The places nearest to `wanted` (least squares) that keep the order and the distances."""
    offsets, at = [], 0.0
    for i, node in enumerate(row):
        if i:
            at += (_room(row[i - 1], count) + _room(node, count)) / 2
        offsets.append(at)
    blocks: list[tuple[float, int]] = []  # mean and size, rising
    for value, offset in zip(wanted, offsets, strict=True):
        mean, size = value - offset, 1
        while blocks and blocks[-1][0] >= mean:
            before, other = blocks.pop()
            mean = (mean * size + before * other) / (size + other)
            size += other
        blocks.append((mean, size))
    shifts = [mean for mean, size in blocks for _ in range(size)]
    return [offset + shift for offset, shift in zip(offsets, shifts, strict=True)]


def _room(node: int, count: int) -> float:
    return 1.0 if node < count else _LINE_WIDTH
