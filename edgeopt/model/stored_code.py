"""Code in a Keras configuration: what loading would run, found before anything is loaded. Pure.

Keras 3 has a safe mode; tf_keras has none: it would run a Lambda's bytecode, import any module, and
call any TensorFlow function that a file names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["StoredCode", "find_stored_code"]

_MODULES = ("keras", "tf_keras", "tensorflow", "builtins")
_LAMBDAS = ("Lambda", "__lambda__")
# Functions of TensorFlow that reach beyond the computation: files, libraries, Python.
_NAMES = """
    data debugging distribute io load_library load_op_library matching_files numpy_function print
    profiler py_func py_function raw_ops read_file saved_model summary sysconfig test tpu train
    write_file xla
"""
_REACHING_OUT = set(_NAMES.split())
_OPERATIONS_REACHING_OUT = ("PyFunc", "WriteFile", "ReadFile", "MatchingFiles", "SaveV2",
                            "RestoreV2", "MergeV2", "Print")  # fmt: skip


@dataclass(frozen=True)
class StoredCode:
    """`layer` is the nearest name around it. `module` is what would be imported, "" for a Lambda;
    `function` one of TensorFlow's that does more than compute."""

    layer: str
    module: str = ""
    function: str = ""

    @property
    def text(self) -> str:
        """Why the file is not loaded, to follow "...: "."""
        if self.module:
            return f"it would import {self.module}, and code is not run from a file."
        if self.function:
            return f"its layer {self.layer} calls {self.function}, which does more than compute."
        return f"{self.layer} is a Lambda layer, whose Python code is not run from a file."


def find_stored_code(config: Any) -> StoredCode | None:
    """The first piece of code in a model's or layer's configuration, as JSON gives it; or None."""
    waiting: list[tuple[Any, str]] = [(config, "a layer")]
    while waiting:
        value, layer = waiting.pop()
        if isinstance(value, list):
            waiting += [(item, layer) for item in value]
        if not isinstance(value, dict):
            continue
        layer = _name_of(value) or layer
        if found := _code_in(value, layer):
            return found
        waiting += [(item, layer) for item in value.values()]
    return None


def _name_of(value: dict[str, Any]) -> str:
    inner = value.get("config")
    for name in (value.get("name"), inner.get("name") if isinstance(inner, dict) else None):
        if isinstance(name, str):
            return name
    return ""


def _code_in(value: dict[str, Any], layer: str) -> StoredCode | None:
    kinds = [value.get(key) for key in ("function_type", "output_shape_type", "mask_type")]
    if value.get("class_name") in _LAMBDAS or "lambda" in kinds:
        return StoredCode(layer)
    module = value.get("module")
    if isinstance(module, str) and module.split(".")[0] not in _MODULES:
        return StoredCode(layer, module=module)
    inner = value.get("config")
    if not isinstance(inner, dict):
        return None
    function = inner.get("function") if value.get("class_name") == "TFOpLambda" else None
    if isinstance(function, str) and _REACHING_OUT & set(function.split(".")):
        return StoredCode(layer, function=f"tf.{function}")
    definition = str(inner.get("node_def", ""))
    named = [name for name in _OPERATIONS_REACHING_OUT if name in definition]
    return StoredCode(layer, function=named[0]) if named else None
