"""How a float model answers data: the spread of its first layer, and what its outputs tell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.child import Child, ChildDied, serve
from edgeopt.errors import ModelError
from edgeopt.facts import ModelFacts, Operator

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Answers", "applies", "main", "measure_answers"]

_FIRST = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_POSITIONS = 12  # a side; neighbouring windows tell nothing new
_MOST_OUTPUTS = 100_000


@dataclass(frozen=True, kw_only=True)
class Answers:
    """`spread` is the median over channels of the first layer's standard deviation, before its
    activation (None: no such layer). `told` is the mutual information of sample and class over its
    maximum, for the data as it is and for each variant; None where there is one output value."""

    spread: float | None
    told: tuple[float | None, ...]


def applies(facts: ModelFacts) -> bool:
    """True for a float model with one float input, whose first layer can be looked at."""
    first = _first_layer(facts)
    return (
        facts.format == "tflite"
        and len(facts.inputs) == 1
        and facts.inputs[0].dtype == "float32"
        and first is not None
    )


def measure_answers(
    model: Path, samples: Sequence[NDArray[Any]], variants: Iterable[tuple[float, float]] = ()
) -> Answers:
    """Run the .tflite on `samples` (without batch axis) as they are, and on value * factor +
    offset for each of `variants`, in a process of its own. Raises ModelError when it fails there.
    """
    import numpy as np

    arrays = [np.asarray(sample, np.float32) for sample in samples]
    with Child("edgeopt.verify.input_range") as child:
        try:
            child.send({"model": str(model), "variants": [list(v) for v in variants]}, arrays)
            answer = child.answer()
        except ChildDied as error:
            raise ModelError(f"{model.name} cannot be run on the data: {error}.") from error
    return Answers(spread=answer["spread"], told=tuple(answer["told"]))


def _first_layer(facts: ModelFacts) -> Operator | None:
    """The first operation with float weights, when it also is the first with any."""
    for operator in facts.subgraphs[0].operators:
        weights = operator.inputs[1] if len(operator.inputs) > 1 else None
        if operator.op in _FIRST and weights is not None:
            good = weights.constant and weights.dtype == "float32" and weights.data is not None
            return operator if good else None
    return None


def main() -> None:
    """The child's side."""
    serve(_answer, what="LiteRT", package="ai-edge-litert")


def _answer(message: dict[str, Any], samples: list[NDArray[Any]]) -> dict[str, Any]:
    from edgeopt.model import read

    model = Path(message["model"])
    told = [_told(_outputs(model, samples))]
    for factor, offset in message["variants"]:
        told.append(_told(_outputs(model, [sample * factor + offset for sample in samples])))
    first = _first_layer(read(model))
    return {"spread": None if first is None else _spread(model, first, samples), "told": told}


def _interpreter(model: Path, **more: Any) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model), num_threads=1, **more)
    interpreter.allocate_tensors()
    return interpreter


def _feed(interpreter: Any, sample: NDArray[Any]) -> None:
    import numpy as np

    entry = interpreter.get_input_details()[0]
    shape = [sample.shape[0] if d < 0 else d for d in entry["shape"]]
    value = np.broadcast_to(sample, (shape[0], *sample.shape)).reshape(shape)
    interpreter.set_tensor(entry["index"], value.astype(np.float32))
    interpreter.invoke()


def _outputs(model: Path, samples: list[NDArray[Any]]) -> NDArray[Any]:
    """The first output of each sample, flat."""
    import numpy as np

    interpreter, rows = _interpreter(model), []
    index = interpreter.get_output_details()[0]["index"]
    for sample in samples:
        _feed(interpreter, sample)
        rows.append(interpreter.get_tensor(index)[0].reshape(-1).astype(np.float64))
    return np.array(rows)


def _told(outputs: NDArray[Any]) -> float | None:
    """Mutual information of sample and class over its maximum, the samples being equally likely.

    H(mean of p) - mean of H(p), over log of the smaller of classes and samples; values that are no
    probabilities are logits.
    """
    import numpy as np

    count, classes = outputs.shape
    if count < 2 or not 2 <= classes <= _MOST_OUTPUTS or not np.isfinite(outputs).all():
        return None
    sums = outputs.sum(axis=1)
    if outputs.min() < 0 or np.abs(sums - 1).max() > 0.01:
        outputs = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        outputs = outputs / outputs.sum(axis=1, keepdims=True)

    def entropy(p: NDArray[Any]) -> Any:
        return -(p * np.log(np.maximum(p, 1e-300))).sum(axis=-1)

    most = math.log(min(classes, count))
    return float((entropy(outputs.mean(axis=0)) - entropy(outputs).mean()) / most)


def _spread(model: Path, first: Operator, samples: list[NDArray[Any]]) -> float | None:
    import numpy as np

    entering, weights = first.inputs[0], first.inputs[1]
    assert entering is not None and weights is not None and weights.data is not None
    shape: list[int] = list(weights.shape or ())
    kernel: Any = np.frombuffer(weights.data, "<f4").reshape(shape)
    arrived = np.concatenate(_entering(model, entering.index, samples))
    if first.op == "FULLY_CONNECTED":
        answers = arrived.reshape(-1, kernel.shape[-1]) @ kernel.T
    elif arrived.ndim != 4:
        return None
    else:
        height, width = kernel.shape[1:3]
        windows = np.lib.stride_tricks.sliding_window_view(arrived, (height, width), axis=(1, 2))
        rows, columns = (max(1, side // _POSITIONS) for side in windows.shape[1:3])
        windows = windows[:, ::rows, ::columns]  # n y x c h w
        if first.op == "CONV_2D":
            answers = np.einsum("nyxchw,ohwc->nyxo", windows, kernel)
        else:
            repeated = np.repeat(windows, kernel.shape[3] // windows.shape[3], axis=3)
            answers = np.einsum("nyxchw,hwc->nyxc", repeated, kernel[0])
    flat = answers.reshape(-1, answers.shape[-1]).astype(np.float64)
    return float(np.median(flat.std(axis=0))) if len(flat) > 1 else None


def _entering(model: Path, index: int, samples: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """What reaches the first layer: computed without delegates, which keep such tensors to
    themselves."""
    import warnings

    from ai_edge_litert.interpreter import OpResolverType

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that this is for debugging, which this is
        interpreter = _interpreter(
            model,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
    found = []
    for sample in samples[:6]:
        _feed(interpreter, sample)
        found.append(interpreter.get_tensor(index).copy())
    return found
