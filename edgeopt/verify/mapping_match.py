"""Pair what a compiled model kept with the operations and tensors of its source, by structure.

The compiler keeps an operation it does not map as it is, except its version, which it writes as 1.
So kept operations are found again from the model's inputs onwards and from its outputs backwards:
the same operation, options, constants and quantization on tensors already paired. Names only settle
what structure leaves open, so a file whose tensors were renamed is understood as well.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence

from edgeopt.errors import ModelError
from edgeopt.facts import Operator, Subgraph, Tensor
from edgeopt.model.compiled import edge, holds_code
from edgeopt.model.schema import default_options
from edgeopt.verify.graph import Graph

__all__ = ["Contradiction", "Pairs"]

_ROUNDS = 8
_END_BYTES = 64  # of a constant, to look it up by; whole constants are compared once a pair is made


class Contradiction(ModelError):
    """The compiled file holds what its alleged source does not."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The compiled file was not made from this source: {what}.",
            "Give the model that was compiled with --source, or compile it again.",
        )


class Pairs:
    """Which tensor and which operation of the source each one of the compiled file is, by index.

    `segment` is True when the compiled file's inputs and outputs are inner tensors of the source.
    `open` are kept operations of which the source has several that cannot be told apart. At most
    `limit` bytes of constants are compared. Raises Contradiction when something kept has
    no equal in the source.
    """

    def __init__(self, source: Subgraph, compiled: Subgraph, limit: int) -> None:
        self.source, self.compiled = Graph(source), Graph(compiled)
        self.tensors: dict[int, int] = {}
        self.operators: dict[int, int] = {}
        self._limit = limit
        self._used: set[int] = set()
        self._new: deque[Tensor] = deque()
        self._kept = [op for op in compiled.operators if not holds_code(op)]
        self._waits = {op.index: len(self._active(op)) for op in self._kept}
        self._free: dict[object, list[Operator]] = {}
        for op in reversed(source.operators):  # so that the last is the first in the file
            key = _key(op, [None if t is None else t.index for t in op.inputs])
            self._free.setdefault(key, []).append(op)
        self.segment = self._pair_edges(source, compiled)
        self._settle()

    @staticmethod
    def _active(op: Operator) -> set[int]:
        return {t.index for t in op.inputs if t is not None and not t.constant}

    def _pair_edges(self, source: Subgraph, compiled: Subgraph) -> bool:
        known, whole = _by_name(source.tensors), True
        for side, before, after in (
            ("input", source.inputs, compiled.inputs),
            ("output", source.outputs, compiled.outputs),
        ):
            named = [known[t.name] for t in after if t.name in known]
            if len(named) == len(after) and [*map(edge, named)] == [*map(edge, after)]:
                found = named
                whole = whole and [t.index for t in named] == [t.index for t in before]
            elif [*map(edge, before)] == [*map(edge, after)]:
                found = list(before)
            else:
                raise Contradiction(f"its {side}s are {_listed(after)}, not {_listed(before)}")
            for made, original in zip(after, found, strict=True):
                self._pair(made, original)
        return not whole

    def _settle(self) -> None:
        """Follow what is certain; then let names decide, then the order in the file."""
        self._follow(op for op in self._kept if not self._waits[op.index])
        known = _by_name(self.source.subgraph.tensors)
        names = _by_name(self.compiled.subgraph.tensors)
        for op in self.compiled.subgraph.operators:
            for tensor in (*self.compiled.inputs(op), *op.outputs):
                original = known.get(tensor.name) if tensor.name in names else None
                if original is None or tensor.constant or tensor.index in self.tensors:
                    continue
                if edge(tensor) == edge(original):
                    self._pair(tensor, original)
                    self._follow(())
        for op in self._kept:
            if op.index not in self.operators and self._active(op) <= self.tensors.keys():
                self._forward(op, final=True)
                self._follow(())
        self._recognize()
        self._recognize_borders()
        self.open = [op for op in self._kept if op.index not in self.operators]

    def _recognize(self) -> None:
        """Between two partitions nothing is paired yet: look for the only operation that is alike,
        which constants make likely."""
        alike: dict[object, list[Operator]] = {}
        for op in self.source.subgraph.operators:
            alike.setdefault(_key(op, None), []).append(op)
        for _ in range(_ROUNDS):
            before = len(self.operators)
            for op in self._kept:
                if op.index in self.operators:
                    continue
                found = alike.get(_key(op, None), [])
                found[:] = [other for other in found if other.index not in self._used]
                if not found:
                    raise Contradiction(f"{op.where} has no equal in it")
                if len(found) == 1:
                    self._claim(op, found[0])
                    self._follow(())
            if len(self.operators) == before:
                return

    def _recognize_borders(self) -> None:
        """From one partition straight to the next: the only tensor of that shape and scale."""
        taken = set(self.tensors.values())
        alike: dict[object, list[Tensor]] = {}
        for tensor in self.source.subgraph.tensors:
            if not tensor.constant and tensor.index not in taken:
                alike.setdefault(edge(tensor), []).append(tensor)
        for op in self.compiled.subgraph.operators:
            for tensor in (*self.compiled.inputs(op), *op.outputs):
                found = alike.get(edge(tensor), [])
                if tensor.constant or tensor.index in self.tensors or len(found) != 1:
                    continue
                self._pair(tensor, found[0])
                self._follow(())

    def _follow(self, ops: Iterable[Operator]) -> None:
        ready = deque(ops)
        while ready or self._new:
            while self._new:
                tensor = self._new.popleft()
                self._backward(tensor)
                for reader in self.compiled.consumers.get(tensor.index, ()):
                    if reader.index in self._waits:
                        self._waits[reader.index] -= 1
                        if self._waits[reader.index] == 0:
                            ready.append(reader)
            if ready:
                self._forward(ready.popleft(), final=False)

    def _pair(self, made: Tensor, original: Tensor) -> None:
        if made.index not in self.tensors:
            if edge(made) != edge(original):
                raise Contradiction(f"{_listed([made])} stands for {_listed([original])}")
            self.tensors[made.index] = original.index
            self._new.append(made)
        elif self.tensors[made.index] != original.index:
            raise Contradiction(f"tensor {made.name[:80]!r} stands for two of its tensors")

    def _backward(self, tensor: Tensor) -> None:
        maker = self.compiled.producer.get(tensor.index)
        if maker is None or holds_code(maker):
            return
        original = self.source.producer.get(self.tensors[tensor.index])
        if original is None:
            raise Contradiction(f"{maker.where} makes what is a constant or an input there")
        self._claim(maker, original)

    def _forward(self, op: Operator, *, final: bool) -> None:
        """Pair an operation whose inputs are all paired; leave it open where several would fit."""
        if op.index in self.operators:
            return
        inputs = [None if t is None else self.tensors.get(t.index) for t in op.inputs]
        found = self._free.get(_key(op, inputs), [])
        while found and found[-1].index in self._used:
            found.pop()
        if not found:
            raise Contradiction(f"{op.where} has no equal in it")
        names = [t.name for t in op.outputs]
        same = [o for o in found if [t.name for t in o.outputs] == names]
        if len(found) == 1 or len(same) == 1 or final:
            self._claim(op, (same or found[-1:])[0])

    def _claim(self, op: Operator, original: Operator) -> None:
        known = self.operators.get(op.index)
        if known == original.index:
            return
        if known is not None or original.index in self._used:
            raise Contradiction(f"{op.where} and {original.where} are not one to one")
        if difference := self._difference(op, original):
            raise Contradiction(f"{op.where} differs from {original.where} in its {difference}")
        self.operators[op.index] = original.index
        self._used.add(original.index)
        for made, there in zip((*op.inputs, *op.outputs), (*original.inputs, *original.outputs),
                               strict=True):  # fmt: skip
            if made is not None and there is not None and not made.constant:
                self._pair(made, there)

    def _difference(self, op: Operator, original: Operator) -> str:
        """What two operations do not have in common, in a word or two; empty when all is equal."""
        if (op.op, op.custom) != (original.op, original.custom):
            return "kind"
        if _options(op) != _options(original):
            return "options"
        if [t is None for t in op.inputs] != [t is None for t in original.inputs]:
            return "inputs"
        if [*map(edge, op.outputs)] != [*map(edge, original.outputs)]:
            return "outputs"
        for made, there in zip(op.inputs, original.inputs, strict=True):
            if made is None or there is None:
                continue
            if made.constant != there.constant or edge(made) != edge(there):
                return f"input {there.name[:80]!r}"
            if made.constant and not self._equal(made, there):
                return f"constant {there.name[:80]!r}"
        return ""

    def _equal(self, made: Tensor, there: Tensor) -> bool:
        if made.data is None or there.data is None:
            return made.data is there.data
        self._limit -= len(there.data)
        if self._limit < 0:
            raise Contradiction("its constants overlap beyond reason")
        return bytes(made.data) == bytes(there.data)


