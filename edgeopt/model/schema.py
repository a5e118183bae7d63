"""The facts of the TensorFlow Lite schema that reading a model needs, as tables.

Source: tensorflow/compiler/mlir/lite/schema/schema.fbs as shipped in ai-edge-litert 2.3
(`schema_py_generated`, which a test compares with these tables; importing it costs 0.3 s).
An enum is a list, its values being the positions. Options are written `Name: field:kind=default`,
fields in slot order, `-` for a slot that is deprecated or not read; a kind is a scalar of
`flatbuffer.Table`, an enum below, `[scalar]` or `str`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from edgeopt.model.flatbuffer import Table

__all__ = [
    "BUILTIN_OPERATORS",
    "ENUMS",
    "TENSOR_BITS",
    "TENSOR_TYPES",
    "default_options",
    "enum_name",
    "read_options",
    "tables",
]

_BUILTIN_OPERATORS = """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
    EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
    LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1
    RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS
    SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER
    BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE
    UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT
    LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG
    PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE
    EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD
    REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV
    REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU
    SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE
    RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
    NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM
    BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D
    IMAG REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL
    CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS
    RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE
    RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2
    UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD
    STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP
    STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE
    STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE
    STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE
    STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT
    STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT
    STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA
    STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE
    STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW
    STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
"""
BUILTIN_OPERATORS = _BUILTIN_OPERATORS.split()

_TENSOR_TYPES = """
    float32 float16 int32 uint8 int64 string bool int16 complex64 int8 float64 complex128 uint64
    resource variant uint32 uint16 int4 bfloat16 int2 uint4 float8_e4m3fn float8_e5m2
