"""TensorFlow's side, in a process of its own: sources in its formats, and the fallback."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeopt.dataset import load_dataset
from edgeopt.errors import ModelError, ToolError
from edgeopt.model import read
from edgeopt.optimize import ConversionRequest, convert, to_float
from edgeopt.optimize.conversion import _beyond_both
from edgeopt.optimize.tf_process import _crashed, _explained
from edgeopt.progress import Silent

pytestmark = pytest.mark.tf
needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="the tf extra is not installed"
)

_MODELS = """
import sys, keras
from keras import layers
base = sys.argv[1]
i = keras.Input((8, 8, 3), name='image')
x = layers.Conv2D(4, 3, activation='leaky_relu')(i)  # as a layer of its own, it becomes PRELU
keras.Model(i, layers.Dense(3)(layers.Flatten()(x))).save(f'{base}/leaky.keras')
i = keras.Input((4,))
keras.Model(i, layers.Lambda(lambda v: v * 2)(layers.Dense(4)(i))).save(f'{base}/lambda.keras')
import tf_keras
i = tf_keras.Input((4,))
code = lambda v: [__import__('pathlib').Path('ran').touch(), v * 2][1]
tf_keras.Model(i, tf_keras.layers.Lambda(code)(i)).save(f'{base}/lambda.h5')
i = keras.Input((None, None, 3), name='any_size')
keras.Model(i, layers.Conv2D(4, 3)(i)).save(f'{base}/open.keras')
stack = [keras.Input((12, 6)), layers.Dense(5), layers.Flatten()]
keras.Sequential(stack).save(f'{base}/sequential.keras')
i, j = keras.Input((4,), name='zeta'), keras.Input((4,), name='alpha')
outs = [layers.Dense(n, name=name)(layers.Subtract()([i, j]))
        for n, name in ((5, 'zz'), (2, 'aa'), (3, 'mm'))]
keras.Model([i, j], outs).save(f'{base}/several.keras')
keras.config.set_dtype_policy('mixed_float16')
i = keras.Input((4,))
keras.Model(i, layers.Dense(3)(layers.Dense(8)(i))).save(f'{base}/mixed.keras')
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("the tf extra is not installed")
    base = tmp_path_factory.mktemp("models")
    command = [sys.executable, "-c", _MODELS, str(base)]
    done = subprocess.run(command, capture_output=True, cwd=base)
    assert done.returncode == 0, done.stderr[-2000:].decode()
    return base


@needs_tensorflow
def test_the_fallback_quantizes_what_the_quantizer_cannot_and_says_so(
    models: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "d.npy", np.random.default_rng(0).normal(size=(20, 8, 8, 3)).astype("f4"))
    made = convert(
        models / "leaky.keras",
        ConversionRequest(scheme="int8", io="uint8", legacy_ops=True),
        tmp_path / "out" / "q.tflite",
        dataset=load_dataset(str(tmp_path / "d.npy")),
        progress=Silent(),
    )
    assert made.engine == "tflite-converter"
    assert any("LEAKY_RELU" in note for note in made.notes)
    facts = read(made.path)
    assert facts.quantized
    assert facts.inputs[0].dtype == "uint8"
    assert max(o.version or 0 for o in facts.operators() if o.op == "FULLY_CONNECTED") <= 4
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["q.tflite", "q_float32.tflite"]


@needs_tensorflow
def test_a_legacy_h5_becomes_a_static_float_tflite(shared: Path, tmp_path: Path) -> None:
    source = shared / "models/kws_dscnn/model.h5"
    made = to_float(source, tmp_path / "f.tflite", batch=2, progress=Silent())
    facts = read(made.path)
    assert facts.inputs[0].shape == (2, 49, 10, 1)
    assert (made.engine, made.source_format) == ("tflite-converter", "h5")
    assert made.versions["tensorflow"]


@needs_tensorflow
@pytest.mark.parametrize("name", ["lambda.keras", "lambda.h5"])
def test_a_lambda_layer_is_not_run(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="Lambda layer"):
        to_float(models / name, tmp_path / "f.tflite", progress=Silent())
    assert list(tmp_path.iterdir()) == []


