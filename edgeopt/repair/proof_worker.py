"""The process that runs models for a proof: a bad file may crash it, and only it.

`observe` answers with the shapes (and small values) of tensors after a run; `compare` runs the
original and the chain of files that replaces it on the same inputs, bit by bit.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeopt.child import serve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

__all__ = ["main"]

_EXTREMES = ("low", "high", "zero", "steps")
_SECONDS = 15.0  # of comparing with one kind of kernel; a large model gets fewer samples, not none
_LEAST = 3


class _Model:
    """One interpreter with its edges: name, type, shape and scale in order."""

    def __init__(self, path: str, kernels: str, *, keep: bool = False) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        kinds = {
            "own": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "xnnpack": OpResolverType.AUTO,
        }
        self.interpreter = Interpreter(
            model_path=path,
            num_threads=1,
            experimental_op_resolver_type=kinds[kernels],
            experimental_preserve_all_tensors=keep,
        )
        for entry in self.interpreter.get_input_details():
            signature = entry["shape_signature"]
            if any(d < 0 for d in signature) or any(d < 1 for d in entry["shape"]):
                shape = [max(int(d), 1) for d in entry["shape"]]
                self.interpreter.resize_tensor_input(entry["index"], shape)
        self.interpreter.allocate_tensors()
        self.inputs = self.interpreter.get_input_details()
        self.outputs = self.interpreter.get_output_details()

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        for entry, array in zip(self.inputs, arrays, strict=True):
            self.interpreter.set_tensor(entry["index"], array)
        self.interpreter.invoke()
        answers = [self.interpreter.get_tensor(e["index"]) for e in self.outputs]
        self.interpreter.reset_all_variables()
        return answers


class _Chain:
    """Files that run one after the other; their edges are wired by the original's tensor index."""

    def __init__(self, request: Mapping[str, Any], kernels: str) -> None:
        self.request = request
        self.parts = [(_Model(p["path"], kernels), p) for p in request["parts"]]
        edges = {
            int(key): entry
            for model, part in self.parts
            for key, entry in zip(part["inputs"], model.inputs, strict=True)
        }
        self.inputs = [edges.get(int(key)) for key in request["inputs"]]

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        values = dict(zip(self.request["inputs"], arrays, strict=True))
        for model, part in self.parts:
            made = model.run([values[key] for key in part["inputs"]])
            values.update(zip(part["outputs"], made, strict=True))
        return [values[key] for key in self.request["outputs"]]

    def output_details(self) -> list[Any]:
        found: dict[int, Any] = {}
        for model, part in self.parts:
            found.update(zip(part["outputs"], model.outputs, strict=True))
        return [found[key] for key in self.request["outputs"]]


def _answer(message: dict[str, Any], arrays: list[Array]) -> dict[str, Any]:
    if message["action"] == "observe":
        return _observe(message)
    return _compare(message, arrays)


def _observe(message: Mapping[str, Any]) -> dict[str, Any]:
    """Shapes of all tensors after a run on zeros, and the bytes of those that were named."""
    import numpy as np

    model = _Model(message["path"], "own", keep=True)
    model.run([np.zeros(e["shape"], e["dtype"]) for e in model.inputs])
    wanted = set(message["values"])
    seen: dict[str, Any] = {}
    for entry in model.interpreter.get_tensor_details():
        index = int(entry["index"])
        row: dict[str, Any] = {"shape": [int(d) for d in entry["shape"]]}
        if index in wanted:
            value = model.interpreter.get_tensor(index)
            row = {"shape": list(value.shape), "data": value.tobytes().hex()}
        seen[str(index)] = row
    return {"seen": seen}


def _compare(message: Mapping[str, Any], given: list[Array]) -> dict[str, Any]:
    """How many samples agree, with which kernels; the first difference where one does not."""
    found: dict[str, Any] = {"kernels": []}
    for kernels in message["kernels"]:
        one = _compare_with(message, kernels, given)
        found["kernels"].append({"kernels": kernels, **one})
        if not one["identical"] and kernels == "own":
            break
    return found


def _compare_with(message: Mapping[str, Any], kernels: str, given: list[Array]) -> dict[str, Any]:
    original = _Model(message["original"], kernels)
    chain = _Chain(message["chain"], kernels)
    ended = time.monotonic() + _SECONDS
    digest = hashlib.sha256()
    samples, worst = 0, 0.0
    for name, sample in _samples(original, chain, message, given):
        left = original.run([a for a, _ in sample])
        right = chain.run([b for _, b in sample])
        samples += 1
        for number, (a, b) in enumerate(zip(left, right, strict=True)):
            digest.update(a.tobytes())
            problem, most = _difference(a, b, original.outputs[number], chain, number)
            worst = max(worst, most)
            if problem:
                where = f"sample {samples} ({name}), output {number}: {problem}"
                return {"identical": False, "samples": samples, "worst": worst, "reason": where}
        if samples >= _LEAST and time.monotonic() > ended:
            break
    return {"identical": samples > 0, "samples": samples, "worst": worst,
            "reason": "", "outputs_sha256": digest.hexdigest()}  # fmt: skip


