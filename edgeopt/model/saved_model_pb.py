"""The few messages of saved_model.pb that reading a graph needs, without TensorFlow.

Source: tensorflow/core/protobuf/{saved_model,meta_graph}.proto and tensorflow/core/framework/
{graph,function,node_def,attr_value,tensor,tensor_shape,op_def,types}.proto. Maps are written as
the repeated entries that they are on the wire; fields left out here are skipped.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from edgeopt.errors import ToolError
from edgeopt.model.flatbuffer import CorruptFile

__all__ = ["dtype_name", "parse"]

# Message: field=number:type, where * means repeated and a capital names a message below.
_MESSAGES = """
SavedModel   meta_graphs=2:*MetaGraph
MetaGraph    info=1:Info graph=2:Graph signatures=5:*SignatureEntry
Info         tags=4:*string version=5:string
Graph        nodes=1:*Node library=2:Library
Library      functions=1:*Function
Function     signature=1:Op nodes=3:*Node ret=4:*TextEntry
Op           name=1:string inputs=2:*Argument outputs=3:*Argument
Argument     name=1:string type=3:int32
Node         name=1:string op=2:string inputs=3:*string attrs=5:*AttrEntry
AttrEntry    key=1:string value=2:Attr
TextEntry    key=1:string value=2:string
Attr         list=1:List s=2:bytes i=3:int64 f=4:float b=5:bool type=6:int32 shape=7:Shape
Attr         tensor=8:Tensor func=10:Name
Name         name=1:string
List         s=2:*bytes i=3:*int64 type=6:*int32 shapes=7:*Shape
Shape        dims=2:*Dim unknown_rank=3:bool
Dim          size=1:int64
Tensor       dtype=1:int32 shape=2:Shape
SignatureEntry  key=1:string value=2:Signature
Signature    inputs=1:*InfoEntry outputs=2:*InfoEntry
InfoEntry    key=1:string value=2:TensorInfo
TensorInfo   name=1:string dtype=2:int32 shape=3:Shape
"""
_SCALARS = {"string": 9, "bytes": 12, "int32": 5, "int64": 3, "float": 2, "bool": 8}
_MESSAGE_TYPE = 11
_PACKAGE = "edgeopt_saved_model"

# tensorflow/core/framework/types.proto; 100 more is a reference to such a value.
_DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
    29: "int4",
    30: "uint4",
}


def dtype_name(number: int) -> str:
    """The type's name; "unknown" for one that is not in the table."""
    return _DTYPES.get(number % 100, "unknown")


def parse(data: bytes) -> Any:
    """The SavedModel message. Raises CorruptFile; ToolError without the protobuf package."""
    saved_model = _saved_model_class()
    from google.protobuf.message import DecodeError

    message = saved_model()
    try:
        message.ParseFromString(data)
    except (DecodeError, RuntimeWarning) as error:
        raise CorruptFile(f"saved_model.pb is no SavedModel ({error})") from error
    return message


@lru_cache(maxsize=1)
def _saved_model_class() -> Any:
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError as error:
        raise ToolError(f"protobuf cannot be used: {error}.", "pip install protobuf") from error
    file = descriptor_pb2.FileDescriptorProto(
        name="edgeopt/saved_model.proto", package=_PACKAGE, syntax="proto2"
    )
    messages: dict[str, Any] = {}
    for line in _MESSAGES.strip().splitlines():
        name, *fields = line.split()
        if name not in messages:
            messages[name] = file.message_type.add(name=name)
        for field in fields:
            _add_field(messages[name], field)
    pool = descriptor_pool.DescriptorPool()  # of its own: TensorFlow may be in this process
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.SavedModel"))


def _add_field(message: Any, field: str) -> None:
    name, _, rest = field.partition("=")
    number, _, kind = rest.partition(":")
    repeated = kind.startswith("*")
    kind = kind.lstrip("*")
    made = message.field.add(name=name, number=int(number), label=3 if repeated else 1)
    if kind in _SCALARS:
        made.type = _SCALARS[kind]
    else:
        made.type, made.type_name = _MESSAGE_TYPE, f".{_PACKAGE}.{kind}"
