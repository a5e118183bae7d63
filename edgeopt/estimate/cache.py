"""Which parameters stay on the chip, and which cross the link with every inference.

Whole layers are cached or streamed, never parts: in the 132 rows of a published sweep the streamed
bytes are one, two or three whole layers, and a layer fits exactly up to 7.6 to 7.8 MiB.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["MIB", "limits", "split"]

MIB = 1 << 20
# Small nets of 5 operations cache 7.58 MiB and refuse 7.815 (github.com/Jorgitou98 sweeps). Logs of
# whole networks add up (used and remaining) to 7.67, 7.50, 7.16, 7.14, 7.08, 7.04, 6.86 and
# 6.08 MiB (google-coral/edgetpu issues 60, 518; logs of YOLOv5, FaceNet, EfficientDet and MoViNet):
# the instructions and activations of the model take their share first. Two logs have far less, 1.9
# and 1.1 MiB (issues 427, 572), for reasons that are not known.
_SMALL_NET, _SMALL_LOW, _HIGH = 7.70, 7.58, 7.82
_NETWORK, _NETWORK_LOW = 7.10, 6.00
_SMALL_OPS, _NETWORK_OPS = 20, 140


def limits(operations: int) -> tuple[int, int, int]:
    """The cache in bytes for a partition of so many operations: expected, least, most."""
    share = (operations - _SMALL_OPS) / (_NETWORK_OPS - _SMALL_OPS)
    share = min(1.0, max(0.0, share))
    expected = _SMALL_NET + share * (_NETWORK - _SMALL_NET)
    least = _SMALL_LOW if operations <= _SMALL_OPS else _NETWORK_LOW
    return round(expected * MIB), round(least * MIB), round(_HIGH * MIB)


def split(layers: Sequence[int], limit: int) -> tuple[int, list[int]]:
    """Bytes cached, and the indices of the layers that are streamed: each layer in the order of
    execution is cached if it still fits."""
    cached, streamed = 0, []
    for index, size in enumerate(layers):
        if cached + size <= limit:
            cached += size
        else:
            streamed.append(index)
    return cached, streamed
