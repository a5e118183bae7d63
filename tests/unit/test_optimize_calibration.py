"""Calibration: what is measured, by whom, and in how many processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_models as models
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgeopt.dataset import Dataset, Preprocess, load_dataset
from edgeopt.errors import ModelError
from edgeopt.model import read
from edgeopt.optimize.calibration import _Feed, calibrate
from edgeopt.optimize.calibration_worker import _Worker
from edgeopt.paths import demo_dir
from edgeopt.progress import Silent

FLOAT = demo_dir() / "fashion.tflite"


def demo_data() -> Dataset:
    spec = f"{demo_dir() / 'samples.npz'}:x_calib"
    return load_dataset(spec, preprocess=Preprocess.parse("scale=1/255"))


def measured(model: Path, data: Dataset, **wanted: Any) -> Any:
    wanted = {"limit": 100, "processes": None, "progress": Silent(), **wanted}
    return calibrate(model, data.match(read(model).inputs), **wanted)


def unary(operator: int) -> bytes:
    """y = operator(x) over 8 numbers."""
    node = schema.OperatorT()
    node.opcodeIndex, node.inputs, node.outputs = 0, [0], [1]
    graph = schema.SubGraphT()
    graph.tensors = [models.tensor("x", [1, 8]), models.tensor("y", [1, 8])]
    graph.inputs, graph.outputs, graph.operators = [0], [1], [node]
    return models.pack(models.model_of(graph, operator, [models.buffer()]))


def stored(folder: Path, values: np.ndarray) -> Dataset:
    np.save(folder / "d.npy", values.astype(np.float32))
    return load_dataset(str(folder / "d.npy"))


def test_ranges_are_those_of_the_quantizers_own_calibrator() -> None:
    from litert_quantizer import recipe
    from litert_quantizer.calibrator import CalibrationMode, Calibrator
    from litert_quantizer.recipe_manager import RecipeManager
    from litert_quantizer.utils.qsv_utils import min_max_update

    data = demo_data()
    manager = RecipeManager()
    manager.load_quantization_recipe(recipe.static_wi8_ai8())
    calibrator = Calibrator(
        str(FLOAT),
        num_threads=1,
        mode=CalibrationMode.CALIBRATION_PROFILER_BASED,
        qsv_update_func=min_max_update,
    )
    [(key, edges)] = Interpreter(str(FLOAT)).get_signature_list().items()
    [name] = edges["inputs"]
    samples = [{name: sample[None]} for (sample,) in data.match(read(FLOAT).inputs).samples()]
    calibrator.calibrate({key: samples}, manager)
    wanted = {
        key: ([float(seen["min"][0])], [float(seen["max"][0])])
        for key, seen in calibrator.get_model_qsvs().items()
    }
    assert measured(FLOAT, data).ranges == wanted


@pytest.mark.parametrize("every_tensor", [False, True])
def test_the_number_of_processes_does_not_change_a_range(every_tensor: bool) -> None:
    found = [
        measured(FLOAT, demo_data(), processes=count, every_tensor=every_tensor, limit=40)
        for count in (1, 3)
    ]
    assert found[0].ranges == found[1].ranges
    assert [ranges.processes for ranges in found] == [1, 3]


def test_how_samples_are_chunked_does_not_change_a_range() -> None:
    (samples,) = zip(*demo_data().match(read(FLOAT).inputs).samples(), strict=True)
    worker = _Worker()
    worker.answer({"do": "load", "model": str(FLOAT), "every_tensor": False}, [])
    for chunk in np.split(np.stack(samples), [1, 8, 39]):
        worker.answer({"do": "samples"}, [chunk])
    ranges = worker.answer({"do": "ranges"}, [])["ranges"]
    wanted = measured(FLOAT, demo_data()).ranges
    assert {name: tuple(ends) for name, ends in ranges.items()} == wanted


def test_a_handful_of_samples_stays_in_one_process() -> None:
    assert measured(FLOAT, demo_data(), limit=31).processes == 1


def test_the_usual_calibration_does_not_import_the_quantizer() -> None:
    code = (
        "import sys; from edgeopt.optimize.calibration_worker import _Worker; "
        f"_Worker().answer(dict(do='load', model={str(FLOAT)!r}, every_tensor=False), []); "
        "print([m for m in ('litert_quantizer', 'scipy', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_nan_anywhere_in_an_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root.tflite").write_bytes(unary(schema.BuiltinOperator.SQRT))
    values = np.random.default_rng(0).random((20, 8)) + 1
    values[7, 3] = -1  # its root is NaN; the profiler alone does not notice
    with pytest.raises(ModelError, match="y becomes NaN"):
        measured(tmp_path / "root.tflite", stored(tmp_path, values))


def test_chunks_grow_with_the_models_speed_and_hold_samples_of_one_shape() -> None:
    shapes = [(4,)] * 140 + [(6,)] * 3
    feed = _Feed(iter([(np.zeros(shape),) for shape in shapes]), len(shapes), Silent())
    first = feed.next()
    feed.finish({"done": 1, "seconds": 0.001})
    chunks = [first, *iter(feed.next, None)]
    assert [chunk[1][0].shape for chunk in chunks if chunk] == [
        (1, 4),
        *[(32, 4)] * 4,
        (11, 4),
        (3, 6),
    ]


def test_a_slow_model_gets_one_sample_at_a_time() -> None:
    feed = _Feed(iter([(np.zeros(4),)] * 5), 5, Silent())
    feed.finish({"done": 1, "seconds": 2.0})
    assert [chunk[1][0].shape for chunk in iter(feed.next, None) if chunk] == [(1, 4)] * 5
