"""The error of each layer: real models and interpreters, errors put in on purpose are found."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_models as models
from ai_edge_litert.interpreter import Interpreter
from rich.console import Console, Group

from edgeopt.dataset import Dataset, Preprocess, load_dataset
from edgeopt.errors import ModelError
from edgeopt.model import read
from edgeopt.model.packing import pack, unpack
from edgeopt.optimize import ConversionRequest, quantize
from edgeopt.optimize.layer_errors import LayerErrors, layer_errors, what_was_done
from edgeopt.paths import demo_dir
from edgeopt.progress import Silent
from edgeopt.quality import QualityRequest
from edgeopt.report.quality import layer_name, worst_layers

FLOAT = demo_dir() / "fashion.tflite"
PLAIN = QualityRequest(ranges="minmax", equalization="off", bias_correction="off")


def demo_data() -> Dataset:
    data = load_dataset(
        f"{demo_dir() / 'samples.npz'}:x_calib", preprocess=Preprocess.parse("scale=1/255")
    )
    return data.match(read(FLOAT).inputs)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("plain") / "int8.tflite"
    request = ConversionRequest(scheme="int8", quality=PLAIN)
    quantize(FLOAT, request, output, dataset=demo_data(), progress=Silent())
    return output


def measured(made: Path) -> LayerErrors:
    return layer_errors(FLOAT, made, demo_data(), progress=Silent())


def test_every_operation_has_its_errors_and_its_share(plain: Path) -> None:
    found = measured(plain)
    assert [layer.index for layer in found.layers] == [op.index for op in read(plain).operators()]
    assert sum(layer.share or 0 for layer in found.layers) == pytest.approx(1)
    assert all(layer.alone_sqnr_db > 25 for layer in found.layers if layer.alone_sqnr_db)
    assert sum(layer.weighed for layer in found.layers) == 10
    assert found.samples == 32


def test_the_same_files_give_the_same_figures(plain: Path) -> None:
    assert replace(measured(plain), seconds=0) == replace(measured(plain), seconds=0)


def test_the_output_figure_is_that_of_the_logits(plain: Path, tmp_path: Path) -> None:
    def logits(path: Path) -> np.ndarray:
        graph = read(path).subgraphs[0]
        model: Any = unpack(path.read_bytes())
        [wanted] = [op.inputs[0].index for op in graph.operators if op.op == "SOFTMAX"]
        model.subgraphs[0].outputs, model.signatureDefs = [wanted], []
        interpreter = Interpreter(model_content=pack(model), num_threads=1)
        interpreter.allocate_tensors()
        source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        rows = []
        for (value,) in demo_data().spread(32):
            if source["dtype"] == np.int8:
                scale, zero = source["quantization"]
                value = np.clip(np.rint(value / scale) + zero, -128, 127).astype(np.int8)
            interpreter.set_tensor(source["index"], value[None])
            interpreter.invoke()
            row = interpreter.get_tensor(result["index"])[0].astype(np.float64)
            scale, zero = result["quantization"]
            rows.append((row - zero) * scale if scale else row)
        found = np.array(rows)
        return found - found.mean(1, keepdims=True)

    real, made = logits(FLOAT), logits(plain)
    expected = 10 * np.log10(np.sum(real**2) / np.sum((made - real) ** 2))
    # The delegate's kernels and the runtime's own round differently.
    assert measured(plain).output_sqnr_db == pytest.approx(expected, abs=0.5)


def spoiled(source: Path, target: Path, number: int, spoil: Callable[[Any], Any]) -> Path:
    """A copy whose operation `number` has other int8 weights."""
    model: Any = unpack(source.read_bytes())
    graph = model.subgraphs[0]
    place = model.buffers[graph.tensors[int(graph.operators[number].inputs[1])].buffer]
    place.data = spoil(np.frombuffer(bytes(place.data), np.int8)).astype(np.int8).tobytes()
    target.write_bytes(pack(model))
    return target


@pytest.mark.parametrize("number", [2, 5, 10])
def test_a_layer_with_coarse_weights_is_named_the_worst(
    plain: Path, tmp_path: Path, number: int
) -> None:
    made = spoiled(plain, tmp_path / "bad.tflite", number, lambda w: (w // 48) * 48)
    before, after = measured(plain), measured(made)
    [worst] = after.worst(1)
    assert worst.index == number
    assert worst.share is not None
    assert worst.share > 0.5
    for old, new in zip(before.layers, after.layers, strict=True):
        if new.index < number:
            assert (new.sqnr_db, new.alone_sqnr_db) == (old.sqnr_db, old.alone_sqnr_db)
        if new.index > number:  # not its fault, but it suffers
            assert new.alone_sqnr_db == old.alone_sqnr_db
    assert after.output_sqnr_db < before.output_sqnr_db - 5  # type: ignore[operator]


@pytest.mark.parametrize("io", ["uint8", "float32"])
def test_other_types_at_the_edges_hide_no_layer(tmp_path: Path, io: str) -> None:
    request = ConversionRequest(scheme="int8", io=io, quality=PLAIN)
    output = tmp_path / "out.tflite"
    made = quantize(FLOAT, request, output, dataset=demo_data(), progress=Silent())
    assert made.layer_errors is not None
    layers = made.layer_errors["layers"]
    assert len([layer for layer in layers if layer["weighed"]]) == 10
    assert made.layer_errors["output_sqnr_db"] > 25


def test_16_bit_activations_have_less_error(plain: Path, tmp_path: Path) -> None:
    request = ConversionRequest(scheme="int16x8", quality=PLAIN)
    output = tmp_path / "out.tflite"
    made = quantize(FLOAT, request, output, dataset=demo_data(), progress=Silent())
    assert made.layer_errors is not None
    assert made.layer_errors["output_sqnr_db"] > (measured(plain).output_sqnr_db or 0) + 3


def test_schemes_without_calibration_have_no_layer_errors(tmp_path: Path) -> None:
    request = ConversionRequest(scheme="float16")
    made = quantize(FLOAT, request, tmp_path / "out.tflite", progress=Silent())
    assert made.layer_errors is None


def test_a_model_of_several_subgraphs_is_refused(plain: Path, tmp_path: Path) -> None:
    model: Any = unpack(FLOAT.read_bytes())
    model.subgraphs.append(model.subgraphs[0])
    model.signatureDefs = []
    (tmp_path / "two.tflite").write_bytes(models.pack(model))
    with pytest.raises(ModelError, match="several subgraphs"):
        layer_errors(tmp_path / "two.tflite", plain, demo_data(), progress=Silent())


def test_what_was_done_is_read_from_the_files(tmp_path: Path) -> None:
    def edited(name: str, source: Path, place: int, number: int) -> Path:
        model: Any = unpack(source.read_bytes())
        graph = model.subgraphs[0]
        tensor = graph.tensors[int(graph.operators[number].inputs[place])]
        held = model.buffers[tensor.buffer]
        held.data = (np.frombuffer(bytes(held.data), np.float32) * 2).tobytes()
        (tmp_path / name).write_bytes(pack(model))
        return tmp_path / name

    scaled = edited("scaled.tflite", FLOAT, 1, 3)
    final = edited("final.tflite", scaled, 2, 3)
    final = edited("both.tflite", final, 2, 10)
    final = edited("rounded.tflite", final, 1, 8)
    names = {op.index: op.outputs[0].name for op in read(FLOAT).operators()}
    assert what_was_done(FLOAT, scaled, final) == {
        names[3]: ("equalized", "bias corrected"),
        names[8]: ("weights rounded",),
        names[10]: ("bias corrected",),
    }


def text_of(conversion: dict[str, Any] | None) -> str:
    console = Console(file=io.StringIO(), width=118, record=True)
    console.print(Group(*worst_layers(conversion)))
    return console.export_text()


def test_the_summary_names_the_worst_layers_first(plain: Path) -> None:
    text = text_of({"layer_errors": measured(plain).to_json()})
    first, second = [line for line in text.splitlines() if "CONV_2D #" in line][:2]
    assert "functional_1/conv2d_1/convolution" in first
    assert "CONV_2D #0" in first
    assert "DEPTHWISE_CONV_2D #1" in second
    assert "dB signal to quantization noise" in text


def test_without_measurement_the_summary_says_nothing() -> None:
    assert text_of(None).strip() == ""
    assert text_of({"layer_errors": None}).strip() == ""


def test_a_layer_is_called_by_its_own_part_of_a_fused_name() -> None:
    fused = "m/re_lu/Relu6;m/batch_normalization/batchnorm/add_1;m/conv2d/convolution;m/x/batchnorm"
    assert layer_name(fused) == "m/conv2d/convolution"
    assert layer_name("m/re_lu/Relu6") == "m/re_lu/Relu6"
    assert layer_name("") == ""
