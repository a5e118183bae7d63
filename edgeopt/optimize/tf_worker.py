"""The child that holds TensorFlow: load a model, fix its batch, and convert it once.

Job: `source`, `format` ("keras", "h5", "savedmodel"), `batch`, `scheme`, `output`, `folder` (an
empty one for SavedModels), `per_channel`, `legacy_ops`, and for integer schemes `samples`: one .npy
per input, by signature name. Every model passes through a SavedModel with a static batch:
converting Keras 3 objects directly loses their weights without a word.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeopt.child import read_message, take_over_stdout
from edgeopt.optimize.keras_layers import write_plainly

__all__ = ["main"]


_Order = tuple[list[str], list[str]]

_FIXED_SIZE = "Rebuild it with a fixed size, such as keras.Input((224, 224, 3)), and save it again."
_SIGNATURE = "Export it with model.export(FOLDER), or give tf.saved_model.save its signatures=."


class _CannotConvert(Exception):
    """The model itself is the reason; the text says why, `hint` what would help."""

    def __init__(self, text: str, hint: str = "Export it with model.export(FOLDER).") -> None:
        super().__init__(text)
        self.hint = hint


def _written(sides: list[int | None]) -> str:
    return "x".join("?" if side is None else str(side) for side in sides)


def _sides(shape: Any, batch: int, name: str) -> tuple[int, ...]:
    """The shape with the batch put in; any other open dimension is refused."""
    if shape is None:
        raise _CannotConvert(f"the input {name} has no known rank.", _FIXED_SIZE)
    sides = list(shape)
    if not sides:
        return ()
    open_sides = [i for i, side in enumerate(sides) if side is None]
    if any(i > 0 for i in open_sides):
        raise _CannotConvert(
            f"the input {name} has shape {_written(sides)}: only the batch may be open.",
            _FIXED_SIZE,
        )
    if open_sides:
        sides[0] = batch
    elif sides[0] != batch:
        raise _CannotConvert(
            f"the batch of {name} is fixed to {sides[0]}; {batch} was asked for.",
            f"Build the model with an open batch, or ask for --batch {sides[0]} if that may be.",
        )
    return tuple(int(side) for side in sides)


def _numbered(count: int) -> list[str]:
    """How a SavedModel names the outputs that its author gave as a list."""
    return [f"output_{i}" for i in range(count)]


def _from_keras3(source: str, batch: int, folder: str, plainly: bool) -> _Order:
    import keras

    model = keras.models.load_model(source, compile=False, safe_mode=True)
    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise _CannotConvert("a subclassed Keras model without declared inputs.")
    _compute_in_float32(model)
    if plainly:
        write_plainly(model)

    def spec(tensor: Any) -> Any:
        shape = _sides(tensor.shape, batch, tensor.name)
        return keras.InputSpec(shape=shape, dtype=tensor.dtype, name=tensor.name)

    # A loaded Sequential has no `input`; any other has it in the structure that it is called with.
    given = inputs[0] if isinstance(model, keras.Sequential) else model.input
    signature = [keras.tree.map_structure(spec, given)]
    model.export(folder, verbose=False, input_signature=signature)
    return [tensor.name for tensor in inputs], _numbered(len(model.outputs))


def _compute_in_float32(model: Any) -> None:
    """Mixed precision speeds up training; its weights are float32, and TensorFlow Lite computes in
    that alone."""
    for layer in model._flatten_layers():
        if layer.dtype_policy.name.startswith("mixed_"):
            layer.dtype_policy = "float32"


def _from_keras2(source: str, batch: int, folder: str) -> _Order:
    import tensorflow as tf

    try:
        import tf_keras
    except ImportError as error:
        raise ImportError("tf-keras, for a legacy Keras .h5") from error
    _refuse_code(source)
    model = tf_keras.models.load_model(source, compile=False)
    if not getattr(model, "inputs", None):
        raise _CannotConvert("a subclassed Keras model without declared inputs.")
    specs = [
        tf.TensorSpec(_sides(t.shape.as_list(), batch, name), t.dtype, name=name)
        for name, t in zip(model.input_names, model.inputs, strict=True)
    ]

    @tf.function(input_signature=specs, autograph=False)  # type: ignore[untyped-decorator, unused-ignore]
    def serve(*arrays: Any) -> Any:
        return model(arrays[0] if len(arrays) == 1 else list(arrays), training=False)

    holder = tf.Module()
    holder.model = model
    tf.saved_model.save(holder, folder, signatures=serve.get_concrete_function())
    return list(model.input_names), _numbered(len(model.outputs))


def _from_savedmodel(source: str, batch: int, folder: str) -> _Order:
    import tensorflow as tf

    loaded = tf.saved_model.load(source)
    names = list(loaded.signatures)
    if not names:
        raise _CannotConvert("the SavedModel has no signature.", _SIGNATURE)
    if "serving_default" not in names and len(names) > 1:
        raise _CannotConvert(
            f"no serving_default among its signatures {', '.join(names)}.",
            "Export it again with the one to deploy as serving_default.",
        )
    chosen = loaded.signatures["serving_default" if "serving_default" in names else names[0]]
    wanted = chosen.structured_input_signature[1]
    specs = {}
    for name, spec in wanted.items():
        shape = spec.shape.as_list() if spec.shape.rank is not None else None
        specs[name] = tf.TensorSpec(_sides(shape, batch, name), spec.dtype, name=name)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator, unused-ignore]
    def serve(**arrays: Any) -> Any:
        return chosen(**arrays)

    holder = tf.Module()
    holder.model = loaded
    tf.saved_model.save(holder, folder, signatures=serve.get_concrete_function(**specs))
    # A signature has names and no order: inputs go by name, numbered outputs by their number.
    return sorted(specs), _numbered(len(chosen.structured_outputs))


def _refuse_code(source: str) -> None:
    """Legacy loading has no safe mode."""
    import h5py

    from edgeopt.model.stored_code import find_stored_code

    with h5py.File(source, "r") as file:
        text = file.attrs.get("model_config", b"{}")
    found = find_stored_code(json.loads(text))
    if found is None:
        return
    if not found.module and not found.function:
        raise ValueError("a Lambda layer is unsafe")
    raise _CannotConvert(found.text)


def _is_keras3(source: str) -> bool:
    import h5py

    with h5py.File(source, "r") as file:
        version = file.attrs.get("keras_version", b"")
    text = version.decode() if isinstance(version, bytes) else str(version)
    return text.startswith("3")


def _save(job: dict[str, Any]) -> _Order:
    """Write the SavedModel to `folder`; the names of its inputs and outputs in their order."""
    source, batch, folder = job["source"], job["batch"], job["folder"]
    if job["format"] == "savedmodel":
        return _from_savedmodel(source, batch, folder)
    if job["format"] == "keras" or _is_keras3(source):
        return _from_keras3(source, batch, folder, job["legacy_ops"])
    return _from_keras2(source, batch, folder)


def _samples(files: dict[str, str], spent: list[float]) -> Iterator[dict[str, Any]]:
    import numpy as np

    arrays = {name: np.load(file, mmap_mode="r") for name, file in files.items()}
    began = time.perf_counter()
    for index in range(len(next(iter(arrays.values())))):
        yield {name: np.ascontiguousarray(array[index]) for name, array in arrays.items()}
    spent.append(time.perf_counter() - began)  # asked for more: the last one is done


def _configure(converter: Any, job: dict[str, Any], spent: list[float]) -> None:
    import tensorflow as tf

    scheme = job["scheme"]
    if scheme == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter._experimental_disable_per_channel = not job["per_channel"]
    if job["legacy_ops"]:  # one scale a dense layer: operator version 4, not 12
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    if scheme == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if scheme in ("int8", "int16x8"):
        converter.representative_dataset = lambda: _samples(job["samples"], spent)
    if scheme == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    if scheme == "int16x8":
        sixteen = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [sixteen]


def _convert(job: dict[str, Any]) -> dict[str, Any]:
    import tensorflow as tf

    from edgeopt.model.edit import in_order

    order = _save(job)
    converter = tf.lite.TFLiteConverter.from_saved_model(job["folder"])
    spent: list[float] = []
    _configure(converter, job, spent)
    data = in_order(converter.convert(), *order)
    Path(job["output"]).write_bytes(data)
    return {
        "bytes": len(data),
        "versions": {"tensorflow": tf.__version__},
        "calibration_seconds": spent[-1] if spent else None,
    }


def main() -> None:
    pipe = take_over_stdout()
    received = read_message(sys.stdin.buffer)
    assert received is not None
    try:
        answer = _convert(received[0])
    except ImportError as error:
        answer = {"failed": "missing", "text": str(error)}
    except _CannotConvert as error:
        answer = {"failed": "model", "text": str(error), "hint": error.hint}
    except Exception as error:  # noqa: BLE001 - TensorFlow raises anything; the parent explains it
        answer = {"failed": type(error).__name__, "text": str(error)}
    pipe.write(json.dumps(answer).encode() + b"\n")
    os._exit(0)  # nothing to save; skips seconds of library teardown
