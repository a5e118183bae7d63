"""The child that watches a float model's tensors: `load`, then `samples` in chunks, then `ranges`.

Every sample is one inference of its own: what is measured does not depend on how samples were
chunked or on how many processes shared them. Of the quantizer only the rare path is imported; the
usual one needs the interpreter alone, which starts five times as fast.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from typing import Any, Protocol

from edgeopt.child import serve
from edgeopt.optimize.statistics_watch import Detailed

__all__ = ["batched", "main"]


class _Watch(Protocol):
    inputs: list[dict[str, Any]]  # the interpreter's details

    def see(self, arrays: list[Any], number: int) -> None:
        """Run the model once on one batch, an array per input, and remember the ranges; `number`
        is the sample's place in the calibration set."""

    def ranges(self) -> dict[str, list[list[float]]]: ...


def _opened(model: str, **options: Any) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=1, **options)
    interpreter.allocate_tensors()
    return interpreter


class _Profiled:
    """LiteRT's profiler takes minimum and maximum inside the runtime: the call that the quantizer's
    own profiler mode makes, without its work in Python for each sample."""

    def __init__(self, model: str) -> None:
        from ai_edge_litert import _pywrap_tfl_calibration

        self._invoke = _pywrap_tfl_calibration.InvokeWithCalibration
        self._interpreter = _opened(
            model,
            experimental_disable_delegate_node_fusion=True,  # every tensor keeps its name
            experimental_force_delegate_node_profiling=True,
        )
        self._handle = self._interpreter._native_handle()
        self.inputs = self._interpreter.get_input_details()
        self._shapes = [tuple(map(int, detail["shape"])) for detail in self.inputs]
        self._outputs = [(d["name"], d["index"]) for d in self._interpreter.get_output_details()]
        self._low: dict[str, float] = {}
        self._high: dict[str, float] = {}

    def see(self, arrays: list[Any], number: int) -> None:
        if self._shapes != [array.shape for array in arrays]:  # sides left open
            self._shapes = [array.shape for array in arrays]
            for detail, shape in zip(self.inputs, self._shapes, strict=True):
                self._interpreter.resize_tensor_input(detail["index"], shape)
            self._interpreter.allocate_tensors()
        for detail, array in zip(self.inputs, arrays, strict=True):
            self._interpreter.set_tensor(detail["index"], array)
        self._widen(self._invoke(self._handle, 0))
        self._refuse_nan()
        self._interpreter.reset_all_variables()  # the next sample is not this one's future

    def _widen(self, found: Mapping[str, Any]) -> None:
        for name, seen in found.items():
            low, high = seen.min, seen.max
            if name not in self._low:
                self._low[name], self._high[name] = low, high
                continue
            if low < self._low[name] or low != low:  # NaN replaces, and stays
                self._low[name] = low
            if high > self._high[name] or high != high:
                self._high[name] = high

    def _refuse_nan(self) -> None:
        """The profiler's comparisons step over NaN, unless it comes first: look for ourselves."""
        import numpy as np

        for name, index in self._outputs:
            value = self._interpreter.get_tensor(index)
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                self._low[name] = self._high[name] = float("nan")

    def ranges(self) -> dict[str, list[list[float]]]:
        return {name: [[self._low[name]], [self._high[name]]] for name in self._low}


class _EveryTensor:
    """The quantizer's calibrator, keeping every tensor: several times slower, and sees into control
    flow, where the profiler does not."""

    def __init__(self, model: str) -> None:
        from litert_quantizer import recipe
        from litert_quantizer.calibrator import CalibrationMode, Calibrator
        from litert_quantizer.recipe_manager import RecipeManager
        from litert_quantizer.utils.qsv_utils import min_max_update

        plain = _opened(model)
        self._key = next(iter(plain.get_signature_list()))
        runner = plain.get_signature_runner(self._key)
        names = {d["index"]: name for name, d in runner.get_input_details().items()}
        self.inputs = plain.get_input_details()
        self._names = [names[detail["index"]] for detail in self.inputs]
        self._recipe = RecipeManager()
        self._recipe.load_quantization_recipe(recipe.static_wi8_ai8())
        self._calibrator = Calibrator(
            model,
            num_threads=1,
            mode=CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS,
            qsv_update_func=min_max_update,
        )

    def see(self, arrays: list[Any], number: int) -> None:
        named = dict(zip(self._names, arrays, strict=True))
        self._calibrator.calibrate({self._key: [named]}, self._recipe)

    def ranges(self) -> dict[str, list[list[float]]]:
        return {
            name: [[float(value) for value in seen[end].ravel()] for end in ("min", "max")]
            for name, seen in self._calibrator.get_model_qsvs().items()
            if seen
        }


class _Worker:
    def __init__(self) -> None:
        self.watch: _Watch | None = None
        self.batches: list[int | None] = []
        self.folder = ""

    def answer(self, message: dict[str, Any], arrays: list[Any]) -> dict[str, Any]:
        if message["do"] == "load":
            self.watch = watch = self.open(message)
            shapes = [detail["shape"] for detail in watch.inputs]
            self.batches = [int(shape[0]) if len(shape) else None for shape in shapes]
            return {"loaded": True}
        assert self.watch is not None
        if message["do"] == "samples":
            return self.samples(self.watch, arrays, message.get("first", 0))
        if isinstance(self.watch, Detailed):
            handle, path = tempfile.mkstemp(".npz", "statistics-", self.folder)
            os.close(handle)
            self.watch.write(path)
        return {"ranges": self.watch.ranges()}

    def open(self, message: dict[str, Any]) -> _Watch:
        if message.get("statistics"):
            self.folder = message["statistics"]
            return Detailed(message["model"], message["samples"])
        return (_EveryTensor if message["every_tensor"] else _Profiled)(message["model"])

    def samples(self, watch: _Watch, chunk: list[Any], first: int) -> dict[str, Any]:
        """`chunk`: an array per input, its first axis counting samples."""
        began = time.perf_counter()
        count = len(chunk[0])
        for index in range(count):
            pairs = zip(self.batches, chunk, strict=True)
            arrays = [batched(array[index], batch) for batch, array in pairs]
            watch.see(arrays, first + index)
        return {"done": count, "seconds": time.perf_counter() - began}


def batched(sample: Any, batch: int | None) -> Any:
    """The sample as a static batch of itself; an input without any axis takes it as it is."""
    import numpy as np

    if batch is None:
        return np.asarray(sample)
    if batch == 1:
        return sample[np.newaxis]
    return np.ascontiguousarray(np.broadcast_to(sample, (batch, *np.shape(sample))))


def main() -> None:
    serve(_Worker().answer, what="Calibration by LiteRT", package="litert-quantizer")
