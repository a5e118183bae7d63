"""The child that tries candidates: `hold` a float model and samples, then `try` quantizations of it
or `compare` another float model; answers are figures a sample, never arrays. `search` finds ranges
and `noises` what each activation costs, on samples of their own."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.child import serve
from edgeopt.optimize.calibration_worker import batched

if TYPE_CHECKING:
    from edgeopt.facts import Subgraph

__all__ = ["main"]

_BEFORE = ("SOFTMAX", "LOGISTIC", "LOG_SOFTMAX")
_PASSED = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE")


def _answers(graph: Subgraph) -> tuple[list[int], bool]:
    """The tensors whose error counts, one an output (logits in place of what a last softmax makes
    of them), and whether the only output tells classes."""
    makers = {t.index: op for op in graph.operators for t in op.outputs}
    found, decided = [], False
    for output in graph.outputs:
        place = output.index
        while (op := makers.get(place)) and op.op in (*_BEFORE, *_PASSED) and op.inputs[0]:
            place = op.inputs[0].index
            if op.op in _BEFORE:
                decided = op.op != "LOGISTIC"
                break
        else:
            place = output.index
        found.append(place)
    shape = graph.outputs[0].shape or ()
    classes = len(found) == 1 and shape[-1:] > (2,) and (decided or len(shape) == 2)
    return found, classes


def _floors(path: str) -> list[float]:
    """For each answer the value below which it says nothing, minus infinity where all counts."""
    from edgeopt.model.tflite import parse
    from edgeopt.optimize.logits import logit_floors

    data = Path(path).read_bytes()
    graph = parse(data).subgraphs[0]
    names = {t.index: t.name for t in graph.tensors}
    floors = logit_floors(data)
    return [floors.get(names[place], -math.inf) for place in _answers(graph)[0]]


class _Model:
    """One model; called with a sample, it gives its answers as float64 vectors in real units."""

    def __init__(self, path: str) -> None:
        import warnings

        from ai_edge_litert.interpreter import Interpreter

        from edgeopt.model.tflite import parse

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # preserving tensors warns of the memory it takes
            self._interpreter = Interpreter(
                model_path=path, num_threads=1, experimental_preserve_all_tensors=True
            )
        self._interpreter.allocate_tensors()
        self._inputs = self._interpreter.get_input_details()
        places, self.classes = _answers(parse(Path(path).read_bytes()).subgraphs[0])
        details = {d["index"]: d for d in self._interpreter.get_tensor_details()}
        self._outputs = [details[place] for place in places]

    def __call__(self, sample: list[Any]) -> list[Any]:
        for detail, value in zip(self._inputs, sample, strict=True):
            batch = int(detail["shape"][0]) if len(detail["shape"]) else None
            self._interpreter.set_tensor(detail["index"], batched(_coded(value, detail), batch))
        self._interpreter.invoke()
        found = [_real(self._interpreter.get_tensor(d["index"]), d) for d in self._outputs]
        self._interpreter.reset_all_variables()
        return found


def _coded(value: Any, detail: dict[str, Any]) -> Any:
    """The sample as the input's integers, where it is quantized."""
    import numpy as np

    scale, zero = detail["quantization"]
    kind = np.dtype(detail["dtype"])
    if not scale or kind.kind != "i":
        return value.astype(kind)
    limits = np.iinfo(kind)
    return np.clip(np.rint(value / scale) + zero, limits.min, limits.max).astype(kind)


def _real(value: Any, detail: dict[str, Any]) -> Any:
    import numpy as np

    scale, zero = detail["quantization"]
    found = value.astype(np.float64)
    if scale and value.dtype.kind in "iu":
        found = (found - zero) * scale
    return found.reshape(-1, found.shape[-1] if found.ndim > 1 else found.size)


