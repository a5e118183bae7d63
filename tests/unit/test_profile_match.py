"""Times are given to operators only where the profiler, the graph and the order leave no choice."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from builders import Net

from edgeopt.device.profiling.answer import Event, RawProfile, Trace, checked_profile
from edgeopt.device.profiling.events import rows_of
from edgeopt.device.profiling.figures import figures, middle
from edgeopt.device.profiling.partition import aligned, partitions, suits
from edgeopt.errors import DeviceError
from edgeopt.facts import ModelFacts
from edgeopt.report.node_data import node_times

CONV, DWCONV = "Convolution (NHWC, F32) IGEMM", "Convolution (NHWC, F32) DWConv"
DENSE, RESHAPE = "Fully Connected (NC, F32) GEMM", "Static Reshape (NC)"


def chain(*ops: str) -> ModelFacts:
    """A model of operators in a row."""
    net = Net()
    data = net.input("float32", (1, 4))
    for op in ops:
        data = net.op(op, data, out=("float32", (1, 4)))
    return net.facts(data)


def event(tag: str, kind: int, index: int, subgraph: int = 0) -> Event:
    return Event(tag=tag, kind=kind, index=index, subgraph=subgraph)


def raw(events: list[Event], times: list[list[int]], **changes: Any) -> RawProfile:
    """`times` is one list for each event, one time for each run."""
    trace = Trace(
        events=tuple(events),
        start_us=(0,) * len(events),
        elapsed_us=tuple(tuple(column) for column in times),
    )
    runs = len(times[0])
    values: dict[str, Any] = {
        "runtime": "ai_edge_litert",
        "runtime_version": "2.3.0",
        "kernels": "xnnpack",
        "same_outputs": True,
        "plain_ns": (100_000,) * runs,
        "off_ns": (100_000,) * runs,
        "on_ns": (150_000,) * runs,
        "traces": (trace,),
        "peak_rss_bytes": None,
        "conditions": {},
        "facts": {},
    }
    return RawProfile(**{**values, **changes})


def test_a_one_by_one_convolution_may_run_as_a_dense_kernel_and_a_depthwise_one_may_not() -> None:
    assert suits(DENSE, "CONV_2D") and suits(DENSE, "FULLY_CONNECTED")
    assert suits(CONV, "CONV_2D") and not suits(DENSE, "DEPTHWISE_CONV_2D")
    assert suits(DWCONV, "DEPTHWISE_CONV_2D") and not suits(DWCONV, "CONV_2D")
    assert not suits("A Kernel Of Tomorrow (NC)", "CONV_2D")


def test_kernels_are_told_to_operators_by_order_and_type() -> None:
    ops = ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "FULLY_CONNECTED"]
    assert aligned(ops, [CONV, DWCONV, DENSE, RESHAPE, DENSE]) == {0: 0, 1: 1, 2: 2, 3: 4}


def test_of_two_operators_and_one_kernel_neither_has_it() -> None:
    assert aligned(["ADD", "ADD"], ["Add (ND)"]) == {}
    assert aligned(["ADD"], ["Add (ND)", "Add (ND)"]) == {}


def test_what_is_ambiguous_does_not_spoil_what_is_not() -> None:
    ops = ["CONV_2D", "ADD", "ADD", "SOFTMAX"]
    assert aligned(ops, [CONV, "Add (ND)", "Softmax (NC, F32)"]) == {0: 0, 3: 2}


def test_an_operator_that_was_fused_away_takes_no_other_ones_kernel() -> None:
    assert aligned(["CONV_2D", "RELU", "CONV_2D"], [CONV, CONV]) == {0: 0, 2: 1}


def test_partitions_follow_from_what_ran_by_itself() -> None:
    graph = chain("CONV_2D", "SUB", "CONV_2D", "ADD", "CAST").subgraphs[0]
    assert partitions(graph, {1, 4}, [None, 1, None, 4]) == [(0,), (2, 3)]


def test_an_order_that_the_graph_cannot_give_tells_nothing() -> None:
    graph = chain("CONV_2D", "SUB", "CONV_2D").subgraphs[0]
    assert partitions(graph, {1}, [None, None, 1]) is None


def test_a_branch_that_can_run_earlier_joins_the_earlier_partition() -> None:
    """As TensorFlow Lite's partitioner takes all that can run of one side."""
    net = Net()
    data = net.input("float32", (1, 4))
    one = net.op("CONV_2D", data, out=("float32", (1, 4)))
    two = net.op("CAST", one, out=("float32", (1, 4)))
    three = net.op("CONV_2D", data, out=("float32", (1, 4)))
    last = net.op("ADD", two, three, out=("float32", (1, 4)))
    graph = net.facts(last).subgraphs[0]
    assert partitions(graph, {1}, [None, 1, None]) == [(0, 2), (3,)]


