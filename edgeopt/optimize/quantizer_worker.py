"""The child that holds the LiteRT quantizer: `load`, then `sample`s, `ranges`, and `quantize`."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

from edgeopt.optimize.child import read_message, take_over_stdout

__all__ = ["main"]


class _Worker:
    def __init__(self) -> None:
        self.path = ""
        self.calibrator: Any = None
        self.key = ""
        self.names: list[str] = []
        self.shapes: list[list[int]] = []

    def load(self, model: str, every_tensor: bool) -> dict[str, Any]:
        """Get ready to watch the model's tensors, one thread, true minimum and maximum.

        The profiler mode is four times faster; `every_tensor` keeps every tensor for models where
        the profiler does not see all (control flow).
        """
        from ai_edge_litert.interpreter import Interpreter
        from litert_quantizer import recipe
        from litert_quantizer.calibrator import CalibrationMode, Calibrator
        from litert_quantizer.recipe_manager import RecipeManager
        from litert_quantizer.utils.qsv_utils import min_max_update

        mode = CalibrationMode.CALIBRATION_PROFILER_BASED
        if every_tensor:
            mode = CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS
        plain = Interpreter(model_path=model, num_threads=1)
        self.key = next(iter(plain.get_signature_list()))
        by_index = {
            d["index"]: n
            for n, d in plain.get_signature_runner(self.key).get_input_details().items()
        }
        details = plain.get_input_details()
        self.names = [by_index[d["index"]] for d in details]
        self.shapes = [[int(side) for side in d["shape"]] for d in details]
        self.manager = RecipeManager()
        self.manager.load_quantization_recipe(recipe.static_wi8_ai8())
        self.calibrator = Calibrator(
            model, num_threads=1, mode=mode, qsv_update_func=min_max_update
        )
        return {"inputs": self.names}

    def sample(self, arrays: list[Any]) -> dict[str, Any]:
        import numpy as np

        batched = {
            name: np.ascontiguousarray(np.broadcast_to(array, (shape[0], *array.shape)))
            for name, shape, array in zip(self.names, self.shapes, arrays, strict=True)
        }
        self.calibrator.calibrate({self.key: [batched]}, self.manager)
        return {"done": 1}

    def ranges(self) -> dict[str, Any]:
        found = self.calibrator.get_model_qsvs()
        return {
            "ranges": {
                name: [[float(v) for v in qsv[end].ravel()] for end in ("min", "max")]
                for name, qsv in found.items()
                if qsv
            }
        }

    def quantize(self, job: dict[str, Any]) -> dict[str, Any]:
        import numpy as np
        from litert_quantizer.quantizer import Quantizer

        ranges = {
            name: {"min": np.asarray(low), "max": np.asarray(high)}
            for name, (low, high) in job["ranges"].items()
        }
        quantizer = Quantizer(job["model"])
        _apply_recipe(quantizer, job)
        result = quantizer.quantize(
            ranges or None, enable_progress_bar=False, enable_progress_report=False
        )
        with open(job["output"], "wb") as stream:  # noqa: PTH123 - a plain write
            stream.write(bytes(result.quantized_model))
        return {"bytes": len(result.quantized_model)}


def _apply_recipe(quantizer: Any, job: dict[str, Any]) -> None:
    from litert_quantizer import qtyping

    op = qtyping.TFLOperationName
    grain = qtyping.QuantGranularity
    weights = grain.CHANNELWISE if job["per_channel"] else grain.TENSORWISE
    if job["scheme"] == "float16":
        half = qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(
                num_bits=16, dtype=qtyping.TensorDataType.FLOAT
            ),
            compute_precision=qtyping.ComputePrecision.FLOAT,
        )
        quantizer.update_quantization_recipe(
            ".*", op.ALL_SUPPORTED, half, algorithm_key="float_casting"
        )
    elif job["scheme"] == "dynamic_int8":
        quantizer.add_dynamic_config(".*", op.ALL_SUPPORTED, 8, weights)
    else:
        activations = 16 if job["scheme"] == "int16x8" else 8
        quantizer.add_static_config(".*", op.ALL_SUPPORTED, activations, 8, weights)
        if job["legacy_ops"]:
            # Kernels of the TensorFlow 2.5 era read one scale for a dense layer.
            quantizer.add_static_config(".*", op.FULLY_CONNECTED, activations, 8, grain.TENSORWISE)
        if job["scheme"] == "int16x8":  # int16 reaches no user: float32 at the edges
            for edge in (op.INPUT, op.OUTPUT):
                quantizer.update_quantization_recipe(".*", edge, algorithm_key="no_quantize")


def _handle(worker: _Worker, message: dict[str, Any], arrays: list[Any]) -> dict[str, Any]:
    do = message["do"]
    if do == "load":
        return worker.load(message["model"], message["every_tensor"])
    if do == "sample":
        return worker.sample(arrays)
    return worker.ranges() if do == "ranges" else worker.quantize(message)


def _failure(error: Exception) -> dict[str, Any]:
    """What the library said, in our words where it is known."""
    text = re.sub(r"\s+", " ", str(error))[:500]
    if isinstance(error, ImportError):
        return {"error": "tool", "message": f"The LiteRT quantizer does not import: {text}.",
                "hint": "pip install litert-quantizer"}  # fmt: skip
    return {"error": "model", "message": f"The LiteRT quantizer cannot do it: {text}.",
            "details": {"exception": type(error).__name__}}  # fmt: skip


def main() -> None:
    pipe = take_over_stdout()
    worker = _Worker()
    while (received := read_message(sys.stdin.buffer)) is not None:
        try:
            answer = _handle(worker, *received)
        except Exception as error:  # noqa: BLE001 - whatever it raises goes to the parent
            answer = _failure(error)
        pipe.write(json.dumps(answer).encode() + b"\n")
    os._exit(0)  # nothing to save; skips seconds of library teardown
