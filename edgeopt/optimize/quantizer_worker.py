"""The child that holds the LiteRT quantizer: a float model and its ranges in, a file out."""

from __future__ import annotations

import re
from typing import Any

from edgeopt.child import serve

__all__ = ["main"]


def quantize(job: dict[str, Any], _arrays: list[Any]) -> dict[str, Any]:
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
    made = bytes(result.quantized_model)
    if job["keep"] and job["scheme"] != "float16":
        made = _coarsened(job, made)
    with open(job["output"], "wb") as stream:  # noqa: PTH123 - a plain write
        stream.write(made)
    return {"bytes": len(made)}


def _coarsened(job: dict[str, Any], made: bytes) -> bytes:
    """A pruned or clustered model was made to be downloaded: let its scales compress, too."""
    from edgeopt.optimize.coarse_scales import coarsen

    with open(job["model"], "rb") as stream:  # noqa: PTH123 - a plain read
        return coarsen(stream.read(), made, clustered="clusters" in job["keep"])


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
    _except_layers(quantizer, job, weights)


def _except_layers(quantizer: Any, job: dict[str, Any], weights: Any) -> None:
    """Scopes are matched with the names of an operation's results, each ended by a semicolon."""
    from litert_quantizer.qtyping import TFLOperationName

    every = TFLOperationName.ALL_SUPPORTED
    for name in job["fallback_layers"]:
        scope = f"^{re.escape(name)};?$"
        if job["fallback"] == "int16x8":
            quantizer.add_static_config(scope, every, 16, 8, weights)
        else:
            quantizer.update_quantization_recipe(scope, every, algorithm_key="no_quantize")


def main() -> None:
    serve(quantize, what="The LiteRT quantizer", package="litert-quantizer")
