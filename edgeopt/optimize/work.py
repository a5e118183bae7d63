"""How much work a model is, and how many samples are worth it. Counts, never the clock: what is
chosen must be the same each time."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.facts import Operator

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["judged_samples", "multiplications", "samples_worth"]

_WORK = 40e9  # multiplications that a candidate is worth, and how many of int16's cost as much
_SLOWER = 35  # reference kernels of int16x8 against int8, measured on MobileNetV2
_FEWEST_TRIED, _MOST_TRIED = 8, 100


def multiplications(op: Operator) -> int:
    """Of one inference; 0 for operations without weights."""
    weights = op.inputs[1] if len(op.inputs) > 1 else None
    if weights is None or not weights.constant or not op.outputs or not weights.shape:
        return 0
    made = prod(op.outputs[0].shape or ())
    if op.op == "DEPTHWISE_CONV_2D":
        return made * prod(weights.shape[1:3])
    if op.op in ("CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"):
        return made * prod(weights.shape[1:])
    return 0


def samples_worth(work: float, float_path: Path, *, slower: int = 1) -> int:
    """How many inferences of the model are about `work` multiplications, each `slower` times."""
    from edgeopt.model.tflite import parse

    graph = parse(float_path.read_bytes()).subgraphs[0]
    return int(work / max(sum(map(multiplications, graph.operators)) * slower, 1))


def judged_samples(
    kept: Sequence[tuple[NDArray[Any], ...]], float_path: Path, scheme: str
) -> list[tuple[NDArray[Any], ...]]:
    """As many of the samples held out as are worth their time, evenly spread."""
    worth = samples_worth(_WORK, float_path, slower=_SLOWER if scheme == "int16x8" else 1)
    most = max(_FEWEST_TRIED, min(_MOST_TRIED, worth))
    count = min(len(kept), most)
    return [kept[i * len(kept) // count] for i in range(count)]
