"""Which operations form one part of the graph: TensorFlow Lite's own rule for delegates."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from edgeopt.facts import Operator
from edgeopt.verify.graph import Graph

__all__ = ["Order", "partitions"]


class Order:
    """What waits for what among `operators`, made once and divided as often as wanted."""

    def __init__(self, graph: Graph, operators: Sequence[Operator]) -> None:
        made = {t.index for op in operators for t in op.outputs}
        self._waits: list[int] = []
        self._readers: dict[int, list[int]] = {}
        for index, op in enumerate(operators):
            needed = [t.index for t in graph.inputs(op) if t.index in made]
            self._waits.append(len(needed))
            for tensor in needed:
                self._readers.setdefault(tensor, []).append(index)
        self._outputs = [[t.index for t in op.outputs] for op in operators]

    def partitions(self, supported: Sequence[bool]) -> list[tuple[bool, list[int]]]:
        """Runs of equal kind in dependency order, as indices of operators.

        TensorFlow Lite's PartitionGraphIntoIndependentNodeSubsets
        (tensorflow/lite/graph_info.cc): the first operation that is ready sets a run's kind, and
        the run takes every operation of that kind that is or becomes ready, wherever it stands.
        """
        waits = list(self._waits)
        ready: dict[bool, list[int]] = {True: [], False: []}
        for index, count in enumerate(waits):
            if not count:
                ready[supported[index]].append(index)
        for heap in ready.values():
            heapify(heap)
        found: list[tuple[bool, list[int]]] = []
        done: set[int] = set()
        while ready[True] or ready[False]:
            kind = min((heap[0], kind) for kind, heap in ready.items() if heap)[1]
            taken: list[int] = []
            while ready[kind]:
                taken.append(index := heappop(ready[kind]))
                for tensor in self._outputs[index]:
                    if tensor not in done:
                        done.add(tensor)
                        for reader in self._readers.get(tensor, ()):
                            waits[reader] -= 1
                            if not waits[reader]:
                                heappush(ready[supported[reader]], reader)
            found.append((kind, sorted(taken)))
        return found  # what waits on itself is in no run: such a file does not load anywhere


def partitions(
    graph: Graph, operators: Sequence[Operator], supported: Sequence[bool]
) -> list[tuple[bool, list[int]]]:
    """`Order.partitions` of operators that are divided once."""
    return Order(graph, operators).partitions(supported)