class _Worker:
    def __init__(self) -> None:
        self.samples: list[list[Any]] = []
        self.wanted: list[list[Any]] = []
        self.classes = False
        self.floors: list[float] = []

    def answer(self, message: dict[str, Any], arrays: list[Any]) -> dict[str, Any]:
        if message["do"] == "hold":
            return self.hold(message["model"], arrays)
        if message["do"] == "compare":
            return self.compare(message["model"])
        if message["do"] == "search":
            return self.search(message, arrays)
        if message["do"] == "noises":
            return self.noises(message, arrays)
        from edgeopt.optimize.quantizer_worker import quantize

        began = time.perf_counter()
        quantize(message["job"], [])
        made = time.perf_counter() - began
        if not self.samples:
            return {"quantizing_s": made}
        return {"quantizing_s": made, **self.figures(message["job"]["output"])}

    def hold(self, model: str, arrays: list[Any]) -> dict[str, Any]:
        """`arrays`: one an input, the first axis counting samples."""
        reference = _Model(model)
        self.samples = [list(sample) for sample in zip(*arrays, strict=True)]
        self.wanted = [reference(sample) for sample in self.samples]
        self.classes = reference.classes
        self.floors = _floors(model)
        return {"classes": self.classes}

    def search(self, message: dict[str, Any], arrays: list[Any]) -> dict[str, Any]:
        from edgeopt.model.tflite import parse
        from edgeopt.optimize.ranges_search import search

        path = Path(message["model"])
        ends, classes = _answers(parse(path.read_bytes()).subgraphs[0])
        ranges, bits = message["ranges"], message["bits"]
        try:
            shares = search(path, ranges, arrays, ends=ends, centred=classes, bits=bits)
        except (RuntimeError, ValueError) as error:  # an operation that runs in no part of a model
            return {"shares": {}, "why": str(error).strip().split("\n")[-1]}
        return {"shares": shares}

    def noises(self, message: dict[str, Any], arrays: list[Any]) -> dict[str, Any]:
        from edgeopt.model.tflite import parse
        from edgeopt.optimize.ranges_search import noises

        path = Path(message["model"])
        ends, classes = _answers(parse(path.read_bytes()).subgraphs[0])
        try:
            found, live = noises(path, message["ranges"], arrays, ends=ends, centred=classes)
        except (RuntimeError, ValueError) as error:  # an operation that runs in no part of a model
            return {"noises": {}, "why": str(error).strip().split("\n")[-1]}
        return {"noises": found, "live": live}

    def compare(self, path: str) -> dict[str, Any]:
        """The largest difference to the float model's answers, as a share of the largest answer."""
        import numpy as np

        model, worst = _Model(path), 0.0
        for sample, wanted in zip(self.samples, self.wanted, strict=True):
            for value, real in zip(model(sample), wanted, strict=True):
                size = max(float(np.abs(real).max(initial=0)), 1e-9)
                apart = float(np.abs(value - real).max(initial=0)) / size
                worst = max(worst, apart) if apart == apart else float("inf")
        return {"apart": worst}

    def figures(self, path: str) -> dict[str, Any]:
        """For each sample: `signal` and `noise`, sums of squares over all answers, each answer's
        as a share of its own signal over all samples; for classes `agrees` and `margin_lost`."""
        import numpy as np

        model = _Model(path)
        found = [model(sample) for sample in self.samples]
        noise = np.zeros(len(found))
        for place in range(len(found[0])):
            real = np.stack([wanted[place] for wanted in self.wanted])
            value = np.stack([answer[place] for answer in found])
            real, value = (np.maximum(each, self.floors[place]) for each in (real, value))
            apart = value - real
            if self.classes:
                real, apart = (a - a.mean(axis=-1, keepdims=True) for a in (real, apart))
            else:
                real = real - real.mean(axis=0)
            signal = float((real**2).sum()) or 1.0
            noise += (apart**2).reshape(len(found), -1).sum(axis=1) / signal / len(found[0])
        answer: dict[str, Any] = {"noise": noise.tolist()}
        if self.classes:
            margins = [_margin(w[0], f[0]) for w, f in zip(self.wanted, found, strict=True)]
            answer["agrees"] = [kept > 0 for kept in margins]
            answer["margin_lost"] = [min(1.0, (1 - kept) ** 2) for kept in margins]
        return answer


def _margin(wanted: Any, found: Any) -> float:
    """How much of the float model's lead of its first class over all others is left: 1 is all of
    it, 0 or less another answer; the mean over rows where the output has several."""
    import numpy as np

    kept = []
    for real, value in zip(wanted, found, strict=True):
        best = int(real.argmax())
        others = np.delete(np.arange(len(real)), best)
        lead = float(real[best] - real[others].max())
        left = float(value[best] - value[others].max())
        kept.append(left / lead if lead > 0 else float(left >= 0))
    return float(np.mean(kept))


def main() -> None:
    serve(_Worker().answer, what="The LiteRT quantizer", package="litert-quantizer")