def test_an_operators_own_events_are_its_time_by_index() -> None:
    facts = chain("CONV_2D", "SOFTMAX")
    events = [event("Invoke", 1, 0), event("CONV_2D", 2, 0), event("SOFTMAX", 2, 1)]
    rows, groups = rows_of(raw(events, [[99, 99], [70, 72], [5, 5]]), facts)
    assert [(r.name, r.us, r.matched) for r in rows] == [
        ("CONV_2D", [70, 72], "index"),
        ("SOFTMAX", [5, 5], "index"),
    ]
    assert groups == []


def test_an_event_whose_type_is_not_the_files_is_a_row_of_its_own() -> None:
    events = [event("SUB", 2, 0), event("SOFTMAX", 2, 1)]
    rows, _ = rows_of(raw(events, [[70], [5]]), chain("CONV_2D", "SOFTMAX"))
    assert rows[0].us is None and rows[0].matched == ""
    assert (rows[2].operator, rows[2].name, rows[2].us) == (None, "SUB", [70])


def test_kernels_that_nobody_owns_are_the_partitions_row_and_count_in_the_sum() -> None:
    facts = chain("CONV_2D", "ADD", "ADD")
    events = [event(CONV, 8, 0), event("Add (ND)", 8, 1)]
    measured = raw(events, [[60], [30]], plain_ns=(95_000,))
    rows, groups = rows_of(measured, facts)
    assert groups[0].members == (0, 1, 2)
    found = figures(rows, groups, facts, held_against="plain", whole_ns=measured.plain_ns)
    assert [row["typical_ns"] for row in found["operators"]] == [60_000, None, None]
    assert [row["typical_ns"] for row in found["unmatched"]] == [30_000]
    assert found["sum"]["typical_ns"] == 90_000 and found["sum"]["agrees"]
    assert sum(row["share"] or 0 for row in found["by_type"]) == pytest.approx(1)
    assert found["partitions"][0]["not_told_apart"] == 2


def test_time_inside_of_a_loop_is_not_counted_twice() -> None:
    facts = chain("WHILE")
    body = chain("ADD").subgraphs[0]
    inner = body.operators[0]
    body = replace(body, index=1, operators=(replace(inner, subgraph=1),))
    facts = replace(facts, subgraphs=(*facts.subgraphs, body))
    events = [event("WHILE", 2, 0), event("ADD", 2, 0, 1), event("ADD", 2, 0, 1)]
    measured = raw(events, [[80], [20], [30]])
    rows, groups = rows_of(measured, facts)
    found = figures(rows, groups, facts, held_against="plain", whole_ns=(80_000,))
    assert found["sum"]["typical_ns"] == 80_000
    assert (found["operators"][1]["nested"], found["operators"][1]["calls"]) == (True, 2)
    assert found["operators"][1]["typical_ns"] == 50_000
    assert [row["op"] for row in found["by_type"]] == ["WHILE"]


def test_a_sum_that_is_far_from_the_whole_does_not_agree() -> None:
    facts = chain("CONV_2D")
    measured = raw([event("CONV_2D", 2, 0)], [[60] * 20])
    rows, groups = rows_of(measured, facts)
    found = figures(rows, groups, facts, held_against="plain", whole_ns=(100_000,) * 20)
    assert found["sum"]["share_of_whole"] == pytest.approx(0.6)
    assert not found["sum"]["agrees"] and not found["sum"]["disturbed"]