@needs_tensorflow
def test_open_sizes_are_refused_by_name(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"any_size has shape \?x\?x\?x3") as caught:
        to_float(models / "open.keras", tmp_path / "f.tflite", progress=Silent())
    assert "fixed size" in caught.value.hint


def test_operations_that_need_flex_are_listed() -> None:
    text = "Some ops ... ERROR_NEEDS_FLEX_OPS\nFlex ops: FlexBincount, FlexErfinv\nDetails:"
    error = _explained("ConverterError", text, Path("m.keras"))
    assert isinstance(error, ModelError)
    assert "Bincount, Erfinv" in error.message


def test_a_missing_package_names_the_extra() -> None:
    error = _explained("missing", "tf-keras, for a legacy Keras .h5", Path("m.h5"))
    assert isinstance(error, ToolError)
    assert "edgeopt[tf]" in error.hint


def test_an_operation_that_needs_tensorflow_itself_is_named() -> None:
    text = "Error code: ERROR_NEEDS_FLEX_OPS\nTF Select ops: Erf, MatrixInverse\nDetails:\n"
    error = _explained("ConverterError", text, Path("m.keras"))
    assert isinstance(error, ModelError)
    assert "Erf, MatrixInverse" in error.message


def test_a_crash_of_the_converter_is_the_models_matter() -> None:
    request = ConversionRequest(scheme="int8")
    crash = _crashed("ended by SIGSEGV\nwarnings.warn(x)", Path("lstm.keras"))
    assert "ended by SIGSEGV" in crash.message and "memory" not in crash.hint
    error = _beyond_both(crash, Path("lstm.keras"), request, "the quantizer leaves WHILE #3")
    assert isinstance(error, ModelError)
    assert "WHILE #3" in error.message and "unroll" in error.hint


def test_running_out_of_memory_is_the_machines_matter() -> None:
    killed = _crashed("ended by SIGKILL", Path("big.keras"))
    assert "memory" in killed.hint
    request = ConversionRequest(scheme="int8")
    assert _beyond_both(killed, Path("big.keras"), request, "") is killed


def test_a_layer_name_that_tensorflow_refuses_is_told() -> None:
    text = "\x1b[1m'my layer' is not a valid scope name. It has to match\x1b[0m"
    error = _explained("ValueError", text, Path("m.keras"))
    assert "'my layer'" in error.message and "letters" in error.hint


def test_a_float64_model_is_told_its_type() -> None:
    text = (
        "ERROR_NEEDS_FLEX_OPS\nTF Select ops: MatMul\nDetails:\n"
        "tf.MatMul(tensor<1x6xf64>, tensor<6x3xf64>) -> (tensor<1x3xf64>)\n"
    )
    error = _explained("ConverterError", text, Path("m.keras"))
    assert "MatMul" in error.message and "float64" in error.hint


@needs_tensorflow
def test_inputs_and_outputs_keep_the_authors_order(models: Path, tmp_path: Path) -> None:
    made = to_float(models / "several.keras", tmp_path / "f.tflite", progress=Silent())
    facts = read(made.path)
    assert ["zeta" in t.name for t in facts.inputs] == [True, False]
    assert [t.shape for t in facts.outputs] == [(1, 5), (1, 2), (1, 3)]


@needs_tensorflow
def test_a_model_of_mixed_precision_is_converted_in_float32(models: Path, tmp_path: Path) -> None:
    made = to_float(models / "mixed.keras", tmp_path / "f.tflite", progress=Silent())
    assert {t.dtype for t in read(made.path).tensors()} == {"float32"}


@needs_tensorflow
def test_a_sequential_model_of_keras_3_is_converted(models: Path, tmp_path: Path) -> None:
    """Loaded from its file, it has `inputs` but no `input`."""
    made = to_float(models / "sequential.keras", tmp_path / "f.tflite", progress=Silent())
    facts = read(made.path)
    assert [t.shape for t in (*facts.inputs, *facts.outputs)] == [(1, 12, 6), (1, 60)]
