"""Which TensorFlow Lite operation a TensorFlow graph node becomes, and its options.

Both sides name their operations alike, and the rest is what TensorFlow's documentation of the two
says; the shared models are read and converted in the tests, most single nodes are not. A node that
is missing here keeps its own name.
"""

from __future__ import annotations

from typing import Any

__all__ = ["BOOKKEEPING", "CALLS", "PASSES", "VARIABLES", "node_op", "node_options"]

# Their first input goes on unchanged at inference.
PASSES = frozenset(
    {
        "Identity",
        "IdentityN",
        "ReadVariableOp",
        "StopGradient",
        "PreventGradient",
        "CheckNumerics",
        "EnsureShape",
        "PlaceholderWithDefault",
        "Snapshot",
        "Enter",
        "Exit",
    }
)
VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})
CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
BOOKKEEPING = frozenset({"NoOp", "Assert", "AssignVariableOp", "Assign", "SaveV2", "RestoreV2"})

_OPS = {
    "Conv2D": "CONV_2D",
    "Conv3D": "CONV_3D",
    "DepthwiseConv2dNative": "DEPTHWISE_CONV_2D",
    "Conv2DBackpropInput": "TRANSPOSE_CONV",
    "MatMul": "FULLY_CONNECTED",
    "BatchMatMul": "BATCH_MATMUL",
    "BatchMatMulV2": "BATCH_MATMUL",
    "BatchMatMulV3": "BATCH_MATMUL",
    "BiasAdd": "ADD",
    "Add": "ADD",
    "AddV2": "ADD",
    "AddN": "ADD_N",
    "RealDiv": "DIV",
    "AvgPool": "AVERAGE_POOL_2D",
    "MaxPool": "MAX_POOL_2D",
    "Max": "REDUCE_MAX",
    "Min": "REDUCE_MIN",
    "Prod": "REDUCE_PROD",
    "All": "REDUCE_ALL",
    "Any": "REDUCE_ANY",
    "Sigmoid": "LOGISTIC",
    "ConcatV2": "CONCATENATION",
    "Concat": "CONCATENATION",
    "PadV2": "PADV2",
    "Gather": "GATHER",
    "GatherV2": "GATHER",
    "ResourceGather": "GATHER",
    "ReverseV2": "REVERSE_V2",
    "TopKV2": "TOPK_V2",
    "SelectV2": "SELECT_V2",
    "SpaceToBatchND": "SPACE_TO_BATCH_ND",
    "BatchToSpaceND": "BATCH_TO_SPACE_ND",
    "LRN": "LOCAL_RESPONSE_NORMALIZATION",
    "L2Loss": "L2Loss",
    "FakeQuantWithMinMaxVars": "FAKE_QUANT",
    "FakeQuantWithMinMaxArgs": "FAKE_QUANT",
    "NonMaxSuppressionV4": "NON_MAX_SUPPRESSION_V4",
    "NonMaxSuppressionV5": "NON_MAX_SUPPRESSION_V5",
    "If": "IF",
    "StatelessIf": "IF",
    "While": "WHILE",
    "StatelessWhile": "WHILE",
    "RFFT2D": "RFFT2D",
    "SplitV": "SPLIT_V",
}
# The same word in both, but for the spelling: Relu6, RELU6; StridedSlice, STRIDED_SLICE.
_SAME = """
    Abs ArgMax ArgMin Cast Ceil Cos Cumsum DepthToSpace Div Elu Equal Exp ExpandDims Fill Floor
    FloorDiv FloorMod GatherNd Gelu Greater GreaterEqual LeakyRelu Less LessEqual Log LogSoftmax
    LogicalAnd LogicalNot LogicalOr Maximum Mean Minimum MirrorPad Mul Neg NotEqual OneHot Pack Pad
    Pow Range Rank Relu Relu6 Reshape ResizeBilinear ResizeNearestNeighbor Round Rsqrt ScatterNd
    Select Shape Sign Sin Slice Softmax SpaceToDepth Split Sqrt Square SquaredDifference Squeeze
    StridedSlice Sub Sum Tanh Tile Transpose Unique Unpack Where ZerosLike
"""


def _upper(word: str) -> str:
    return "".join(
        f"_{letter}" if letter.isupper() and position else letter.upper()
        for position, letter in enumerate(word)
    )


_OPS |= {word: _upper(word) for word in _SAME.split()}


def node_op(op: str) -> str:
    """The operation's TensorFlow Lite name, or the node's own."""
    return _OPS.get(op, op)


def node_options(op: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """The builtin options that a node's attributes state; channels-last layouts only."""
    options: dict[str, Any] = {}
    if padding := attributes.get("padding"):
        options["padding"] = padding.s.decode("ascii", "replace")
    channels_first = "data_format" in attributes and attributes["data_format"].s[:2] == b"NC"
    for key, names in (
        ("strides", ("stride_h", "stride_w")),
        ("dilations", ("dilation_h_factor", "dilation_w_factor")),
        ("ksize", ("filter_height", "filter_width")),
    ):
        if key in attributes and len(attributes[key].list.i) == 4 and not channels_first:
            options.update(zip(names, attributes[key].list.i[1:3], strict=True))
    for key, name in (("keep_dims", "keep_dims"), ("align_corners", "align_corners")):
        if key in attributes:
            options[name] = bool(attributes[key].b)
    if "half_pixel_centers" in attributes:
        options["half_pixel_centers"] = bool(attributes["half_pixel_centers"].b)
    if op == "LeakyRelu" and "alpha" in attributes:
        options["alpha"] = float(attributes["alpha"].f)
    if op in ("Conv2D", "DepthwiseConv2dNative", "MatMul", "Add", "AddV2", "Mul", "Sub"):
        options["fused_activation"] = "NONE"
    return options
