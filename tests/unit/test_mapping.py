"""The mapping of a compiled file against its source: proven, contradicted, or honestly open."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner
from compiled_models import compiled_double
from tflite_models import edited

from edgeopt.cli.app import app
from edgeopt.errors import InputError, ModelError
from edgeopt.facts import ModelFacts
from edgeopt.model import read
from edgeopt.target import load_target
from edgeopt.verify import predict
from edgeopt.verify.mapping import Mapping, compare, prove

DEMO = Path(__file__).parents[2] / "edgeopt" / "demo" / "fashion.tflite"
OPERATIONS = 6  # the demo's least, so that groups can be chosen below


@pytest.fixture(scope="module")
def source() -> ModelFacts:
    facts = read(DEMO)
    assert len(facts.subgraphs[0].operators) >= OPERATIONS
    return facts


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., ModelFacts]:
    def make(*groups: set[int], edit: Callable[[Any], None] | None = None, **more: Any) -> Any:
        path = tmp_path / "double_edgetpu.tflite"
        data = compiled_double(DEMO.read_bytes(), groups, **more)
        path.write_bytes(edited(data, edit) if edit else data)
        return read(path)

    return make


def places(mapping: Mapping) -> tuple[list[set[int]], set[int]]:
    return [set(p.source_ops) for p in mapping.partitions], set(mapping.cpu_ops)


@pytest.mark.parametrize("rename", ["", "renamed/"])
@pytest.mark.parametrize("groups", [[{0, 1, 2}], [{1, 2}], [{0}, {2, 3}], [{1}, {2, 3}]])
def test_what_was_put_into_partitions_is_found_in_them(
    groups: list[set[int]], rename: str, source: ModelFacts, compiled: Callable[..., ModelFacts]
) -> None:
    found = prove(compiled(*groups, rename=rename), source)
    every = {op.index for op in source.subgraphs[0].operators}
    assert found.proven and found.covers == "model"
    assert places(found) == (groups, every - set().union(*groups))
    assert json.dumps(found.to_json())


def test_a_whole_model_in_one_partition_leaves_nothing_on_the_cpu(
    source: ModelFacts, compiled: Callable[..., ModelFacts]
) -> None:
    every = {op.index for op in source.subgraphs[0].operators}
    found = prove(compiled(every), source)
    assert places(found) == ([every], set())
    (partition,) = found.partitions
    assert [name for name, _ in partition.inputs] == [source.inputs[0].name]
    assert partition.outputs == ((source.outputs[0].name, source.outputs[0].size_bytes),)


def test_a_segment_of_a_pipeline_tells_what_is_in_the_others(
    source: ModelFacts, compiled: Callable[..., ModelFacts]
) -> None:
    def cut(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.outputs = list(graph.operators[0].outputs)
        graph.operators = graph.operators[:1]

    every = {op.index for op in source.subgraphs[0].operators}
    found = prove(compiled({0, 1}, edit=cut), source)
    assert (found.covers, found.proven) == ("segment", True)
    assert places(found) == ([{0, 1}], set())
    assert set(found.elsewhere_ops) == every - {0, 1}


def _scale(model: Any) -> None:
    graph = model.subgraphs[0]
    parameters = schema.QuantizationParametersT()
    parameters.scale, parameters.zeroPoint = [0.75], [3]
    graph.tensors[graph.outputs[0]].quantization = parameters


def _constant(model: Any) -> None:
    graph = model.subgraphs[0]
    for op in graph.operators:
        for index in op.inputs:
            held = model.buffers[graph.tensors[index].buffer]
            if op.customOptions is None and held.data is not None and len(held.data) > 200:
                held.data = bytearray(held.data)
                held.data[len(held.data) // 2] ^= 1
                return
    raise AssertionError("no constant to change")


def _options(model: Any) -> None:
    for op in model.subgraphs[0].operators:
        if hasattr(op.builtinOptions, "fusedActivationFunction"):
            now = op.builtinOptions.fusedActivationFunction
            op.builtinOptions.fusedActivationFunction = 3 if now != 3 else 1
            return
    raise AssertionError("no activation to change")


def _another_operation(model: Any) -> None:
    for op in model.subgraphs[0].operators:
        if op.customOptions is None:
            model.operatorCodes[op.opcodeIndex].builtinCode = schema.BuiltinOperator.ABS
            model.operatorCodes[op.opcodeIndex].deprecatedBuiltinCode = schema.BuiltinOperator.ABS
            return


@pytest.mark.parametrize("edit", [_scale, _constant, _options, _another_operation])
def test_a_file_that_differs_from_its_source_is_refused(
    edit: Callable[[Any], None], source: ModelFacts, compiled: Callable[..., ModelFacts]
) -> None:
    with pytest.raises(ModelError, match="not made from this source"):
        prove(compiled({0, 1}, edit=edit), source)


def test_a_payload_that_lists_other_tensors_is_not_proven(
    source: ModelFacts, compiled: Callable[..., ModelFacts]
) -> None:
    def swap(model: Any) -> None:
        first, second = (o for o in model.subgraphs[0].operators if o.customOptions is not None)
        first.customOptions, second.customOptions = second.customOptions, first.customOptions

    found = prove(compiled({0}, {2}, edit=swap), source)
    assert not found.proven
    assert any("payload" in problem for problem in found.problems)


def test_a_plain_file_and_a_compiled_source_are_told_apart(
    source: ModelFacts, compiled: Callable[..., ModelFacts]
) -> None:
    with pytest.raises(InputError, match="not compiled"):
        prove(source, source)
    with pytest.raises(InputError, match="compiled itself"):
        prove(compiled({0}), compiled({0}))


def test_each_disagreement_with_the_prediction_is_reported(
    source: ModelFacts, compiled: Callable[..., ModelFacts]
) -> None:
    predicted = predict(source, load_target("edgetpu").profile)
    assert predicted is not None
    every = {op.index for op in source.subgraphs[0].operators}
    other = {0, 1} if predicted.ops[2].placement == "edgetpu" else {0, 1, 2}
    mapping = prove(compiled(other), source)
    found = compare(mapping, predicted, source)
    wrong = {i for i in every if (predicted.ops[i].placement == "edgetpu") != (i in other)}
    assert wrong and {d.index for d in found.disagreements} == wrong and not found.agrees
    assert all(d.predicted != d.actual for d in found.disagreements)


def test_one_command_compares_the_prediction_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m_edgetpu.tflite"
    path.write_bytes(compiled_double(DEMO.read_bytes(), [{0, 1}]))
    done = CliRunner().invoke(
        app, ["inspect", str(path), "--source", str(DEMO), "--together", str(path), "--json"]
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["mapping"]["proven"] is True
    assert found["mapping"]["partitions"][0]["source_ops"] == [0, 1]
    assert found["prediction"]["compared"] == len(found["mapping"]["cpu_ops"]) + 2
    assert found["compiled"]["on_chip_bytes"] == 4096
    assert found["compiled"]["together"][0]["compiled_together"] is True
    shown = CliRunner().invoke(app, ["inspect", str(path), "--source", str(DEMO)])
    assert "mapping proven: 2 of" in shown.output and "cached on chip" in shown.output


def test_a_foreign_source_ends_with_3_and_keeps_what_was_read(tmp_path: Path) -> None:
    path = tmp_path / "m_edgetpu.tflite"
    path.write_bytes(compiled_double(DEMO.read_bytes(), [{0, 1}]))
    other = tmp_path / "other.tflite"
    other.write_bytes(edited(DEMO.read_bytes(), _scale))
    done = CliRunner().invoke(app, ["inspect", str(path), "--source", str(other), "--json"])
    assert isinstance(done.exception, ModelError) and done.exception.exit_code == 3
    assert done.exception.reached["compiled"]["on_chip_bytes"] == 4096


@pytest.mark.parametrize("index", range(12))
def test_every_recorded_pair_is_proven_and_as_predicted(shared: Path, index: int) -> None:
    pair = json.loads((shared / "edgetpu" / "pairs.json").read_text())[index]
    models = shared / "edgetpu" / "models"
    source, made = read(models / pair["source"]), read(models / pair["compiled"])
    mapping = prove(made, source)
    operators = source.subgraphs[0].operators
    assert mapping.proven and mapping.covers == "model"
    assert sum(len(p.source_ops) for p in mapping.partitions) == pair["mapped"]
    assert Counter(operators[i].op for i in mapping.cpu_ops) == Counter(pair["cpu_ops"])
    predicted = predict(source, load_target("edgetpu").profile)
    assert predicted is not None
    assert compare(mapping, predicted, source).disagreements == ()
