"""The division of a graph, against TensorFlow Lite's own procedure written out step by step."""

from __future__ import annotations

import random
from itertools import product

import pytest
from builders import Net

from edgeopt.facts import ModelFacts, Operator, Tensor
from edgeopt.profile import load_profile
from edgeopt.verify.graph import Graph
from edgeopt.verify.partition import Order
from edgeopt.verify.placement import survey


def _reference(operators: list[Operator], supported: list[bool]) -> list[tuple[bool, list[int]]]:
    """graph_info.cc step by step: for each subset, passes over all nodes until one adds none."""
    pending = {t.index for op in operators for t in op.outputs}
    placed: set[int] = set()
    subsets: list[tuple[bool, list[int]]] = []
    while True:
        kind: bool | None = None
        subset: list[int] = []
        grew = True
        while grew:
            grew = False
            for index, op in enumerate(operators):
                waits = any(t is not None and t.index in pending for t in op.inputs)
                if index in placed or waits or (kind is not None and kind != supported[index]):
                    continue
                kind = supported[index]
                placed.add(index)
                subset.append(index)
                pending -= {t.index for t in op.outputs}
                grew = True
        if kind is None:
            return subsets
        subsets.append((kind, sorted(subset)))


def _random_net(dice: random.Random, size: int, *, shuffled: bool) -> tuple[Net, list[Operator]]:
    """Operations of one to three inputs and one or two outputs, with gaps and constants."""
    net = Net()
    known: list[Tensor | None] = [net.input(), net.input(), net.constant(), None]
    for index in range(size):
        inputs = tuple(dice.choice(known) for _ in range(dice.randint(1, 3)))
        outputs = tuple(net.tensor("int8", (1, 4)) for _ in range(dice.randint(1, 2)))
        net.operators.append(
            Operator(index=index, subgraph=0, op="ADD", version=1, inputs=inputs, outputs=outputs)
        )
        known += outputs
    order = list(net.operators)
    if shuffled:
        dice.shuffle(order)
    return net, order


@pytest.mark.parametrize("seed", range(60))
def test_any_graph_is_divided_as_tensorflow_lite_does(seed: int) -> None:
    dice = random.Random(seed)
    net, order = _random_net(dice, dice.randint(1, 40), shuffled=seed % 2 == 1)
    graph = Graph(net.facts().subgraphs[0])
    for _ in range(5):
        supported = [dice.random() < 0.6 for _ in order]
        assert Order(graph, order).partitions(supported) == _reference(order, supported)


def test_operations_that_wait_for_each_other_are_in_no_part() -> None:
    net = Net()
    a, b = net.tensor("int8", (1, 4)), net.tensor("int8", (1, 4))
    loop = [
        Operator(index=0, subgraph=0, op="ADD", version=1, inputs=(b,), outputs=(a,)),
        Operator(index=1, subgraph=0, op="ADD", version=1, inputs=(a,), outputs=(b,)),
    ]
    assert Order(Graph(net.facts().subgraphs[0]), loop).partitions([True, True]) == []


KINDS = {"ADD": "sure", "RESHAPE": "doubtful", "HARD_SWISH": "refused"}


def _doubtful_net(dice: random.Random, size: int) -> ModelFacts:
    """ADD is mapped, HARD_SWISH is not, and a RESHAPE of this size is inside the bracket."""
    net = Net()
    shape = (1, 50, 50, 64)  # 160,000 elements
    known = [net.input(shape=shape), net.input(shape=shape)]
    doubtful = 0
    for _ in range(size):
        kind = dice.choice([*KINDS, "ADD", "ADD"])
        if kind == "RESHAPE":
            doubtful += 1
            kind = "ADD" if doubtful > 5 else kind
        first, second = dice.choice(known), dice.choice(known)
        inputs = (first, second) if kind == "ADD" else (first,)
        known.append(net.op(kind, *inputs, version=1))
    return net.facts(known[-1])


@pytest.mark.parametrize("seed", range(40))
def test_what_is_uncertain_is_what_differs_over_every_combination(seed: int) -> None:
    facts = _doubtful_net(random.Random(seed), 14)
    operators = list(facts.subgraphs[0].operators)
    found = survey(facts, load_profile("edgetpu-v1"))
    doubtful = [i for i, op in enumerate(operators) if op.op == "RESHAPE"]
    ways = []
    for some in product((True, False), repeat=len(doubtful)):
        taken = dict(zip(doubtful, some, strict=True))
        supported = [taken.get(i, op.op == "ADD") for i, op in enumerate(operators)]
        parts = [part for kind, part in _reference(operators, supported) if kind]
        ways.append(set(parts[0]) if parts else set())
    differs = set.union(*ways) - set.intersection(*ways)
    assert found.uncertain == differs
    assert found.chosen == ways[0]  # everything taken comes first
    assert found.mapped_range == (min(map(len, ways)), max(map(len, ways)))
