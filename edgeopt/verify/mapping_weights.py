"""Are the weights inside a partition those of the source? A sample of them is looked for.

The Edge TPU's parameters are the weights in an order of the hardware's own, in which four
neighbouring input channels of an output channel stay together (found on all 10 recorded pairs that
have such layers, with no exception), and signed ones are shifted to be positive. Four bytes seldom
agree by chance, so a file compiled from another training of the same network is noticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from edgeopt.facts import Operator, Tensor

__all__ = ["weights_found"]

_DENSE = ("CONV_2D", "FULLY_CONNECTED")
_SAMPLE = 512  # groups of four weights of a layer
_CHUNK = 1 << 20


def weights_found(
    operators: Iterable[Operator], parameters: Sequence[memoryview]
) -> tuple[int, int]:
    """How many distinct groups of four weights were looked for, and how many are there."""
    wanted: set[int] = set()
    for op in operators:
        weights = op.inputs[1] if op.op in _DENSE and len(op.inputs) > 1 else None
        if weights is not None:
            wanted |= set(_groups(weights))
    found: set[int] = set()
    for block in parameters:
        whole = block[: len(block) // 4 * 4]
        for start in range(0, len(whole), _CHUNK):
            found |= wanted.intersection(whole[start : start + _CHUNK].cast("I"))
    return len(wanted), len(found)


def _groups(weights: Tensor) -> Iterator[int]:
    """Evenly spread groups as the payload has them; none of equal bytes, as padding is too."""
    if weights.dtype not in ("int8", "uint8") or not weights.shape or weights.data is None:
        return
    if weights.shape[-1] % 4 or len(weights.data) < 4:
        return
    count = len(weights.data) // 4
    shift = 0x80808080 if weights.dtype == "int8" else 0
    for number in range(0, count, max(1, count // _SAMPLE)):
        group = bytes(weights.data[4 * number : 4 * number + 4])
        if len(set(group)) > 2:
            yield int.from_bytes(group, "little") ^ shift