"""
TENSOR_TYPES = _TENSOR_TYPES.split()

# Bits of one element; types of no fixed size (string, resource, variant) are left out.
TENSOR_BITS = {
    **dict.fromkeys(("int2",), 2),
    **dict.fromkeys(("int4", "uint4"), 4),
    **dict.fromkeys(("bool", "int8", "uint8", "float8_e4m3fn", "float8_e5m2"), 8),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 16),
    **dict.fromkeys(("float32", "int32", "uint32"), 32),
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 64),
    "complex128": 128,
}

ENUMS = {
    "Activation": ["NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT"],
    "Padding": ["SAME", "VALID"],
    "MirrorPadMode": ["REFLECT", "SYMMETRIC"],
    "CombinerType": ["SUM", "MEAN", "SQRTN"],
    "LSHProjectionType": ["UNKNOWN", "SPARSE", "DENSE"],
    "LSTMKernelType": ["FULL", "BASIC"],
    "WeightsFormat": ["DEFAULT", "SHUFFLED4x16INT8"],
    "ReduceWindowFunction": ["UNSUPPORTED", "ADD", "MUL", "MINIMUM", "MAXIMUM", "ALL", "ANY"],
    "TensorType": [name.upper() for name in TENSOR_TYPES],
}

_OPTIONS = """
    NONE:
    Conv2D: padding:Padding stride_w:i32 stride_h:i32 fused_activation:Activation
        dilation_w_factor:i32=1 dilation_h_factor:i32=1 quantized_bias_type:TensorType
    DepthwiseConv2D: padding:Padding stride_w:i32 stride_h:i32 depth_multiplier:i32
        fused_activation:Activation dilation_w_factor:i32=1 dilation_h_factor:i32=1
    ConcatEmbeddings: num_channels:i32 num_columns_per_channel:[i32]
        embedding_dim_per_channel:[i32]
    LSHProjection: type:LSHProjectionType
    Pool2D: padding:Padding stride_w:i32 stride_h:i32 filter_width:i32 filter_height:i32
        fused_activation:Activation
    SVDF: rank:i32 fused_activation:Activation asymmetric_quantize_inputs:bool
    RNN: fused_activation:Activation asymmetric_quantize_inputs:bool
    FullyConnected: fused_activation:Activation weights_format:WeightsFormat keep_num_dims:bool
        asymmetric_quantize_inputs:bool quantized_bias_type:TensorType
    Softmax: beta:f32
    Concatenation: axis:i32 fused_activation:Activation
    Add: fused_activation:Activation pot_scale_int16:bool=1
    L2Norm: fused_activation:Activation
    LocalResponseNormalization: radius:i32 bias:f32 alpha:f32 beta:f32
    LSTM: fused_activation:Activation cell_clip:f32 proj_clip:f32 kernel_type:LSTMKernelType
        asymmetric_quantize_inputs:bool
    ResizeBilinear: - - align_corners:bool half_pixel_centers:bool
    Call: subgraph:u32
    Reshape: new_shape:[i32]
    SkipGram: ngram_size:i32 max_skip_size:i32 include_all_ngrams:bool
    SpaceToDepth: block_size:i32
    EmbeddingLookupSparse: combiner:CombinerType
    Mul: fused_activation:Activation
    Pad:
    Gather: axis:i32 batch_dims:i32
    BatchToSpaceND: SpaceToBatchND: Transpose:
    Reducer: keep_dims:bool
    Sub: fused_activation:Activation pot_scale_int16:bool=1
    Div: fused_activation:Activation
    Squeeze: squeeze_dims:[i32]
    SequenceRNN: time_major:bool fused_activation:Activation asymmetric_quantize_inputs:bool
    StridedSlice: begin_mask:i32 end_mask:i32 ellipsis_mask:i32 new_axis_mask:i32
        shrink_axis_mask:i32 offset:bool
    Exp: TopKV2:
    Split: num_splits:i32
    LogSoftmax:
    Cast: in_data_type:TensorType out_data_type:TensorType
    Dequantize: MaximumMinimum:
    ArgMax: output_type:TensorType
    Less: Neg: PadV2: Greater: GreaterEqual: LessEqual: Select: Slice:
    TransposeConv: padding:Padding stride_w:i32 stride_h:i32 fused_activation:Activation
        quantized_bias_type:TensorType
    SparseToDense: validate_indices:bool
    Tile: ExpandDims: Equal: NotEqual:
    Shape: out_type:TensorType
    Pow:
    ArgMin: output_type:TensorType
    FakeQuant: min:f32 max:f32 num_bits:i32 narrow_range:bool
    Pack: values_count:i32 axis:i32
    LogicalOr:
    OneHot: axis:i32
    LogicalAnd: LogicalNot:
    Unpack: num:i32 axis:i32
    FloorDiv: Square: ZerosLike: Fill:
    BidirectionalSequenceLSTM: fused_activation:Activation cell_clip:f32 proj_clip:f32
        merge_outputs:bool time_major:bool=1 asymmetric_quantize_inputs:bool
    BidirectionalSequenceRNN: time_major:bool fused_activation:Activation merge_outputs:bool
        asymmetric_quantize_inputs:bool
    UnidirectionalSequenceLSTM: fused_activation:Activation cell_clip:f32 proj_clip:f32
        time_major:bool asymmetric_quantize_inputs:bool diagonal_recurrent_tensors:bool
    FloorMod: Range:
    ResizeNearestNeighbor: align_corners:bool half_pixel_centers:bool
    LeakyRelu: alpha:f32
    SquaredDifference:
    MirrorPad: mode:MirrorPadMode
    Abs:
    SplitV: num_splits:i32
    Unique: idx_out_type:TensorType=2
    ReverseV2: AddN: GatherNd: Cos: Where: Rank:
    ReverseSequence: seq_dim:i32 batch_dim:i32
    MatrixDiag: Quantize: MatrixSetDiag: HardSwish:
    If: then_subgraph_index:i32 else_subgraph_index:i32
    While: cond_subgraph_index:i32 body_subgraph_index:i32
    DepthToSpace: block_size:i32
    NonMaxSuppressionV4: NonMaxSuppressionV5: ScatterNd: SelectV2: Densify: SegmentSum:
    BatchMatMul: adj_x:bool adj_y:bool asymmetric_quantize_inputs:bool
    Cumsum: exclusive:bool reverse:bool
    CallOnce: init_subgraph_index:i32
    BroadcastTo: Rfft2d:
    Conv3D: padding:Padding stride_d:i32 stride_w:i32 stride_h:i32 fused_activation:Activation
        dilation_d_factor:i32=1 dilation_w_factor:i32=1 dilation_h_factor:i32=1
    Hashtable: table_id:i32 key_dtype:TensorType value_dtype:TensorType
    HashtableFind: HashtableImport: HashtableSize:
    VarHandle: container:str shared_name:str
    ReadVariable: AssignVariable:
    Random: seed:i64 seed2:i64
    Bucketize: boundaries:[f32]
    Gelu: approximate:bool
    DynamicUpdateSlice: UnsortedSegmentProd: UnsortedSegmentMax: UnsortedSegmentMin:
    UnsortedSegmentSum: ATan2: Sign: Bitcast: BitwiseXor: RightShift:
