"""Weight scales for models that were pruned or clustered to be downloaded: few different ones.

A scale for each channel costs 8 bytes of noise a channel (its own and its bias's), and makes the
same centroid another integer in every channel. A clustered layer gets one scale for all channels:
its integers then are as few as its centroids. Other layers get their scales rounded up to powers
of two^(1/4): at most a quarter of a bit of resolution, and the repeated bytes compress.

Measured on the Fashion-MNIST model at 80% zeros, int8: see docs/TRAINING.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["coarsen", "coarser"]

_INT8, _FLOAT32 = 9, 0  # TensorType
_BIASES = {2: "<i4", 4: "<i8"}  # INT32, INT64
_STEPS = 4  # scales to a factor of two
_MOST_CLUSTERS = 256


def coarsen(floats: bytes, quantized: bytes, *, clustered: bool) -> bytes:
    """`quantized` with coarser weight scales, its weights rounded anew from those in `floats`, the
    float model that it was made from (tensors have the same names). Zeros stay zero.

    Layers whose weights are shared between operations are left as they are.
    """
    import numpy as np

    from edgeopt.model.packing import pack, unpack

    source, model = unpack(floats), unpack(quantized)
    known = {t.name: (source.buffers[t.buffer].data, t) for t in source.subgraphs[0].tensors}
    changed = False
    for graph in model.subgraphs:
        users = _users(model)
        for op in graph.operators or []:
            inputs = [int(i) for i in op.inputs]
            if len(inputs) < 2 or inputs[1] < 0:
                continue
            weights = graph.tensors[inputs[1]]
            data, tensor = known.get(weights.name, (None, None))
            if not _applies(weights, tensor, data, users):
                continue
            kernel = np.frombuffer(bytes(data), "<f4").reshape([int(n) for n in weights.shape])
            old = np.asarray(weights.quantization.scale, np.float64)
            new = coarser(kernel, old, clustered)
            _round(model, weights, kernel, new)
            if len(inputs) > 2 and inputs[2] >= 0:
                _rescale(model, graph.tensors[inputs[2]], old, new, users)
            changed = True
    return pack(model) if changed else quantized


def _users(model: Any) -> dict[int, int]:
    """How many operands read each buffer."""
    counts: dict[int, int] = {}
    for graph in model.subgraphs:
        for op in graph.operators or []:
            for index in op.inputs:
                if int(index) >= 0:
                    buffer = graph.tensors[int(index)].buffer
                    counts[buffer] = counts.get(buffer, 0) + 1
    return counts


def _applies(weights: Any, source: Any, data: Any, users: dict[int, int]) -> bool:
    parameters = weights.quantization
    if weights.type != _INT8 or parameters is None or parameters.scale is None or data is None:
        return False
    if len(parameters.scale) < 2 or users.get(weights.buffer) != 1:
        return False
    return source.type == _FLOAT32 and list(source.shape) == list(weights.shape)


def coarser(kernel: NDArray[Any], old: NDArray[Any], clustered: bool) -> NDArray[Any]:
    """The scales that `coarsen` gives weights whose channels have the scales `old`."""
    import numpy as np

    distinct = np.unique(kernel).size
    if clustered and distinct <= min(_MOST_CLUSTERS, kernel.size // 2):
        return np.full_like(old, old.max())
    rounded: NDArray[Any] = np.exp2(np.ceil(np.log2(old) * _STEPS - 1e-6) / _STEPS)
    return rounded


def _round(model: Any, weights: Any, kernel: NDArray[Any], scales: NDArray[Any]) -> None:
    import numpy as np

    stored = scales.astype(np.float32)
    shape = [1] * kernel.ndim
    shape[weights.quantization.quantizedDimension] = -1
    integers = np.clip(np.round(kernel / stored.reshape(shape)), -127, 127).astype(np.int8)
    model.buffers[weights.buffer].data = integers.tobytes()
    weights.quantization.scale = stored


def _rescale(
    model: Any, bias: Any, old: NDArray[Any], new: NDArray[Any], users: dict[int, int]
) -> None:
    """Give a bias the scale that its weights have now (input scale times weight scale)."""
    import numpy as np

    kind = _BIASES.get(bias.type)
    data = model.buffers[bias.buffer].data
    if kind is None or data is None or bias.quantization is None:
        return
    if bias.quantization.scale is None or users.get(bias.buffer) != 1:
        return
    ratio = new / old
    values = np.frombuffer(bytes(data), kind)
    model.buffers[bias.buffer].data = np.round(values / ratio).astype(kind).tobytes()
    scales = np.asarray(bias.quantization.scale, np.float64) * ratio
    bias.quantization.scale = scales.astype(np.float32)