def _key(op: Operator, inputs: Sequence[int | None] | None) -> object:
    """An operation and what it reads: `inputs` as tensors of the source; None where not known, and
    then their types, shapes and quantization stand for them."""
    read = tuple(
        _glance(tensor)
        if tensor is not None and tensor.constant
        else index
        if inputs is not None
        else tensor and edge(tensor)
        for tensor, index in zip(op.inputs, inputs or op.inputs, strict=True)
    )
    return op.op, op.custom, _options(op), read, tuple(map(edge, op.outputs))


def _glance(constant: Tensor) -> object:
    data = constant.data
    if data is None:
        return edge(constant)
    return edge(constant), len(data), bytes(data[:_END_BYTES]), bytes(data[-_END_BYTES:])


def _options(op: Operator) -> object:
    """The options that are not the schema's defaults: the compiler writes out what was left out."""
    custom = None if op.custom_options is None else bytes(op.custom_options)
    usual = default_options(frozenset(op.options))
    told = {
        name: value
        for name, value in op.options.items()
        if all(value != defaults[name] for defaults in usual)
    }
    return repr(sorted(told.items())), custom


def _by_name(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """Tensors whose name is theirs alone."""
    times = Counter(t.name for t in tensors)
    return {t.name: t for t in tensors if t.name and times[t.name] == 1}


def _listed(tensors: Sequence[Tensor]) -> str:
    parts = []
    for tensor in tensors[:4]:
        q = tensor.quantization
        scale = f" scale {q.scales[0]:g} zero point {q.zero_points[0]}" if q else ""
        parts.append(f"{tensor.name[:80]} {tensor.dtype}{list(tensor.shape or ())}{scale}")
    return ", ".join(parts) + (" ..." if len(tensors) > 4 else "") or "none"
