"""A trained Keras model of any format becomes a flat tf_keras model that computes the same."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras_cases
import pytest

from edgeopt.model.stored_code import find_stored_code
from edgeopt.train.layers3 import MAPPED
from edgeopt.train.layers3_ops import OPERATIONS

pytestmark = pytest.mark.tf
HERE = Path(__file__).parent
ALL_CASES = tuple(keras_cases.builders(SimpleNamespace(layers=None)))
CASES = tuple(n for n in ALL_CASES if n not in keras_cases.APPLICATIONS)
Answers = dict[str, dict[str, Any]]


def _start(program: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": "-1",
                   "TF_CPP_MIN_LOG_LEVEL": "3"}  # fmt: skip
    folder.mkdir()
    with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as errors:
        command = [sys.executable, str(HERE / program), str(folder), *arguments]
        return subprocess.Popen(command, stdout=out, stderr=errors, env=environment, text=True)


def _answers(process: subprocess.Popen[str], folder: Path, key: str = "name") -> Answers:
    process.wait()
    assert process.returncode == 0, (folder / "stderr").read_text()[-3000:]
    lines = (folder / "stdout").read_text().splitlines()
    found = [json.loads(line) for line in lines if line.startswith('{"name"')]
    return {str(answer.get(key, answer["name"])): answer for answer in found}


def _shared() -> list[str]:
    folder = Path(os.environ.get("EDGEOPT_SHARED", HERE.parents[2] / "shared"))
    return [str(folder)] if (folder / "DATA.md").is_file() else []


@pytest.fixture(scope="module")
def processes(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, tuple[subprocess.Popen[str], Path]]]:
    """Both programs at once: TensorFlow takes seconds to import, and machines have two cores."""
    for package in ("tensorflow", "tf_keras", "tensorflow_model_optimization"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    base = tmp_path_factory.mktemp("rebuild")
    programs = {"cases": ("keras_cases.py", *CASES), "files": ("keras_files.py", *_shared())}
    started = {
        name: (_start(program[0], base / name, *program[1:]), base / name)
        for name, program in programs.items()
    }
    yield started
    for process, _ in started.values():
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def cases(processes: dict[str, tuple[subprocess.Popen[str], Path]]) -> Answers:
    return _answers(*processes["cases"])


@pytest.fixture(scope="module")
def files(processes: dict[str, tuple[subprocess.Popen[str], Path]]) -> Answers:
    """By name; the shared models, several of which have one name, by their path."""
    process, folder = processes["files"]
    return _answers(process, folder) | _answers(process, folder, key="source")


def _same(answer: dict[str, Any]) -> None:
    assert "failed" not in answer, answer["failed"]
    assert max(answer["differences"]) < 1e-5
    assert max(answer["after_folding"]) < 1e-4  # and after a trip through an .h5
    assert answer["checked"]["weights_equal"]
    assert answer["checked"]["samples"] == 4
    assert not {"Functional", "Sequential", "Lambda"} & set(answer["kinds"])


@pytest.mark.parametrize("name", CASES)
def test_a_keras3_model_computes_the_same_in_tf_keras(cases: Answers, name: str) -> None:
    _same(cases[name])


@pytest.mark.parametrize("name", keras_cases.LAYERS)
def test_a_keras3_layer_computes_the_same_in_tf_keras(cases: Answers, name: str) -> None:
    group = next(g for g, layers in keras_cases.GROUPS.items() if name in layers)
    answer = cases[f"layers_{group}"]
    assert "failed" not in answer, answer["failed"]
    differences = dict(zip(keras_cases.GROUPS[group], answer["differences"], strict=True))
    assert differences[name] < 1e-5


def test_every_layer_that_is_mapped_has_a_case(cases: Answers) -> None:
    tried = {kind for _, kind, _ in keras_cases.LAYERS.values()}
    tried |= {kind for answer in cases.values() for kind in answer.get("kinds", ())}
    inside = {"GRUCell", "LSTMCell", "SimpleRNNCell", "StackedRNNCells"}  # within RNN
    assert MAPPED - tried - inside == set()


def test_every_operation_that_is_mapped_has_a_case(cases: Answers) -> None:
    tried = {kind for answer in cases.values() for kind in answer.get("operations", ())}
    assert len(tried) > 50
    # One line each onto TensorFlow's function of the same name, like those that are tried.
    assert len(OPERATIONS - tried) < 0.5 * len(OPERATIONS)


def test_a_model_within_a_model_is_opened_up_with_names_that_stay(cases: Answers) -> None:
    answer = cases["nested"]
    assert {"image", "conv", "conv_2", "bn"} <= set(answer["names"])
    assert answer["norms"] == 1
    assert answer["norms_folded"] == 0


def test_layers_used_twice_stay_one_layer(cases: Answers) -> None:
    assert cases["shared"]["kinds"].count("Conv2D") == 1
    assert cases["shared"]["checked"]["weights"] == 8  # of a convolution, a norm and a dense layer


def test_a_frozen_norm_keeps_its_statistics_and_other_frozen_layers_are_trained(
    cases: Answers,
) -> None:
    assert cases["frozen"]["trainable"] == ["bn"]  # the only one that is not
    assert "Dropout" in cases["frozen"]["kinds"]
    assert any("frozen" in note for note in cases["frozen"]["notes"])


def test_inputs_keep_their_order_and_get_an_open_batch(cases: Answers) -> None:
    assert cases["shared"]["inputs"] == ["zeta", "alpha"]
    assert cases["fixed_batch"]["batch"] is None


def test_norms_are_folded_unless_something_else_reads_the_layer(cases: Answers) -> None:
    assert (cases["folding"]["norms"], cases["folding"]["norms_folded"]) == (7, 2)


def test_a_folded_kernel_is_not_penalized_for_the_scale_it_took_over(cases: Answers) -> None:
    assert cases["folding"]["penalties"] == [1, 0]


def test_a_note_says_how_closely_a_keras3_model_was_matched(cases: Answers) -> None:
    (note,) = cases["sequential"]["notes"]
    assert note.startswith("Rebuilt from Keras 3 in tf_keras")
    assert "4 arrays of weights are equal" in note


def test_augmentation_that_tf_keras_lacks_is_left_out_and_named(cases: Answers) -> None:
    notes = " ".join(cases["layers_8x8x4"]["notes"])
    assert "RandomErasing" in notes
    assert "RandomFlip" in cases["layers_8x8x4"]["kinds"]


@pytest.mark.parametrize(
    "name", ["legacy.h5", "legacy_zip.keras", "legacy_folder", "recurrent.h5", "third.h5"]
)
def test_each_format_is_read(files: Answers, name: str) -> None:
    answer = files[name]
    assert "failed" not in answer, answer["failed"]
    assert "error" not in answer, answer["text"]
    assert answer["difference"] < 1e-5
    assert not {"Functional", "Sequential"} & set(answer["kinds"])


def test_the_demo_model_is_rebuilt_and_its_norms_folded(files: Answers) -> None:
    answer = files["fashion.keras"]
    assert answer["checked"]["weights"] == 47
    assert answer["checked"]["largest_difference"] < 1e-5
    assert (answer["kinds"].count("BatchNormalization"), answer["norms_left"]) == (9, 0)


def test_a_call_in_inference_freezes_a_legacy_norm(files: Answers) -> None:
    assert files["legacy.h5"]["trainable"] == ["bn"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lambda.h5", "mine is a Lambda layer"),
        ("lambda.keras", "mine is a Lambda layer"),
        ("lambda_folder", "mine is a Lambda layer"),
        ("reads_files.h5", "calls tf.io.read_file"),
        ("subclassed.keras", "subclassed model (Subclassed)"),
        ("subclassed_folder", "subclassed model (Sub2)"),
        ("custom.h5", "the layer twice of class Own"),
        ("custom.keras", "the layer twice of class Custom"),
        ("custom_folder", "the layer twice of class Own"),
        ("wrapped.h5", "strip_pruning"),
        ("export_folder", "no Keras layers"),
        ("module_folder", "no Keras layers"),
        ("weights.h5", "weights alone"),
        ("garbage.h5", "no Keras model that can be read"),
        ("garbage.keras", "no Keras model that can be read"),
        ("unknown_layer.keras", "The layer rms (RMSNormalization)"),
        ("unknown_operation.keras", "The operation cumsum (Cumsum)"),
        ("unknown_activation.keras", "The layer odd (LSTM)"),
    ],
)
def test_what_cannot_be_rebuilt_is_refused_by_name(files: Answers, name: str, said: str) -> None:
    answer = files[name]
    assert "failed" not in answer, answer["failed"]
    assert answer["error"] == "ModelError"
    assert said in answer["text"]
    assert answer["hint"]


def test_no_code_in_a_refused_file_was_run(files: Answers) -> None:
    assert files["ran"]["ran"] is False


def test_a_nested_model_can_be_trained_for_quantization_once_rebuilt(files: Answers) -> None:
    assert "inside another keras Model is not supported" in files["quantizes"]["refused"]
    assert any(name.startswith("quant_conv2d") for name in files["quantizes"]["layers"])


@pytest.mark.parametrize("name", ["math.abs", "nn.relu", "compat.v1.transpose"])
def test_functions_that_compute_are_not_code(name: str) -> None:
    layer = {"class_name": "TFOpLambda", "config": {"name": "op", "function": name}}
    assert find_stored_code({"config": {"layers": [layer]}}) is None


@pytest.mark.parametrize(
    "name", ["io.write_file", "py_function", "raw_ops.ReadFile", "compat.v1.py_func"]
)
def test_functions_that_reach_beyond_the_model_are_code(name: str) -> None:
    layer = {"class_name": "TFOpLambda", "config": {"name": "op", "function": name}}
    found = find_stored_code({"config": {"layers": [layer]}})
    assert found is not None
    assert (found.layer, found.function) == ("op", f"tf.{name}")


def test_a_module_that_loading_would_import_is_code() -> None:
    found = find_stored_code({"class_name": "Mine", "module": "os.path", "config": {"name": "a"}})
    assert found is not None
    assert (found.layer, found.module) == ("a", "os.path")


@pytest.mark.parametrize(
    ("path", "weights"),
    [
        ("ic_resnet8/model.h5", 48),
        ("kws_dscnn/model.h5", 56),
        ("kws_dscnn/savedmodel", 56),
        ("fmnist_dscnn/model.h5", 47),
        ("fmnist_dscnn/savedmodel", 47),
        ("efficientnet_lite0/model.keras", 247),
    ],
)
def test_the_shared_models_are_rebuilt_and_folded(
    shared: Path, files: Answers, path: str, weights: int
) -> None:
    answer = files[str(shared / "models" / path)]
    assert "failed" not in answer, answer["failed"]
    assert answer["checked"]["weights"] == weights
    assert answer["checked"]["largest_difference"] <= 1e-5 * answer["checked"]["largest_output"]
    assert answer["norms_left"] == 0


@pytest.mark.slow
def test_known_topologies_are_rebuilt(tmp_path: Path) -> None:
    process = _start("keras_cases.py", tmp_path / "cases", *keras_cases.APPLICATIONS)
    answers = _answers(process, tmp_path / "cases")
    assert tuple(answers) == keras_cases.APPLICATIONS
    for answer in answers.values():
        _same(answer)
