"""Which operations form one part of the graph, by TensorFlow Lite's own rule for delegates, and
which parts the accelerator gets."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from edgeopt.facts import Operator
from edgeopt.verify.graph import Graph

__all__ = ["Choice", "Order"]


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


class Choice:
    """Chooses the partition that goes to the accelerator: the "first", the "largest", or "all"."""

    def __init__(self, graph: Graph, pick: str) -> None:
        operators = graph.subgraph.operators
        self._pick = pick
        self._expanders = {i for i, op in enumerate(operators) if graph.expands_constant(op)}
        self._rest = [i for i in range(len(operators)) if i not in self._expanders]
        self._order = Order(graph, [operators[i] for i in self._rest])

    def of(self, supported: Sequence[bool]) -> frozenset[int]:
        """Its operations, as indices."""
        rest = self._rest
        parts = self._order.partitions([supported[i] for i in rest])
        taken = [[rest[i] for i in part] for kind, part in parts if kind]
        if not taken:
            return frozenset()
        if self._pick == "all":
            picked = [i for part in taken for i in part]
        else:
            picked = taken[0] if self._pick == "first" else max(taken, key=len)
        # Weights kept in float16 are read as such, and their DEQUANTIZE goes along, only when
        # nothing else stays behind (LiteRT tflite/delegates/utils.cc:236).
        return frozenset(picked) | (self._expanders if len(picked) == len(rest) else set())

    def parts(self, supported: Sequence[bool]) -> int:
        """How many there are where some operation is supported."""
        if self._pick != "all":
            return 1
        kinds = [supported[i] for i in self._rest]
        return sum(kind for kind, _ in self._order.partitions(kinds))