def test_runs_that_are_each_disturbed_somewhere_are_called_disturbed() -> None:
    """Three operators, each slow in a third of the runs: no row shows it, the sum does."""
    facts = chain("CONV_2D", "SUB", "ADD")
    times = [[1000 if run % 3 == op else 100 for run in range(30)] for op in range(3)]
    events = [event(name, 2, at) for at, name in enumerate(("CONV_2D", "SUB", "ADD"))]
    measured = raw(events, times)
    rows, groups = rows_of(measured, facts)
    found = figures(rows, groups, facts, held_against="plain", whole_ns=(1_200_000,) * 30)
    assert found["sum"]["agrees"] and found["sum"]["disturbed"]


def test_the_middle_half_is_finer_than_a_median_and_deaf_to_outliers() -> None:
    assert middle([2, 2, 2, 2, 3, 3, 3, 1000]) == 2.5


def test_times_are_node_data_as_model_explorers_own_package_writes_it() -> None:
    graph = chain("CONV_2D", "SUB", "ADD").subgraphs[0]
    found = node_times(graph, {0: 12.5, 2: 0.0}, "us", "serving")
    (content,) = found.values()
    names = [op.outputs[0].name for op in graph.operators]
    assert content["results"] == {names[0]: {"value": 12.5}, names[2]: {"value": 0.0}}
    builder = pytest.importorskip("model_explorer").node_data_builder
    colours = [builder.GradientItem(**item) for item in content["gradient"]]
    results = {k: builder.NodeDataResult(**v) for k, v in content["results"].items()}
    made = builder.GraphNodeData(results=results, gradient=colours, name="us")
    theirs = json.loads(builder.ModelNodeData(graphsData={"g": made}).to_json_string())["g"]
    assert content.items() <= theirs.items()


def answer(**changes: Any) -> dict[str, Any]:
    trace = {"events": [["CONV_2D", 2, 0, 0]], "start_us": [0], "elapsed_us": [[7, 8]]}
    good = {"kernels": "xnnpack", "same_outputs": True, "traces": [trace]}
    times = {"plain_ns": [9, 9], "off_ns": [9, 9], "on_ns": [9, 9]}
    return {**good, **times, "runtime": "x", **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"kernels": "builtin"},
        {"same_outputs": 1},
        {"plain_ns": []},
        {"on_ns": [9, -9]},
        {"on_ns": [9, 1e9]},
        {"on_ns": [9]},
        {"traces": []},
        {"traces": [{}]},
        {"traces": [{"events": [["A", 99, 0, 0]], "start_us": [0], "elapsed_us": [[1, 1]]}]},
        {"traces": [{"events": [["A", 2, -1, 0]], "start_us": [0], "elapsed_us": [[1, 1]]}]},
        {"traces": [{"events": [["A", 2, 0, 0]], "start_us": ["x"], "elapsed_us": [[1, 1]]}]},
        {"traces": [{"events": [["A", 2, 0, 0]], "start_us": [0], "elapsed_us": [[1, 1e99]]}]},
        {"traces": [{"events": [["A", 2, 0, 0]], "start_us": [0], "elapsed_us": [[]]}]},
    ],
)
def test_a_profile_that_was_invented_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DeviceError, match="cannot be used"):
        checked_profile(answer(**changes), device="board", kernels="xnnpack")


def test_a_name_from_the_device_carries_no_control_characters() -> None:
    trace = {"events": [["\x1b[2JCONV", 2, 0, 0]], "start_us": [0], "elapsed_us": [[7, 8]]}
    found = checked_profile(answer(traces=[trace]), device="board", kernels="xnnpack")
    assert found.traces[0].events[0].tag == "[2JCONV"


@pytest.mark.parametrize("during", [None, "text", {"usage": "text"}, {"usage": {"wall_s": "x"}}])
def test_conditions_that_were_invented_are_no_reason(during: Any) -> None:
    from edgeopt.device.profiling.run import _notes

    facts = chain("CONV_2D")
    measured = raw([event("CONV_2D", 2, 0)], [[95]], conditions={"during": during})
    rows, groups = rows_of(measured, facts)
    found = figures(rows, groups, facts, held_against="plain", whole_ns=measured.plain_ns)
    assert _notes({**found, "kernels": "xnnpack"}, rows, measured) == []
