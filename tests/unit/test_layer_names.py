"""Which layer an operation came from, told from the names that converters make."""

from __future__ import annotations

import pytest
from builders import Net

from edgeopt.facts import Subgraph
from edgeopt.model.layer_names import layer_names


def _named(*ops: tuple[str, str], constants: dict[int, str] | None = None) -> list[str | None]:
    """The layers of a chain of operations: kind, and name of the tensor that it gives."""
    net = Net()
    data = net.input()
    for index, (kind, name) in enumerate(ops):
        more = [net.constant(name=(constants or {}).get(index, ""))]
        data = net.op(kind, data, *more)
        net.tensors[-1] = data
        object.__setattr__(data, "name", name)
    graph: Subgraph = net.facts(data).subgraphs[0]
    return list(layer_names(graph))


@pytest.mark.parametrize(
    ("op", "tensor", "layer"),
    [
        ("CONV_2D", "model/block_1_expand/Conv2D", "block_1_expand"),
        ("CONV_2D", "StatefulPartitionedCall/model_1/stem/Conv2D;model_1/stem/BiasAdd", "stem"),
        ("ADD", "functional_3/act_2/Relu;functional_3/join/add", "join"),
        ("AVERAGE_POOL_2D", "sequential/pool/AvgPool", "pool"),
        ("RESHAPE", "sequential/flatten/Reshape", "flatten"),
        ("CONV_2D", "MobilenetV2/Conv/Relu6;MobilenetV2/Conv/add_fold", "MobilenetV2/Conv"),
        ("ARG_MAX", "ArgMax", "ArgMax"),
        ("QUANTIZE", "tfl.quantize1", None),
        ("SOFTMAX", "StatefulPartitionedCall:0", None),
        ("SOFTMAX", "Identity_int8", None),
        ("SOFTMAX", "", None),
        ("RELU", "///", None),
    ],
)
def test_a_layer_is_told_from_the_result(op: str, tensor: str, layer: str | None) -> None:
    assert _named((op, tensor)) == [layer]


def test_the_name_that_shared_constants_bring_along_is_not_taken() -> None:
    joined = (
        "model/activation/Relu;model/bn/FusedBatchNormV3;model/conv2d/BiasAdd/ReadVariableOp/resource;"
        "model/conv2d/BiasAdd;model/conv2d_2/Conv2D;model/conv2d/Conv2D"
    )
    assert _named(("CONV_2D", joined)) == ["conv2d"]
    nearest = "model/block_2_relu/Relu6;model/block_1/Conv2D;model/block_2/Conv2D"
    assert _named(("CONV_2D", nearest)) == ["block_2"]


def test_where_the_result_has_no_name_of_the_source_the_weights_may() -> None:
    chain = ("FULLY_CONNECTED", "StatefulPartitionedCall:0")
    assert _named(chain, constants={0: "model/logits/MatMul"}) == ["logits"]


def test_the_name_that_all_layers_of_a_keras_model_share_is_left_out() -> None:
    ops = [("CONV_2D", f"mobilenetv2_1.00_224/Conv{i}/Conv2D") for i in range(3)]
    assert _named(*ops, ("SOFTMAX", "Identity")) == ["Conv0", "Conv1", "Conv2", None]


def test_a_tensorflow_1_scope_is_kept_whole() -> None:
    ops = [("CONV_2D", f"MobilenetV1/MobilenetV1/Conv2d_{i}/Relu6") for i in range(3)]
    assert _named(*ops)[1] == "MobilenetV1/MobilenetV1/Conv2d_1"
