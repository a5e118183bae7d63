"""The short way for small samples gives what the long one gives, to the last bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_models
from ai_edge_litert import schema_py_generated as schema
from test_model_edit import two_of_each

from edgeopt.dataset import Dataset, Preprocess, load_dataset
from edgeopt.errors import InputError, ModelError
from edgeopt.job import Job
from edgeopt.model.edit import in_order
from edgeopt.model.read import structure
from edgeopt.optimize import ConversionRequest, quantize
from edgeopt.paths import demo_dir
from edgeopt.pipeline import evaluate
from edgeopt.progress import Silent
from edgeopt.quality import QualityRequest
from edgeopt.store import Store
from edgeopt.verify.accuracy import Measuring, measure_accuracy
from edgeopt.verify.accuracy_runner import Runner
from edgeopt.verify.accuracy_worker import _Evaluation

DEMO, SAMPLES = demo_dir() / "fashion.tflite", demo_dir() / "samples.npz"
PLAIN = QualityRequest(ranges="minmax", equalization="off", bias_correction="off")


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "demo.tflite"
    data = load_dataset(f"{SAMPLES}:x_calib", preprocess=Preprocess.parse("scale=1/255"))
    quantize(
        DEMO, ConversionRequest(scheme="int8", quality=PLAIN), path, dataset=data, progress=Silent()
    )
    return path


def stored(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "d.npz", **arrays)
    return folder / "d.npz"


def fitted(path: Path, steps: str, model: Path = DEMO) -> Dataset:
    data = load_dataset(str(path), preprocess=Preprocess.parse(steps))
    return data.match(structure(model).inputs)


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        (lambda x: x, "scale=1/255"),
        (lambda x: x[..., 0], "mean=127.5,scale=1/127.5"),  # without the channel's axis
        (lambda x: x[:, None], "std=60"),  # with a batch axis of its own
        (lambda x: x.astype(np.float64) / 3, "scale=1/85"),
        (lambda x: x.astype(np.float64) / 255, ""),
        (lambda x: x.astype(np.float32) / 255, ""),
        (lambda x: x > 100, ""),
    ],
)
def test_stacked_samples_are_those_taken_one_by_one(
    tmp_path: Path, change: Any, steps: str
) -> None:
    with np.load(SAMPLES) as given:
        data = fitted(stored(tmp_path, x=change(given["x"])), steps)
    seen = 0
    for first, last, rows in data.stacks(3, 60):
        assert rows is not None and len(rows[0]) == last - first
        for number, row in enumerate(rows[0], first):
            (single,) = data.sample(number)
            assert row.dtype == single.dtype and np.array_equal(row, single)
            seen += 1
    assert seen == 57


@pytest.mark.parametrize(("wrong", "said"), [(np.nan, "NaN"), (1e300, "do not fit float32")])
def test_a_value_that_cannot_be_is_left_to_the_long_way(
    tmp_path: Path, wrong: float, said: str
) -> None:
    x = np.zeros((9, 28, 28, 1))
    x[5, 3, 3] = wrong
    data = fitted(stored(tmp_path, x=x), "")
    assert [rows for _, _, rows in data.stacks(0, 9)] == [None]
    with pytest.raises(InputError, match=f"Sample 5 of .*{said}"):
        data.sample(5)


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_outputs_of_stacked_samples_are_those_of_calls_one_by_one(kind: str, int8: Path) -> None:
    model = DEMO if kind == "float" else int8
    data = fitted(SAMPLES, "scale=1/255", model)
    run, again = (Runner(structure(model), None) for _ in range(2))
    for first, last, rows in data.stacks(0, 60):
        assert rows is not None
        made = run.together(rows)
        assert made is not None
        for index in range(first, last):
            outputs, inputs = again(index, data.sample(index))
            for mine, theirs in zip(made[0], outputs, strict=True):
                assert np.array_equal(mine[index - first], theirs)
            for mine, theirs in zip(made[1](index - first), inputs(), strict=True):
                assert np.array_equal(mine, theirs)


def test_stacked_inputs_and_outputs_follow_the_names(tmp_path: Path) -> None:
    plain, other = tmp_path / "plain.tflite", tmp_path / "turned.tflite"
    plain.write_bytes(two_of_each())
    other.write_bytes(in_order(two_of_each(), ["right", "left"], ["total", "difference"]))
    run = Runner(structure(other), structure(plain))
    left, right = np.random.default_rng(0).normal(size=(2, 7, 2)).astype(np.float32)
    made = run.together((left, right))
    assert made is not None
    assert np.array_equal(made[0][0], left - right) and np.array_equal(made[0][1], left + right)


def test_what_is_observed_does_not_depend_on_the_way(
    monkeypatch: pytest.MonkeyPatch, int8: Path
) -> None:
    nothing = ("processes", "limit", "metric", "decode", "labels", "recorded", "digest")
    request = {
        "model": str(int8), "baseline": str(DEMO), "data": str(SAMPLES), "input_names": [],
        "preprocess": Preprocess.parse("scale=1/255").to_json(), **dict.fromkeys(nothing),
    }  # fmt: skip
    short = list(_Evaluation(request).prepare()(0, 60))
    monkeypatch.setattr(Runner, "together", lambda *_: None)
    assert short == list(_Evaluation(request).prepare()(0, 60))
    assert len(short) == 60 and all(len(pair) == 6 for _, _, pair in short)


@pytest.mark.parametrize("processes", [1, 3])
def test_an_answer_of_nan_among_many_is_told_with_its_sample(
    tmp_path: Path, processes: int
) -> None:
    def divide(model: Any) -> None:
        code = model.operatorCodes[0]
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DIV

    model = tmp_path / "m.tflite"
    model.write_bytes(tflite_models.edited(two_of_each(), divide))
    left, right = np.ones((2, 200, 2), np.float32)
    left[[137, 150]] = right[[137, 150]] = 0
    data = stored(tmp_path, left=left, right=right, y=np.zeros(200, int))
    with pytest.raises(ModelError, match="answers NaN to sample 137 "):
        measure_accuracy(model, None, str(data), Preprocess(), Silent(), processes=processes)


def test_a_label_that_cannot_be_among_many_is_told_as_before(tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(tflite_models.fully_connected())
    y = np.zeros(100, int)
    y[70] = 4
    data = stored(tmp_path, x=np.ones((100, 4), np.float32), y=y)
    with pytest.raises(InputError, match="Label 4 is not one of the model's 2 classes"):
        measure_accuracy(model, None, str(data), Preprocess(), Silent())


def test_the_process_that_measures_is_asked_before_the_rest_begins(tmp_path: Path) -> None:
    job = Job(
        model=DEMO, target="cpu", eval_data=str(SAMPLES), preprocess=Preprocess.parse("scale=1/255")
    )
    asked: list[bool] = []

    class Watching(Silent):
        """Looks whether the measurement is under way at the first stage."""

        def stage(self, text: str, total: int | None = None, unit: str = "") -> None:
            asked.append(measuring.busy)

    with Measuring() as measuring:
        found = evaluate(job, Store(tmp_path), Watching(), baseline=DEMO, measuring=measuring)
    assert asked[0] and found["accuracy"]["samples"] == 60
    again = evaluate(job, Store(tmp_path), Silent(), baseline=DEMO)
    assert again["accuracy"] == found["accuracy"] and again["model"] == found["model"]


def test_what_is_wrong_with_a_file_is_told_by_who_reads_it(tmp_path: Path) -> None:
    job = Job(model=tmp_path / "none.tflite", target="cpu", eval_data=str(SAMPLES))
    with pytest.raises(InputError, match=r"none\.tflite"):
        evaluate(job, Store(tmp_path), Silent())
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(DEMO.read_bytes()[:5000])
    with pytest.raises(ModelError):
        evaluate(replace(job, model=broken), Store(tmp_path), Silent())
