"""What `inspect --target` shows and writes about the placement."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from ai_edge_litert import schema_py_generated as schema
from builders import Net, conv
from click.testing import CliRunner
from rich.console import Console
from tflite_models import buffer, model_of, pack, quantize, tensor

from edgeopt.cli.inspect import inspect
from edgeopt.findings import Placement
from edgeopt.profile import load_profile
from edgeopt.report.placement import cpu_table, placement_line
from edgeopt.report.report import ops_json
from edgeopt.verify import predict


def _relu_model(path: Path, *, op: str = "RELU", side: int = 8) -> str:
    """One int8 operation without options, as a file."""
    graph = schema.SubGraphT()
    shape = [1, side, side, 64]
    graph.tensors = [
        tensor("in", shape, schema.TensorType.INT8),
        tensor("model/act/Relu", shape, schema.TensorType.INT8),
    ]
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [1]
    graph.inputs, graph.outputs, graph.operators = [0], [1], [operator]
    made = model_of(graph, getattr(schema.BuiltinOperator, op), [buffer()])
    for index in (0, 1):
        quantize(made, index, [0.1], [0])
    path.write_bytes(pack(made))
    return str(path)


def _inspected(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(
        inspect, [*arguments, "--target", "edgetpu", "--json"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_inspect_writes_cause_phrase_certainty_and_layer(tmp_path: Path) -> None:
    document = _inspected(_relu_model(tmp_path / "a.tflite", op="HARD_SWISH"))
    (row,) = document["ops"]
    assert (row["placement"], row["cause"], row["layer"]) == ("cpu", "operation_unsupported", "act")
    assert (row["phrase"], row["certain"]) == ("Operation not supported", True)
    assert document["placement"]["ops_uncertain"] == 0
    assert document["placement"]["ops_mapped_range"] is None


def test_inspect_writes_the_range_where_it_is_not_certain(tmp_path: Path) -> None:
    document = _inspected(_relu_model(tmp_path / "a.tflite", op="RESHAPE", side=50))
    assert document["ops"][0]["certain"] is False
    assert document["placement"]["ops_uncertain"] == 1
    assert document["placement"]["ops_mapped_range"] == [0, 1]


def test_inspect_predicts_for_an_older_device_runtime(tmp_path: Path) -> None:
    model = _relu_model(tmp_path / "a.tflite")
    assert _inspected(model)["placement"]["ops_mapped"] == 1
    old = _inspected(model, "--min-runtime-version", "11")
    assert (old["placement"]["ops_mapped"], old["ops"][0]["cause"]) == (0, "runtime")


def test_a_runtime_version_without_a_target_is_refused(tmp_path: Path) -> None:
    from edgeopt.errors import InputError

    model = _relu_model(tmp_path / "a.tflite")
    with pytest.raises(InputError, match="about a target"):
        CliRunner().invoke(inspect, [model, "--min-runtime-version", "12"], catch_exceptions=False)


def _shown(placement: Placement, width: int) -> list[str]:
    table = cpu_table(placement)
    assert table is not None
    console = Console(file=io.StringIO(), width=width)
    console.print(placement_line(placement), table, sep="\n")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def _mixed() -> Placement:
    net = Net()
    data = conv(net, net.input(shape=(1, 50, 50, 64)))
    data = net.op("RESHAPE", data, net.integers(1, 50, 50, 64))
    for kind in ("RELU", "HARD_SWISH", "ADD", "ADD", "ADD", "ADD", "HARD_SWISH"):
        data = net.op(kind, data)
    found = predict(net.facts(data), load_profile("edgetpu-v1"))
    assert found is not None
    return found


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_groups_by_phrase_and_reason_and_fits(width: int) -> None:
    lines = _shown(_mixed(), width)
    assert all(len(line) <= width for line in lines)
    text = " ".join(" ".join(lines).split())
    assert text.startswith("3 of 9 operations mapped, 6 on the CPU, 2 uncertain (1 to 3 mapped)")
    assert "Operation not supported 2 HARD_SWISH #3 #8: operation not supported" in text
    assert "More than one subgraph is not supported 4 ADD: supported, but outside" in text
    assert "1 RESHAPE #1?: 160,000 elements, where up to 134,400 is known to work" in text
    assert "1 RELU #2?: depends on whether the compiler maps RESHAPE #1" in text


def test_nothing_is_shown_where_everything_is_mapped() -> None:
    net = Net()
    found = predict(net.facts(conv(net, net.input())), load_profile("edgetpu-v1"))
    assert found is not None and cpu_table(found) is None


def test_operations_of_other_subgraphs_get_rows_of_their_own() -> None:
    net, body = Net(), Net()
    main = net.facts(conv(net, net.input()))
    inner = body.facts(body.op("RELU", body.input())).subgraphs[0]
    second = inner.__class__(
        **{
            **vars(inner),
            "index": 1,
            "operators": tuple(
                op.__class__(**{**vars(op), "subgraph": 1}) for op in inner.operators
            ),
        }
    )
    facts = main.__class__(**{**vars(main), "subgraphs": (main.subgraphs[0], second)})
    rows = ops_json(facts, predict(facts, load_profile("edgetpu-v1")))
    assert [row["placement"] for row in rows] == ["edgetpu", "cpu"]
    assert rows[1]["cause"] == "other_subgraph"
