"""A Keras layer's configuration in the words of the TensorFlow Lite schema's options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeopt.model.layer_ops import FUSED

__all__ = ["layer_options"]


def layer_options(op: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The builtin options of `op` that the configuration states."""
    options: dict[str, Any] = {}
    if "padding" in config and isinstance(config["padding"], str):
        options["padding"] = "SAME" if config["padding"] == "same" else "VALID"
    for key, names in (
        ("strides", ("stride_h", "stride_w")),
        ("dilation_rate", ("dilation_h_factor", "dilation_w_factor")),
        ("pool_size", ("filter_height", "filter_width")),
    ):
        if isinstance(config.get(key), Sequence) and len(config[key]) == 2:
            options.update(zip(names, map(int, config[key]), strict=True))
    if op == "DEPTHWISE_CONV_2D":
        options["depth_multiplier"] = int(config.get("depth_multiplier", 1))
    if op in ("MEAN", "REDUCE_MAX"):
        options["keep_dims"] = bool(config.get("keepdims", False))
    if op == "CONCATENATION":
        options["axis"] = int(config.get("axis", -1))
    if op == "LEAKY_RELU":
        slope = config.get("negative_slope", config.get("alpha"))
        options["alpha"] = float(slope) if isinstance(slope, (int, float)) else None
    if op in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
        options["half_pixel_centers"], options["align_corners"] = True, False
    if "activation" in config and op not in ("RELU", "RELU6", "SOFTMAX", "LOGISTIC", "TANH"):
        options["fused_activation"] = FUSED.get(str(config["activation"]), "NONE")
    return options
