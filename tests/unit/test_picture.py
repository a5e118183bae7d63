"""The picture of a placement, and the file for Model Explorer."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from builders import Net, conv
from click.testing import CliRunner
from compiled_models import compiled_double

from edgeopt.cli.app import app
from edgeopt.errors import InputError
from edgeopt.facts import Subgraph
from edgeopt.report.node_data import node_data
from edgeopt.report.picture import MOST_OPERATIONS, Place, draw_svg, page
from edgeopt.report.picture_layout import Layout, lay_out

DEMO = Path(__file__).parents[2] / "edgeopt" / "demo" / "fashion.tflite"
SVG = "{http://www.w3.org/2000/svg}"


def overlaps(plan: Layout) -> bool:
    rows: dict[int, list[float]] = {}
    for x, layer in plan.nodes:
        rows.setdefault(layer, []).append(x)
    return any(b - a < 0.999 for row in rows.values() for a, b in pairwise(sorted(row)))


@pytest.mark.parametrize("seed", range(8))
def test_boxes_never_overlap_and_lines_lead_down(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randrange(2, 80)
    edges = [(a, b) for b in range(1, count) for a in rng.sample(range(b), min(b, 2))]
    plan = lay_out(count, edges)
    assert not overlaps(plan)
    for (start, end), bends in zip(edges, plan.lines, strict=True):
        layers = [plan.nodes[start][1], *(layer for _, layer in bends), plan.nodes[end][1]]
        assert layers == list(range(layers[0], layers[-1] + 1)) and len(layers) > 1
    assert all(0 <= x <= plan.width - 1 for x, _ in plan.nodes)


def test_a_chain_is_drawn_as_a_straight_column() -> None:
    plan = lay_out(50, [(i, i + 1) for i in range(49)])
    assert {x for x, _ in plan.nodes} == {0.0}
    assert [layer for _, layer in plan.nodes] == list(range(50))


def test_branches_stand_side_by_side_and_the_rest_is_centred() -> None:
    plan = lay_out(4, [(0, 1), (0, 2), (1, 3), (2, 3)])
    (top, _), (left, a), (right, b), (bottom, _) = plan.nodes
    assert a == b and abs(right - left) == pytest.approx(1)
    assert top == bottom == pytest.approx((left + right) / 2)


def test_a_cycle_is_drawn_and_does_not_hang() -> None:
    plan = lay_out(4, [(0, 1), (1, 2), (2, 1), (2, 3)])
    assert not overlaps(plan) and len(plan.nodes) == 4


def three(name: str = "x") -> tuple[Subgraph, dict[int, Place]]:
    net = Net()
    first = conv(net, net.input())
    second = net.op("ARG_MAX", first)
    third = conv(net, first)
    graph = net.facts(second, third).subgraphs[0]
    places = {
        0: Place(kind="chip", layer=name),
        1: Place(kind="cpu", reason="no kernel <for> it & more"),
        2: Place(kind="chip", certain=False),
    }
    return graph, places


def test_a_picture_is_well_formed_and_loads_nothing() -> None:
    graph, places = three("]]><script>alert(1)</script>&\x1b")
    svg = draw_svg(graph, places, "a <b> & c", ("one", "two"), "Edge TPU")
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert not list(root.iter(f"{SVG}script")) and not list(root.iter(f"{SVG}image"))
    assert re.findall(r'(?:href|src|url)\s*[=(]\s*"?(?!#)[a-z]+:', svg) == []
    titles = [t.text or "" for t in root.iter(f"{SVG}title")]
    assert any("no kernel <for> it & more" in t for t in titles)
    assert any("runs on: Edge TPU (uncertain)" in t for t in titles)


def test_bytes_are_marked_once_where_a_tensor_leaves_the_chip() -> None:
    graph, places = three()
    svg = draw_svg(graph, places, "m", (), "Edge TPU")
    texts = [t.text for t in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    size = "256 B"  # 8 x 8 x 4 of int8
    assert graph.inputs[0].size_bytes in (None, 256)
    marks = Counter(t for t in texts if t in (size, "?"))
    assert sum(marks.values()) == 3  # the input, the argmax, and the output of the third


def test_what_is_uncertain_is_hatched_and_explained_in_the_legend() -> None:
    graph, places = three()
    svg = draw_svg(graph, places, "m", (), "Edge TPU")
    assert svg.count('fill="url(#chip-hatched)"') == 2  # the box and the legend
    assert "Edge TPU, uncertain" in svg
    certain = {k: Place(kind=p.kind) for k, p in places.items()}
    assert "uncertain" not in draw_svg(graph, certain, "m", (), "Edge TPU")


def test_the_page_links_to_each_operation_off_the_chip() -> None:
    graph, places = three()
    svg = draw_svg(graph, places, "m", (), "Edge TPU")
    html = page(svg, "m", [(1, "ARG_MAX #1", "no kernel")])
    assert '<a href="#op1">' in html and 'id="op1"' in html and "<script" not in html


def test_a_graph_beyond_reading_is_refused() -> None:
    net = Net()
    last = net.input()
    for _ in range(MOST_OPERATIONS + 1):
        last = net.op("RELU", last)
    with pytest.raises(InputError, match="cannot be read"):
        draw_svg(net.facts(last).subgraphs[0], {}, "m", (), "Edge TPU")


def test_node_data_has_the_documented_structure() -> None:
    graph, places = three()
    found = node_data(graph, places, "placement", "Edge TPU", "serving")
    assert list(found) == [graph.name]
    content = found[graph.name]
    assert content["name"] == "placement"
    names = [op.outputs[0].name for op in graph.operators]
    assert list(content["results"]) == names
    assert [r["value"] for r in content["results"].values()] == [
        "Edge TPU",
        "CPU",
        "Edge TPU (uncertain)",
    ]
    assert all({"value", "bgColor", "textColor"} == set(r) for r in content["results"].values())


def test_a_graph_is_called_as_model_explorer_calls_it() -> None:
    graph, places = three()
    unnamed = replace(graph, name="")
    assert list(node_data(unnamed, places, "p", "Edge TPU", "serving")) == ["serving"]
    assert list(node_data(unnamed, places, "p", "Edge TPU")) == ["main"]


def test_node_data_is_what_the_package_itself_would_write() -> None:
    builder = pytest.importorskip("model_explorer").node_data_builder
    graph, places = three()
    found = node_data(graph, places, "placement", "Edge TPU")
    for key, content in found.items():
        results = {k: builder.NodeDataResult(**v) for k, v in content["results"].items()}
        made = builder.GraphNodeData(results=results, name=content["name"])
        theirs = json.loads(builder.ModelNodeData(graphsData={key: made}).to_json_string())
        assert theirs[key]["results"] == content["results"]


def test_equal_and_numeric_names_are_told_apart_by_the_node_id() -> None:
    net = Net()
    first = net.op("RELU", net.input())
    second = net.op("RELU", first)
    third = net.op("RELU", second)
    for tensor, name in ((first, "same"), (second, "same"), (third, "12")):
        object.__setattr__(tensor, "name", name)
    graph = net.facts(third).subgraphs[0]
    places = {i: Place(kind="chip") for i in range(3)}
    assert list(node_data(graph, places, "p", "Edge TPU")["main"]["results"]) == ["0", "1", "2"]


def test_inspect_writes_pictures_and_node_data(tmp_path: Path) -> None:
    made = tmp_path / "m_edgetpu.tflite"
    made.write_bytes(compiled_double(DEMO.read_bytes(), [{0}, {2}]))
    svg, html, data = tmp_path / "p.svg", tmp_path / "p.html", tmp_path / "n.json"
    for extra in (["--picture", str(svg)], ["--picture", str(html), "--node-data", str(data)]):
        flags = ["--source", str(DEMO), *extra]
        done = CliRunner().invoke(app, ["inspect", str(made), *flags])
        assert done.exit_code == 0, done.output
    assert "2 partitions" in svg.read_text("utf-8") and "partition 2" in svg.read_text("utf-8")
    assert html.read_text("utf-8").startswith("<!DOCTYPE html>")
    values = [r["value"] for r in json.loads(data.read_text())["main"]["results"].values()]
    assert values.count("Edge TPU") == 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--picture", "p.png", "--target", "edgetpu"], "no known ending"),
        (["--node-data", "model.tflite", "--target", "edgetpu"], "no known ending"),
        (["--picture", "p.svg"], "needs to know the hardware"),
        (["--node-data", "n.json"], "needs to know the hardware"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused_first(flags: list[str], words: str) -> None:
    done = CliRunner().invoke(app, ["inspect", str(DEMO), *flags])
    assert isinstance(done.exception, InputError) and words in done.exception.message
