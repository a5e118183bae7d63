"""TensorFlow at arm's length: one job in one process, its flood of output kept from the user."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from edgeopt.child import Child, ChildDied
from edgeopt.errors import ModelError, ToolError

__all__ = ["run_tensorflow"]

_WORKER = "edgeopt.optimize.tf_worker"
_OTHER_FLOATS = {"f64": "float64", "f16": "float16", "bf16": "bfloat16"}


def run_tensorflow(job: dict[str, Any], source: Path) -> dict[str, Any]:
    """Do a job of tf_worker (see there). Raises ToolError when TensorFlow is missing or crashes,
    ModelError when the model cannot be loaded or converted."""
    if importlib.util.find_spec("tensorflow") is None:
        raise ToolError(
            f"Reading {source.name} needs TensorFlow, which is not installed.",
            "pip install 'edgeopt[tf]'  (or convert it to a float .tflite elsewhere)",
        )
    with Child(_WORKER) as child:
        try:
            child.send(job)
            answer = child.answer()
        except ChildDied as error:
            raise _crashed(str(error), source) from error
    if "failed" in answer:
        raise _explained(answer["failed"], answer["text"], source, answer.get("hint", ""))
    return answer


def _crashed(log: str, source: Path) -> ToolError:
    """The log's first line says how the process ended; the system kills when memory runs out."""
    ended = log.splitlines()[0] if log else "no reason given"
    memory = "Free some memory and try again, or convert it to a float .tflite elsewhere."
    other = "Convert it to a float .tflite with another version of TensorFlow, and give that."
    return ToolError(
        f"TensorFlow crashed on {source.name} ({ended}).",
        memory if "SIGKILL" in ended else other,
        details={"ended": ended, "log": log},
    )


def _replacing(text: str) -> str:
    """What to do about operations that need TensorFlow: often it is their type, not their kind."""
    details = text.partition("Details:")[2].partition("note:")[0]
    wide = {name for code, name in _OTHER_FLOATS.items() if f"x{code}>" in details}
    if wide:
        return f"The model computes in {', '.join(sorted(wide))}: build it in float32 instead."
    return "Replace them in the model with TensorFlow Lite operations, then export it again."


def _explained(kind: str, text: str, source: Path, hint: str = "") -> ModelError | ToolError:
    """TensorFlow's errors in terms of the model: the operations or layer that it names."""
    brief = re.sub(r"\s+", " ", re.sub(r"\x1b\[\d*m", "", text)).strip()
    if kind == "missing":
        return ToolError(f"{source.name} needs {brief}.", "pip install 'edgeopt[tf]'")
    if kind == "model":
        return ModelError(f"{source.name}: {brief}", hint)
    if "ERROR_NEEDS_FLEX_OPS" in text or "ERROR_NEEDS_CUSTOM_OPS" in text:
        named = re.findall(r"(?:Flex|Custom|Select) ops: ([^\n\\]+)", text)
        names = sorted({n.removeprefix("Flex") for part in named for n in re.findall(r"\w+", part)})
        return ModelError(
            f"{source.name} uses operations that TensorFlow Lite does not have: "
            f"{', '.join(names) or 'see details'}.",
            _replacing(text),
            details={"operations": names, "log": text[-4000:]},
        )
    if scope := re.search(r"'([^']*)' is not a valid scope name", text):
        return ModelError(
            f"{source.name} has a layer named {scope[1]!r}, which TensorFlow does not take.",
            "Name it with letters, digits and _ . - only, and save the model again.",
        )
    unsupported = re.findall(r"not yet supported for op: '(\w+)'", text)
    if unsupported:
        return ModelError(
            f"{source.name} cannot be quantized: TensorFlow's converter has no integer form of "
            f"{', '.join(sorted(set(unsupported)))} in this scheme.",
            "Replace the operation in the model, or use another scheme.",
            details={"operations": sorted(set(unsupported))},
        )
    if "Lambda" in text and ("safe_mode" in text or "unsafe" in text or "deserializ" in text):
        return ModelError(
            f"{source.name} has a Lambda layer, whose Python code is not run from a file.",
            "Load it where you trust it and write a SavedModel: model.export(FOLDER).",
        )
    unknown = re.search(r"(?:Unknown layer:?|Could not locate class) '?\"?(\w+)", text)
    if unknown:
        return ModelError(
            f"{source.name} has a custom layer, {unknown.group(1)}, whose code is not in the file.",
            "Load it where the code is and write a SavedModel: model.export(FOLDER).",
        )
    return ModelError(
        f"TensorFlow cannot convert {source.name}: {brief[:400]}",
        "Check that the file loads in TensorFlow 2.19 or later, or give a SavedModel.",
        details={"log": text[-4000:]},
    )