"""

_OPTIONS2 = """
    NONE: StablehloConcatenate: StablehloBroadcastInDim: StablehloSlice: StablehloConvolution:
    StablehloCustomCall: StablehloReduce: StablehloScatter: StablehloCompare:
    StablehloDynamicSlice: StablehloPad: StablehloIota: StablehloDotGeneral:
    StablehloReduceWindow: StablehloSort: StablehloWhile: StablehloGather: StablehloTranspose:
    Dilate: StablehloRngBitGenerator:
    ReduceWindow: reduce_function:ReduceWindowFunction
    StableHLOComposite: name:str decomposition_subgraph_index:i32 -
        composite_attributes_format:i8 version:i32
    StablehloShiftLeft: StablehloCase:
"""


_EMPTY_TABLE = bytes.fromhex("08000000 04000400 04000000")  # root, its vtable, the table


@dataclass(frozen=True, kw_only=True)
class Field:
    slot: int
    name: str
    kind: str
    default: int = 0


@lru_cache(maxsize=2)
def tables(union: int) -> tuple[tuple[str, tuple[Field, ...]], ...]:
    """The members of the union BuiltinOptions (1) or BuiltinOptions2 (2): name and fields."""
    members: list[tuple[str, list[Field]]] = []
    slot = 0
    for word in (_OPTIONS if union == 1 else _OPTIONS2).split():
        if word.endswith(":"):
            members.append((word[:-1], []))
            slot = 0
            continue
        if word != "-":
            name, _, rest = word.partition(":")
            kind, _, default = rest.partition("=")
            field = Field(slot=slot, name=name, kind=kind, default=int(default or 0))
            members[-1][1].append(field)
        slot += 1
    return tuple((name, tuple(fields)) for name, fields in members)


def read_options(table: Table, union: int, member: int) -> Mapping[str, Any]:
    """The options in `table` by field name, enums by name; empty for a member not known here."""
    known = tables(union)
    fields = known[member][1] if 0 <= member < len(known) else ()
    return {field.name: _value(table, field) for field in fields}


@lru_cache(maxsize=512)
def default_options(names: frozenset[str]) -> tuple[Mapping[str, Any], ...]:
    """What each options table with just these fields holds where a file leaves all of them out
    (the schema has a few such tables that differ in their defaults alone)."""
    nothing = Table.root(_EMPTY_TABLE)
    return tuple(
        {field.name: _value(nothing, field) for field in fields}
        for union in (1, 2)
        for _, fields in tables(union)
        if {field.name for field in fields} == names
    )


def _value(table: Table, field: Field) -> Any:
    if field.kind == "str":
        return table.string(field.slot) or ""
    if field.kind.startswith("["):
        return tuple(table.scalars(field.slot, field.kind[1:-1]))
    if field.kind not in ENUMS:
        default = bool(field.default) if field.kind == "bool" else field.default
        return table.scalar(field.slot, field.kind, default)
    wide = "i32" if field.kind == "ReduceWindowFunction" else "i8"
    return enum_name(field.kind, table.scalar(field.slot, wide, field.default))


def enum_name(enum: str, value: int) -> str:
    """The schema's name of a value; `UNKNOWN_9` for one that is newer than these tables."""
    names = ENUMS[enum]
    return names[value] if 0 <= value < len(names) else f"UNKNOWN_{value}"
