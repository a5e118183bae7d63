"""Optimize: bring a trained model to a float .tflite with a static batch, then to a scheme.

`to_float` and `quantize` are the two steps (the first needs TensorFlow unless the source is a
.tflite already); `convert` is both.
"""

from __future__ import annotations

from edgeopt.optimize.conversion import Conversion, convert, quantize
from edgeopt.optimize.fallback import refuse_fallback
from edgeopt.optimize.float_model import FloatModel, to_float
from edgeopt.optimize.recipes import SCHEMES, ConversionRequest, scheme_named

__all__ = [
    "SCHEMES",
    "Conversion",
    "ConversionRequest",
    "FloatModel",
    "convert",
    "quantize",
    "refuse_fallback",
    "scheme_named",
    "to_float",
]
