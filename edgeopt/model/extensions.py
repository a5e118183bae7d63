"""What of a .tflite a reader of TensorFlow 2.5 skips without a word, though it carries meaning.

FlatBuffers let a reader ignore fields that it does not know. Most of those that the schema gained
since only describe (ranks, debug metadata, signature keys); the ones below hold data or options.
Source: schema_py_generated of tensorflow-cpu 2.5.0 held against that of ai-edge-litert 2.3.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgeopt.model.flatbuffer import Table
from edgeopt.model.schema import BUILTIN_OPERATORS

__all__ = ["find_extensions"]

_PLACEHOLDER = 127  # stands in the old field, one signed byte, for every greater code
_LAST_DETAILS = 1  # QuantizationDetails.CustomQuantization; scales by block came after
_LAST_OPTIONS = 110  # BuiltinOptions.HashtableSizeOptions


def find_extensions(model: Table) -> Iterator[tuple[str, str]]:
    """(where, what) of each, by the tables of the `model`. Raises CorruptFile as reading does."""
    if len(model.tables(8)) or len(model.tables(9)):
        yield "the model", "buffers in other files"
    for index, code in enumerate(model.tables(1)):
        old, new = code.scalar(0, "i8", 0), code.scalar(3, "i32", 0)
        if new and old not in (min(new, _PLACEHOLDER), 0):
            yield f"operator code {index}", f"{_operation(old)} and {_operation(new)} in one"
    for graph in model.tables(2):
        for index, tensor in enumerate(graph.tables(0)):
            for what in _of_tensor(tensor):
                yield f"tensor {index} ({(tensor.string(3) or '')[:80]})", what
        for index, operator in enumerate(graph.tables(3)):
            for what in _of_operator(operator):
                yield f"operator {index}", what


def _operation(value: int) -> str:
    known = 0 <= value < len(BUILTIN_OPERATORS)
    return BUILTIN_OPERATORS[value] if known else f"operation {value}"


def _of_tensor(tensor: Table) -> Iterator[str]:
    if tensor.scalar(10, "u32", 0):
        yield "data in another file"
    if len(tensor.tables(9)):
        yield "a variant's inner types"
    quantization = tensor.table(4)
    if quantization is not None and quantization.scalar(4, "u8", 0) > _LAST_DETAILS:
        yield "scales by block"


def _of_operator(operator: Table) -> Iterator[str]:
    if operator.scalar(9, "u64", 0) > 1:
        yield "options stored behind the model"
    if operator.scalar(11, "u8", 0):
        yield "options of the second union"
    if operator.scalar(3, "u8", 0) > _LAST_OPTIONS:
        yield "options of an operation added later"