def _samples(
    original: _Model, chain: _Chain, message: Mapping[str, Any], given: list[Array]
) -> Iterator[tuple[str, list[tuple[Array, Array]]]]:
    """Named inputs for both sides: what a person gave, the ends of each type, and random ones."""
    import numpy as np

    count = len(original.inputs)
    for start in range(0, len(given), count):
        yield (
            "given",
            [
                _both(array, entry, other)
                for array, entry, other in zip(
                    given[start : start + count], original.inputs, chain.inputs, strict=True
                )
            ],
        )
    generator = np.random.default_rng(message["seed"])
    for name in (*_EXTREMES, *(["random"] * int(message["samples"]))):
        yield (
            name,
            [
                _drawn(name, entry, other, generator)
                for entry, other in zip(original.inputs, chain.inputs, strict=True)
            ],
        )


def _drawn(name: str, entry: Any, other: Any, generator: Any) -> tuple[Array, Array]:
    """One input, drawn where it is an integer: both sides then hold the same steps."""
    other = entry if other is None else other
    narrow = entry if _scale(entry) else other
    if _scale(narrow) and narrow["dtype"]().dtype.kind in "iu":
        values = _integers(name, narrow, generator)
        return _to(values, narrow, entry), _to(values, narrow, other)
    made = _reals(name, entry, generator)
    return made, made


def _both(array: Array, entry: Any, other: Any) -> tuple[Array, Array]:
    """A given array for both sides; where one is integer, through its steps."""
    other = entry if other is None else other
    narrow = entry if _scale(entry) else other
    if not _scale(narrow) or array.dtype == other["dtype"]:
        return array, array
    steps = array if array.dtype == narrow["dtype"] else _quantized(array, narrow)
    return _to(steps, narrow, entry), _to(steps, narrow, other)


def _quantized(array: Array, entry: Any) -> Array:
    import numpy as np

    scale, zero = entry["quantization"]
    limits = np.iinfo(entry["dtype"])
    steps = np.rint(array.astype(np.float64) / scale) + zero
    result: Array = np.clip(steps, limits.min, limits.max).astype(entry["dtype"])
    return result


def _scale(entry: Any) -> float:
    return float(entry["quantization"][0])


def _integers(name: str, entry: Any, generator: Any) -> Array:
    import numpy as np

    kind, shape = np.dtype(entry["dtype"]), tuple(entry["shape"])
    limits = np.iinfo(kind)
    if name == "random":
        made: Array = generator.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
        return made
    count = int(np.prod(shape))
    if name == "steps":
        span = limits.max - limits.min + 1
        return (np.arange(count) % span + limits.min).astype(kind).reshape(shape)
    zero = min(max(int(entry["quantization"][1]), limits.min), limits.max)
    value = {"low": limits.min, "high": limits.max, "zero": zero}[name]
    return np.full(shape, value, kind)


def _reals(name: str, entry: Any, generator: Any) -> Array:
    """Floats of both signs; integers without a scale may be indices and stay 0 or 1."""
    import numpy as np

    kind, shape = np.dtype(entry["dtype"]), tuple(entry["shape"])
    if kind.kind == "f":
        if name == "random":
            drawn: Array = generator.standard_normal(shape).astype(kind)
            return drawn
        if name == "steps":
            return np.linspace(-4, 4, int(np.prod(shape))).astype(kind).reshape(shape)
        return np.full(shape, {"low": -8.0, "high": 8.0, "zero": 0.0}[name], kind)
    if kind.kind in "iub" and name == "random":
        small: Array = generator.integers(0, 2, shape).astype(kind)
        return small
    return np.zeros(shape, kind)


def _to(steps: Array, narrow: Any, entry: Any) -> Array:
    """Steps of one input in the type of another: shifted between integers, real for floats."""
    import numpy as np

    scale, zero = narrow["quantization"]
    kind = np.dtype(entry["dtype"])
    wide = steps.astype(np.int64) - int(zero)
    if kind.kind == "f":
        real: Array = wide.astype(np.float32) * np.float32(scale)
        return real
    if abs(_scale(entry) - scale) > 0:
        raise ValueError(f"{entry['name']} has another scale than {narrow['name']}")
    moved: Array = (wide + int(entry["quantization"][1])).astype(kind)
    return moved


def _difference(a: Array, b: Array, entry: Any, chain: _Chain, number: int) -> tuple[str, float]:
    """What differs, in words, and by how much (steps of integers, units of floats)."""
    import numpy as np

    if a.dtype != b.dtype:
        detail = chain.output_details()[number]
        a = _quantized(a, detail) if a.dtype.kind == "f" else _to(a, entry, detail)
    if a.shape != b.shape:
        return f"shape {list(a.shape)} against {list(b.shape)}", float("inf")
    if a.dtype.kind not in "fiub":  # text is compared by value: its bytes are addresses
        return ("", 0.0) if np.array_equal(a, b) else ("values differ", float("inf"))
    bits = np.dtype(f"u{a.dtype.itemsize}")  # to the bit: -0.0 is not 0.0
    unequal = np.ascontiguousarray(a).view(bits) != np.ascontiguousarray(b).view(bits)
    different = int(np.count_nonzero(unequal))
    if not different:
        return "", 0.0
    wide = np.float64 if a.dtype.kind == "f" else np.int64
    with np.errstate(invalid="ignore"):  # infinities
        apart = np.abs(a.astype(wide) - b.astype(wide))[unequal]
    most = float(apart.max()) if np.isfinite(apart).all() else float("inf")
    return f"{different} of {a.size} values differ, the most by {most:g}", most


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    from edgeopt.model.child import limit_memory

    limit_memory()
    serve(_answer, what="the LiteRT runtime", package="ai-edge-litert")
