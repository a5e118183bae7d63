"""The placement as node data for Model Explorer (ai-edge-model-explorer).

The format is that of its node_data_builder.py (ModelNodeData): by graph, then by node, a value and
colours. Its .tflite adapter calls a graph by its name, else by its signature, else "main", and a
node by its operation's index. Here a node is named by its first output tensor, and by that index
where the tensor's name does not tell it apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from edgeopt.facts import Operator, Subgraph
from edgeopt.report.picture import STYLES, Place

__all__ = ["node_data", "node_times"]


def node_data(
    graph: Subgraph, places: Mapping[int, Place], name: str, chip: str, signature: str = ""
) -> dict[str, Any]:
    """The document for the first subgraph; `name` is what Model Explorer lists it under, `chip`
    what the accelerator is called, `signature` the key of the graph's signature."""
    times = Counter(t.name for op in graph.operators for t in op.outputs)
    results = {}
    for op in graph.operators:
        place = places.get(op.index)
        if place is not None:
            style = STYLES[place.kind]
            where = chip if place.kind == "chip" else style.label
            value = where + ("" if place.certain else " (uncertain)")
            results[_key(op, times)] = {
                "value": value,
                "bgColor": style.fill if place.certain else style.pale,
                "textColor": style.text if place.certain else "#000000",
            }
    return {graph.name or signature or "main": {"name": name, "results": results}}


def node_times(
    graph: Subgraph, times_us: Mapping[int, float], name: str, signature: str = ""
) -> dict[str, Any]:
    """Times by operator of the first subgraph, coloured from the shortest to the longest."""
    count = Counter(t.name for op in graph.operators for t in op.outputs)
    results = {
        _key(op, count): {"value": times_us[op.index]}
        for op in graph.operators
        if op.index in times_us
    }
    colours = [{"stop": 0, "bgColor": "#ffffff"}, {"stop": 1, "bgColor": "#d7301f"}]
    content = {"name": name, "results": results, "gradient": colours}
    return {graph.name or signature or "main": content}


def _key(op: Operator, times: Counter[str]) -> str:
    first = op.outputs[0].name if op.outputs else ""
    return first if times[first] == 1 and not first.isdecimal() and first else str(op.index)
